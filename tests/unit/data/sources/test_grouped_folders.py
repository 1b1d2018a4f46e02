import unicodedata
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simplejpeg

from rsdl.core.errors import ConfigError, DataError
from rsdl.data.sources.folder import FolderSource

JPEG = bytes(simplejpeg.encode_jpeg(np.zeros((8, 8, 3), np.uint8)))


def write(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(JPEG)
    return root


def tiles(num_scenes: int, per_class: int = 3) -> list[str]:
    """Return tiles of scenes, each with some of both classes."""
    return [
        f"{name}/scene{scene:02d}_{number}.jpg"
        for name in ("farm", "forest")
        for scene in range(num_scenes)
        for number in range(per_class)
    ]


def splits_of(source: FolderSource) -> dict[str, set[str]]:
    """Return the splits that each scene has tiles in."""
    found: dict[str, set[str]] = defaultdict(set)
    for plan in source.shards(1 << 20):
        for item in plan.items:
            found[item.path.split("/")[-1].split("_")[0]].add(plan.split)
    return found


@pytest.mark.parametrize("pattern", [r"^(.+)_\d+", r"scene\d+"])
def test_tiles_of_one_scene_stay_in_one_split_whatever_their_class(tmp_path: Path, pattern: str):
    root = write(tmp_path, *tiles(10))
    found = splits_of(FolderSource(root, group_by=pattern))
    assert all(len(splits) == 1 for splits in found.values())
    counts = [sum({split} == splits for splits in found.values()) for split in ("train", "val")]
    assert counts == [8, 1]
    apart = splits_of(FolderSource(root))
    assert any(len(splits) > 1 for splits in apart.values())


def test_folders_below_a_class_may_be_the_scenes(tmp_path: Path):
    root = write(tmp_path, *(path.replace("_", "_/") for path in tiles(6)))
    source = FolderSource(root, group_by="^[^/]+")
    placed: dict[str, set[str]] = defaultdict(set)
    for plan in source.shards(1 << 20):
        for item in plan.items:
            placed[item.path.split("/")[1]].add(plan.split)
    assert len(placed) == 6
    assert all(len(splits) == 1 for splits in placed.values())


def test_the_manifest_says_how_scenes_were_found(tmp_path: Path):
    root = write(tmp_path, *tiles(5))
    facts = FolderSource(root, group_by=r"scene\d+", seed=3).provenance
    assert facts["group_by"] == r"scene\d+"
    assert facts["seed"] == 3
    assert facts["split_rule"] != FolderSource(root).provenance["split_rule"]
    assert "group_by" not in FolderSource(root).provenance


@pytest.mark.parametrize(
    ("pattern", "problem"),
    [
        ("(", r'--group-by: "\(" is no regular expression'),
        (r"_(\d\d)", r'"_\(\\d\\d\)" is not found in "scene00_0.jpg"'),
        ("scene", r"finds 1 scene \(scene\) for 3 splits"),
    ],
)
def test_what_finds_no_scenes_is_refused(tmp_path: Path, pattern: str, problem: str):
    with pytest.raises(ConfigError, match=problem):
        FolderSource(write(tmp_path, *tiles(5)), group_by=pattern)


def test_split_folders_that_tear_a_scene_apart_are_refused(tmp_path: Path):
    root = write(
        tmp_path,
        *(f"train/{path}" for path in tiles(3)),
        *(f"val/{path.replace('scene', 'other')}" for path in tiles(2)),
    )
    assert FolderSource(root, group_by=r"^(.+)_").provenance["split_rule"] == "split folders"
    write(root, "val/farm/scene01_9.jpg")
    problem = r'scene01_9.jpg: is of "scene01" .* train/farm/scene01_0.jpg of another split'
    with pytest.raises(DataError, match=problem):
        FolderSource(root, group_by=r"^(.+)_")


def test_names_that_differ_in_unicode_form_alone_are_one_scene(tmp_path: Path):
    forms: Any = ("NFC", "NFD")
    root = write(
        tmp_path,
        *(
            f"{name}/{unicodedata.normalize(forms[n % 2], f'Orléans{scene}')}_{n}.jpg"
            for name in ("farm", "forest")
            for scene in range(6)
            for n in range(4)
        ),
    )
    source = FolderSource(root, group_by="^([^_]+)_")
    assert source.provenance["groups"] == 6
    placed: dict[str, set[str]] = defaultdict(set)
    for plan in source.shards(1 << 20):
        for item in plan.items:
            placed[unicodedata.normalize("NFC", item.path.split("/")[1])[:8]].add(plan.split)
    assert all(len(splits) == 1 for splits in placed.values())


def test_a_pattern_that_keeps_nothing_together_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    FolderSource(write(tmp_path, *tiles(5)), group_by=".+/?.*")
    assert "it keeps nothing together" not in caplog.text  # both classes have each of the names
    root = write(tmp_path / "other", "a/1.jpg", "a/2.jpg", "b/3.jpg", "b/4.jpg")
    FolderSource(root, group_by=".+")
    assert "--group-by finds a scene of its own for each of 4 images" in caplog.text
