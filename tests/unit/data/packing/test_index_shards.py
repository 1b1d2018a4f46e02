import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import rasterio
import simplejpeg
import webdataset

from rsdl.config.data import DataConfig
from rsdl.core.errors import DataError, RsdlError
from rsdl.data.crop import CropRule
from rsdl.data.dataset import DataSet, eval_plan
from rsdl.data.loader import BatchLoader, LoadRule
from rsdl.data.manifest import MANIFEST, Manifest
from rsdl.data.packing.index_shards import index_shards
from rsdl.data.packing.verify import check_dataset
from rsdl.data.plan import Share
from rsdl.data.tar import tar_bytes
from rsdl.storage.connect import connect

RANDOM = np.random.default_rng(1)


def picture(bands: int = 3) -> np.ndarray:
    return RANDOM.integers(0, 255, (12, 14, bands)).astype(np.uint8)


def jpeg(pixels: np.ndarray | None = None) -> bytes:
    pixels = picture() if pixels is None else pixels
    colours = "GRAY" if pixels.shape[2] == 1 else "RGB"
    return bytes(simplejpeg.encode_jpeg(pixels, colorspace=colours))


def write_shard(path: Path, samples: list[dict[str, Any]]) -> None:
    with webdataset.TarWriter(str(path)) as writer:
        for sample in samples:
            writer.write(sample)


def plain(number: int, **members: Any) -> dict[str, Any]:  # noqa: ANN401
    return {"__key__": f"s{number:03d}", "jpg": jpeg(), "cls": number % 3} | members


def index(root: Path, **options: Any) -> Manifest:  # noqa: ANN401
    return index_shards(connect(str(root)), **options)


def load(root: Path, split: str) -> dict[str, tuple[np.ndarray, int]]:
    """Return image and label of each sample of a split, by key, through the loader."""
    dataset = DataSet(DataConfig(url=str(root), batch_size=4))
    data = dataset.split(split, "data.train_split")
    rule = LoadRule(image_size=12, crop=CropRule(), num_workers=2)
    loader = BatchLoader(data, eval_plan(dataset.config, data), Share(), rule)
    return {
        data.index.keys(batch.samples.numpy())[row]: (
            batch.images[row].numpy(),
            int(batch.targets[row]),
        )
        for batch in loader
        for row in range(len(batch))
        if batch.valid[row]
    }


@pytest.mark.parametrize("kind", ["jpg", "png", "npy"])
def test_shards_of_the_stock_writer_load_with_their_images_and_labels(kind: str, tmp_path: Path):
    pixels = {f"s{number:03d}": picture()[:, :12].copy() for number in range(10)}
    encode: dict[str, Callable[[np.ndarray], Any]] = {
        "jpg": jpeg,
        "png": lambda p: cv2.imencode(".png", p[:, :, ::-1])[1].tobytes(),
        "npy": lambda p: p,
    }
    with webdataset.ShardWriter(str(tmp_path / "train-%06d.tar"), maxcount=4, verbose=0) as writer:
        for number, (key, image) in enumerate(pixels.items()):
            writer.write({"__key__": key, kind: encode[kind](image), "cls": number % 3})

    manifest = index(tmp_path)

    assert [shard.samples for shard in manifest.splits["train"].shards] == [4, 4, 2]
    assert manifest.splits["train"].class_counts == (4, 3, 3)
    assert (manifest.bands, manifest.dtype) == (("red", "green", "blue"), "uint8")
    loaded = load(tmp_path, "train")
    assert {key: label for key, (_, label) in loaded.items()} == {
        key: number % 3 for number, key in enumerate(pixels)
    }
    for key, image in pixels.items():
        expected = simplejpeg.decode_jpeg(jpeg(image)) if kind == "jpg" else image
        assert np.array_equal(loaded[key][0], expected)
    if kind != "jpg":
        every = np.concatenate([image.reshape(-1, 3) for image in pixels.values()])
        assert manifest.mean == pytest.approx(every.mean(0))
        assert manifest.std == pytest.approx(every.std(0))
    assert check_dataset(connect(str(tmp_path))).problems == []


