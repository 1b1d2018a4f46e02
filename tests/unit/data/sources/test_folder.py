import json
import os
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import pytest
import rasterio
import simplejpeg
from hypothesis import given
from hypothesis import strategies as st
from rasterio.transform import Affine

from rsdl.core.errors import ConfigError, CorruptSampleError, DataError, StorageError
from rsdl.data.sources.encoded import read_image
from rsdl.data.sources.folder import FolderSource
from rsdl.data.sources.listing import ImageFile, list_tree
from rsdl.data.sources.splits import deal, draw_splits, split_counts


def jpeg(value: int = 100, size: int = 8, grey: bool = False) -> bytes:
    pixels = np.full((size, size, 1 if grey else 3), value, np.uint8)
    return simplejpeg.encode_jpeg(pixels, colorspace="GRAY" if grey else "RGB")


def png(bands: int = 3) -> bytes:
    return cv2.imencode(".png", np.full((8, 8, bands), 100, np.uint8))[1].tobytes()


def write_tiff(path: Path, pixels: np.ndarray, **profile: object) -> None:
    bands, height, width = pixels.shape
    descriptions = profile.pop("descriptions", None)
    georeference = {"crs": "EPSG:32633", "transform": Affine(0.5, 0, 500_000, 0, -0.5, 5_000_000)}
    with rasterio.open(
        path, "w", driver="GTiff", width=width, height=height, count=bands, dtype=pixels.dtype,
        **{**georeference, **profile},
    ) as scene:  # fmt: skip
        scene.write(pixels)
        if descriptions:
            scene.descriptions = descriptions


def make_tree(root: Path, **counts: int) -> Path:
    for name, count in counts.items():
        folder = root / name
        folder.mkdir(parents=True)
        for number in range(count):
            (folder / f"{name}_{number:03}.jpg").write_bytes(jpeg(number % 250))
    return root


def items_of(source: FolderSource, shard_bytes: int = 2_000) -> list[tuple[str, ImageFile]]:
    return [(plan.split, item) for plan in source.shards(shard_bytes) for item in plan.items]


def test_every_image_is_dealt_once_and_reads_as_stored(tmp_path: Path):
    root = make_tree(tmp_path / "set", beach=12, forest=20)
    source = FolderSource(root)
    items = [item for _, item in items_of(source)]
    assert sorted(item.path for item in items) == sorted(
        path.relative_to(root).as_posix() for path in root.rglob("*.jpg")
    )
    with ThreadPoolExecutor(2) as threads:
        samples = list(threads.map(source.read, items))
    assert len({sample.key for sample in samples}) == 32
    for sample in samples:
        assert sample.image == (root / sample.meta["source"]).read_bytes()
        assert source.classes[sample.target] == sample.meta["class"]
        assert sample.meta["source"].startswith(f"{sample.meta['class']}/")
        assert sample.pixels.shape == (8, 8, 4), "a fourth band that means nothing"
        assert sample.valid is None
    assert (source.dataset, source.dtype, source.bands) == (
        "set",
        "uint8",
        ("red", "green", "blue"),
    )
    json.dumps(source.provenance)


def timeless(source: FolderSource) -> list[tuple[str, ImageFile]]:
    """Return the items but for the time of their last change, which differs from tree to tree."""
    return [(split, item._replace(modified_ns=0)) for split, item in items_of(source)]


def test_the_split_hangs_on_seed_and_relative_paths_alone(tmp_path: Path):
    here = FolderSource(make_tree(tmp_path / "a", beach=30, forest=30), name="x")
    there = FolderSource(make_tree(tmp_path / "elsewhere" / "b", forest=30, beach=30), name="x")
    assert timeless(here) == timeless(there)
    assert here.provenance == there.provenance
    reseeded = FolderSource(tmp_path / "a", seed=1)
    assert timeless(reseeded) != timeless(here)
    assert {item.path for _, item in items_of(reseeded)} == {
        item.path for _, item in items_of(here)
    }


def test_the_split_of_known_paths_never_changes():
    # Written down, so that a change of hash or rounding cannot pass for the same rule.
    files = [ImageFile(f"beach/{n}.jpg", 1, 0, f"beach_{n}", None) for n in range(10)]
    drawn = {file.path: file.split for file in draw_splits(files, (0.8, 0.1, 0.1), 0)}
    assert {path: split for path, split in drawn.items() if split != "train"} == {
        "beach/8.jpg": "test", "beach/6.jpg": "val",
    }  # fmt: skip


