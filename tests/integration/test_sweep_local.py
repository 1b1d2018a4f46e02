"""A study on one machine, from nothing to its page: killed in the middle, it goes on."""

import csv
import html
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from rsdl.data.packing.pack import PackOptions, pack
from rsdl.data.sources.folder import FolderSource
from rsdl.storage.connect import connect
from tests.conftest import draw_tree
from tests.waiting import wait_for

pytestmark = pytest.mark.slow

LIMIT_S = 900.0
# Nine of timm's tiny networks: convolutions, transformers and a hybrid.
ARCHITECTURES = (
    "test_resnet", "test_vit", "test_efficientnet", "test_convnext", "test_byobnet", "test_nfnet",
    "test_mambaout", "test_efficientnet_ln", "test_convnext2",
)  # fmt: skip


@dataclass(frozen=True)
class Study:
    """A study of tiny networks on generated data."""

    folder: Path
    configs: list[Path]

    @property
    def runs(self) -> Path:
        return self.folder / "runs"

    @property
    def records(self) -> dict[str, dict[str, Any]]:
        """Records of the runs that have one, by name."""
        found = sorted(self.runs.glob("*/run.json"))
        return {path.parent.name: json.loads(path.read_text()) for path in found}

    def statuses(self) -> dict[str, str]:
        return {name: record["status"] for name, record in self.records.items()}

    def start(self, *arguments: str, devices: int = 2) -> "subprocess.Popen[str]":
        """Start the sweep; what it says goes to ``out``."""
        command = [sys.executable, "-m", "rsdl", "sweep", "local", *map(str, self.configs)]
        with (self.folder / "out").open("w") as out:
            return subprocess.Popen(
                [*command, *arguments, f"--devices={devices}"],
                stdout=out, stderr=out, text=True, env={**os.environ, "COLUMNS": "200"},
            )  # fmt: skip

    def said(self) -> str:
        return (self.folder / "out").read_text()

    def __call__(self, *arguments: str, devices: int = 2) -> int:
        """Run the sweep to its end."""
        return self.start(*arguments, devices=devices).wait(LIMIT_S)

    def processes(self) -> list[str]:
        """Return the commands of this study's runs that run now."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = path.read_bytes().decode().split("\0")
            except OSError:
                continue
            if "train" in words and any(str(self.folder) in word for word in words):
                found.append(" ".join(words))
        return found


Make = Callable[..., Study]

# What Python imports first of all: kills a process that trains, as the kernel does when memory is
# short, as often as it is told to.
CRASHING = """
import os, signal, sys
if "train" in sys.orig_argv and "rsdl.cluster.pdeathsig" not in sys.orig_argv:
    with open("{count}", "ab") as count:
        count.write(b"x")
        tries = count.tell()
    if tries <= {crashes}:
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def make_study(tmp_path: Path) -> Iterator[Make]:
    """Return what lays out a study of so many architectures and data sets."""
    studies = []

    def make(num_architectures: int, num_sets: int, **trainer: object) -> Study:
        configs = []
        for number in range(num_sets):
            url = draw_set(tmp_path, number)
            for name in ARCHITECTURES[:num_architectures]:
                configs.append(tmp_path / f"{name}_set{number}.yaml")
                tree = {
                    "output": str(tmp_path / "runs"),
                    "data": {"url": url, "image_size": 32, "batch_size": 4},
                    "model": {"name": name},
                    "optim": {"warmup_epochs": 0.5, "lr": 2e-3},
                    "trainer": {"accelerator": "cpu", "max_epochs": 2, **trainer},
                }
                configs[-1].write_text(yaml.safe_dump(tree))
        studies.append(Study(tmp_path, configs))
        return studies[-1]

    yield make
    for study in studies:
        wait_for(lambda study=study: not study.processes(), LIMIT_S)


def draw_set(folder: Path, number: int) -> str:
    """Draw and pack a data set of ``3 + number`` classes, told by their colours."""
    tree = draw_tree(folder / f"images{number}", 3 + number)
    source = FolderSource(tree, fractions=(0.5, 0.25, 0.25), name=f"set{number}")
    url = str(folder / f"set{number}")
    pack(source, connect(url), PackOptions(shard_bytes=14000, num_workers=1))
    return url


def check_page(study: Study) -> None:
    """Check that page and tables show every run; that they add up, see the unit tests."""
    page = (study.runs / "study.html").read_text()
    for record in study.records.values():
        assert record["epochs_completed"] == record["epochs_planned"]
        assert all(entry["balanced"] for entry in record["ledger"])
        assert html.escape(f"{100 * record['metrics']['test']['oa']:.2f}%") in page
    with (study.runs / "study.csv").open() as stream:
        assert {row["run"] for row in csv.DictReader(stream)} == set(study.records)
    latex = (study.runs / "study.tex").read_text()
    for record in study.records.values():
        assert record["architecture"].replace("_", "\\_") in latex


