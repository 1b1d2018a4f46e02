"""MB/s of packing JPEGs compared with other packers, and of cutting a scene into tiles.

The same JPEGs are packed by ``rsdl data pack folder``, MosaicML's MDSWriter, LitData's optimize
and webdataset's ShardWriter, with one and two threads or processes. None of the others decodes the
images, so they are compared with ``--decode sample``; without it every image is decoded, and the
bound is the decoder alone. ``rsdl data pack masks`` packs them with a mask each, beside the images
alone. A 4-band uint16 scene is cut by ``rsdl data pack geotiff`` and by a bare loop over rasterio's
windows. Each runs in its own process, whose start and imports do not count; a turn lists the tree
and packs all of it into an empty folder. Files are in the page cache, or in memory with --work
/dev/shm/FOLDER.

    python -m benchmarks.packing.pack --python /path/to/peers/bin/python [--images FOLDER]
"""

import argparse
import re
import statistics
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.harness.imagery import copy_as_png, cut_images, draw_masks, list_images
from benchmarks.harness.measure import Row, Table, Target, build_result, run_benchmark
from benchmarks.harness.task import Task
from benchmarks.harness.worker_process import (
    WorkerProcess,
    add_peer_arguments,
    measure_peers,
    peak_megabytes,
)
from benchmarks.packing.catalog import MASK_PACKERS, PACKERS, TILERS
from benchmarks.packing.scene import BANDS, make_scene