def test_a_new_class_moves_no_sample_of_the_others(tmp_path: Path):
    root = make_tree(tmp_path / "set", beach=30)
    before = {item.path: split for split, item in items_of(FolderSource(root))}
    make_tree(root, airport=5)
    after = {item.path: split for split, item in items_of(FolderSource(root))}
    assert before.items() <= after.items()


shares = st.sampled_from([(0.8, 0.1, 0.1), (0.6, 0.2, 0.2), (0.9, 0.1, 0.0), (1.0, 0.0, 0.0)])
odd_shares = st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9)).filter(any)


@given(num=st.integers(1, 3000), fractions=shares | odd_shares)
def test_split_counts_add_up_and_stay_near_their_shares(num: int, fractions: tuple[float, ...]):
    total = sum(fractions)
    train, val, test = (share / total for share in fractions)
    counts = split_counts(num, (train, val, test))
    assert sum(counts) == num
    wanted = sum(share > 0 for share in fractions)
    for count, share in zip(counts, (train, val, test), strict=True):
        assert count >= 0
        assert abs(count - num * share) <= 1.5 or num < 10
        if share == 0:
            assert count == 0
        elif num >= wanted:
            assert count >= 1


@given(sizes=st.lists(st.integers(0, 5000), max_size=60), shard_bytes=st.integers(1, 20_000))
def test_shards_hold_every_file_in_order_and_are_of_about_the_size(
    sizes: list[int], shard_bytes: int
):
    files = [ImageFile(str(n), size, 0, str(n), "train") for n, size in enumerate(sizes)]
    shards = list(deal(files, shard_bytes))
    assert [file for shard in shards for file in shard] == files
    assert all(shards)
    for shard in shards:
        assert sum(file.size for file in shard) <= 1.5 * shard_bytes + 2 * 5000


def test_classes_are_mixed_within_a_split(tmp_path: Path):
    source = FolderSource(make_tree(tmp_path / "set", beach=40, forest=40))
    labels = [item.label for split, item in items_of(source) if split == "train"]
    changes = sum(a != b for a, b in pairwise(labels))
    assert changes > len(labels) / 4


@pytest.mark.parametrize("validation", ["val", "validation", "Val"])
def test_split_folders_are_respected(tmp_path: Path, validation: str):
    for split, count in (("train", 4), (validation, 2), ("test", 1)):
        make_tree(tmp_path / split, beach=count, forest=count)
    source = FolderSource(tmp_path)
    assert source.classes == ("beach", "forest")
    assert source.provenance["split_rule"] == "split folders"
    found = [(split, item.path.partition("/")[0]) for split, item in items_of(source)]
    assert set(found) == {("train", "train"), ("val", validation), ("test", "test")}
    assert len(found) == 14
    assert len({item.key for _, item in items_of(source)}) == 14


def test_a_class_may_be_absent_from_one_split_folder(tmp_path: Path):
    make_tree(tmp_path / "train", beach=2, forest=2)
    make_tree(tmp_path / "test", beach=2, forest=0)
    assert FolderSource(tmp_path).num_images == 6


def test_keys_are_unique_plain_and_do_not_hang_on_other_files(tmp_path: Path):
    folder = tmp_path / "Port"
    (folder / "a").mkdir(parents=True)
    for name in ("a_b.jpg", "a.b.jpg", "a/b.JPEG", "c.jpg", "c.png", "d e.jpg"):
        (folder / name).write_bytes(png() if name.endswith("png") else jpeg())
    keys = {file.path: file.key for file in list_tree(tmp_path).files}
    assert len(set(keys.values())) == len(keys) == 6
    assert all("." not in key and "/" not in key and " " not in key for key in keys.values())
    assert keys["Port/d e.jpg"] == "Port_d_e"
    (folder / "c.png").unlink()
    fewer = {file.path: file.key for file in list_tree(tmp_path).files}
    assert fewer["Port/a_b.jpg"] == keys["Port/a_b.jpg"]
    assert fewer["Port/c.jpg"] == "Port_c"


