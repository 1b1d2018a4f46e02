"""Cut a scene into windows and blend what a network says of them: pure, memory bounded.

Weights are a product of one for the row and one for the column, and those of all windows that cover
a pixel add up to 1 along each axis. So what is blended needs no division, and only a strip of rows
as high as a window is kept: rows that no later window covers are final.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from rsdl.raster.tiles import tile_starts

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Axis:
    """The windows along one side of a scene.

    Attributes:
        starts: First pixel of each in the scene, ascending, ``[N]``.
        weights: Weight of each pixel of each window, ``[N, window]``; those of a pixel add up to 1.
    """

    starts: NDArray[np.int64]
    weights: Floats

    @property
    def window(self) -> int:
        """Length of a window in pixels."""
        return int(self.weights.shape[1])

    @property
    def first(self) -> int:
        """First pixel that the windows cover."""
        return int(self.starts[0])

    @property
    def length(self) -> int:
        """Pixels that the windows cover: those of the side, or of one window that exceeds it."""
        return int(self.starts[-1]) + self.window - self.first

    def between(self, start: int, stop: int) -> "Axis":
        """Return the windows that decide on the pixels from ``start`` to ``stop``."""
        pixels = self.starts[:, None] + np.arange(self.window)
        kept = ((pixels >= start) & (pixels < stop) & (self.weights > 0)).any(axis=1)
        return Axis(self.starts[kept], self.weights[kept])

    @property
    def owned(self) -> NDArray[np.int64]:
        """First pixel of each window that has a weight, and the one behind its last, ``[N, 2]``."""
        known = self.weights > 0
        first, behind = known.argmax(axis=1), self.window - known[:, ::-1].argmax(axis=1)
        return np.asarray(self.starts[:, None] + np.stack([first, behind], axis=1))


def lay_windows(length: int, *, window: int, overlap: int, blend: bool) -> Axis:
    """Return the windows along one side, the last one pulled back to end with it.

    Args:
        length: Length of the side in pixels; a shorter one than a window has one window.
        window: Length of a window in pixels.
        overlap: Pixels that two neighbours share, ``0 <= overlap < window``.
        blend: Whether neighbours fade into each other, by the squared sine over the window (Hann's,
            a cosine); otherwise a pixel belongs to the window whose centre is nearest.

    Raises:
        ConfigError: If windows never advance.
    """
    side = max(length, window)
    starts = tile_starts(side, tile=window, overlap=overlap)
    pixels = starts[:, None] + np.arange(window)  # [N, window]
    if blend:
        raised = np.sin((np.arange(window) + 0.5) * np.pi / window) ** 2
        total = np.zeros(side)
        np.add.at(total, pixels, np.broadcast_to(raised, pixels.shape))
        return Axis(starts, (raised / total[pixels]).astype(np.float32))
    halfway = (starts[:-1] + starts[1:] + window) // 2
    first, behind = np.append(0, halfway), np.append(halfway, side)
    owned = (pixels >= first[:, None]) & (pixels < behind[:, None])
    return Axis(starts, owned.astype(np.float32))


class Strip:
    """Probabilities of the rows that the windows of one row of windows cover.

    Rows of windows are added from top to bottom; :meth:`rows` are final before :meth:`advance`.

    Args:
        rows: The windows along the scene's height.
        cols: The windows along its width.
        num_classes: Classes of the network.
    """

    def __init__(self, rows: Axis, cols: Axis, num_classes: int) -> None:
        self._rows, self._cols = rows, cols
        self._sums = np.zeros((num_classes, rows.window, cols.length), np.float32)
        self._valid = np.zeros((rows.window, cols.length), bool)
        self.number = 0

    @property
    def top(self) -> int:
        """First row of the strip in the scene."""
        return int(self._rows.starts[self.number])

    @property
    def left(self) -> int:
        """First column of the strip in the scene."""
        return self._cols.first

    @property
    def num_rows(self) -> int:
        """Rows of the strip that no later window covers."""
        if self.number + 1 == len(self._rows.starts):
            return self._rows.window
        return int(self._rows.starts[self.number + 1]) - self.top

    def add(self, col: int, probabilities: Floats, valid: NDArray[np.bool_] | None) -> None:
        """Add a window of the current row of windows.

        Args:
            col: Number of the window in its row.
            probabilities: ``[C, H, W]``, or ``[C, 1, 1]`` for the whole window.
            valid: Where the scene has data, ``[H, W]``; ``None``: everywhere.
        """
        left = int(self._cols.starts[col]) - self._cols.first
        place = slice(left, left + self._cols.window)
        weights = self._rows.weights[self.number][:, None] * self._cols.weights[col]
        # In one pass and by all threads: NumPy takes five times as long.
        torch.from_numpy(self._sums[:, :, place]).addcmul_(
            torch.from_numpy(probabilities), torch.from_numpy(weights)
        )
        self._valid[:, place] |= True if valid is None else valid

    def rows(self) -> tuple[Floats, NDArray[np.bool_]]:
        """Return the final rows: probabilities ``[C, R, W]`` and where there is data ``[R, W]``.

        They are views that are good until :meth:`advance`.
        """
        return self._sums[:, : self.num_rows], self._valid[: self.num_rows]

    def advance(self) -> None:
        """Drop the final rows and move on to the next row of windows."""
        count = self.num_rows
        for plane in (*self._sums, self._valid):  # one by one: NumPy copies what overlaps
            plane[:-count] = plane[count:]
            plane[-count:] = 0
        self.number += 1
