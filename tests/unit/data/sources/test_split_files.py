"""Lists of names decide which image is of which split."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rsdl.core.errors import ConfigError, DataError
from rsdl.data.packing.pack import PackOptions, pack
from rsdl.data.sources.catalog import DATASETS
from rsdl.data.sources.folder import FolderSource
from rsdl.data.sources.published import fetch_lists, prepare_source
from rsdl.data.sources.split_files import read_split_files
from rsdl.storage.connect import connect
from tests.unit.data.sources.test_published import SMALL, make_tree


def write_lists(folder: Path, *lists: list[str] | None) -> list[str]:
    """Write lists and return their paths; ``none`` for ``None``."""
    paths = []
    for number, names in enumerate(lists):
        path = folder / f"{number}.txt"
        path.write_text("" if names is None else "\n".join(names) + "\n\n")
        paths.append("none" if names is None else str(path))
    return paths


def splits_of(source: FolderSource) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for plan in source.shards(10**9):
        found.setdefault(plan.split, set()).update(item.path for item in plan.items)
    return {split: paths for split, paths in found.items() if paths}


def test_images_go_where_the_lists_say_however_their_names_are_written(tmp_path: Path):
    root = make_tree(tmp_path / "tree")
    paths = write_lists(
        tmp_path,
        ["beach/beach0.jpg", "Images/forest/forest0.jpg"],  # paths, with leading folders, too
        ["river0.jpg", "beach1"],  # names; stems
        ["river1.tif"],  # of the same images in another format
    )
    source = FolderSource(root, lists=read_split_files(paths))
    assert splits_of(source) == {
        "train": {"beach/beach0.jpg", "forest/forest0.jpg"},
        "val": {"river/river0.jpg", "beach/beach1.jpg"},
        "test": {"river/river1.jpg"},
    }
    assert source.left_out == {"in no list of --split-files": 1}
    assert source.provenance["split_rule"] == "split files"
    sha256 = hashlib.sha256(Path(paths[2]).read_bytes()).hexdigest()
    assert source.provenance["split_files"]["test"] == {"file": "2.txt", "sha256": sha256}


def test_a_split_without_a_list_is_empty(tmp_path: Path):
    root = make_tree(tmp_path / "tree")
    paths = write_lists(tmp_path, ["beach0.jpg"], None, ["beach1.jpg"])
    source = FolderSource(root, lists=read_split_files(paths))
    assert splits_of(source) == {"train": {"beach/beach0.jpg"}, "test": {"beach/beach1.jpg"}}


@pytest.mark.parametrize(
    ("lists", "words"),
    [
        ([["beach0.jpg"], ["beach0.jpg"], None], "is in the lists of train and val"),
        ([["beach0.jpg", "sea.jpg"], None, None], r'1 of 2 names are of no image in .*"sea\.jpg"'),
        ([["same.jpg"], None, None], "is the name of beach/same.jpg and of river/same.jpg"),
        ([None, ["beach0.jpg"], None], "names no list of train"),
        ([["beach0.jpg"], [], None], "is empty"),
    ],
)
def test_lists_that_do_not_fit_are_refused(
    lists: list[list[str] | None], words: str, tmp_path: Path
):
    root = make_tree(tmp_path / "tree")
    for name in ("beach", "river"):
        (root / name / "same.jpg").write_bytes((root / name / f"{name}0.jpg").read_bytes())
    with pytest.raises((DataError, ConfigError), match=words):
        FolderSource(root, lists=read_split_files(write_lists(tmp_path, *lists)))


def test_lists_do_not_go_with_folders_of_splits_or_groups(tmp_path: Path):
    lists = read_split_files(write_lists(tmp_path, ["beach0.jpg"], None, None))
    make_tree(tmp_path / "split" / "train")
    make_tree(tmp_path / "split" / "test")
    with pytest.raises(DataError, match="has folders of splits"):
        FolderSource(tmp_path / "split", lists=lists)
    with pytest.raises(ConfigError, match="does not go with --split-files"):
        FolderSource(make_tree(tmp_path / "tree"), lists=lists, group_by="^(.)")


def test_published_lists_are_downloaded_and_checked(served: tuple[Path, str], tmp_path: Path):
    folder, url = served
    lists = []
    for split, name in (("train", "beach0.jpg"), ("val", "river0.jpg"), ("test", "river1.jpg")):
        (folder / f"small-{split}.txt").write_text(f"{name}\n")
        lists.append((f"{url}/small-{split}.txt", hashlib.md5(f"{name}\n".encode()).hexdigest()))
    dataset = replace(SMALL, lists={"torchgeo": tuple(lists)})
    found = fetch_lists(dataset, "torchgeo", tmp_path / "work", lambda received, total: None)
    source = prepare_source(
        dataset, origin=make_tree(tmp_path / "tree"), work=tmp_path, lists=found
    )
    assert splits_of(source)["test"] == {"river/river1.jpg"}
    with pytest.raises(ConfigError, match='has no split "x"; use torchgeo'):
        fetch_lists(dataset, "x", tmp_path / "work", lambda received, total: None)
    wrong = replace(dataset, lists={"torchgeo": ((lists[0][0], 32 * "0"), *lists[1:])})
    with pytest.raises(DataError):
        fetch_lists(wrong, "torchgeo", tmp_path / "other", lambda received, total: None)


def test_every_published_split_has_three_lists_with_checksums():
    splits = {name: sorted(dataset.lists) for name, dataset in DATASETS.items()}
    both = ["torchgeo", "torchgeo-spatial"]
    assert splits == {"ucm": both[:1], "aid": [], "resisc45": both[:1], "eurosat": both}
    for dataset in DATASETS.values():
        for lists in dataset.lists.values():
            assert [url.rpartition("-")[2] for url, _ in lists] == [
                "train.txt",
                "val.txt",
                "test.txt",
            ]
            assert len({md5 for _, md5 in lists}) == 3 and all(len(md5) == 32 for _, md5 in lists)


def test_draws_that_differ_by_their_seed_alone_are_known(tmp_path: Path):
    root = make_tree(tmp_path / "tree", count=10)
    lists = read_split_files(write_lists(tmp_path, ["beach0.jpg"], None, None))

    def draw(name: str, **options: Any) -> tuple[str, str]:  # noqa: ANN401
        store = connect(str(tmp_path / name))
        manifest = pack(FolderSource(root, name="same", **options), store, PackOptions(10**6))
        return manifest.digest, manifest.split_draw

    half, first = (0.5, 0.0, 0.5), draw("a", fractions=(0.5, 0.0, 0.5), seed=1)
    second = draw("b", fractions=half, seed=2)
    assert first[0] != second[0] and first[1] == second[1] != ""
    assert draw("c", fractions=(0.2, 0.0, 0.8), seed=1)[1] not in ("", first[1])
    assert draw("d", lists=lists)[1] == ""
    (root / "beach" / "new.jpg").write_bytes((root / "beach" / "beach0.jpg").read_bytes())
    assert draw("e", fractions=half, seed=1)[1] not in ("", first[1])
