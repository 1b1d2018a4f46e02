"""Seconds from the start of the process to the first optimizer step of a resumed run.

A real run over 1,000,000 small samples is stopped by SIGTERM; its checkpoint is set to 5% and to
95% of the epoch, and ``rsdl train`` is started on each repeatedly, up to its first step. It is
compared with a training script over stock WebDataset, which has to skip the samples trained before.

    python -m benchmarks.trainer.resume
"""

import argparse
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
import yaml

from benchmarks.harness.machine import describe_versions
from benchmarks.harness.measure import Row, Table, Target, build_result, interleave, run_benchmark
from benchmarks.harness.tiny_dataset import write_tiny_dataset
from benchmarks.harness.worker_process import ROOT
from benchmarks.trainer.first_step import MARK, MODEL
from rsdl.records.run_record import LAST
from rsdl.train.checkpoint import STATE

PLACES = (0.05, 0.95)
BATCH_SIZE = 64
COUNTS = {False: 1_000_000, True: 100_000}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's own options."""
    add = parser.add_argument
    add("--samples", type=int, help="in the epoch (1,000,000; quick: 100,000)")
    add("--work", type=Path, help="folder for data and runs (default: a temporary one)")
    add("--no-peer", action="store_true", help="leave WebDataset out: it takes minutes")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure; return the result."""
    samples = options.samples or COUNTS[options.quick]
    with ExitStack() as stack:
        work = options.work or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = write_tiny_dataset(work.resolve() / f"tiny-{samples}", samples)
        commands = rsdl_commands(url, work.resolve() / "runs", samples)
        if not options.no_peer:
            commands |= webdataset_commands(url, samples)
        starts = {name: FirstStep(command) for name, command in commands.items()}
        values = interleave(starts, rounds=options.rounds)
    rows = [Row(name, seconds) for name, seconds in values.items()]
    title = f"Resuming in an epoch of {samples:,} samples: process start to first optimizer step"
    table = Table(f"{samples:,} PNGs of 16 px, {MODEL}", "s", rows[0].name, rows)
    ratio = table.ratio(rows[1].name)
    assert ratio is not None
    apart = max(ratio.median, 1 / ratio.median)
    # A regression threshold: measured is 1.02 (resume.json).
    target = Target("rsdl: the slower place over the faster", apart, 1.1, at_least=False)
    table = Table(table.title, table.unit, table.reference, rows, [target])
    versions = describe_versions(("rsdl-train", "torch", "webdataset", "timm"))
    return build_result("resume", title, [table], options=vars(options), versions=versions)


class FirstStep:
    """A command that is timed up to its first step; its other output is kept for errors."""

    def __init__(self, command: list[str]) -> None:
        self._command = [sys.executable, "-m", "benchmarks.trainer.first_step", *command]

    def __call__(self) -> float:
        """Return seconds.

        Raises:
            RuntimeError: If the process ends before its first step.
        """
        begin = time.perf_counter()
        done = subprocess.run(self._command, cwd=ROOT, capture_output=True, text=True)
        seconds = time.perf_counter() - begin
        if MARK not in done.stdout:
            raise RuntimeError(f"{' '.join(self._command)}: no step\n{done.stdout}{done.stderr}")
        return seconds


def rsdl_commands(url: str, runs: Path, samples: int) -> dict[str, list[str]]:
    """Make a run for each position, and return the commands that resume them."""
    shutil.rmtree(runs, ignore_errors=True)
    begun = begin_run(url, runs)
    commands = {}
    for place in PLACES:
        name = f"rsdl, {place:.0%} of the epoch"
        folder = runs / f"at-{place}" / begun.name
        shutil.copytree(begun, folder)
        set_position(folder / LAST, int(samples * place) // BATCH_SIZE * BATCH_SIZE)
        config = write_config(url, folder.parent)
        commands[name] = ["rsdl", str(config)]
    return commands


def begin_run(url: str, runs: Path) -> Path:
    """Start a run, stop it after some steps, and return its folder."""
    config = write_config(url, runs)
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "rsdl", "train", str(config)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    folder = runs / "resume"
    # Once the record exists, the run handles the signal: it stops between two steps, and saves.
    while process.poll() is None and not (folder / "run.json").exists():
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    printed, _ = process.communicate()
    if not (folder / LAST).exists():
        raise RuntimeError(f"the run has left no checkpoint:\n{printed}")
    return folder


def write_config(url: str, folder: Path) -> Path:
    """Write the config of the run to a folder, which is also its output folder."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "name": "resume",
        "output": str(folder),
        "data": {"url": url, "image_size": 32, "batch_size": BATCH_SIZE},
        "model": {"name": MODEL},
        "trainer": {"accelerator": "cpu", "max_epochs": 2},
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def set_position(path: Path, consumed: int) -> None:
    """Set a checkpoint's position to ``consumed`` samples of its epoch."""
    content = torch.load(path, weights_only=True)
    position = content[STATE]["position"]
    position["consumed"], position["step"] = consumed, consumed // BATCH_SIZE
    torch.save(content, path)


def webdataset_commands(url: str, samples: int) -> dict[str, list[str]]:
    """Return the commands that resume WebDataset at each position."""
    return {
        f"WebDataset, {place:.0%} of the epoch": [
            "webdataset", url, str(int(samples * place)), str(BATCH_SIZE),
        ]
        for place in PLACES
    }  # fmt: skip


def main() -> None:
    """Run the benchmark."""
    run_benchmark(__doc__, add_arguments, run)


if __name__ == "__main__":
    main()
