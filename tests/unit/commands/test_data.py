"""What ``rsdl data`` makes of its arguments."""

from pathlib import Path

import pytest
from rich.progress import Progress

from rsdl.commands import bars
from rsdl.commands.data import check_folder, read_names
from rsdl.core.errors import ConfigError, DataError


def test_class_names_come_from_a_list_or_a_file(tmp_path: Path):
    file = tmp_path / "classes.txt"
    file.write_text("forest\n\n river \n")
    assert read_names(None) is None
    assert read_names("forest, river") == ("forest", "river")
    assert read_names("forest") == ("forest",)
    assert read_names(str(file)) == ("forest", "river")


def test_a_list_longer_than_any_file_name_is_a_list():
    names = tuple(f"class_{number:04d}" for number in range(1000))
    assert read_names(",".join(names)) == names


@pytest.mark.parametrize("text", ["", " , ,"])
def test_no_names_are_refused(text: str):
    with pytest.raises(DataError, match="names no class"):
        read_names(text)


def test_a_file_that_is_no_text_is_refused_with_its_name(tmp_path: Path):
    file = tmp_path / "classes.bin"
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"cannot read .*classes\.bin"):
        read_names(str(file))


def test_the_bar_is_told_of_the_last_sample_and_not_of_each(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bars, "BETWEEN_MOVES_S", 3600)
    seen = []
    with Progress(disable=True) as bar:
        told = bars.SampleProgress(bar, "packing")
        for done in range(1, 101):
            told(done, 100)
            seen.append(bar.tasks[0].completed)
    assert seen == [1] * 99 + [100]


@pytest.mark.parametrize("out", [".", "shards", "a/../b/shards"])
def test_shards_do_not_go_among_the_images_that_are_packed(tmp_path: Path, out: str):
    with pytest.raises(ConfigError, match=r"--out: .* lies in .*, whose images are packed; name a"):
        check_folder("SRC", str(tmp_path), str(tmp_path / out))


@pytest.mark.parametrize("out", ["s3://imagery/mine", "/elsewhere"])
def test_shards_may_go_anywhere_else(tmp_path: Path, out: str):
    check_folder("SRC", str(tmp_path), out)