def test_the_tars_stay_as_they_are(tmp_path: Path):
    write_shard(tmp_path / "train-0.tar", [plain(number) for number in range(3)])
    before = (tmp_path / "train-0.tar").read_bytes()
    index(tmp_path)
    assert (tmp_path / "train-0.tar").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "index-train.npy",
        MANIFEST,
        "train-0.tar",
    ]


def test_labels_and_names_may_come_from_json(tmp_path: Path):
    for name in ("train-0.tar", "train-1.tar"):
        samples: list[dict[str, Any]] = [
            {"__key__": "a", "jpeg": jpeg(), "json": {"label": 1, "class": "harbor"}},
            {"__key__": "b", "jpeg": jpeg(), "json": {"cls": 0, "class_name": "field"}},
            {"__key__": "c", "jpeg": jpeg(), "json": {"label": 9}, "cls": 3},
            {"__key__": "d", "jpeg": jpeg(), "cls": 2},
        ]
        write_shard(tmp_path / name, samples)
    manifest = index(tmp_path)
    assert manifest.classes == ("field", "harbor", "class_02", "class_03")
    assert manifest.splits["train"].class_counts == (2, 2, 2, 2)


def test_splits_are_told_by_words_or_patterns(tmp_path: Path):
    for name in ("x-training-0", "x-val-0", "validation/1", "test_7", "part-3"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_shard(tmp_path / f"{name}.tar", [plain(0), plain(1)])

    def shards(manifest: Manifest) -> dict[str, list[str]]:
        return {name: [s.name for s in split.shards] for name, split in manifest.splits.items()}

    assert shards(index(tmp_path)) == {
        "train": ["part-3.tar", "x-training-0.tar"],
        "val": ["validation/1.tar", "x-val-0.tar"],
        "test": ["test_7.tar"],
    }
    globs = ["train=x-*.tar", "test=part-*", "test=part-3.tar"]
    assert shards(index(tmp_path, globs=globs, overwrite=True)) == {
        "train": ["x-training-0.tar", "x-val-0.tar"],
        "test": ["part-3.tar"],
    }


def test_grey_data_sets_stay_grey(tmp_path: Path):
    write_shard(tmp_path / "train-0.tar", [plain(n, jpg=jpeg(picture(1))) for n in range(3)])
    assert len(index(tmp_path).bands) == 1


def test_many_bands_are_read(tmp_path: Path):
    images = [(RANDOM.random((12, 12, 13)) * 9000).astype(np.uint16) for _ in range(3)]
    samples = [{"__key__": f"s{n}", "npy": image, "cls": n} for n, image in enumerate(images)]
    write_shard(tmp_path / "train-0.tar", samples)
    manifest = index(tmp_path)
    assert (len(manifest.bands), manifest.dtype) == (13, "uint16")
    for number, image in enumerate(images):
        assert np.array_equal(load(tmp_path, "train")[f"s{number}"][0], image)


def test_names_that_are_no_utf8_are_read(tmp_path: Path):
    path = tmp_path / "train-0.tar"
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT, encoding="latin1") as tar:
        for name, content in (
            ("ö.jpg", jpeg()), ("ö.cls", b"0"), ("p.jpg", jpeg()), ("p.cls", b"1"),
        ):  # fmt: skip
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    index(tmp_path)
    assert sorted(load(tmp_path, "train")) == ["\\xf6", "p"]


