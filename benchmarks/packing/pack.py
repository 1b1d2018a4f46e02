"""MB/s of packing JPEGs compared with other packers, and of cutting a scene into tiles.

The same JPEGs are packed by ``rsdl data pack folder``, MosaicML's MDSWriter, LitData's optimize
and webdataset's ShardWriter, with one and two threads or processes. None of the others decodes the
images, so they are compared with ``--decode sample``; without it every image is decoded, and the
bound is the decoder alone. A 4-band uint16 scene is cut by ``rsdl data pack geotiff`` and by a bare
loop over rasterio's windows. Each runs in its own process, whose start and imports do not count; a
turn lists the tree and packs all of it into an empty folder. Files are in the page cache, or in
memory with --work /dev/shm/FOLDER.

    python -m benchmarks.packing.pack --python /path/to/peers/bin/python [--images FOLDER]
"""

import argparse
import re
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.harness.imagery import cut_images, list_images
from benchmarks.harness.measure import Aim, Row, Table, build_result, run_benchmark, take_turns
from benchmarks.harness.worker_process import AbsentError, Contender, descendants
from benchmarks.loader.throughput import note_absence, python_of
from benchmarks.packing.scene import BANDS, make_scene
from benchmarks.peers.catalog import PACKERS, TILERS, Peer
from benchmarks.peers.task import Task

SAMPLED, OURS = "rsdl data pack, --decode sample", "rsdl data pack"
DECODER = "decoder alone"
TILER = "rsdl data pack geotiff"
LOOPS = ("rasterio windows, saved", "rasterio windows, dropped")
PEAK = "peak RSS MB"
COUNTS = {"full": 10_000, "quick": 1_000}
SIDES = {"full": 20_000, "quick": 4_096}
IMAGE_PX, TILE_PX = 256, 256
TITLES = {
    "folder": "Packing images", "geotiff": "Cutting scenes",
    None: "Packing images, cutting scenes",
}  # fmt: skip

