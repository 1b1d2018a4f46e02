"""Memory of a training run over many epochs: checks that it stays flat.

``rsdl train`` runs unchanged; from outside, the memory of the process and all its children is read
several times a second, and the median of each epoch is kept. The first two epochs fill caches and
buffers; from the third on it must be flat within 3%.

    python -m benchmarks.trainer.memory [URL] [--set data.decoded_cache=off]
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.harness.imagery import cut_images
from benchmarks.harness.machine import describe_versions
from benchmarks.harness.measure import Aim, Row, Table, build_result, run_benchmark
from benchmarks.harness.worker_process import ROOT, descendants
from rsdl.data.packing.pack import PackOptions, pack
from rsdl.data.sources.folder import FolderSource
from rsdl.storage.connect import connect

NAME = "memory"
WARM_UP_EPOCHS = 2
FLAT = 1.03
INTERVAL_S = 0.2
# Fields of /proc/PID/smaps_rollup, in the order of the table.
FIELDS = {"Rss": "RSS", "Pss": "PSS", "Anonymous": "RSS that no file backs"}
COUNTS = {False: 1280, True: 256}

Samples = dict[int, list[dict[str, int]]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's own options."""
    add = parser.add_argument
    add("url", nargs="?", help="data set to train on (default: one made of painted scenes)")
    add("--epochs", type=int, help="of training (22: two to warm up; quick: 8)")
    add("--model", default="test_resnet", help="network (%(default)s)")
    add("--image-size", type=int, default=64, help="px (%(default)s)")
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="of the run's config")
    add("--work", type=Path, help="folder for data and run (default: a temporary one)")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure; return the result."""
    epochs = options.epochs or (8 if options.quick else WARM_UP_EPOCHS + 20)
    with ExitStack() as stack:
        work = options.work or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = options.url or pack_images(work.resolve(), COUNTS[options.quick])
        output = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        samples = watch(train_command(url, output, epochs, options), output / NAME / "run.json")
    found = {label: series(samples, field) for field, label in FIELDS.items()}
    if not found["RSS"]:
        raise RuntimeError(f"{epochs} epochs are too few or too short: use more, or more images")
    rows = [
        Row(label, values, facts={"largest over smallest": spread(values)})
        for label, values in found.items()
    ]
    flat = Aim("RSS: largest epoch over smallest", spread(rows[0].values), FLAT, at_least=False)
    title = f"Memory of rsdl train, process and children, over {len(rows[0].values)} epochs"
    table = Table(f"{options.model}, medians of each epoch", "MB", rows[0].name, rows, [flat])
    versions = describe_versions(("rsdl-train", "torch"))
    return build_result("memory", title, [table], options=vars(options), versions=versions)


def pack_images(work: Path, count: int) -> str:
    """Pack synthetic scenes and return the URL of the data set."""
    tree = cut_images(work, size=128, count=count)
    shards = work / f"{tree.name}-packed"
    pack(FolderSource(tree), connect(str(shards)), PackOptions(shard_bytes=1 << 20))
    return str(shards)


def train_command(url: str, output: Path, epochs: int, options: argparse.Namespace) -> list[str]:
    """Write the run's config to its output folder, and return its command."""
    config = output / "config.yaml"
    # JSON is YAML.
    config.write_text(
        json.dumps(
            {
                "name": NAME,
                "output": str(output),
                "data": {"url": url, "image_size": options.image_size},
                "model": {"name": options.model},
                "trainer": {"max_epochs": epochs},
            }
        )
    )
    return [sys.executable, "-m", "rsdl", "train", str(config), *options.set]


def watch(command: Sequence[str], record: Path) -> Samples:
    """Run a training; return its memory in bytes, by the number of completed epochs.

    Args:
        command: The training command.
        record: The ``run.json`` that it writes.

    Raises:
        RuntimeError: If it fails.
    """
    samples: Samples = {}
    log = record.parents[1] / "output.log"
    with log.open("w") as stream:
        process = subprocess.Popen(command, cwd=ROOT, stdout=stream, stderr=subprocess.STDOUT)
        try:
            while process.poll() is None:
                epoch = epochs_completed(record)
                if epoch is not None and (memory := read_memory(process.pid)):
                    samples.setdefault(epoch, []).append(memory)
                time.sleep(INTERVAL_S)
        finally:
            process.kill()
            process.wait()
    if process.returncode:
        raise RuntimeError(f"the training has failed:\n{log.read_text()}")
    return samples


def epochs_completed(record: Path) -> int | None:
    """Return the number of epochs that a run has completed; ``None`` before its record exists."""
    try:
        return int(json.loads(record.read_text())["epochs_completed"])
    except (OSError, ValueError, KeyError):
        return None


def read_memory(pid: int) -> dict[str, int]:
    """Return the memory of a process and its descendants, in bytes by field; empty if it ended."""
    total = dict.fromkeys(FIELDS, 0)
    for process in [pid, *descendants(pid)]:
        try:
            lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        for line in lines:
            name, _, value = line.partition(":")
            if name in total:
                total[name] += int(value.split()[0]) * 1024
    return total if any(total.values()) else {}


def series(samples: Samples, field: str) -> list[float]:
    """Return the median of each epoch in MB, without warm-up epochs and the time after the last."""
    epochs = sorted(samples)[WARM_UP_EPOCHS:-1]
    return [statistics.median(one[field] for one in samples[epoch]) / 1e6 for epoch in epochs]


def spread(values: Sequence[float]) -> float:
    """Return the ratio of the largest to the smallest value."""
    return max(values) / min(values)


def main() -> None:
    """Run the benchmark."""
    run_benchmark(__doc__, add_arguments, run)


if __name__ == "__main__":
    main()
