"""LandCover.ai: lists name tiles of scenes, which a script may have cut already."""

from pathlib import Path

import numpy as np
import pytest

from rsdl.core.errors import ConfigError, DataError
from rsdl.data.sources.published import PublishedChoice
from tests.unit.data.sources.published_files import (
    flat,
    image,
    keys_of,
    prepare,
    samples_of,
    write,
)

TILE = 512
AS_PUBLISHED = PublishedChoice()


def write_lists(root: Path, train: str, val: str, test: str) -> None:
    for name, lines in (("train", train), ("val", val), ("test", test)):
        (root / f"{name}.txt").write_text(lines.replace(" ", "\n") + "\n")


def write_scene(root: Path, name: str, height: int = 2 * TILE + 9, width: int = TILE + 7) -> None:
    """Write a scene of two whole tiles, numbers 0 and 2, whose classes are these numbers."""
    mask = np.zeros((height, width), np.uint8)
    mask[TILE : 2 * TILE, :TILE] = 2
    pixels = np.repeat(image(3, side=max(height, width))[:height, :width, :1], 3, axis=2)
    write(root / f"images/{name}.tif", pixels)
    write(root / f"masks/{name}.tif", np.repeat(mask[..., None], 3, axis=2))


def test_the_tiles_that_lists_name_are_cut_from_scenes(tmp_path: Path):
    root = tmp_path / "landcover"
    for name in ("M-1-A", "N-2-B", "N-3-C"):
        write_scene(root, name)
    write_lists(root, "M-1-A_0 N-2-B_2", "M-1-A_2", "N-2-B_0")
    source = prepare("landcoverai", root, AS_PUBLISHED)
    assert source.classes == ("background", "building", "woodland", "water", "road")
    assert keys_of(source) == {"train": ["M-1-A", "N-2-B"], "val": ["M-1-A"], "test": ["N-2-B"]}
    samples = samples_of(source)
    values = {key: np.unique(sample.target).tolist() for key, sample in samples.items()}
    assert values == {
        "M-1-A_r00000_c00000": [0], "N-2-B_r00512_c00000": [2],
        "M-1-A_r00512_c00000": [2], "N-2-B_r00000_c00000": [0],
    }  # fmt: skip
    assert {sample.target.shape for sample in samples.values()} == {(TILE, TILE)}
    assert source.left_out == {"*.txt": 3, "images without a listed tile": 1}
    assert set(source.provenance["split_files"]) == {"train", "val", "test"}


def test_the_lists_are_part_of_what_identifies_the_result(tmp_path: Path):
    write_scene(tmp_path / "a", "M-1-A")
    write_lists(tmp_path / "a", "M-1-A_0", "M-1-A_2", "")
    with pytest.raises(DataError, match=r"test\.txt is empty"):
        prepare("landcoverai", tmp_path / "a", AS_PUBLISHED)
    write_scene(tmp_path / "a", "M-1-B")
    write_lists(tmp_path / "a", "M-1-A_0", "M-1-A_2", "M-1-B_0")
    first = prepare("landcoverai", tmp_path / "a", AS_PUBLISHED).provenance
    write_lists(tmp_path / "a", "M-1-A_2", "M-1-A_0", "M-1-B_0")
    assert prepare("landcoverai", tmp_path / "a", AS_PUBLISHED).provenance != first


@pytest.mark.parametrize(
    ("train", "val", "message"),
    [
        ("M-1-A_0", "M-1-A_0", r'val\.txt: "M-1-A_0" is in the list of train, too'),
        ("M-1-A_0", "M-1-A_1", r'"M-1-A_1" is not whole in images/M-1-A\.tif, 1033 x 519 px'),
        ("M-1-A_0", "M-1-A_4", r'"M-1-A_4" is not whole'),
        ("M-1-A_0", "M-9-Z_0", r'"M-9-Z_0" is no tile of a scene'),
        ("M-1-A_0", "M-1-A", r'"M-1-A" is no tile of a scene'),
    ],
)
def test_a_list_that_does_not_fit_the_scenes_is_refused(
    train: str, val: str, message: str, tmp_path: Path
):
    write_scene(tmp_path, "M-1-A")
    write_lists(tmp_path, train, val, "M-1-A_2")
    with pytest.raises(DataError, match=message):
        prepare("landcoverai", tmp_path, AS_PUBLISHED)


def test_other_tiles_than_those_listed_are_refused_and_may_be_drawn(tmp_path: Path):
    for name in ("M-1-A", "N-2-B"):
        write_scene(tmp_path, name)
    write_lists(tmp_path, "M-1-A_0", "M-1-A_2", "N-2-B_0")
    with pytest.raises(ConfigError, match=r"--tile: is 256, and the published split lists .* 512"):
        prepare("landcoverai", tmp_path, PublishedChoice(tile=256))
    with pytest.raises(ConfigError, match="--tile: is 0"):
        prepare("landcoverai", tmp_path, PublishedChoice(tile=0))
    drawn = prepare("landcoverai", tmp_path, PublishedChoice(tile=256, fractions=(0.5, 0.5, 0)))
    assert len(samples_of(drawn)) == 2 * 5 * 3


def test_what_the_script_cut_is_split_by_the_same_lists(tmp_path: Path):
    for number in range(4):
        write(tmp_path / f"output/M-1-A_{number}.jpg", image(number))
        write(tmp_path / f"output/M-1-A_{number}_m.png", flat((3, 3, 3)))
    write_lists(tmp_path, "M-1-A_0 M-1-A_3", "M-1-A_1", "M-1-A_2")
    source = prepare("landcoverai", tmp_path, AS_PUBLISHED)
    expected = {"train": ["M-1-A_0", "M-1-A_3"], "val": ["M-1-A_1"], "test": ["M-1-A_2"]}
    assert keys_of(source) == expected
    sample = samples_of(source)["M-1-A_1"]
    assert sample.extension == "jpg" and set(sample.target.flat) == {3}


def test_a_draw_of_tiles_keeps_their_scenes_whole(tmp_path: Path):
    for number in range(12):
        name = f"scene-{number % 4}_{number // 4}"
        write(tmp_path / f"output/{name}.jpg", image(number))
        write(tmp_path / f"output/{name}_m.png", flat((3, 3, 3)))
    source = prepare("landcoverai", tmp_path, PublishedChoice(fractions=(0.5, 0.25, 0.25)))
    scenes = [{key.split("_")[0] for key in keys} for keys in keys_of(source).values()]
    assert sum(map(len, scenes)) == len(set().union(*scenes)) == 4


def test_without_its_lists_the_set_says_what_is_missing(tmp_path: Path):
    write_scene(tmp_path, "M-1-A")
    with pytest.raises(DataError, match=r"train\.txt: no such file.*--split 0\.8,0\.1,0\.1"):
        prepare("landcoverai", tmp_path, AS_PUBLISHED)