def kill_and_go_on(study: Study, num_completed: int) -> None:
    """Kill a sweep when so many runs are completed and one is on its way; complete it."""
    sweep = study.start()

    def is_midway() -> bool:
        assert sweep.poll() is None, study.said()
        statuses = list(study.statuses().values())
        return statuses.count("completed") >= num_completed and "running" in statuses

    wait_for(is_midway, LIMIT_S)
    sweep.send_signal(signal.SIGKILL)
    assert sweep.wait() == -signal.SIGKILL
    # Its runs go with it: nobody writes there when the next one begins.
    wait_for(lambda: not study.processes(), LIMIT_S)
    before = study.records
    done = [name for name, record in before.items() if record["status"] == "completed"]
    assert 0 < len(done) < len(study.configs)

    assert study() == 0, study.said()

    assert set(study.statuses().values()) == {"completed"}
    assert len(study.records) == len(study.configs)
    for name, record in study.records.items():
        if name in done:
            assert record == before[name]
            assert f"{name}: on CPU" not in study.said()
        else:
            assert f"{name}: on CPU" in study.said()
            assert record["resumes"] == (before[name]["resumes"] + 1 if name in before else 0)
    check_page(study)


def test_a_study_that_was_killed_redoes_only_what_was_not_complete(make_study: Make):
    kill_and_go_on(make_study(3, 2, max_epochs=30), num_completed=1)


@pytest.mark.timeout(3600)
def test_nine_by_three(make_study: Make, require: Callable[[str, bool], None]):
    require("patience", os.environ.get("RSDL_TEST_PATIENCE", "") not in ("", "0"))
    study = make_study(9, 3, max_epochs=10)
    kill_and_go_on(study, num_completed=9)
    assert len(study.records) == 27


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_asked_to_stop_a_sweep_has_its_runs_save(
    number: signal.Signals, code: int, make_study: Make
):
    study = make_study(1, 2, max_epochs=5000)
    sweep = study.start()

    def all_train() -> bool:
        assert sweep.poll() is None, study.said()
        return sum(r["epochs_completed"] > 0 for r in study.records.values()) == 2

    wait_for(all_train, LIMIT_S)
    sweep.send_signal(number)
    assert sweep.wait(LIMIT_S) == code
    assert set(study.statuses().values()) == {"preempted"}
    assert not study.processes()
    for name in study.records:
        assert (study.runs / name / "checkpoints/last.ckpt").exists()
    assert study("--dry-run") == 0
    assert study.said().count("resume") >= 2


def test_a_second_ctrl_c_does_not_wait(make_study: Make):
    study = make_study(1, 1, max_epochs=5000)
    sweep = study.start(devices=1)
    wait_for(lambda: any(r["epochs_completed"] for r in study.records.values()), LIMIT_S)
    sweep.send_signal(signal.SIGINT)
    wait_for(lambda: "then saving" in study.said(), LIMIT_S)
    sweep.send_signal(signal.SIGINT)
    assert sweep.wait(LIMIT_S) == 130
    assert not study.processes()
    # Saved in between, or not; struck while it wrote that down, it stands as after a kill.
    assert set(study.statuses().values()) <= {"preempted", "failed", "running"}
    assert study("--dry-run", devices=1) == 0 and "resume" in study.said()
    assert "Traceback" not in study.said()


def test_what_fails_is_told_and_takes_nothing_else_along(make_study: Make, tmp_path: Path):
    study = make_study(1, 1, max_epochs=1)
    tree = yaml.safe_load(study.configs[0].read_text())
    tree["data"] = {**tree["data"], "url": str(tmp_path / "nowhere")}
    study.configs.append(tmp_path / "astray.yaml")
    study.configs[-1].write_text(yaml.safe_dump(tree))
    assert study() == 2
    said = study.said()
    assert "astray: its input is wrong" in said and "no manifest at" in said
    assert said.count("astray: on CPU") == 1
    assert study.statuses() == {"test_resnet_set0": "completed"}
    assert '<data value="1"' in (study.runs / "study.html").read_text()


@pytest.mark.parametrize(("crashes", "code"), [(2, 0), (3, 1)])
def test_a_run_that_crashes_is_tried_three_times(
    crashes: int, code: int, make_study: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    study = make_study(1, 1, max_epochs=1)
    (tmp_path / "site").mkdir()
    (tmp_path / "site/sitecustomize.py").write_text(
        CRASHING.format(count=tmp_path / "count", crashes=crashes)
    )
    paths = [str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
    assert study() == code
    said = study.said()
    assert said.count("crashed; is tried again") == 2
    assert (tmp_path / "count").stat().st_size == 3
    if code:
        assert "test_resnet_set0: failed" in said and "log: " in said
        assert study.statuses() == {}
    else:
        assert study.statuses() == {"test_resnet_set0": "completed"}


def test_wrong_configs_are_told_before_anything_is_begun(make_study: Make):
    study = make_study(2, 1)
    assert study("trainer.max_epochs=0") == 2
    assert study.said().startswith("trainer.max_epochs: ")
    assert study.said().count("\n") == 1
    assert not study.runs.exists()
