"""scripts/quickstart, command by command: what a newcomer runs first must learn something."""

import json
import shutil
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.quickstart_script import ROOT, read_commands

if TYPE_CHECKING:
    from tests.integration.conftest import Rsdl


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "name", "metric", "least"),  # chance is 0.2 or less
    [
        ("classification", "quickstart", "oa", 0.85),
        ("segmentation", "quickstart_segmentation", "miou", 0.85),
        ("detection", "quickstart_detection", "ap50", 0.85),
    ],
)
def test_the_quickstart_learns_to_tell_its_classes(
    task: str, name: str, metric: str, least: float, rsdl: "Rsdl", tmp_path: Path
):
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    commands = read_commands(task)
    assert [command[0] for command in commands[:3]] == ["data", "data", "train"]
    for command in commands:
        ended = rsdl(*command)
        assert ended.returncode == 0, ended.stderr
    run = tmp_path / "quickstart" / "runs" / name
    record = json.loads((run / "run.json").read_text())
    assert record["status"] == "completed" and record["ledger"]
    assert record["metrics"]["test"][metric] >= least
    assert (run / "report.html").stat().st_size > 100_000
    if task == "detection":
        _, _, scene, *_ = commands[3]
        with tarfile.open(tmp_path / "quickstart" / "boxes" / "test-000000.tar") as shard:
            assert any(name.startswith(f"{Path(scene).stem}_") for name in shard.getnames())
