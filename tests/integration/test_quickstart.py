"""scripts/quickstart, command by command: what a newcomer runs first must learn something."""

import json
import re
import shlex
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.integration.conftest import Rsdl

ROOT = Path(__file__).parents[2]


def read_commands(task: str) -> list[list[str]]:
    """Return the commands of the script for a task."""
    script = (ROOT / "scripts" / "quickstart").read_text().replace("\\\n", " ")
    chosen = re.search(rf"^  {task}\) config=(\S+) out=(\S+) ;;$", script, re.MULTILINE)
    assert chosen is not None
    for name, value in (("task", task), ("config", chosen[1]), ("out", chosen[2])):
        script = script.replace(f'"${name}"', value)
    return [shlex.split(line)[1:] for line in script.splitlines() if line.startswith("rsdl ")]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "name", "metric", "least"),  # chance is 0.2 or less
    [
        ("classification", "quickstart", "oa", 0.85),
        ("segmentation", "quickstart_segmentation", "miou", 0.85),
    ],
)
def test_the_quickstart_learns_to_tell_its_classes(
    task: str, name: str, metric: str, least: float, rsdl: "Rsdl", tmp_path: Path
):
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    commands = read_commands(task)
    assert [command[0] for command in commands] == ["data", "data", "train"]
    for command in commands:
        ended = rsdl(*command)
        assert ended.returncode == 0, ended.stderr
    run = tmp_path / "quickstart" / "runs" / name
    record = json.loads((run / "run.json").read_text())
    assert record["status"] == "completed" and record["ledger"]
    assert record["metrics"]["test"][metric] >= least
    assert (run / "report.html").stat().st_size > 100_000