# Target share of the decoder's speed; the rest is for reading, statistics, hashing and writing.
OF_DECODER = 0.8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's own options."""
    add = parser.add_argument
    add("--images", type=Path, help="class folders of JPEGs (default: 10,000 made here)")
    add("--python", action="append", default=[], metavar="[NAME=]PATH",
        help="the Python that has the peers, or the one called NAME; once for each")  # fmt: skip
    add("--work", type=Path, help="folder for what is made (default: a temporary one)")
    add("--workers", type=int, nargs="+", default=[1, 2], help="threads or processes (1 2)")
    add("--only", choices=["folder", "geotiff"], help="one of the two")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure all packers; return the result."""
    size = "quick" if options.quick else "full"
    with ExitStack() as stack:
        work = options.work or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        work = work.resolve()
        work.mkdir(parents=True, exist_ok=True)
        tables: list[Table] = []
        versions: dict[str, str] = {}
        if options.only != "geotiff":
            images = options.images.resolve() if options.images else None
            images = images or cut_images(work / "imagery", size=IMAGE_PX, count=COUNTS[size])
            for workers in options.workers:
                tables.append(pack_folder(images, work, workers, options, versions))
        if options.only != "folder":
            scene = make_scene(work / f"scene-{SIDES[size]}.tif", SIDES[size])
            for workers in options.workers:
                tables.append(pack_scene(scene, work, workers, options, versions))
    return build_result(
        "pack", TITLES[options.only], tables, options=vars(options),
        versions=dict(sorted(versions.items())),
    )  # fmt: skip


def pack_folder(
    images: Path, work: Path, workers: int, options: argparse.Namespace, versions: dict[str, str]
) -> Table:
    """Let every packer pack one tree, interleaved."""
    sizes = [path.stat().st_size for path in list_images(images)]
    task = Task(str(images), "", str(work), "", workers=workers)
    rows = measure(PACKERS, task, statistics.mean(sizes) / 1e6, options, versions)
    title = f"{len(sizes):,} JPEGs of {statistics.mean(sizes) / 1e3:.0f} kB; {describe(workers)}"
    table = Table(title, "MB/s", SAMPLED, rows)
    return Table(title, "MB/s", SAMPLED, rows, packing_aims(table))


def pack_scene(
    scene: Path, work: Path, workers: int, options: argparse.Namespace, versions: dict[str, str]
) -> Table:
    """Let rsdl and the bare loops cut one scene, interleaved."""
    task = Task(str(scene), "", str(work), "", workers=workers, image_size=TILE_PX)
    megabytes = TILE_PX**2 * BANDS * 2 / 1e6
    rows = measure(TILERS, task, megabytes, options, versions)
    side = re.sub(r"\D", "", scene.stem)
    title = f"Tiles of {TILE_PX} px from a scene of {side} x {side} px; {describe(workers)}"
    table = Table(title, "MB/s", TILER, rows)
    return Table(title, "MB/s", TILER, rows, tiling_aims(table))


def describe(workers: int) -> str:
    """Return the number of threads or processes as text."""
    return f"{workers} thread{'s' * (workers > 1)} or process{'es' * (workers > 1)}"


def measure(
    peers: Mapping[str, Peer],
    task: Task,
    megabytes: float,
    options: argparse.Namespace,
    versions: dict[str, str],
) -> list[Row]:
    """Measure contenders at one task, interleaved.

    Args:
        peers: The contenders.
        task: The task.
        megabytes: Size of one item.
        options: Options of the benchmark.
        versions: Filled with the versions of all that take part.
    """
    absent: dict[str, str] = {}
    contenders: dict[str, Contender] = {}
    peaks: dict[str, float] = {}
    with ExitStack() as stack:
        for name in peers:
            log = Path(task.work) / f"{re.sub(r'[^a-z]+', '-', name.lower())}-{task.workers}.log"
            with note_absence(name, absent):
                contender = Contender(name, python_of(name, options.python, peers), task, log)
                stack.enter_context(contender).await_ready()
                contenders[name] = contender
                versions |= contender.versions

        def turn(name: str) -> float:
            try:
                speed = contenders[name].run_turn(0)
            except AbsentError as error:
                raise RuntimeError(f"{name} {error}") from error
            peaks[name] = peak_megabytes(contenders[name].pid)
            return speed * megabytes

        figures = take_turns(
            {name: partial(turn, name) for name in contenders}, rounds=options.rounds
        )
    rows = []
    for name in peers:
        if name not in contenders:
            rows.append(Row(name, note=absent[name]))
            continue
        cpu_ms = statistics.median(contenders[name].cpu_ms[-len(figures[name]) :])
        facts = {"CPU s/GB": cpu_ms / megabytes, PEAK: peaks[name]}
        rows.append(Row(name, figures[name], contenders[name].note, facts))
    return rows


def peak_megabytes(pid: int) -> float:
    """Return the sum of the peak resident sets of a process and its live children."""
    total = 0
    for process in (pid, *descendants(pid)):
        try:
            status = Path(f"/proc/{process}/status").read_text()
        except OSError:  # it has ended meanwhile
            continue
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        total += int(found[1]) if found else 0
    return total * 1024 / 1e6


def packing_aims(table: Table) -> list[Aim]:
    """Return the targets for packing images.

    As fast as the fastest packer that does the same work, and little slower than the decoder where
    every image is decoded.
    """
    promised = {
        row.name: (SAMPLED, 1.0) for row in table.rows if row.name not in (SAMPLED, OURS, DECODER)
    } | {DECODER: (OURS, OF_DECODER)}
    return [
        Aim(f"{ours} over {name}", ratio.median, bound)
        for name, (ours, bound) in promised.items()
        if (ratio := table.ratio(ours, name)) is not None
    ]


def tiling_aims(table: Table) -> list[Aim]:
    """Return the targets for cutting a scene: the speed of a bare loop, with little memory."""
    loops: Sequence[str] = LOOPS
    found = [
        Aim(f"{TILER} over {name}", ratio.median, 1.0)
        for name in loops
        if (ratio := table.ratio(TILER, name)) is not None
    ]
    peak = table.row(TILER).facts.get(PEAK)
    if peak is not None:
        found.append(Aim(f"peak RSS of {TILER}, MB", peak, 1000, at_least=False))
    return found


def main() -> None:
    """Run the benchmark."""
    run_benchmark(__doc__, add_arguments, run)


if __name__ == "__main__":
    main()
