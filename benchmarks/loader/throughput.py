"""Images per second of rsdl's loader compared with its peers, on local data.

The same JPEGs are loaded by rsdl, torchvision's ImageFolder, stock WebDataset, MosaicML Streaming,
LitData, DALI on the CPU and FFCV in its JPEG and raw modes, and decoded by rsdl's bare decoder: a
random resized crop to 224 px, batches of 64 in the main process, 2 workers (threads or processes,
by its design). Each loader runs in its own process and is idle while the others are measured; a
turn is whole epochs, for some seconds. Files are in the page cache.

    python -m benchmarks.loader.throughput --images FOLDER --python /path/to/peers/bin/python

Without --images, and for --sizes, imagery is cut from synthetic scenes.
"""

import argparse
import statistics
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import simplejpeg

from benchmarks.harness.imagery import cut_images, list_images
from benchmarks.harness.measure import Row, Table, build_result, run_benchmark
from benchmarks.harness.task import Task
from benchmarks.harness.worker_process import WorkerProcess, add_peer_arguments, measure_peers
from benchmarks.loader.catalog import LOADERS
from rsdl.data.packing.pack import PackOptions, pack
from rsdl.data.sources.folder import FolderSource
from rsdl.storage.connect import connect

DELIVERIES = {"uint8": "uint8 batches, normalised on the training device",
              "float32": "float32 batches, normalised on the host"}  # fmt: skip
# As many images as have this many pixels: a raw copy fits the memory, and an epoch is so long that
# its start and end do not decide.
PIXEL_BYTES, MOST_IMAGES = 4 << 30, 20_000
QUICK_IMAGES = 384
SHARDS = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's own options."""
    add = parser.add_argument
    add("--images", type=Path, help="class folders of JPEGs, measured beside --sizes")
    add("--sizes", type=int, nargs="*", default=[400, 600], help="px to cut imagery to (400 600)")
    add("--delivery", nargs="+", choices=DELIVERIES, default=list(DELIVERIES), help="of batches")
    add("--peers", nargs="+", metavar="NAME", default=list(LOADERS), help="all, by default")
    add_peer_arguments(parser)
    add("--workers", type=int, default=2, help="threads or processes (%(default)s)")
    add("--batch-size", type=int, default=64, help="images (%(default)s)")
    add("--seconds", type=float, help="that a turn takes at least (3; quick: 0.5)")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure all loaders; return the result."""
    with ExitStack() as stack:
        work = options.work or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        deliveries = options.delivery[:1] if options.quick else options.delivery
        tables: list[Table] = []
        versions: dict[str, str] = {}
        for images in collect_images(options, work.resolve()):
            task = prepare_task(images, work.resolve(), options)
            for delivery in deliveries:
                table, found = measure(replace(task, delivery=delivery), options)
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
    sizes = options.sizes[:1] if options.quick else options.sizes
    trees = [options.images.resolve()] if options.images else []
    for size in sizes:
        count = QUICK_IMAGES if options.quick else min(PIXEL_BYTES // (3 * size**2), MOST_IMAGES)
        trees.append(cut_images(work / "imagery", size=size, count=count))
    return trees


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


def measure(task: Task, options: argparse.Namespace) -> tuple[Table, dict[str, str]]:
    """Let all loaders load one tree of images, interleaved; return the table and the versions."""
    loaders = {name: LOADERS[name] for name in options.peers}
    seconds = options.seconds or (0.5 if options.quick else 3.0)
    rows, versions = measure_peers(loaders, task, options, make_row, seconds=seconds)
    return Table(describe(task), "images/s", options.peers[0], rows), versions


def make_row(worker: WorkerProcess, values: list[float]) -> Row:
    """Return a loader's row, without the warm-up turns."""
    cpu_ms = statistics.median(worker.cpu_ms[-len(values) :])
    return Row(worker.name, values, worker.note, {"CPU ms/image": cpu_ms})


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


def main() -> None:
    """Run the benchmark."""
    run_benchmark(__doc__, add_arguments, run)


if __name__ == "__main__":
    main()
