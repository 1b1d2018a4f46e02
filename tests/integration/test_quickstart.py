"""scripts/quickstart, command by command: what a newcomer runs first must learn something."""

import json
import shlex
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.integration.conftest import Rsdl

ROOT = Path(__file__).parents[2]
MIN_OA = 0.85  # chance is 0.2 or less


@pytest.mark.slow
def test_the_quickstart_learns_to_tell_its_classes(rsdl: "Rsdl", tmp_path: Path):
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    script = (ROOT / "scripts" / "quickstart").read_text().replace("\\\n", " ")
    commands = [shlex.split(line)[1:] for line in script.splitlines() if line.startswith("rsdl ")]
    assert [command[0] for command in commands] == ["data", "data", "train"]
    for command in commands:
        ended = rsdl(*command)
        assert ended.returncode == 0, ended.stderr
    run = tmp_path / "quickstart" / "runs" / "quickstart"
    record = json.loads((run / "run.json").read_text())
    assert record["status"] == "completed" and record["ledger"]
    assert record["metrics"]["test"]["oa"] >= MIN_OA
    assert (run / "report.html").stat().st_size > 100_000
