"""Cost of the loader's threads for the thread that launches kernels: contention for the GIL.

The steps resemble those of a launch-bound GPU, made of small operations only: forward and backward
of a tiny network, one image at a time, repeated to fill the time of a batch at a given rate. Here
the operations run on one core of the CPU; a GPU's would be launched from the same Python. They are
measured alone; beside the loader's threads, which fill a batch for each step by decoding it, as in
a first epoch, or from cached pixels, as in later ones; and beside the decoding loader in another
process, which uses as much CPU and memory but has its own GIL.

Measured is the share of its steps in which the launching thread neither ran nor waited for a core,
according to the kernel (``schedstat``; Linux): then it waited for the GIL. Two cores must be free
for that: threads that share one core never contend, and if a thread loses its core while it holds
the GIL, the other waits for both. Then there is no verdict. JPEGs are small: the time that a sample
holds the GIL does not depend on its size, and a small machine can decode more of them.

    python -m benchmarks.trainer.gil_contention [--rates 1000 2000 3000 4000] [--threads 1]
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import timm
import torch

from benchmarks.harness.imagery import cut_images
from benchmarks.harness.machine import describe_versions
from benchmarks.harness.measure import Aim, Row, Table, build_result, run_benchmark, take_turns
from rsdl.config.data import DataConfig
from rsdl.core.batch import Batch
from rsdl.data.crop import CropRule
from rsdl.data.dataset import DataSet, train_plan
from rsdl.data.loader import BatchLoader, LoadRule
from rsdl.data.packing.pack import PackOptions, pack
from rsdl.data.plan import Share
from rsdl.data.sources.folder import FolderSource
from rsdl.storage.connect import connect

ALONE, PROCESS = "alone", "beside a loader's process"
THREADS, KEPT = "beside the loader's threads", "beside the loader's threads, kept pixels"
BATCH = 64
NUM_IMAGES = 4000
MOST_LOST = 2.0  # percent
MOST_QUEUED = 10.0  # percent without a core; above it the threads hardly run concurrently
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Spent:
    """Time of a thread, as totals or as a difference.

    Attributes:
        wall_s: Wall time.
        cpu_s: CPU time.
        queue_s: Time runnable, but without a core.
        fetch_s: Time spent waiting for batches, not part of the others.
    """

    wall_s: float = 0.0
    cpu_s: float = 0.0
    queue_s: float = 0.0
    fetch_s: float = 0.0

    @classmethod
    def now(cls) -> "Spent":
        """Return the totals of the calling thread so far."""
        path = f"/proc/self/task/{threading.get_native_id()}/schedstat"
        queue = int(Path(path).read_text().split()[1])
        return cls(time.perf_counter(), time.thread_time(), queue / 1e9)

    def since(self, before: "Spent", more: "Spent") -> "Spent":
        """Return ``more`` plus the time between ``before`` and this."""
        return Spent(
            more.wall_s + self.wall_s - before.wall_s,
            more.cpu_s + self.cpu_s - before.cpu_s,
            more.queue_s + self.queue_s - before.queue_s,
            more.fetch_s,
        )

    @property
    def lost_pct(self) -> float:
        """Percent of the time with a core available in which it could not run."""
        had = max(self.wall_s - self.queue_s, 1e-9)
        return 100 * max(had - self.cpu_s, 0.0) / had


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's own options."""
    add = parser.add_argument
    add("--rates", nargs="+", type=float, default=[1000, 2000, 3000, 4000], metavar="N",
        help="images/s that training draws (1000 2000 3000 4000)")  # fmt: skip
    add("--size", type=int, default=64, help="side of an image in pixels (%(default)s)")
    add("--threads", type=int, default=1, help="of the loader (%(default)s)")
    add("--switch-ms", type=float, help="sys.setswitchinterval (default: Python's own, 5 ms)")
    add("--work", type=Path, help="folder for data (default: a temporary one)")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure; return the result."""
    torch.set_num_threads(1)
    if options.switch_ms is not None:
        sys.setswitchinterval(options.switch_ms / 1e3)
    with tempfile.TemporaryDirectory() as temporary:
        url = pack_images(options.work or Path(temporary), options.size)
        tables = [measure(url, rate, options) for rate in options.rates]
    title = (
        f"What loading costs the thread that launches, {options.threads} thread(s) of the loader"
    )
    versions = describe_versions(("rsdl-train", "torch", "timm"))
    return build_result("launching", title, tables, options=vars(options), versions=versions)


def measure(url: str, rate: float, options: argparse.Namespace) -> Table:
    """Return the table of one rate."""
    seconds = 1.0 if options.quick else 4.0
    steps = max(round(seconds * rate / BATCH), 5)
    launcher = Launcher(seconds=BATCH / rate)
    command = [sys.executable, "-m", "benchmarks.trainer.gil_load", url, str(rate)]
    command += [str(options.size), str(options.threads)]
    spent: dict[str, list[Spent]] = {ALONE: [], PROCESS: [], THREADS: [], KEPT: []}

    def take(name: str, fetch: Callable[[], object] | None = None) -> float:
        spent[name].append(launcher.run(steps, fetch))
        return spent[name][-1].lost_pct

    def beside_process() -> float:
        loader = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
        try:
            assert loader.stdout is not None
            loader.stdout.readline()  # it has started
            return take(PROCESS)
        finally:
            loader.kill()
            loader.communicate()

    def beside_threads(name: str) -> float:
        kept = name == KEPT
        with closing(read_batches(url, options.size, options.threads, kept=kept)) as batches:
            for _ in range(-(-NUM_IMAGES // BATCH) if kept else 0):
                next(batches)  # the first epoch fills the decoded cache
            return take(name, partial(next, batches))

    turns: dict[str, Callable[[], float]] = {ALONE: partial(take, ALONE), PROCESS: beside_process}
    turns |= {name: partial(beside_threads, name) for name in (THREADS, KEPT)}
    take_turns(turns, rounds=options.rounds)
    return make_table(rate, steps, {name: turns[1:] for name, turns in spent.items()})


def make_table(rate: float, steps: int, spent: dict[str, list[Spent]]) -> Table:
    """Return the table of one rate, from the turns that count."""
    rows = []
    for name, turns in spent.items():
        wall = statistics.median(turn.wall_s - turn.queue_s for turn in turns)
        cpu = statistics.median(turn.cpu_s for turn in turns)
        whole = statistics.median(turn.wall_s + turn.fetch_s for turn in turns)
        facts = {
            "ms/step": 1e3 * wall / steps,
            "CPU ms/step": 1e3 * cpu / steps,
            "images/s": steps * BATCH / whole,
            "% without a core": statistics.median(map(queue_pct, turns)),
        }
        rows.append(Row(name, [turn.lost_pct for turn in turns], facts=facts))
    aims = []
    for name in (THREADS, KEPT):
        extra = [
            threads.lost_pct - process.lost_pct
            for threads, process in zip(spent[name], spent[PROCESS], strict=True)
        ]
        text = f"{name}: % of the time that the lock is waited for, over a process's"
        aims.append(Aim(text, statistics.median(extra), MOST_LOST, at_least=False))
    title = f"{rate:,.0f} images/s in steps of {BATCH}"
    if max(map(queue_pct, spent[THREADS] + spent[KEPT])) > MOST_QUEUED:
        return Table(f"{title}; cores were not free: no verdict", "% lost", PROCESS, rows)
    return Table(title, "% lost", PROCESS, rows, aims)


def queue_pct(spent: Spent) -> float:
    """Return the percent of a thread's time that it waited for a core."""
    return 100 * spent.queue_s / max(spent.wall_s, 1e-9)


