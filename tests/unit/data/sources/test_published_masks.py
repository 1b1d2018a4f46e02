"""Published segmentation sets: what is recognized, chosen, downloaded and refused."""

import hashlib
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rsdl.cli import app
from rsdl.commands.data import SplitChoice
from rsdl.commands.prepare import PrepareOptions
from rsdl.commands.prepare import prepare as prepare_command
from rsdl.core.errors import ConfigError, DataError
from rsdl.data.manifest import load_manifest
from rsdl.data.packing.pack import PackOptions
from rsdl.data.packing.verify import check_dataset
from rsdl.data.sources.catalog import DATASETS
from rsdl.data.sources.published import PublishedChoice
from rsdl.data.sources.published_masks import prepare_masks
from rsdl.data.sources.segmentation_catalog import SEGMENTATION_DATASETS
from rsdl.data.sources.segmentation_dataset import Archive
from rsdl.data.sources.split_files import read_split_files
from rsdl.storage.connect import connect
from tests.unit.data.sources.published_files import (
    image,
    keys_of,
    prepare,
    samples_of,
    striped,
    write,
    zip_tree,
)


def write_loveda(root: Path, split: str, numbers: range = range(2), side: int = 16) -> Path:
    for number in numbers:
        place = root / split / "Rural"
        write(place / f"images_png/{number}.png", image(number, side=side))
        mask = striped([1, 2, 0]).repeat(side // 16, axis=0).repeat(side // 16, axis=1)
        write(place / f"masks_png/{number}.png", mask)
    return root


def test_archives_are_downloaded_once_and_unpacked_beside_each_other(
    tmp_path: Path, served: tuple[Path, str]
):
    folder, url = served
    archives = []
    for split in ("Train", "Val"):
        archive = zip_tree(write_loveda(tmp_path / split, split), folder / f"{split}.zip")
        md5 = hashlib.md5(archive.read_bytes()).hexdigest()
        archives.append(Archive(f"{url}/{split}.zip?download=1", md5))
    loveda = replace(SEGMENTATION_DATASETS["loveda"], archives=tuple(archives))
    fetch = partial(
        prepare_masks, loveda, PublishedChoice(tile=0), origin=None, work=tmp_path / "work"
    )
    source = fetch()
    assert source.provenance["md5"] == [archive.md5 for archive in archives]
    expected = {"train": ["Train_Rural_0", "Train_Rural_1"], "val": ["Val_Rural_0", "Val_Rural_1"]}
    assert keys_of(source) == expected
    for file in folder.iterdir():
        file.unlink()
    assert keys_of(fetch()) == expected


def test_an_archive_that_is_here_is_unpacked_and_its_checksum_compared(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    archive = zip_tree(write_loveda(tmp_path / "in", "Train"), tmp_path / "Train.zip")
    source = prepare("loveda", archive)
    assert keys_of(source) == {"train": ["Train_Rural_0", "Train_Rural_1"]}
    assert source.provenance["md5"] == hashlib.md5(archive.read_bytes()).hexdigest()
    assert "MD5 is" in caplog.messages[0]
    assert caplog.messages[1] == "loveda: 2 images with masks; the publication has 4191"


def test_a_set_without_a_stable_address_says_where_it_is(tmp_path: Path):
    with pytest.raises(DataError, match=r"^potsdam: is only given out by hand \(https://www\.isp"):
        prepare("potsdam", None)


def test_images_are_cut_into_tiles_of_the_set_or_of_the_user(tmp_path: Path):
    write_loveda(tmp_path, "Train", range(1), side=1024)
    assert len(samples_of(prepare("loveda", tmp_path, PublishedChoice()))) == 4
    assert len(samples_of(prepare("loveda", tmp_path, PublishedChoice(tile=256)))) == 16
    assert len(samples_of(prepare("loveda", tmp_path, PublishedChoice(tile=0)))) == 1
    with pytest.raises(ConfigError, match="--tile: is 4 px"):
        prepare("loveda", tmp_path, PublishedChoice(tile=4))


def test_shares_and_lists_replace_the_published_split(tmp_path: Path):
    root = write_loveda(tmp_path / "data", "Train", range(8))
    drawn = prepare("loveda", root, PublishedChoice(fractions=(0.5, 0.25, 0.25), tile=0))
    assert {split: len(keys) for split, keys in keys_of(drawn).items()} == {
        "train": 4, "val": 2, "test": 2,
    }  # fmt: skip
    assert drawn.provenance["split_rule"] == "stratified by class"
    (tmp_path / "train.txt").write_text("3.png\n5.png\n")
    lists = read_split_files([str(tmp_path / "train.txt"), "none", "none"])
    listed = prepare("loveda", root, PublishedChoice(lists=lists, tile=0))
    assert keys_of(listed) == {"train": ["Train_Rural_3", "Train_Rural_5"]}


def test_another_folder_is_refused_with_what_was_looked_for(tmp_path: Path):
    write_loveda(tmp_path, "Train")
    with pytest.raises(DataError) as caught:
        prepare("loveda", tmp_path / "Train")
    assert "such as Train/Rural/images_png/0.png" in str(caught.value)
    assert "name the folder above" in str(caught.value) and "\n" not in str(caught.value)


def test_images_outside_of_the_published_split_may_be_drawn(tmp_path: Path):
    for number in (90, 91):
        write(tmp_path / f"4_Ortho_RGBIR/top_potsdam_{number}_1_RGBIR.tif", image(number, bands=4))
        write(tmp_path / f"5_Labels_all/top_potsdam_{number}_1_label.tif", image(number))
    with pytest.raises(DataError, match=r"no image of the published split.* draw the splits with"):
        prepare("potsdam", tmp_path)
    drawn = prepare("potsdam", tmp_path, PublishedChoice(fractions=(0.5, 0, 0.5), tile=0))
    assert set(keys_of(drawn)) == {"train", "test"}


def test_two_masks_of_one_image_are_refused(tmp_path: Path):
    write(tmp_path / "4_Ortho_RGBIR/top_potsdam_2_10_RGBIR.tif", image(bands=4))
    for folder in ("5_Labels_all", "copy"):
        write(tmp_path / folder / "top_potsdam_2_10_label.tif", image())
    with pytest.raises(DataError, match="are of the same image; remove one"):
        prepare("potsdam", tmp_path)


def run(
    name: str, tmp_path: Path, *, tile: int | None = None, split: SplitChoice | None = None
) -> int:
    asked = PrepareOptions(
        origin=str(tmp_path / "data"),
        work=str(tmp_path / "work"),
        split=split or SplitChoice(),
        tile=tile,
    )
    out = str(tmp_path / "out")
    return prepare_command(name, asked, out=out, options=PackOptions(num_workers=1))


def test_the_command_packs_what_verify_accepts_and_goes_on_where_it_was(tmp_path: Path):
    write_loveda(tmp_path / "data", "Train", side=512)
    write_loveda(tmp_path / "data", "Val", side=512)
    assert run("loveda", tmp_path, tile=256) == 0
    store = connect(str(tmp_path / "out"))
    manifest = load_manifest(store)
    assert (manifest.dataset, manifest.target, len(manifest.classes)) == ("loveda", "mask", 7)
    counts = {name: split.samples for name, split in manifest.splits.items()}
    assert (counts["train"], counts["val"]) == (8, 8)
    assert manifest.provenance["title"] == "LoveDA (Wang et al. 2021)"
    assert not check_dataset(store).problems
    assert run("loveda", tmp_path, tile=256) == 0
    assert load_manifest(store) == manifest


def test_options_of_the_other_kind_of_set_are_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match='--split: loveda has no split "torchgeo"'):
        run("loveda", tmp_path, split=SplitChoice(published="torchgeo"))
    with pytest.raises(ConfigError, match="--tile: the images of ucm are not cut"):
        run("ucm", tmp_path, tile=256)
    with pytest.raises(ConfigError, match=r"use one of ucm, .*loveda"):
        run("isaid", tmp_path)


def test_the_help_names_every_set():
    shown = CliRunner().invoke(app, ["data", "prepare", "--help"], env={"COLUMNS": "300"}).output
    assert [name for name in [*DATASETS, *SEGMENTATION_DATASETS] if name not in shown] == []
