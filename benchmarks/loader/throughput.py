"""Images per second of rsdl's loader compared with its peers, on local data.

The same JPEGs are loaded by rsdl, torchvision's ImageFolder, stock WebDataset, MosaicML Streaming,
LitData, DALI on the CPU and FFCV in its JPEG and raw modes, and decoded by rsdl's bare decoder: a
random resized crop to 224 px, batches of 64 in the main process, 2 workers (threads or processes,
by its design). Each loader runs in its own process and is idle while the others have their turn; a
turn is a number of whole epochs. Files are in the page cache.

    python -m benchmarks.loader.throughput --images FOLDER --python /path/to/peers/bin/python

Without --images, and for --sizes, imagery is cut from --scenes or from synthetic scenes.
"""

import argparse
import re
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import simplejpeg

from benchmarks.harness.imagery import cut_images, list_images
from benchmarks.harness.measure import Aim, Row, Table, build_result, run_benchmark, take_turns
from benchmarks.harness.worker_process import AbsentError, Contender
from benchmarks.peers.catalog import PEERS, Peer
from benchmarks.peers.task import Task
from rsdl.data.packing.pack import PackOptions, pack
from rsdl.data.sources.folder import FolderSource
from rsdl.storage.connect import connect

DELIVERIES = {"uint8": "uint8 batches, normalised on the training device",
              "float32": "float32 batches, normalised on the host"}  # fmt: skip
FIRST_FOUR = ("torchvision ImageFolder", "WebDataset", "MosaicML Streaming", "LitData")
LIMIT = "decoder alone"
# Enough for a few seconds of the fastest loader; a raw copy of it fits the memory.
COUNTS = {"full": 1280, "quick": 384}
SHARDS = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's own options."""
    add = parser.add_argument
    add("--images", type=Path, help="class folders of JPEGs, measured beside --sizes")
    add("--scenes", type=Path, help="folder of RGB uint8 GeoTIFFs to cut imagery from")
    add("--sizes", type=int, nargs="*", default=[400, 600], help="px to cut imagery to (400 600)")
    add("--delivery", nargs="+", choices=DELIVERIES, default=list(DELIVERIES), help="of batches")
    add("--peers", nargs="+", metavar="NAME", default=list(PEERS), help="all, by default")
    add("--python", action="append", default=[], metavar="[NAME=]PATH",
        help="the Python that has the peers, or the one called NAME; once for each")  # fmt: skip
    add("--work", type=Path, help="folder for what is made once (default: a temporary one)")
    add("--workers", type=int, default=2, help="threads or processes (%(default)s)")
    add("--batch-size", type=int, default=64, help="images (%(default)s)")
    add("--seconds", type=float, help="that a turn takes at least (1; quick: 0.5)")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure all loaders; return the result."""
    with ExitStack() as stack:
        work = options.work or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        quick = options.quick
        seconds = options.seconds or (0.5 if quick else 1.0)
        deliveries = options.delivery[:1] if quick else options.delivery
        tables: list[Table] = []
        versions: dict[str, str] = {}
        for images in collect_images(options, work.resolve()):
            task = prepare_task(images, work.resolve(), options)
            for delivery in deliveries:
                table, found = measure(replace(task, delivery=delivery), options, seconds)
                tables.append(table)
                versions |= found
    title = (
        f"Loading: {options.workers} workers, batches of {options.batch_size}, "
        "random resized crops to 224 px"
    )
    return build_result(
        "loader", title, tables, options=vars(options), versions=dict(sorted(versions.items()))
    )


def collect_images(options: argparse.Namespace, work: Path) -> list[Path]:
    """Return the image trees to measure, creating those that are not given."""
    count = COUNTS["quick" if options.quick else "full"]
    sizes = options.sizes[:1] if options.quick else options.sizes
    given = [options.images.resolve()] if options.images else []
    return given + [
        cut_images(work / "imagery", size=size, count=count, scenes=options.scenes)
        for size in sizes
    ]


def prepare_task(images: Path, work: Path, options: argparse.Namespace) -> Task:
    """Pack a tree of images once, and return its task."""
    folder = work / images.name
    shards = folder / "shards"
    paths = list_images(images)
    total = sum(path.stat().st_size for path in paths)
    source = FolderSource(images, fractions=(1.0, 0.0, 0.0))
    # Several shards per worker, for the peer that assigns whole shards to its workers.
    packing = PackOptions(shard_bytes=max(total // SHARDS, 1 << 16))
    manifest = pack(source, connect(str(shards)), packing)
    mean, std = (tuple(values) for values in (manifest.mean, manifest.std))
    assert len(mean) == len(std) == 3, "RGB imagery"
    return Task(
        images=str(images),
        shards=str(shards),
        work=str(folder),
        delivery="uint8",
        batch_size=options.batch_size,
        workers=options.workers,
        mean=(mean[0], mean[1], mean[2]),
        std=(std[0], std[1], std[2]),
    )


def measure(
    task: Task, options: argparse.Namespace, seconds: float
) -> tuple[Table, dict[str, str]]:
    """Let all loaders load one tree of images, interleaved; return the table and the versions."""
    contenders: dict[str, Contender] = {}
    absent: dict[str, str] = {}
    versions: dict[str, str] = {}
    with ExitStack() as stack:
        started: dict[str, Contender] = {}
        for name in options.peers:
            log = Path(task.work) / f"{re.sub(r'[^a-z]+', '-', name.lower())}-{task.delivery}.log"
            with note_absence(name, absent):
                contender = Contender(name, python_of(name, options.python), task, log)
                started[name] = stack.enter_context(contender)
        # All prepare concurrently.
        for name, contender in started.items():
            with note_absence(name, absent):
                contender.await_ready()
                contenders[name] = contender
                versions |= contender.versions
        figures = take_turns(
            {name: Turn(c, seconds) for name, c in contenders.items()}, rounds=options.rounds
        )
    rows = [
        make_row(contenders[name], figures[name])
        if name in contenders
        else Row(name, note=absent[name])
        for name in options.peers
    ]
    return Table(describe(task), "images/s", options.peers[0], rows, aims=aims(rows)), versions


@contextmanager
def note_absence(name: str, absent: dict[str, str]) -> Iterator[None]:
    """Record, and print at once, why a contender does not take part."""
    try:
        yield
    except AbsentError as error:
        absent[name] = str(error)
        print(f"{name}: {error}", file=sys.stderr)


class Turn:
    """A contender's turn; if it fails in the middle, stop the benchmark with its name."""

    def __init__(self, contender: Contender, seconds: float) -> None:
        self._contender = contender
        self._seconds = seconds

    def __call__(self) -> float:
        """Return images per second."""
        try:
            return self._contender.run_turn(self._seconds)
        except AbsentError as error:
            raise RuntimeError(f"{self._contender.name} {error}") from error


