"""Seconds without a step, and samples trained again, when a node leaves, is lost or comes.

A run on two nodes, which are two process trees of this machine with a rank each, is started; one
node is asked to stop (SIGTERM), comes again, and is lost (SIGKILL of the whole tree). ``rsdl train
--nnodes 1:2`` is compared with the script of PyTorch's tutorial on fault-tolerant training under
``torchrun --nnodes 1:2``, with its own waits and with those of rsdl. All train the same network on
the same samples and save at the end of every epoch; a node leaves or comes half an epoch after.

    python -m benchmarks.trainer.membership
"""

import argparse
import socket
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

import yaml

from benchmarks.harness.machine import describe_versions
from benchmarks.harness.measure import Row, Table, build_result, interleave, run_benchmark
from benchmarks.harness.tiny_dataset import write_tiny_dataset
from benchmarks.trainer.first_step import MODEL
from benchmarks.trainer.peers import fault_tolerant_ddp
from benchmarks.trainer.two_nodes import (
    BATCH_SIZE,
    COMES,
    LOST,
    PARTS,
    STARTS,
    STEPS,
    STOPS,
    Cost,
    Program,
    Run,
)
from rsdl.distributed.node_rendezvous import KEEP_ALIVE_S, KEEP_ALIVES_TO_MISS, SECONDS_TO_GATHER
from rsdl.records.run_record import LAST

OURS, TORCHRUN, TUNED = "rsdl train", "torchrun", "torchrun, waits of rsdl"
WAITS = (
    f"last_call_timeout={SECONDS_TO_GATHER:.0f},keep_alive_interval={KEEP_ALIVE_S},"
    f"keep_alive_max_attempt={KEEP_ALIVES_TO_MISS}"
)
SMALLER = f"then {BATCH_SIZE // 2} samples a step, not {BATCH_SIZE}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's own options."""
    add = parser.add_argument
    add("--work", type=Path, help="folder for data and runs (default: a temporary one)")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure; return the result."""
    with ExitStack() as stack:
        work = options.work or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        data = write_tiny_dataset(work.resolve() / "tiny", STEPS * BATCH_SIZE)
        programs = {
            OURS: lambda folder: rsdl_program(data, folder),
            TORCHRUN: lambda folder: torchrun_program(data, folder, ""),
            TUNED: lambda folder: torchrun_program(data, folder, WAITS),
        }
        warmups = 0 if options.quick else 1
        turns = {
            name: Turns(make, Path(tempfile.mkdtemp(dir=work))) for name, make in programs.items()
        }
        interleave(turns, rounds=1 if options.quick else options.rounds, warmups=warmups)
    costs = {name: turn.costs[warmups:] for name, turn in turns.items()}
    tables = [make_table(change, costs) for change in (STARTS, STOPS, LOST, COMES)]
    title = "What a change of the nodes costs: seconds without a step, two nodes on one machine"
    versions = describe_versions(("rsdl-train", "torch", "timm"))
    return build_result("membership", title, tables, options=vars(options), versions=versions)


class Turns:
    """Runs a program from its start, once a turn, and keeps what each change has cost."""

    def __init__(self, make: Callable[[Path], Program], folder: Path) -> None:
        self.costs: list[dict[str, Cost]] = []
        self._make, self._folder = make, folder

    def __call__(self) -> float:
        """Return the seconds of all changes."""
        folder = self._folder / str(len(self.costs))
        folder.mkdir()
        self.costs.append(Run(self._make(folder), folder).change_all())
        return sum(cost.seconds for cost in self.costs[-1].values())


def rsdl_program(data: str, folder: Path) -> Program:
    """Return rsdl train, which saves at the end of every epoch."""
    config = {
        "name": "run",
        "output": str(folder),
        "data": {"url": data, "image_size": fault_tolerant_ddp.SIDE_PX, "batch_size": BATCH_SIZE,
                 "val_split": None, "test_split": "val"},
        "model": {"name": MODEL},
        "trainer": {"accelerator": "cpu", "max_epochs": 10_000},
    }  # fmt: skip
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    port = free_port()
    node = (
        "-m", "rsdl", "train", str(path), "--nnodes=1:2", f"--rdzv-endpoint=127.0.0.1:{port}"
    )  # fmt: skip
    store = ("-m", "rsdl", "rendezvous", f"--port={port}")
    return Program((node, node), folder / "run" / LAST, store, keeps_batch=True)


def torchrun_program(data: str, folder: Path, waits: str) -> Program:
    """Return the script under torchrun; node 0 serves the store."""
    snapshot, port = folder / "snapshot.pt", free_port()

    def node(number: int) -> list[str]:
        options = ",".join([f"is_host={int(not number)}", *filter(None, [waits])])
        return [
            "-m", "torch.distributed.run", "--nnodes=1:2", "--nproc-per-node=1",
            "--rdzv-backend=c10d", f"--rdzv-endpoint=127.0.0.1:{port}", "--rdzv-id=run",
            f"--rdzv-conf={options}", "--max-restarts=100", fault_tolerant_ddp.__file__,
            data, str(snapshot), str(BATCH_SIZE // 2),
        ]  # fmt: skip

    return Program((node(0), node(1)), snapshot)


def make_table(change: str, costs: Mapping[str, Sequence[Mapping[str, Cost]]]) -> Table:
    """Return the table of one change; facts are medians over the rounds."""
    rows = []
    for name, rounds in costs.items():
        found = [changes[change] for changes in rounds]
        facts = {} if change == STARTS else {"samples again": median(cost.again for cost in found)}
        for part in PARTS:
            if all(part in cost.parts for cost in found):
                facts[part] = median(cost.parts[part] for cost in found)
        note = "" if name == OURS or change not in (STOPS, LOST) else SMALLER
        rows.append(Row(name, [cost.seconds for cost in found], note, facts))
    return Table(change, "s", TORCHRUN, rows)


def free_port() -> int:
    """Return a port of this machine that is free now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def main() -> None:
    """Run the benchmark."""
    run_benchmark(__doc__, add_arguments, run)


if __name__ == "__main__":
    main()
