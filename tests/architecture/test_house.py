"""The rooms point one way, and no file grows out of hand."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "rsdl").rglob("*.py"))
LINES = 330


def test_import_contracts_are_kept():
    code = "from importlinter.cli import lint_imports_command as lint; lint()"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", MODULES)
def test_no_file_grows_out_of_hand(name: str):
    lines = (ROOT / name).read_text().splitlines()
    assert len(lines) <= LINES, f"{name} has {len(lines)} lines: split what belongs together off"


def test_no_file_has_a_name_that_says_nothing():
    names = {Path(name).stem for name in MODULES}
    assert not names & {"utils", "util", "common", "helpers", "helper", "manager", "misc"}