def test_files_deep_in_a_class_folder_count_and_litter_does_not(tmp_path: Path):
    make_tree(tmp_path / "Port" / "2019" / "june", north=2)
    make_tree(tmp_path, Town=1)
    for litter in (".DS_Store", "notes.txt", "._x.jpg", "jpg", "x.jpg.txt"):
        (tmp_path / "Port" / litter).write_bytes(b"x")
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / "Port" / "loop").symlink_to(tmp_path / "Port")
    tree = list_tree(tmp_path)
    assert tree.classes == ("Port", "Town")
    assert [file.key for file in tree.files] == [
        "Port_2019_june_north_north_000", "Port_2019_june_north_north_001", "Town_Town_000",
    ]  # fmt: skip


def test_georeferenced_tiffs_keep_their_place_and_say_where_nodata_is(tmp_path: Path):
    (tmp_path / "fields").mkdir()
    pixels = np.full((4, 6, 5), 7, np.uint16)
    pixels[:, 0, :] = 0
    write_tiff(
        tmp_path / "fields" / "a.TIF", pixels, nodata=0, descriptions=("B1", "B2", "B3", "B4")
    )
    source = FolderSource(tmp_path)
    assert (source.dtype, source.bands) == ("uint16", ("B1", "B2", "B3", "B4"))
    sample = source.read(items_of(source)[0][1])
    assert sample.extension == "tif"
    assert sample.meta["crs"] == "EPSG:32633"
    assert sample.meta["transform"] == [0.5, 0, 500_000, 0, -0.5, 5_000_000]
    assert sample.meta["bounds"] == [500_000, 4_999_997, 500_002.5, 5_000_000]
    assert sample.valid is not None and not sample.valid[0].any() and sample.valid[1:].all()
    assert json.loads(json.dumps(sample.meta)) == sample.meta


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_tiff_without_a_place_says_nothing_of_one(tmp_path: Path):
    (tmp_path / "fields").mkdir()
    pixels = np.ones((3, 4, 4), np.uint8)
    write_tiff(tmp_path / "fields" / "a.tif", pixels, crs=None, transform=None)
    source = FolderSource(tmp_path)
    assert set(source.read(items_of(source)[0][1]).meta) == {"class", "source"}


def test_npy_arrays_get_numbered_bands(tmp_path: Path):
    (tmp_path / "fields").mkdir()
    np.save(tmp_path / "fields" / "a.npy", np.ones((4, 5, 2), np.float32))
    source = FolderSource(tmp_path)
    assert (source.dtype, source.bands) == ("float32", ("band_1", "band_2"))


def test_a_colour_image_in_a_grey_set_is_refused_and_not_greyed(tmp_path: Path):
    (tmp_path / "beach").mkdir()
    (tmp_path / "beach" / "a.png").write_bytes(png(bands=1))
    (tmp_path / "beach" / "b.png").write_bytes(png())
    source = FolderSource(tmp_path)
    assert source.bands == ("band_1",)
    with pytest.raises(CorruptSampleError, match=r"b\.png: has 3 bands of uint8, .* 1 band of"):
        source.read(list_tree(tmp_path).files[1])


def bad_image(root: Path, name: str, data: bytes) -> str:
    make_tree(root, beach=1)
    (root / "beach" / name).write_bytes(data)
    source = FolderSource(root)
    file = next(item for _, item in items_of(source) if item.path == f"beach/{name}")
    with pytest.raises(CorruptSampleError) as caught:
        source.read(file)
    message = str(caught.value)
    assert "\n" not in message
    assert str(root / "beach" / name) in message
    return message


def test_an_empty_file_is_named_and_does_not_decide_the_bands(tmp_path: Path):
    assert "empty (0 bytes)" in bad_image(tmp_path, "a.jpg", b"")


@pytest.mark.parametrize(
    ("name", "data", "problem"),
    [
        ("a.jpg", png(), "is named as a JPEG but holds a PNG"),
        ("a.png", jpeg(), "is named as a PNG but holds a JPEG"),
        ("a.jpg", jpeg(size=64)[:-200], "cannot be decoded as JPEG"),
        ("a.jpg", b"<html>", "holds no image"),
    ],
)
def test_an_image_that_is_not_what_it_says_is_named(
    tmp_path: Path, name: str, data: bytes, problem: str
):
    assert problem in bad_image(tmp_path, name, data)


def test_other_bands_or_type_than_the_data_set_are_named(tmp_path: Path):
    make_tree(tmp_path, beach=1)
    np.save(tmp_path / "beach" / "z.npy", np.ones((4, 4, 3), np.uint16))
    source = FolderSource(tmp_path)
    with pytest.raises(
        CorruptSampleError, match=r"z\.npy: has 3 bands of uint16, the data set has"
    ):
        source.read(list_tree(tmp_path).files[1])


