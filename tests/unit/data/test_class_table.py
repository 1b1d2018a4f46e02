"""Which class names are refused, and which folders are one class."""

from pathlib import Path

import pytest

from rsdl.core.errors import DataError
from rsdl.data.class_table import check_names
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


@pytest.mark.parametrize("extra", ["previews", "holdout"])
def test_split_folders_never_become_classes(tmp_path: Path, extra: str) -> None:
    _images(tmp_path, "train/a/1.png", "val/a/2.png", f"{extra}/3.png")
    with pytest.raises(DataError, match="name of a split"):
        list_tree(tmp_path)


def test_thumbnails_of_a_disk_station_are_no_images(tmp_path: Path) -> None:
    _images(tmp_path, "a/1.png", "a/@eaDir/1.png/thumb.jpg", "b/2.png")
    assert [file.path for file in list_tree(tmp_path).files] == ["a/1.png", "b/2.png"]