@pytest.mark.parametrize(
    ("members", "problem"),
    [
        ({"a.cls": b"1"}, "train-0.tar:a: has no image, only cls"),
        ({"a.jpg": jpeg()}, "train-0.tar:a.cls: has no label"),
        ({"a.jpg": jpeg(), "a.cls": b"cat"}, "label 'cat' is not a class index"),
        ({"a.jpg": jpeg(), "a.cls": b"-1"}, "label '-1' is not a class index"),
        ({"a.jpg": jpeg(), "a.cls": b"999999999999"}, "is not a class index"),
        ({"a.jpg": jpeg(), "a.json": b"{"}, "train-0.tar:a.json: is not JSON"),
        ({"a.jpg": b"", "a.cls": b"1"}, "train-0.tar:a: is empty (0 bytes)"),
        ({"a.jpg": jpeg()[:-99], "a.cls": b"1"}, "train-0.tar:a: cannot be decoded as JPEG"),
        ({"a.png": jpeg(), "a.cls": b"1"}, "is named as a PNG but holds a JPEG"),
        (
            {"a.jpg": jpeg(), "a.cls": b"1", "b.cls": b"1", "a.JPG": jpeg()},
            "train-0.tar:a: has two members .jpg",
        ),
        ({"README": b"x"}, "holds no samples"),
    ],
)
def test_bad_samples_are_one_line_and_leave_nothing(
    members: dict[str, bytes], problem: str, tmp_path: Path
):
    (tmp_path / "train-0.tar").write_bytes(tar_bytes(members))
    with pytest.raises(RsdlError) as caught:
        index(tmp_path)
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2
    assert [path.name for path in tmp_path.iterdir()] == ["train-0.tar"]


def test_mixed_kinds_name_the_odd_one(tmp_path: Path):
    other = {"__key__": "odd", "npy": picture(5), "cls": 1}
    write_shard(tmp_path / "train-0.tar", [plain(0), other])
    with pytest.raises(DataError, match=r"train-0\.tar:odd: has 5 bands of uint8, expected 3"):
        index(tmp_path)


def test_class_names_are_checked_against_the_labels(tmp_path: Path):
    write_shard(tmp_path / "train-0.tar", [plain(number) for number in range(3)])
    with pytest.raises(DataError, match="label 2 is out of range, 2 classes are named"):
        index(tmp_path, classes=("a", "b"))
    assert index(tmp_path, classes=("a", "b", "c", "d")).classes == ("a", "b", "c", "d")


def test_a_manifest_is_not_replaced_unasked(tmp_path: Path):
    write_shard(tmp_path / "train-0.tar", [plain(0), plain(1)])
    first = index(tmp_path)
    with pytest.raises(DataError, match="has a manifest already; pass --overwrite"):
        index(tmp_path)
    assert index(tmp_path, overwrite=True) == first


@pytest.mark.parametrize(
    ("globs", "problem"),
    [
        (["train"], "is not SPLIT=GLOB"),
        (["dev=*.tar"], "is not SPLIT=GLOB"),
        (["train=y*.tar"], 'no tar matches "y*.tar"; there is x-0.tar'),
        (["train=x-{0..2}.tar"], 'no tar matches "x-2.tar, of x-{0..2}.tar"; there is x-0.tar'),
        (["train=*.tar", "val=x-1*"], "x-1.tar would be in train and in val"),
    ],
)
def test_patterns_that_do_not_work_are_one_line(globs: list[str], problem: str, tmp_path: Path):
    for number in range(2):
        write_shard(tmp_path / f"x-{number}.tar", [plain(0)])
    with pytest.raises(DataError) as caught:
        index(tmp_path, globs=globs)
    assert problem in str(caught.value)


def test_braces_name_every_shard(tmp_path: Path):
    for number in range(5):
        write_shard(tmp_path / f"part-{number:03d}.tar", [plain(0), plain(1)])
    manifest = index(tmp_path, globs=["train=part-{000..002}.tar", "val=part-{003,004}.tar"])
    names = {
        split: [shard.name for shard in each.shards] for split, each in manifest.splits.items()
    }
    assert names == {
        "train": [f"part-{number:03d}.tar" for number in range(3)],
        "val": ["part-003.tar", "part-004.tar"],
    }


def test_a_folder_without_tars_is_one_line(tmp_path: Path):
    with pytest.raises(DataError, match=r"holds no \.tar; name the folder of the shards"):
        index(tmp_path)