def test_a_vanished_file_is_named(tmp_path: Path):
    source = FolderSource(make_tree(tmp_path, beach=1))
    (tmp_path / "beach" / "beach_000.jpg").unlink()
    with pytest.raises(CorruptSampleError, match=r"beach_000\.jpg: cannot be read: No such file"):
        source.read(items_of(source)[0][1])


@pytest.mark.parametrize("change", [-1, 0, 1, 5_000_000])
def test_a_file_that_has_changed_since_it_was_listed_is_read_whole(tmp_path: Path, change: int):
    path = tmp_path / "a.JPG"
    path.write_bytes(jpeg(size=64) + b"x" * max(change, 0))
    data, extension = read_image(str(path), path.stat().st_size - change)
    assert data == path.read_bytes()
    assert extension == "jpg"


def test_wanted_bands_must_be_there(tmp_path: Path):
    make_tree(tmp_path, beach=1)
    with pytest.raises(DataError, match="has 3 bands, expected 2: near, far"):
        FolderSource(tmp_path, bands=("near", "far"))


def test_a_type_that_no_model_reads_is_refused(tmp_path: Path):
    (tmp_path / "beach").mkdir()
    np.save(tmp_path / "beach" / "a.npy", np.ones((4, 4, 3), np.float64))
    with pytest.raises(DataError, match="float64; rsdl reads uint8, uint16, float32"):
        FolderSource(tmp_path)


def bad_tree(root: Path) -> str:
    with pytest.raises(DataError) as caught:
        FolderSource(root)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_missing_folder_is_named(tmp_path: Path):
    assert bad_tree(tmp_path / "x") == f"{tmp_path / 'x'}: no such folder; check the path"


def test_a_file_is_no_folder(tmp_path: Path):
    (tmp_path / "x.zip").write_bytes(b"PK")
    assert "is a file, not a folder; unpack it" in bad_tree(tmp_path / "x.zip")


def test_a_folder_without_classes_is_refused(tmp_path: Path):
    assert "has no class folders" in bad_tree(tmp_path)


def test_an_empty_class_is_named(tmp_path: Path):
    make_tree(tmp_path, beach=1, forest=0)
    (tmp_path / "forest" / "a.gif").write_bytes(b"GIF89a")
    message = bad_tree(tmp_path)
    assert 'forest: class "forest" has no images' in message
    assert "remove the folder" in message


def test_images_outside_class_folders_are_refused(tmp_path: Path):
    make_tree(tmp_path, beach=1)
    (tmp_path / "map.png").write_bytes(png())
    assert 'holds the image "map.png" outside any class folder' in bad_tree(tmp_path)


def test_split_folders_without_classes_are_no_classes(tmp_path: Path):
    make_tree(tmp_path, train=2, test=2)
    assert "outside any class folder" in bad_tree(tmp_path)


def test_two_folders_for_one_split_are_refused(tmp_path: Path):
    for split in ("train", "val", "validation"):
        make_tree(tmp_path / split, beach=1)
    assert 'has 2 folders for the split "val"' in bad_tree(tmp_path)


def test_a_set_of_only_bad_images_shows_the_first_reason(tmp_path: Path):
    make_tree(tmp_path, beach=2)
    for path in tmp_path.rglob("*.jpg"):
        path.write_bytes(b"")
    assert "no image can be decoded; the first: " in bad_tree(tmp_path)


@pytest.mark.parametrize("fractions", [(0.8, 0.1, 0.2), (1.2, -0.1, -0.1), (0.5, 0.5)])
def test_shares_that_do_not_add_up_are_refused(tmp_path: Path, fractions: tuple[float, ...]):
    make_tree(tmp_path, beach=1)
    with pytest.raises(ConfigError, match="are not three shares that add up to 1"):
        FolderSource(tmp_path, fractions=cast(Any, fractions))


def test_a_pipe_named_like_an_image_is_passed_over_and_a_broken_link_named(tmp_path: Path):
    root = make_tree(tmp_path / "set", beach=4, forest=4)
    os.mkfifo(root / "beach" / "pipe.png")
    assert FolderSource(root).left_out == {"no regular file": 1}
    (root / "beach" / "link.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(StorageError, match=r"beach/link\.png: no such file"):
        FolderSource(root)