class Launcher:
    """Runs steps made of small operations.

    Args:
        seconds: Approximate duration of a step when run alone.
    """

    def __init__(self, seconds: float) -> None:
        torch.manual_seed(0)
        self._network = timm.create_model("test_vit", num_classes=10, img_size=32)
        self._images = torch.randn(1, 3, 32, 32)
        self._repeats = 1
        self.run(10, None)
        once = min(self.run(1, None).cpu_s for _ in range(20))
        self._repeats = max(round(seconds / once), 1)

    def run(self, steps: int, fetch: Callable[[], object] | None) -> Spent:
        """Run steps; return their cost.

        Args:
            steps: Number of steps.
            fetch: Waits for a batch; its waiting time is not counted.
        """
        total, fetch_s = Spent(), 0.0
        for _ in range(steps):
            if fetch is not None:
                begin = time.perf_counter()
                fetch()
                fetch_s += time.perf_counter() - begin
            before = Spent.now()
            for _ in range(self._repeats):
                self._network(self._images).sum().backward()
            total = Spent.now().since(before, total)
        return replace(total, fetch_s=fetch_s)


def read_batches(
    url: str, size: int, threads: int, *, kept: bool = False
) -> Generator[Batch, None, None]:
    """Yield the batches of endless epochs, as training reads them.

    Args:
        url: The data set.
        size: Side of the delivered images, in pixels.
        threads: Loader threads.
        kept: Whether to cache decoded pixels, beside the data set.
    """
    fields = {"url": url, "image_size": size, "batch_size": BATCH}
    fields |= {"cache": {"folder": f"{url}-pixels"}, "decoded_cache": "1GB" if kept else "off"}
    config = DataConfig.model_validate(fields)
    data = DataSet(config).split("train", "data.train_split")
    rule = LoadRule(size, CropRule(True), num_workers=threads)
    epoch = 0
    while True:
        plan = train_plan(config, data, seed=0, epoch=epoch)
        yield from BatchLoader(data, plan, Share(), rule)
        epoch += 1


def pack_images(folder: Path, size: int) -> str:
    """Pack small JPEGs and return their URL."""
    tree = cut_images(folder, size=size, count=NUM_IMAGES)
    packed = folder / f"packed-{size}"
    pack(FolderSource(tree), connect(str(packed)), PackOptions())
    return str(packed)


def main() -> None:
    """Run the benchmark."""
    run_benchmark(__doc__, add_arguments, run)


if __name__ == "__main__":
    main()
