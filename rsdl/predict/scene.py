"""Windowed reading of a scene -> network -> rows of a map, with bounded memory.

A thread reads windows ahead, another writes rows, and the caller's computes: memory holds a strip
of the scene's width and a window's height, two batches of windows, and the rows that are written.
Windows are added in the order of the scene whatever the batch, so that sums are the same.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import islice, product
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from rsdl.core.errors import DataError
from rsdl.predict.windows import Axis, Floats, Strip, lay_windows
from rsdl.raster.dataset_pool import DatasetPool
from rsdl.raster.read_tile import read_window
from rsdl.raster.scenes import Scene

# Stored pixels [B, H, W, C] -> probabilities [B, K, H, W], or [B, K, 1, 1] for whole windows.
Network = Callable[[NDArray[Any]], Floats]
# Top row, probabilities [K, R, W] and where there is data [R, W]: rows of the map, top to bottom.
WriteRows = Callable[[int, Floats, NDArray[np.bool_]], None]
Progress = Callable[[float], None]
Place = tuple[int, int]

# Of the probabilities that are handed to the thread that writes, at a time.
COPIED_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class WindowRule:
    """How scenes are cut and merged.

    Attributes:
        size: Height and width of a window in pixels of the scene.
        overlap: Pixels that two neighbours share.
        blend: Whether neighbours fade into each other; see ``lay_windows``.
        judged: Whether alpha was classified as a mask by its values; see ``read_tile``.
    """

    size: tuple[int, int]
    overlap: int
    blend: bool
    judged: bool = True

    def lay(self, scene: Scene) -> tuple[Axis, Axis]:
        """Return the windows along a scene's height and its width.

        Those of a clipped scene are windows of the whole: its map is that of the whole there.

        Raises:
            ConfigError: If ``overlap`` is not below both sides of a window.
        """
        whole, top, left = whole_of(scene)
        rows, cols = self.cut(whole.height, whole.width)
        return rows.between(top, top + scene.height), cols.between(left, left + scene.width)

    def cut(self, *sides: int) -> tuple[Axis, Axis]:
        """Return the windows along a height and a width in pixels; errors as :meth:`lay`."""
        rows, cols = (
            lay_windows(length, window=window, overlap=self.overlap, blend=self.blend)
            for length, window in zip(sides, self.size, strict=True)
        )
        return rows, cols


def whole_of(scene: Scene) -> tuple[Scene, int, int]:
    """Return the whole scene, and the row and column in it where a scene begins."""
    return (scene, 0, 0) if scene.clip is None else (scene.clip.whole, *scene.clip.corner)


@dataclass(frozen=True, slots=True)
class Read:
    """A window that was read: its row and column of windows, pixels, and where there is data."""

    row: int
    col: int
    pixels: NDArray[Any]
    valid: NDArray[np.bool_] | None


def predict_scene(
    scene: Scene,
    network: Network,
    rule: WindowRule,
    write: WriteRows,
    *,
    num_classes: int,
    batch_size: int,
    progress: Progress = lambda share: None,
) -> None:
    """Predict a scene and write its rows.

    Args:
        scene: The scene; what lies outside of the area that clips it is not predicted.
        network: Returns probabilities of windows.
        rule: How the scene is cut and merged.
        write: Called from another thread with arrays of its own, one call at a time.
        num_classes: Classes of the network.
        batch_size: Windows computed at once; the result does not depend on it.
        progress: Called with the share of windows that are done.

    Raises:
        CorruptSampleError: If the file cannot be read somewhere.
        DataError: If the network gives no numbers, or alpha is imagery.
    """
    rows, cols = rule.lay(scene)
    strip = Strip(rows, cols, num_classes)
    reads = read_batches(scene, rule, batch_size)
    with RowWriter(scene, write) as writer, closing(reads) as batches:
        for known, done in batches:
            for each, shares in zip(known, compute(scene, network, known), strict=True):
                while strip.number < each.row:
                    writer.submit(strip)
                strip.add(each.col, shares, each.valid)
            progress(done)
        while strip.number < len(rows.starts):
            writer.submit(strip)


def read_batches(
    scene: Scene, rule: WindowRule, batch_size: int
) -> Generator[tuple[list[Read], float], None, None]:
    """Yield the windows of a scene in its order, read ahead, those without data left out.

    Args:
        scene: The scene.
        rule: How it is cut.
        batch_size: Windows at once, those without data included.

    Yields:
        Windows, and the share of all that is done with them.
    """
    rows, cols = rule.lay(scene)
    num_windows, done, pool = len(rows.starts) * len(cols.starts), 0, DatasetPool()

    def read(place: Place) -> Read:
        corner = int(rows.starts[place[0]]), int(cols.starts[place[1]])
        return Read(*place, *read_padded(scene, corner, rule, pool))

    # Lazily: a scene of 100,000 x 100,000 px has millions of windows.
    places = product(range(len(rows.starts)), range(len(cols.starts)))
    with closing(ahead(read, places, batch_size)) as reads:
        while batch := list(islice(reads, batch_size)):
            done += len(batch)
            known = [each for each in batch if each.valid is None or each.valid.any()]
            yield known, done / num_windows


def compute(scene: Scene, network: Network, windows: Sequence[Read]) -> Floats:
    """Return the probabilities of windows, ``[B, K, H, W]``; of none, none.

    Raises:
        DataError: If they are no numbers.
    """
    if not windows:
        return np.empty((0, 0, 0, 0), np.float32)
    shares = network(np.stack([each.pixels for each in windows]))
    if not np.isfinite(shares.sum()):  # no sum of probabilities overflows
        first = windows[int(np.flatnonzero(~np.isfinite(shares).all((1, 2, 3)))[0])]
        problem = f"the network gives NaN in row {first.row}, column {first.col} of its windows"
        raise DataError(str(scene.path), problem, "train the run again, or name its best.ckpt")
    return shares


def read_padded(
    scene: Scene, corner: tuple[int, int], rule: WindowRule, pool: DatasetPool
) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
    """Read a window of the whole scene, with nodata filled as packing fills it.

    Where a window holds some of the area that clips a scene, all of it is read: it is what the
    network sees around the area. A window that holds none is not read.

    What the window exceeds the scene by is as :func:`mirror` makes it.

    Returns:
        Pixels ``[H, W, C]`` of the window's size, and where there is data in the area
        ``[H, W]``, ``None`` for everywhere.
    """
    height, width = rule.size
    whole, _, _ = whole_of(scene)
    inside = min(height, whole.height), min(width, whole.width)
    wanted = scene.clip is None or scene.clip.covers(*corner, *inside)
    if not np.any(wanted):
        return np.empty((0, 0, 0)), np.zeros(rule.size, bool)
    window = Window(corner[1], corner[0], inside[1], inside[0])
    pixels, valid = read_window(whole, window, pool, judged=rule.judged)
    if not isinstance(wanted, bool):
        valid = wanted if valid is None else valid & wanted
    if inside == rule.size:
        return pixels, valid
    there = np.zeros(rule.size, bool)
    there[: inside[0], : inside[1]] = True if valid is None else valid
    return mirror(pixels, rule.size), there


def mirror(pixels: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """Return pixels ``[H, W, C]`` of at least a size, a shorter side continued by its mirror image.

    As in U-Net (Ronneberger et al. 2015): a border of one colour is none that the network was
    trained on.
    """
    height, width = (max(side - have, 0) for side, have in zip(size, pixels.shape[:2], strict=True))
    if not height and not width:
        return pixels
    return np.pad(pixels, ((0, height), (0, width), (0, 0)), mode="symmetric")


class RowWriter:
    """Hands final rows of a strip to a thread, one call at a time.

    Args:
        scene: The scene; what windows exceed it by is left out.
        write: Called in the thread.
    """

    def __init__(self, scene: Scene, write: WriteRows) -> None:
        self._scene, self._write = scene, write
        self._pool = ThreadPoolExecutor(1, "write")
        self._last: Future[None] | None = None

    def submit(self, strip: Strip) -> None:
        """Write copies of the final rows of a strip, and advance it.

        Of a wide scene only some rows are copied at a time.
        """
        shares, valid = strip.rows()
        _, top, left = whole_of(self._scene)
        above, before = top - strip.top, left - strip.left  # of the scene in the strip
        first = max(0, above)
        cols = slice(before, before + self._scene.width)
        shares, valid = shares[:, first:, cols], valid[first:, cols]
        behind = min(len(valid), above + self._scene.height - first)
        step = 1 + COPIED_BYTES // (4 * len(shares) * max(1, shares.shape[2]))
        for row in range(0, behind, step):
            self._wait()
            rows = slice(row, min(row + step, behind))
            mine = shares[:, rows].copy(), valid[rows].copy()
            self._last = self._pool.submit(self._write, first - above + row, *mine)
        strip.advance()

    def _wait(self) -> None:
        if self._last is not None:
            self._last.result()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        """Wait for the last call, and raise what it raised unless something else was raised."""
        self._pool.shutdown()
        if kind is None:
            self._wait()


def ahead(
    read: Callable[[Place], Read], places: Iterable[Place], depth: int
) -> Generator[Read, None, None]:
    """Yield what ``read`` returns for each place in order, read ahead by a thread.

    Args:
        read: Called in the thread.
        places: Row and column of windows.
        depth: Results that may wait.
    """
    waiting: deque[Future[Read]] = deque()
    with ThreadPoolExecutor(1, "read") as pool:
        try:
            for place in places:
                waiting.append(pool.submit(read, place))
                if len(waiting) > depth:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