SAMPLED, OURS = "rsdl data pack, --decode sample", "rsdl data pack"
DECODER = "decoder alone"
MASKS = "rsdl data pack masks"
TILER = "rsdl data pack geotiff"
LOOP = "rasterio windows, saved"
PEAK = "peak RSS MB"
COUNTS = {"full": 10_000, "quick": 1_000}
SIDES = {"full": 20_000, "quick": 4_096}
IMAGE_PX, TILE_PX = 256, 256
TITLES = {
    "folder": "Packing images", "masks": "Packing images with masks", "geotiff": "Cutting scenes",
    None: "Packing images, images with masks, cutting scenes",
}  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's own options."""
    add = parser.add_argument
    add("--images", type=Path, help="class folders of JPEGs (default: 10,000 made here)")
    add_peer_arguments(parser)
    add("--workers", type=int, nargs="+", default=[1, 2], help="threads or processes (1 2)")
    add("--only", choices=[name for name in TITLES if name], help="one of them")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure all packers; return the result."""
    size = "quick" if options.quick else "full"
    with ExitStack() as stack:
        work = options.work or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        work = work.resolve()
        work.mkdir(parents=True, exist_ok=True)
        found: list[tuple[Table, dict[str, str]]] = []
        make = partial(cut_images, work / "imagery", size=IMAGE_PX, count=COUNTS[size])
        if options.only in (None, "folder"):
            images = options.images.resolve() if options.images else make()
            for workers in options.workers:
                found.append(pack_folder(images, work, workers, options))
        if options.only in (None, "masks"):
            photographs = make()
            for images in (photographs, copy_as_png(photographs)):
                draw_masks(images, size=IMAGE_PX)
                for workers in options.workers:
                    found.append(pack_masks(images, work, workers, options))
        if options.only in (None, "geotiff"):
            scene = make_scene(work / f"scene-{SIDES[size]}.tif", SIDES[size])
            for workers in options.workers:
                found.append(cut_scene(scene, work, workers, options))
    versions = {name: version for _, taken in found for name, version in taken.items()}
    return build_result(
        "pack", TITLES[options.only], [table for table, _ in found], options=vars(options),
        versions=dict(sorted(versions.items())),
    )  # fmt: skip


def pack_folder(
    images: Path, work: Path, workers: int, options: argparse.Namespace
) -> tuple[Table, dict[str, str]]:
    """Let every packer pack one tree, interleaved."""
    sizes = [path.stat().st_size for path in list_images(images)]
    megabytes = statistics.mean(sizes) / 1e6
    task = Task(str(images), "", str(work), "", workers=workers)
    rows, versions = measure_peers(PACKERS, task, options, partial(make_row, megabytes))
    title = f"{len(sizes):,} JPEGs of {1e3 * megabytes:.0f} kB; {describe(workers)}"
    table = Table(title, "MB/s", SAMPLED, rows)
    return replace(table, targets=packing_targets(table)), versions


def pack_masks(
    images: Path, work: Path, workers: int, options: argparse.Namespace
) -> tuple[Table, dict[str, str]]:
    """Pack one tree of images alone, and with the mask of each, interleaved."""
    plane = IMAGE_PX**2 / 1e6
    task = Task(str(images), "", str(work), "", workers=workers)

    def make(worker: WorkerProcess, values: list[float]) -> Row:
        return make_row(plane * (4 if worker.name == MASKS else 3), worker, values)

    rows, versions = measure_peers(MASK_PACKERS, task, options, make)
    paths = list_images(images)
    kind = "JPEGs" if paths[0].suffix == ".jpg" else "PNGs"
    count = f"{len(paths):,} {kind} of {IMAGE_PX} px"
    title = f"{count}, and a PNG of classes each; {describe(workers)}"
    return Table(title, "MB of pixels/s", OURS, rows), versions


def cut_scene(
    scene: Path, work: Path, workers: int, options: argparse.Namespace
) -> tuple[Table, dict[str, str]]:
    """Let rsdl and the bare loops cut one scene, interleaved."""
    task = Task(str(scene), "", str(work), "", workers=workers, image_size=TILE_PX)
    megabytes = TILE_PX**2 * BANDS * 2 / 1e6
    rows, versions = measure_peers(TILERS, task, options, partial(make_row, megabytes))
    side = re.sub(r"\D", "", scene.stem)
    title = f"Tiles of {TILE_PX} px from a scene of {side} x {side} px; {describe(workers)}"
    table = Table(title, "MB/s", TILER, rows)
    return replace(table, targets=tiling_targets(table)), versions


def describe(workers: int) -> str:
    """Return the number of threads or processes as text."""
    return f"{workers} thread{'s' * (workers > 1)} or process{'es' * (workers > 1)}"


def make_row(megabytes: float, worker: WorkerProcess, values: list[float]) -> Row:
    """Return the row of a peer, without the warm-up turns.

    Args:
        megabytes: Size of one item.
        worker: The peer's process.
        values: Items per second.
    """
    cpu_ms = statistics.median(worker.cpu_ms[-len(values) :])
    facts = {"CPU s/GB": cpu_ms / megabytes, PEAK: peak_megabytes(worker.pid)}
    return Row(worker.name, [value * megabytes for value in values], worker.note, facts)


def packing_targets(table: Table) -> list[Target]:
    """Return the regression thresholds for packing: as fast as any packer that decodes nothing.

    Measured: 1.3 to 2.9 times as fast (``pack_folder.json``).
    """
    others = [row.name for row in table.rows if row.name not in (SAMPLED, OURS, DECODER)]
    return [
        Target(f"{SAMPLED} over {name}", ratio.median, 1.0)
        for name in others
        if (ratio := table.ratio(SAMPLED, name)) is not None
    ]


def tiling_targets(table: Table) -> list[Target]:
    """Return the regression thresholds for cutting: a loop that saves tiles, with little memory.

    Measured: 1.0 times as fast, and 606 MB (``pack_geotiff.json``).
    """
    targets = []
    if (ratio := table.ratio(TILER, LOOP)) is not None:
        targets.append(Target(f"{TILER} over {LOOP}", ratio.median, 1.0))
    if (peak := table.row(TILER).facts.get(PEAK)) is not None:
        targets.append(Target(f"peak RSS of {TILER}, MB", peak, 1000, at_least=False))
    return targets


def main() -> None:
    """Run the benchmark."""
    run_benchmark(__doc__, add_arguments, run)


if __name__ == "__main__":
    main()
