"""The fuzzer notices a reader that hangs, dies, or takes too much, keeps the input and goes on."""

import subprocess
import sys
from pathlib import Path

import pytest


def fuzz(out: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.fuzz", "--targets", "tests.unit.fuzz.misbehaving"]
    command += ["--out", str(out), "--limit-s", "1", "--seconds", "0.2", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("hang", "hung"),
        ("abort", "SIGABRT"),
        ("crash", "SIGSEGV"),
        ("allocate", "MemoryError"),
        ("swallow", "over 1 GB"),
        ("leave", "exit code 0"),
        ("raise", "KeyError"),
    ],
)
def test_a_finding_is_kept_named_and_read_again(target: str, said: str, tmp_path: Path):
    found = fuzz(tmp_path, "--target", target)
    assert found.returncode == 1
    assert f"{target}: {said}" in found.stdout
    (kept,) = [file for file in tmp_path.iterdir() if file.name.startswith(f"{target}-")]
    assert kept.read_bytes() == b"bad"
    assert f"--rerun {kept}" in found.stdout
    number = int(found.stdout.split(" inputs")[0].rpartition(" ")[2])
    assert number >= 3  # it went on behind the finding
    if target in ("abort", "swallow"):
        again = fuzz(tmp_path, "--rerun", str(kept))
        assert again.returncode == 1
        assert said in again.stdout


def test_a_reader_that_refuses_in_one_line_is_no_finding(tmp_path: Path):
    found = fuzz(tmp_path, "--target", "refuse")
    assert found.returncode == 0, found.stdout + found.stderr
    assert not [file for file in tmp_path.iterdir() if file.name.startswith("refuse-")]


def test_an_unknown_target_is_named_with_those_there_are(tmp_path: Path):
    found = fuzz(tmp_path, "--target", "tiff")
    assert found.returncode == 2
    assert "there is no tiff; choose from hang, abort" in found.stderr