def make_row(contender: Contender, figures: list[float]) -> Row:
    """Return a contender's row, without the warm-up turns."""
    cpu_ms = statistics.median(contender.cpu_ms[-len(figures) :])
    return Row(contender.name, figures, contender.note, {"CPU ms/image": cpu_ms})


def python_of(name: str, choices: Sequence[str], peers: Mapping[str, Peer] = PEERS) -> str:
    """Return the Python for a contender: its own, the one for all peers, or this one."""
    named = dict(choice.split("=", 1) for choice in choices if "=" in choice)
    general = [choice for choice in choices if "=" not in choice]
    if name in named:
        return named[name]
    return sys.executable if peers[name].ours or not general else general[-1]


def describe(task: Task) -> str:
    """Return the title of a table."""
    paths = list_images(Path(task.images))
    heads = [
        simplejpeg.decode_jpeg_header(path.read_bytes())
        for path in paths[:: max(1, len(paths) // 8)]
    ]
    height, width = (round(statistics.mean(head[side] for head in heads)) for side in (0, 1))
    kilobytes = statistics.mean(path.stat().st_size for path in paths) / 1e3
    return (
        f"{len(paths):,} JPEGs of {width} x {height} px and {kilobytes:.0f} kB "
        f"({Path(task.images).name}); {DELIVERIES[task.delivery]}"
    )


def aims(rows: Sequence[Row]) -> list[Aim]:
    """Return the loader's targets with the values measured here."""
    table = Table("", "", "", rows)
    medians = {row.name: statistics.median(row.values) for row in rows if row.values}
    first_four = [name for name in FIRST_FOUR if name in medians]
    best = max(first_four, key=medians.__getitem__, default="")
    wanted = [
        ("rsdl", LIMIT, 0.85), ("rsdl", best, 2.5), ("rsdl", "DALI on CPU", 1.5),
        ("rsdl", "FFCV, JPEG", 1.0), ("rsdl, decoded tier", "FFCV, raw", 2.5),
        ("rsdl, decoded tier", best, 8.0),
    ]  # fmt: skip
    found = []
    for ours, theirs, bound in wanted:
        if ours in medians and theirs in medians and (ratio := table.ratio(ours, theirs)):
            found.append(Aim(f"{ours} over {theirs}", ratio.median, bound))
    return found


def main() -> None:
    """Run the benchmark."""
    run_benchmark(__doc__, add_arguments, run)


if __name__ == "__main__":
    main()