def test_only_validation_shards_still_get_statistics(tmp_path: Path):
    write_shard(tmp_path / "val-0.tar", [plain(number) for number in range(3)])
    manifest = index(tmp_path)
    assert min(manifest.std) > 1
    assert json.loads(manifest.to_json())["splits"].keys() == {"val"}


def test_progress_counts_shards(tmp_path: Path):
    for number in range(3):
        write_shard(tmp_path / f"train-{number}.tar", [plain(number)])
    told: list[tuple[int, int]] = []
    index(tmp_path, progress=lambda done, of: told.append((done, of)))
    assert told == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize(
    ("labels", "problem"),
    [
        ([(1, "a"), (2, "b")], "no sample has label 0, though labels go from 1 to 2"),
        ([(0, "a"), (2, "b")], "no sample has label 1, though labels go from 0 to 2"),
        (
            [(0, "a"), (1, "b"), (0, "c")],
            's002: class 0 is "c" here and "a" in {shard}:s000',
        ),
        ([(0, "a"), (1, "a")], '"a" is class 1 here and class 0 in {shard}:s000'),
        ([(0, "a"), (1, "A")], 'the classes "a" and "A" differ only in case'),
        ([(0, "a"), (0, "a")], 'has one class, "a"'),
    ],
)
@pytest.mark.parametrize("num_shards", [1, 3])
def test_numbers_and_names_that_mislead_are_refused(
    tmp_path: Path, labels: list[tuple[int, str]], problem: str, num_shards: int
):
    samples = [
        {"__key__": f"s{n:03d}", "jpg": jpeg(), "json": {"label": label, "class": name}}
        for n, (label, name) in enumerate(labels)
    ]
    for shard in range(num_shards):
        write_shard(tmp_path / f"train-{shard}.tar", samples[shard::num_shards] or samples[:1])
    with pytest.raises(DataError) as caught:
        index(tmp_path)
    problem = problem.removeprefix("s002: ")
    assert problem.format(shard=tmp_path / "train-0.tar") in str(caught.value)


def test_numbers_with_gaps_are_taken_where_all_classes_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    write_shard(tmp_path / "train-0.tar", [plain(0, cls=1), plain(1, cls=2)])
    assert index(tmp_path, classes=("none of them", "a", "b")).classes[1:] == ("a", "b")
    assert "train has no sample of none of them" in caplog.text


@pytest.mark.parametrize("label", [1, 1.0, "1", "1.0"])
def test_a_whole_number_is_a_label_however_it_is_written(tmp_path: Path, label: object):
    sample = {"__key__": "s1", "jpg": jpeg(), "json": {"label": label}}
    write_shard(tmp_path / "train-0.tar", [plain(0), sample])
    assert index(tmp_path).splits["train"].class_counts == (1, 1)


@pytest.mark.parametrize("label", [None, float("nan"), "", 1.5, -1, "one"])
def test_what_is_no_number_is_no_label(tmp_path: Path, label: object):
    sample = {"__key__": "s1", "jpg": jpeg(), "json": {"label": label}}
    write_shard(tmp_path / "train-0.tar", [plain(0), sample])
    with pytest.raises(DataError, match=r"train-0\.tar:s1"):
        index(tmp_path)


@pytest.mark.parametrize("name", [None, float("nan"), "", "None"])
def test_a_class_without_a_real_name_is_refused(tmp_path: Path, name: object):
    samples = [
        {"__key__": f"s{n}", "jpg": jpeg(), "json": {"label": n, "class_name": ["a", name][n]}}
        for n in range(2)
    ]
    write_shard(tmp_path / "train-0.tar", samples)
    with pytest.raises(DataError, match="is no name of a class"):
        index(tmp_path)
    assert index(tmp_path, classes=("a", "b")).classes == ("a", "b")


