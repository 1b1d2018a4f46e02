"""Pixels/s of mapping a scene, beside the network alone and beside other loops.

A segmentation network with random weights maps a scene of deflated RGB blocks, window by window:

- network on windows in memory: the windows are read before; nothing is blended or written;
- the same, freed memory kept: with malloc as ``rsdl predict`` sets it, which is the bound;
- rsdl predict: windows read ahead, blended by cosine weights, and written as a COG with overviews;
- rasterio, in turn: read a window, predict, write the middle of it, and so on; the file is a plain
  deflated GeoTIFF;
- torchgeo GridGeoSampler: a RasterDataset through a DataLoader, each window pasted over the ones
  before, and one GeoTIFF written at the end.

All predict the same windows, in batches of the same size, by the same network, each in a process of
its own, where it sets malloc as its library does.

    python -m benchmarks.predict.scene [--model resnet50] [--window 512]
"""

import argparse
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import rasterio

from benchmarks.harness.imagery import paint_scenes
from benchmarks.harness.measure import Row, Table, Target, build_result, run_benchmark
from benchmarks.harness.task import Task
from benchmarks.harness.worker_process import (
    Peer,
    WorkerProcess,
    add_peer_arguments,
    measure_peers,
    peak_megabytes,
)

BARE, KEPT = "network on windows in memory", "the same, freed memory kept"
OURS = "rsdl predict"
IN_TURN, TORCHGEO = "rasterio, in turn", "torchgeo GridGeoSampler"
DOCS = {
    IN_TURN: "https://rasterio.readthedocs.io/en/stable/topics/windowed-rw.html",
    TORCHGEO: "https://torchgeo.readthedocs.io/en/stable/tutorials/earth_surface_water.html",
}
LOOPS = {BARE: "bare", KEPT: "kept", OURS: "ours", IN_TURN: "in_turn", TORCHGEO: "torchgeo"}
PACKAGES = ("rsdl-train", "timm", "rasterio")
TARGETS = {BARE: 0.95, IN_TURN: 1.0, TORCHGEO: 1.0}
CRS, PIXEL_M = "EPSG:32632", 0.25  # in binary exact: torchgeo adds windows otherwise


def find_peers(model: str) -> dict[str, Peer]:
    """Return the loops; all run in rsdl's environment, whose network they use."""
    return {
        name: Peer(
            "benchmarks.predict.loops",
            (*PACKAGES, "torchgeo") if name == TORCHGEO else PACKAGES,
            DOCS.get(name, "README.md"),
            "pip install torchgeo",
            {"loop": loop, "model": model},
            ours=True,
        )
        for name, loop in LOOPS.items()
    }


def make_scene(path: Path, side: int) -> Path:
    """Write a scene of painted land use, ``side`` x ``side`` pixels."""
    painted = path.parent / "painted"
    painted.mkdir(parents=True)
    picture = next(paint_scenes(painted, 0))
    shutil.rmtree(painted)
    repeats = -(-side // min(picture.shape[:2]))
    pixels = np.tile(picture, (repeats, repeats, 1))[:side, :side]
    transform = rasterio.Affine(PIXEL_M, 0, 500_000, 0, -PIXEL_M, 5_600_000)
    with rasterio.open(
        path, "w", driver="GTiff", height=side, width=side, count=3, dtype="uint8", crs=CRS,
        transform=transform, photometric="RGB", tiled=True, blockxsize=256, blockysize=256,
        compress="deflate", predictor=2,
    ) as raster:  # fmt: skip
        raster.write(np.moveaxis(pixels, 2, 0))
    return path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's own options."""
    add = parser.add_argument
    add("--model", default="resnet50", help="network (%(default)s)")
    add("--window", type=int, default=512, help="side of a window, px (%(default)s)")
    add("--windows", type=int, default=4, help="along each side of the scene (%(default)s)")
    add("--batch-size", type=int, default=4, help="windows at once (%(default)s)")
    add_peer_arguments(parser)


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure; return the result."""
    along = 2 if options.quick else options.windows
    side = options.window + (along - 1) * (options.window - options.window // 4)
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        scene = make_scene(work / "scenes" / "scene.tif", side)
        task = Task(
            str(scene), "", str(work), "uint8",
            batch_size=options.batch_size, image_size=options.window,
        )  # fmt: skip
        rows, versions = measure_peers(find_peers(options.model), task, options, make_row)
    title = f"{along**2} windows of {side**2 / 1e6:.1f} Mpx in batches of {options.batch_size}"
    table = Table(title, "Mpx/s", BARE, rows)
    targets = [
        Target(f"{OURS} over {name}", ratio.median, bound)
        for name, bound in TARGETS.items()
        if (ratio := table.ratio(OURS, name)) is not None
    ]
    title = f"Mapping a scene: {options.model} with semantic FPN, windows of {options.window} px"
    tables = [replace(table, targets=targets)]
    return build_result("predict", title, tables, options=vars(options), versions=versions)


def make_row(worker: WorkerProcess, values: list[float]) -> Row:
    """Return the row of a loop; its values are pixels per second."""
    facts = {"peak RSS MB": peak_megabytes(worker.pid)}
    return Row(worker.name, [value / 1e6 for value in values], worker.note, facts)


def main() -> None:
    """Run the benchmark."""
    run_benchmark(__doc__, add_arguments, run)


if __name__ == "__main__":
    main()
