"""Images with objects to shards: what a tile shows of them, and what is left out and counted."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from rsdl.cli import app
from rsdl.core.errors import ConfigError, CorruptSampleError, DataError
from rsdl.data.manifest import load_manifest
from rsdl.data.packing.pack import PackOptions, pack
from rsdl.data.packing.verify import check_dataset
from rsdl.data.sample import Sample
from rsdl.data.sources.annotation_formats import read_annotations
from rsdl.data.sources.annotations import AnnotationRules
from rsdl.data.sources.object_options import ObjectOptions
from rsdl.data.sources.object_source import ObjectSource
from rsdl.data.sources.object_tiles import VisibleRules, cut_objects, object_tiles, prepare_cuts
from rsdl.data.targets.corners import areas, box_corners
from rsdl.data.targets.objects import IGNORED, Objects, make_objects
from rsdl.storage.connect import connect

Make = Callable[..., ObjectSource]
ALL_TRAIN = (1.0, 0.0, 0.0)


def image(height: int, width: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(1, 255, (height, width, 3), np.uint8)


def add(root: Path, name: str, size: tuple[int, int], boxes: list[list[float]]) -> None:
    (root / "images").mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(root / f"images/{name}.png"), image(*size))
    corners = box_corners(boxes).reshape(-1, 8)
    lines = [" ".join(map(str, each)) + " ship 0\n" for each in corners.tolist()]
    (root / f"{name}.txt").write_text("".join(lines))


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Return what makes a source of the images below ``set``."""

    def source(**options: Any) -> ObjectSource:  # noqa: ANN401
        rules = AnnotationRules(classes=("ship",))
        asked: dict[str, Any] = {"fractions": ALL_TRAIN, "empty": 1.0, **options}
        images = read_annotations("dota", tmp_path / "set", rules)
        return ObjectSource(images, ObjectOptions(**asked))

    return source


def read_all(source: ObjectSource) -> dict[str, Sample]:
    read = [source.read(item) for plan in source.shards(10**6) for item in plan.items]
    return {sample.key: sample for sample in read if not isinstance(sample, str)}


def parts(source: ObjectSource) -> dict[str, list[Any]]:
    """Return what is packed of each split."""
    found: dict[str, list[Any]] = {"train": [], "val": [], "test": []}
    for plan in source.shards(10**9):
        found[plan.split] += plan.items
    return found


def test_objects_move_into_their_tile_and_stay_whole(make: Make, tmp_path: Path):
    add(tmp_path / "set", "a", (32, 56), [[28, 10, 38, 20], [0, 0, 4, 4]])
    samples = read_all(make(tile=32, overlap=8))
    assert sorted(samples) == ["images_a_r00000_c00000", "images_a_r00000_c00024"]
    left, right = (samples[key].target for key in sorted(samples))
    # 4 of 10 columns are seen at the left: the object is marked there, and whole at the right.
    assert left.corners[:, 0].tolist() == [[28, 10], [0, 0]]
    assert left.shares.tolist() == pytest.approx([0.4, 1])
    assert left.flags.tolist() == [IGNORED, 0]
    assert right.corners[:, 0].tolist() == [[4, 10]]
    assert (right.shares.tolist(), right.flags.tolist()) == ([1], [0])
    whole = image(32, 56)
    pixels = samples["images_a_r00000_c00024"].pixels
    assert pixels is not None and (pixels[..., ::-1] == whole[:, 24:]).all()


@pytest.mark.parametrize(("right", "kept"), [(42, []), (41, [IGNORED]), (37, [IGNORED]), (36, [0])])
def test_the_share_that_is_seen_decides(right: int, kept: list[int]):
    objects = make_objects(box_corners([[right - 14, 0, right, 10]]), [0], (64, 64))
    found, _ = cut_objects(prepare_cuts(objects), (0, 0), (32, 32), VisibleRules(0.7, 0.3))
    assert found.flags.tolist() == kept


