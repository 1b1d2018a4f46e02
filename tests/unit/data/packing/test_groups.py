"""The index tells which samples are of one scene, and folds keep them together."""

from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from rsdl.config.data import DataConfig
from rsdl.core.errors import ConfigError
from rsdl.data.dataset import DataSet
from rsdl.data.index import Index
from rsdl.data.packing.pack import PackOptions, pack
from rsdl.data.packing.verify import check_dataset
from rsdl.data.sources.folder import FolderSource
from rsdl.storage.connect import connect
from tests.unit.data.sources.test_geotiff import (
    box,
    feature,
    noise,
    open_source,
    write_labels,
    write_scene,
)
from tests.unit.data.sources.test_grouped_folders import tiles, write

FORMATS = Path(__file__).parents[3] / "formats"


def index_of(url: str, split: str = "train") -> Index:
    return DataSet(DataConfig(url=url)).split(split, "").index


def scenes_of(index: Index) -> dict[int, set[str]]:
    """Return the scenes of each group, from the keys of its samples."""
    assert index.groups is not None
    found: dict[int, set[str]] = defaultdict(set)
    for key, group in zip(index.keys(np.arange(len(index))), index.groups.tolist(), strict=True):
        found[group].add(key.rsplit("_r", 1)[0].rsplit("_", 1)[-1])
    return dict(found)


@pytest.fixture
def geotiff(tmp_path: Path) -> str:
    """Return six scenes of 16 x 16 tiles in a row; the last two overlap."""
    labels = write_labels(
        tmp_path / "labels.geojson",
        [feature("land", box(-99, -99, 8, 99)), feature("sea", box(8, -99, 9999, 99))],
    )
    lefts = (0, 100, 200, 300, 400, 408)
    paths = [
        write_scene(tmp_path / f"s{n}.tif", noise(1, 16, 16, seed=n), left=500_000.0 + left)
        for n, left in enumerate(lefts)
    ]
    url = str(tmp_path / "geotiff")
    pack(open_source(paths, labels), connect(url), PackOptions(shard_bytes=1 << 13))
    return url


def test_tiles_tell_their_scene_and_scenes_that_overlap_are_one(geotiff: str):
    index = index_of(geotiff)
    found = scenes_of(index)
    assert sorted(map(sorted, found.values())) == [["s0"], ["s1"], ["s2"], ["s3"], ["s4", "s5"]]
    assert not check_dataset(connect(geotiff)).problems


def test_a_fold_of_tiles_divides_no_scene(geotiff: str):
    for number in range(1, 6):
        data = DataSet(DataConfig(url=geotiff, fold=f"{number}/5"), seed=0)
        train, val = (scenes_of(data.split(name, "").index) for name in ("train", "val"))
        assert len(val) == 1 and len(train) == 4 and not train.keys() & val.keys()
    with pytest.raises(ConfigError, match=r"there are only 5 groups .*; use K/5"):
        DataSet(DataConfig(url=geotiff, fold="1/6"), seed=0).split("val", "")


def test_images_grouped_by_a_pattern_tell_their_scene_in_every_split(tmp_path: Path):
    root = write(tmp_path / "images", *tiles(10))
    url = str(tmp_path / "packed")
    pack(FolderSource(root, group_by=r"scene\d+"), connect(url), PackOptions())
    scenes: dict[int, set[str]] = {}
    for split in ("train", "val", "test"):
        index = index_of(url, split)
        assert index.groups is not None
        for key, group in zip(index.keys(np.arange(len(index))), index.groups, strict=True):
            scenes.setdefault(int(group), set()).add(key.split("scene")[1][:2])
    assert len(scenes) == 10 and all(len(names) == 1 for names in scenes.values())


def test_images_without_groups_keep_the_index_of_older_releases(packed: str):
    index = index_of(packed)
    assert index.groups is None and "group" not in index.rows.dtype.names


def test_tiles_that_an_older_release_packed_have_no_folds():
    url = str(FORMATS / "0.1.0-4b0a3aa" / "geotiff")
    assert len(index_of(url)) > 0
    dataset = DataSet(DataConfig(url=url, fold="1/2"), seed=0)
    with pytest.raises(ConfigError, match=r"data.fold: .* was cut from scenes by an older rsdl"):
        dataset.split("train", "")


@pytest.mark.parametrize("name", ["folder", "foreign"])
def test_images_that_an_older_release_packed_or_indexed_are_each_a_group(name: str):
    url = str(FORMATS / "0.1.0-06cea31" / name)
    dataset = DataSet(DataConfig(url=url, fold="1/3"), seed=0)
    parts = dataset.fold
    assert parts is not None and parts.num_groups is None
    pool = sum(dataset.manifest.splits[split].samples for split in ("train", "val"))
    assert len(parts.val) == pool // 3 and len(parts.train) == pool - pool // 3
    assert "each its own group" in dataset.describe_fold()[0]