def test_what_indexing_passes_over_is_counted(tmp_path: Path):
    members = {
        "README": b"about",
        "._s1.jpg": b"what a Mac leaves",
        "s1.mask.png": b"",
        "s1.txt": b"",
    }
    for n in range(2):
        members |= {f"s{n}.jpg": jpeg(), f"s{n}.cls": b"%d" % n}
    members |= {"s2.cls": b"1", "s3.jpg": jpeg(), "s4.jpg": b"broken", "s4.cls": b"0"}
    (tmp_path / "train-0.tar").write_bytes(tar_bytes(members))
    (tmp_path / "._train-0.tar").write_bytes(b"what a Mac leaves")
    (tmp_path / "more.tar").write_bytes(tar_bytes({"a.jpg": jpeg(), "a.cls": b"0"}))
    manifest = index(tmp_path, on_corrupt="skip", globs=["train=train-*.tar"])
    assert manifest.splits["train"].samples == 2
    assert manifest.provenance["left_out"] == {
        "files of no sample": 2,
        "hidden": 1,
        "members .mask.png": 1,
        "members .txt": 1,
        "tars that no --split names": 1,
    }
    assert [line.split("train-0.tar:")[1] for line in manifest.provenance["skipped"]] == [
        "s2: has no image, only cls; images are jpg, png, tif or npy",
        "s3.cls: has no label; a sample needs a cls member with a number from 0",
        "s4: is named as a JPEG but holds no image that rsdl reads; remove or replace the file",
    ]
    assert check_dataset(connect(str(tmp_path))).problems == []


def test_tars_of_any_spelling_are_read_and_other_files_counted(tmp_path: Path):
    for name in ("train-0.tar", "val-0.TAR"):
        write_shard(tmp_path / name, [plain(0), plain(1)])
    (tmp_path / "README.md").write_text("about")
    (tmp_path / "test-0.tar.part").write_bytes(b"half")
    manifest = index(tmp_path)
    assert set(manifest.splits) == {"train", "val"}
    assert manifest.provenance["left_out"] == {"*.md": 1, "*.part": 1}
    # What indexing wrote is not counted when it is done again.
    assert index(tmp_path, overwrite=True).provenance["left_out"] == {"*.md": 1, "*.part": 1}


def test_links_in_a_tar_are_counted(tmp_path: Path):
    path = tmp_path / "train-0.tar"
    with tarfile.open(path, "w") as tar:
        for n in range(2):
            for name, content in ((f"s{n}.jpg", jpeg()), (f"s{n}.cls", b"%d" % n)):
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
        link = tarfile.TarInfo("s9.jpg")
        link.type, link.linkname = tarfile.LNKTYPE, "s0.jpg"
        tar.addfile(link)
    assert index(tmp_path).provenance["left_out"] == {"links and devices in tars": 1}


@pytest.mark.parametrize(
    "name", ["val-0.tgz", "train-1.tar.gz", "train-1.TAR.ZST", "t.tar.bz2", "t.tar.xz", "t.tar.lz4"]
)
def test_compressed_shards_are_refused_and_never_passed_over(tmp_path: Path, name: str):
    write_shard(tmp_path / "train-0.tar", [plain(0), plain(1)])
    (tmp_path / name).write_bytes(b"\x1f\x8b")
    with pytest.raises(DataError, match=rf"{name}: is a compressed shard.*gunzip"):
        index(tmp_path)


def test_a_dark_band_is_data_in_foreign_shards_as_in_folders(tmp_path: Path):
    pixels = picture(2).clip(1)
    pixels[3, 4, 1] = 0  # as near infrared reads over water; nodata is 0 in all bands
    with rasterio.MemoryFile() as memory:
        with memory.open(
            driver="GTiff", count=2, height=12, width=14, dtype="uint8", nodata=0
        ) as target:
            target.write(np.moveaxis(pixels, 2, 0))
        content = bytes(memory.read())
    samples = [{"__key__": f"s{n}", "tif": content, "cls": n} for n in range(2)]
    write_shard(tmp_path / "train-0.tar", samples)
    assert index(tmp_path).splits["train"].samples == 2