@given(
    st.integers(8, 80), st.integers(8, 80), st.integers(8, 40), st.integers(0, 7),
    st.lists(st.tuples(*[st.integers(-10, 90)] * 8), max_size=6),
)  # fmt: skip
def test_every_object_is_whole_in_a_tile_if_it_fits_into_the_overlap(
    height: int, width: int, tile: int, overlap: int, outlines: list[tuple[int, ...]]
):
    corners = np.array(outlines, np.float32).reshape(-1, 4, 2)
    corners = corners[areas(corners) > 1]
    objects = make_objects(corners, np.zeros(len(corners)), (height, width))
    whole: set[int] = set()
    for corner in object_tiles(height, width, tile=tile, overlap=overlap):
        found, numbers = cut_objects(prepare_cuts(objects), corner, (tile, tile), VisibleRules())
        moved = corners[numbers] - np.array(corner[::-1], np.float32)
        assert (found.corners == moved).all()
        assert ((found.shares >= 0.3) & (found.shares <= 1)).all()
        assert ((found.shares < 0.7) == (found.flags == IGNORED)).all()
        whole |= set(numbers[found.shares > 0.999].tolist())
    low, high = corners.min(axis=1), corners.max(axis=1)
    inside = (low >= 0).all(axis=1) & (high <= (width, height)).all(axis=1)
    small = (high - low <= overlap).all(axis=1)
    assert set(np.flatnonzero(inside & small).tolist()) <= whole


def test_a_small_image_is_padded_and_its_padding_is_no_data(make: Make, tmp_path: Path):
    add(tmp_path / "set", "a", (20, 48), [[2, 2, 9, 9], [4, 15, 14, 25]])
    (sample,) = read_all(make(tile=48, overlap=0)).values()
    assert sample.pixels is not None and sample.valid is not None
    assert sample.pixels.shape == (48, 48, 3) and not sample.pixels[20:].any()
    assert sample.valid[:20].all() and not sample.valid[20:].any()
    # Of the second object the image shows half: padding shows nothing.
    assert sample.target.shares.tolist() == pytest.approx([1, 0.5])
    assert sample.target.size == (48, 48)


def test_statistics_do_not_count_padding(make: Make, tmp_path: Path):
    add(tmp_path / "set", "a", (20, 30), [[2, 2, 9, 9]])
    manifest = pack(make(tile=40, overlap=0), connect(str(tmp_path / "out")), PackOptions())
    pixels = image(20, 30)[..., ::-1].reshape(-1, 3)
    np.testing.assert_allclose(manifest.mean, pixels.mean(axis=0), rtol=1e-6)


def test_whole_images_keep_their_bytes(make: Make, tmp_path: Path):
    add(tmp_path / "set", "a", (20, 30), [[2, 2, 9, 9]])
    (sample,) = read_all(make(tile=None)).values()
    assert sample.image == (tmp_path / "set/images/a.png").read_bytes()
    assert sample.group is None


def test_what_no_tile_shows_is_counted(make: Make, tmp_path: Path):
    add(tmp_path / "set", "a", (64, 64), [[0, 0, 64, 64], [70, 70, 80, 80], [5, 0, 15, 64]])
    source = make(tile=16, overlap=0)
    assert source.left_out["objects outside of their image"] == 1
    assert source.left_out["objects of which less than --drop is seen"] == 2


def test_tiles_without_objects_are_drawn_for_training_alone(make: Make, tmp_path: Path):
    for number in range(8):
        add(tmp_path / "set", f"s{number}", (64, 64), [])
    add(tmp_path / "set", "full", (64, 64), [[1, 1, 9, 9]])
    options = {"tile": 16, "overlap": 0, "fractions": (0.5, 0.5, 0.0)}
    kept = {share: parts(make(**options, empty=share)) for share in (0.0, 0.5, 1.0)}
    assert kept[0.0]["val"] == kept[0.5]["val"] == kept[1.0]["val"]
    assert len(kept[1.0]["val"]) % 16 == 0
    few, half, every = (set(kept[share]["train"]) for share in (0.0, 0.5, 1.0))
    assert few <= half <= every and 0.3 * len(every) < len(half) < 0.7 * len(every)
    assert parts(make(**options, empty=0.5)) == kept[0.5]


def test_tiles_of_an_image_share_a_split_and_a_group(make: Make, tmp_path: Path):
    for number in range(6):
        add(tmp_path / "set", f"s{number}", (40, 40), [[1, 1, 9, 9]])
    source = make(tile=16, overlap=4, fractions=(0.5, 0.25, 0.25))
    splits: dict[str, set[str]] = {}
    for plan in source.shards(3000):
        for part in plan.items:
            sample = source.read(part)
            assert isinstance(sample, Sample) and sample.group == sample.meta["source"]
            splits.setdefault(sample.group, set()).add(plan.split)
    assert len(splits) == 6 and all(len(each) == 1 for each in splits.values())


