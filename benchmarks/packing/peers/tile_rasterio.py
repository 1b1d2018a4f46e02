"""A bare loop over the windows of a scene, in the same number of processes.

After https://rasterio.readthedocs.io/en/stable/topics/windowed-rw.html
"""

import shutil
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import rasterio
from rasterio.windows import Window

from benchmarks.harness.task import Counter, Task, Workload

Part = tuple[str, int, list[tuple[int, int]], str | None]


def loop(part: Part) -> int:
    """Read tiles one by one; save each as ``.npy``, or drop it."""
    path, tile, corners, out = part
    with rasterio.open(path) as scene:
        for row, col in corners:
            pixels = scene.read(window=Window(col, row, tile, tile))
            if out is not None:
                np.save(Path(out) / f"{row}_{col}.npy", pixels)
    return len(corners)


def build(task: Task, *, save: bool = False) -> Workload:
    """Return the loop; its processes persist across turns.

    Args:
        task: The task.
        save: Whether to write each tile to a file.
    """
    out = Path(task.work) / "tiles"
    tile = task.image_size
    with rasterio.open(task.images) as scene:
        height, width = scene.shape
    # The last row and column are shifted to end with the scene, as in rsdl.
    corners = [
        (min(row, height - tile), min(col, width - tile))
        for row in range(0, height, tile)
        for col in range(0, width, tile)
    ]
    # Adjacent tiles go to one process, which then reads each block of the file once.
    bounds = [len(corners) * number // task.workers for number in range(task.workers + 1)]
    parts = [
        (task.images, tile, corners[first:last], str(out) if save else None)
        for first, last in pairwise(bounds)
    ]
    pool = get_context("spawn").Pool(task.workers)

    def run_epoch(take: Counter) -> None:
        for count in pool.imap(loop, parts):
            take.count(count)

    def reset() -> None:
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)

    return Workload(
        run_epoch, reset, note="processes" + ("; a file a tile, no fsync" if save else "")
    )
