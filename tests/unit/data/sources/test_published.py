import hashlib
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
import simplejpeg
from rasterio.transform import Affine

from rsdl.core.errors import DataError
from rsdl.data.sources.catalog import DATASETS
from rsdl.data.sources.folder import FolderSource
from rsdl.data.sources.published import PublishedDataset, find_class_tree, prepare_source
from tests.unit.data.sources.published_files import zip_tree

SMALL = replace(DATASETS["ucm"], classes=("beach", "forest", "river"), num_images=6, md5=None)


def make_tree(root: Path, classes: tuple[str, ...] = SMALL.classes, count: int = 2) -> Path:
    for label, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for number in range(count):
            pixels = np.full((8, 8, 3), 10 * label + number, np.uint8)
            (root / name / f"{name}{number}.jpg").write_bytes(simplejpeg.encode_jpeg(pixels))
    return root


def prepare(dataset: PublishedDataset, origin: Path | None, work: Path) -> FolderSource:
    return prepare_source(dataset, origin=origin, work=work)


def test_the_catalog_says_what_was_published():
    known = {"ucm": (21, 2_100), "aid": (30, 10_000), "resisc45": (45, 31_500)}
    known["eurosat"] = (10, 27_000)
    assert {
        name: (len(set(dataset.classes)), dataset.num_images) for name, dataset in DATASETS.items()
    } == known
    assert len(DATASETS["eurosat"].bands) == 13
    for name, dataset in DATASETS.items():
        assert dataset.name == name
        assert (dataset.url is None) == (dataset.md5 is None)
        assert dataset.url is None or dataset.url.startswith("https://")


@pytest.mark.parametrize("above", [".", "UCMerced_LandUse/Images", "a/b/c/d/e/f"])
def test_the_class_folders_are_found_at_any_depth(tmp_path: Path, above: str):
    tree = make_tree(tmp_path / above)
    (tmp_path / "__MACOSX" / above / "beach").mkdir(parents=True)
    (tmp_path / "docs").mkdir()
    source = prepare(SMALL, tmp_path, tmp_path / "work") if above != "." else None
    assert find_class_tree(tmp_path, SMALL) == tree
    assert source is None or (source.classes, source.num_images) == (SMALL.classes, 6)


def test_splits_that_come_with_the_data_are_used(tmp_path: Path):
    make_tree(tmp_path / "x" / "train")
    make_tree(tmp_path / "x" / "test")
    assert find_class_tree(tmp_path, SMALL) == tmp_path / "x"
    source = prepare(replace(SMALL, num_images=12), tmp_path, tmp_path / "work")
    assert source.provenance["split_rule"] == "split folders"


def test_archive_and_folder_give_the_same_samples(tmp_path: Path):
    folder = make_tree(tmp_path / "in" / "deep")
    archive = zip_tree(tmp_path / "in", tmp_path / "any_name.zip")
    from_folder = prepare(SMALL, folder, tmp_path / "work")
    from_archive = prepare(SMALL, archive, tmp_path / "work")
    dealt = [
        [(plan.split, [item._replace(modified_ns=0) for item in plan.items]) for plan in plans]
        for plans in (from_folder.shards(1000), from_archive.shards(1000))
    ]
    assert dealt[0] == dealt[1]
    assert from_archive.provenance["md5"] == hashlib.md5(archive.read_bytes()).hexdigest()
    assert from_archive.dataset == "ucm"


def test_another_archive_is_not_taken_for_the_last_one(tmp_path: Path):
    make_tree(tmp_path / "one")
    make_tree(tmp_path / "two", count=3)
    path = tmp_path / "a.zip"
    assert prepare(SMALL, zip_tree(tmp_path / "one", path), tmp_path / "work").num_images == 6
    larger = replace(SMALL, num_images=9)
    assert prepare(larger, zip_tree(tmp_path / "two", path), tmp_path / "work").num_images == 9


def test_a_subset_is_used_with_a_warning_line(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    make_tree(tmp_path, ("beach", "river"))
    with caplog.at_level(logging.WARNING):
        source = prepare(SMALL, tmp_path, tmp_path / "work")
    assert source.classes == ("beach", "river")
    assert caplog.messages == ["ucm: 2 classes with 4 images in all; the publication has 3 with 6"]


def test_the_whole_of_it_gives_no_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    prepare(SMALL, make_tree(tmp_path), tmp_path / "work")
    assert caplog.messages == []


def test_a_repacked_archive_is_used_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    archive = zip_tree(make_tree(tmp_path / "in"), tmp_path / "a.zip")
    assert prepare(replace(SMALL, md5="0" * 32), archive, tmp_path / "work").num_images == 6
    assert len(caplog.messages) == 1 and "MD5" in caplog.messages[0]


def test_eurosat_tiles_keep_their_thirteen_bands(tmp_path: Path):
    eurosat = replace(DATASETS["eurosat"], num_images=2)
    for name in ("Forest", "River"):
        (tmp_path / "tif" / name).mkdir(parents=True)
        with rasterio.open(
            tmp_path / "tif" / name / f"{name}_1.tif", "w", driver="GTiff", width=4, height=4,
            count=13, dtype="uint16", crs="EPSG:32633", transform=Affine(10, 0, 0, 0, -10, 0),
        ) as scene:  # fmt: skip
            scene.write(np.arange(13 * 16, dtype=np.uint16).reshape(13, 4, 4))
    source = prepare(eurosat, tmp_path, tmp_path / "work")
    assert (source.dtype, source.bands) == ("uint16", eurosat.bands)
    sample = source.read(source.shards(1000)[0].items[0])
    assert sample.pixels[0, 0].tolist() == [16 * band for band in range(13)]
    assert sample.meta["crs"] == "EPSG:32633"


def refuse(dataset: PublishedDataset, origin: Path | None, work: Path) -> str:
    with pytest.raises(DataError) as caught:
        prepare(dataset, origin, work)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_aid_says_that_it_is_given_out_by_hand(tmp_path: Path):
    message = refuse(DATASETS["aid"], None, tmp_path)
    assert message.startswith("aid: is only given out by hand (https://captain-whu")
    assert '"--from PATH"' in message


def test_an_origin_that_does_not_exist_is_named(tmp_path: Path):
    assert "absent.zip: no such file or folder" in refuse(
        SMALL, tmp_path / "absent.zip", tmp_path / "work"
    )


def test_another_data_set_is_refused(tmp_path: Path):
    make_tree(tmp_path, ("Ships", "Planes"))
    message = refuse(SMALL, tmp_path, tmp_path / "work")
    assert "holds no class folder of ucm (beach, forest, river, ...)" in message
    assert "rsdl data pack folder" in message


def test_a_file_that_is_no_archive_is_refused(tmp_path: Path):
    (tmp_path / "a.zip").write_bytes(b"<html>")
    assert "is no zip or tar archive" in refuse(SMALL, tmp_path / "a.zip", tmp_path / "work")
