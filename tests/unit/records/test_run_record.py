"""The run's own account."""

from pathlib import Path

import pytest

from rsdl.core.errors import DataError
from rsdl.core.sample_counts import SampleCounts
from rsdl.records.run_record import git_revision
from rsdl.storage.local import LocalStore
from rsdl.train.run_folder import RunFolder
from tests.run_records import make_record


def test_a_record_reads_back(tmp_path: Path):
    folder, written = RunFolder(LocalStore(tmp_path)), make_record()
    assert folder.read_record() is None
    assert folder.read_history() == []
    written.metrics = {"best": {"epoch": 1, "oa": 0.25, "kappa": None}}
    folder.write_record(written)
    assert folder.read_record() == written


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": 0}', "\x00"])
def test_a_damaged_record_is_named(text: str, tmp_path: Path):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(DataError, match=r"run\.json: is not a run record of format 1"):
        RunFolder(LocalStore(tmp_path)).read_record()


@pytest.mark.parametrize("text", ["epoch,step\nten,1\n", "epoch\n1,2,3\n"])
def test_a_damaged_history_is_named(text: str, tmp_path: Path):
    (tmp_path / "metrics.csv").write_text(text)
    with pytest.raises(DataError, match=r"metrics\.csv: is not what rsdl wrote"):
        RunFolder(LocalStore(tmp_path)).read_history()


def test_clearing_takes_what_a_run_left_and_nothing_else(tmp_path: Path):
    ours = ["run.json", "metrics.csv", "config.yaml", "report.html", "report.json",
            "checkpoints/last.ckpt", "events.out.tfevents.1"]  # fmt: skip
    for name in [*ours, "notes.txt", "data/manifest.json"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    RunFolder(LocalStore(tmp_path)).clear()
    left = sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file())
    assert left == ["data/manifest.json", "notes.txt"]


def test_work_is_what_was_counted():
    counted = make_record()
    counted.set_work(SampleCounts(delivered=6, encoded_bytes=20, decoded_bytes=200, padded=9))
    counted.set_work(counted.work + SampleCounts(delivered=2, encoded_bytes=10, decoded_bytes=100))
    assert (counted.samples_read, counted.bytes_encoded, counted.bytes_decoded) == (8, 30, 300)


def test_the_revision_can_be_given(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RSDL_GIT_REVISION", "abc")
    assert git_revision() == "abc"
    monkeypatch.setenv("RSDL_GIT_REVISION", "")
    assert git_revision() is None
