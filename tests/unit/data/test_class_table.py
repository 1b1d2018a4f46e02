"""Which class names are refused, and which folders are one class."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsdl.core.errors import DataError
from rsdl.data.class_table import check_names, check_table
from rsdl.data.sources.listing import list_tree


@pytest.mark.parametrize(
    "names", [["a", ""], ["a", " "], ["a", "NaN"], ["None", "a"], ["Forest", "forest"],
              ["dense  forest", "dense forest"], ["train", "val", "holdout"]]
)  # fmt: skip
def test_names_that_mislead_are_refused(names: list[str]) -> None:
    with pytest.raises(DataError):
        check_names(names, "here")


def test_both_of_two_equal_names_are_shown() -> None:
    with pytest.raises(DataError, match='"Forest" and "forest"'):
        check_names(["Forest", "forest"], "here")


def _images(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"image")


def test_folders_that_differ_in_unicode_form_are_one_class(tmp_path: Path) -> None:
    _images(tmp_path, "Ch\u00e2teau/1.png", "Cha\u0302teau/2.png", "farm/3.png")
    tree = list_tree(tmp_path)
    assert tree.classes == ("Ch\u00e2teau", "farm")
    assert sorted(file.label for file in tree.files) == [0, 0, 1]


def test_a_folder_beside_splits_without_folders_of_its_own_is_left_out(tmp_path: Path) -> None:
    _images(tmp_path, "train/a/1.png", "train/b/1.png", "val/a/2.png", "previews/3.png")
    tree = list_tree(tmp_path)
    assert (tree.classes, tree.has_splits) == (("a", "b"), True)
    assert [file.path for file in tree.files] == ["train/a/1.png", "train/b/1.png", "val/a/2.png"]
    assert tree.left_out == {"in the folder previews": 1}


def test_a_folder_beside_splits_that_may_be_one_is_refused(tmp_path: Path) -> None:
    _images(tmp_path, "train/a/1.png", "val/a/2.png", "holdout/a/3.png")
    with pytest.raises(DataError, match=r'holdout: lies beside .*name it "train", "val" or "test"'):
        list_tree(tmp_path)


def test_split_words_are_no_classes(tmp_path: Path) -> None:
    _images(tmp_path, "train/1.png", "forest/2.png")
    with pytest.raises(DataError, match="name of a split"):
        list_tree(tmp_path)


def test_one_folder_around_the_classes_is_gone_into(tmp_path: Path) -> None:
    for root in ("wrapped/UCM/Images", "plain"):
        _images(tmp_path / root, "a/1.png", "b/2.png")
    wrapped, plain = list_tree(tmp_path / "wrapped"), list_tree(tmp_path / "plain")
    assert wrapped.root == tmp_path / "wrapped/UCM/Images"
    assert wrapped.classes == ("a", "b")
    assert [(f.path, f.key) for f in wrapped.files] == [(f.path, f.key) for f in plain.files]


def test_one_class_is_refused() -> None:
    with pytest.raises(DataError, match='has one class, "Images": there is nothing to tell apart'):
        check_table(["Images"], "x")


NAMES = st.sampled_from(
    ["a.png", "b.jpg", "c.gif", "notes.txt", ".hidden", "Thumbs.db", "d", "e.tiff"]
)


@given(
    st.sets(st.tuples(st.sampled_from(["x", "y", "y/deep", "x/@eaDir"]), NAMES), max_size=12),
    st.sets(NAMES, max_size=3),
)
def test_what_is_taken_and_what_is_left_out_add_up(
    files: set[tuple[str, str]], previews: set[str]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        _images(root, "train/x/1.png", "train/y/1.png", "val/x/1.png")
        _images(root, *(f"train/{place}/{name}" for place, name in files))
        _images(root, *(f"previews/{name}" for name in previews))
        found = sum(path.is_file() for path in root.rglob("*"))
        tree = list_tree(root)
        assert len(tree.files) + sum(tree.left_out.values()) == found
        images = [(p, n) for p, n in files if n in ("a.png", "b.jpg", "e.tiff") and "@" not in p]
        assert len(tree.files) == 3 + len(images)


def test_thumbnails_of_a_disk_station_are_no_images(tmp_path: Path) -> None:
    _images(tmp_path, "a/1.png", "a/@eaDir/1.png/thumb.jpg", "b/2.png")
    assert [file.path for file in list_tree(tmp_path).files] == ["a/1.png", "b/2.png"]
