"""Predict an image that is in memory by windows, as a scene is."""

from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsdl.predict.scene import Network, WindowRule, mirror
from rsdl.predict.windows import Floats, Strip


def predict_image(
    pixels: NDArray[Any], network: Network, rule: WindowRule, *, num_classes: int, batch_size: int
) -> Floats:
    """Return the class probabilities of an image, ``[K, H, W]``.

    Args:
        pixels: Stored pixels, ``[H, W, C]``.
        network: Returns probabilities of windows.
        rule: How the image is cut and merged.
        num_classes: Classes of the network, ``K``.
        batch_size: Windows computed at once; the result does not depend on it.
    """
    (height, width), (high, wide) = pixels.shape[:2], rule.size
    rows, cols = rule.cut(height, width)
    padded = mirror(pixels, rule.size)
    strip = Strip(rows, cols, num_classes)
    result = np.empty((num_classes, rows.length, cols.length), np.float32)

    def finish() -> None:
        result[:, strip.top : strip.top + strip.num_rows] = strip.rows()[0]
        strip.advance()

    places = list(product(range(len(rows.starts)), range(len(cols.starts))))
    for first in range(0, len(places), batch_size):
        batch = places[first : first + batch_size]
        corners = [(int(rows.starts[row]), int(cols.starts[col])) for row, col in batch]
        windows = [padded[top : top + high, left : left + wide] for top, left in corners]
        for (row, col), shares in zip(batch, network(np.stack(windows)), strict=True):
            while strip.number < row:
                finish()
            strip.add(col, shares, None)
    finish()
    return result[:, :height, :width]