def test_a_changed_annotation_is_another_data_set(make: Make, tmp_path: Path):
    add(tmp_path / "set", "a", (20, 30), [[2, 2, 9, 9]])
    before = make().provenance["listing_sha256"]
    label = tmp_path / "set/a.txt"
    label.write_text(label.read_text().replace("9.0", "8.0"))
    assert make().provenance["listing_sha256"] != before


def test_a_jpeg_turned_by_exif_is_refused(make: Make, tmp_path: Path):
    add(tmp_path / "set", "a", (20, 30), [[2, 2, 9, 9]])
    path = tmp_path / "set/images/a.png"
    path.unlink()
    _, data = cv2.imencode(".jpg", image(20, 30))
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    marker = b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif
    jpeg = data.tobytes()
    path.with_suffix(".jpg").write_bytes(jpeg[:2] + marker + jpeg[2:])
    with pytest.raises(CorruptSampleError, match=r"Exif orientation.*save it upright"):
        read_all(make(tile=None))


def test_an_image_that_cannot_be_read_is_skipped_if_asked(make: Make, tmp_path: Path):
    for name in ("a", "b"):
        add(tmp_path / "set", name, (20, 30), [[2, 2, 9, 9]])
    (tmp_path / "set/images/b.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    out = connect(str(tmp_path / "out"))
    with pytest.raises(CorruptSampleError, match="on-corrupt"):
        pack(make(), out, PackOptions())
    manifest = pack(make(), out, PackOptions(on_corrupt="skip", overwrite=True))
    assert manifest.provenance["num_skipped"] == 1 and manifest.splits["train"].samples == 1


def test_an_image_of_another_size_than_stated_is_refused(tmp_path: Path):
    add(tmp_path, "a", (20, 30), [])
    box = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"
    size = "<size><width>20</width><height>30</height></size>"
    (tmp_path / "a.xml").write_text(f"<a>{size}<object><name>x</name>{box}</object></a>")
    images = read_annotations("voc", tmp_path, AnnotationRules())
    with pytest.raises(CorruptSampleError, match="is 20 x 30, and its annotations say 30 x 20"):
        read_all(ObjectSource(images, ObjectOptions(fractions=ALL_TRAIN)))


@pytest.mark.parametrize(
    ("options", "option"),
    [
        ({"tile": 4}, "--tile"),
        ({"tile": 16, "overlap": 16}, "--overlap"),
        ({"visible": VisibleRules(0.3, 0.7)}, "--drop"),
        ({"empty": 2.0}, "--empty"),
    ],
)
def test_options_out_of_range_are_refused(
    options: dict[str, Any], option: str, make: Make, tmp_path: Path
):
    add(tmp_path / "set", "a", (20, 30), [[2, 2, 9, 9]])
    with pytest.raises(ConfigError, match=option):
        make(**options)


def test_no_object_at_all_needs_classes(tmp_path: Path):
    add(tmp_path, "a", (20, 30), [])
    images = read_annotations("dota", tmp_path, AnnotationRules())
    with pytest.raises(DataError, match=r"has no object.*--classes"):
        ObjectSource(images, ObjectOptions())


def test_the_command_packs_verifies_and_draws(tmp_path: Path):
    for number in range(3):
        add(tmp_path / "set", f"s{number}", (40, 50), [[1, 1, 9, 9], [30, 20, 48, 38]])
    out = str(tmp_path / "out")
    runner = CliRunner()
    asked = ["data", "pack", "dota", str(tmp_path / "set"), "--out", out, "--tile", "32"]
    done = runner.invoke(app, [*asked, "--overlap", "8", "--split", "1,0,0"])
    assert done.exit_code == 0, done.output
    manifest = load_manifest(connect(out))
    assert (manifest.target, manifest.classes) == ("objects", ("ship",))
    assert not check_dataset(connect(out)).problems
    sheet = tmp_path / "sheet.png"
    shown = runner.invoke(app, ["data", "info", out, "--sheet", str(sheet)])
    assert shown.exit_code == 0 and "ship" in shown.output
    assert cv2.imread(str(sheet)) is not None


def test_objects_of_a_source_survive_the_shard(make: Make, tmp_path: Path):
    from rsdl.data.targets import KINDS

    add(tmp_path / "set", "a", (32, 56), [[28, 10, 38, 20], [0, 0, 4, 4]])
    for sample in read_all(make(tile=32, overlap=8)).values():
        kind, target = KINDS["objects"], sample.target
        stored: Objects = kind.decode(kind.encode(target), "x")
        assert stored.size == target.size and (stored.corners == target.corners).all()
        assert (stored.flags == target.flags).all()
