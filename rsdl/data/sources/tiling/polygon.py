"""One polygon, and whether its edge comes near a tile: most tiles lie wholly inside or outside.

Rasterizing costs more than reading the pixels, and more the more corners a polygon has, all of them
for each tile. A tile that no edge comes near has one label, which one point of it tells.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rsdl.data.sources.tiling.geojson import Rings

Floats = NDArray[np.float64]
Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Polygon:
    """One polygon in some CRS.

    Attributes:
        label: Class index.
        rings: Outline and holes, ``[N, 2]`` each, as (x, y); the last position is the first.
    """

    label: int
    rings: Rings

    def touches(self, box: Box) -> bool:
        """Return whether an edge meets a box (x0, y0, x1, y1)."""
        return any(_touches(ring, box) for ring in self.rings)

    def holds(self, x: float, y: float) -> bool:
        """Return whether the polygon holds a point that lies on none of its edges.

        As GDAL fills: what an odd number of rings hold is inside.
        """
        return sum(_count_crossings(ring, x, y) for ring in self.rings) % 2 == 1


def _touches(ring: Floats, box: Box) -> bool:
    before, after = ring < box[:2], ring > box[2:]
    beside = (before[:-1] & before[1:]) | (after[:-1] & after[1:])  # both ends on one side of it
    far = beside[:, 0] | beside[:, 1]
    if far.all():
        return False
    # A slanting edge may still pass by: does the whole box lie on one side of its line?
    near = np.flatnonzero(~far)
    (x, y), (dx, dy) = ring[near].T, (ring[near + 1] - ring[near]).T
    off = dx * ((box[1] + box[3]) / 2 - y) - dy * ((box[0] + box[2]) / 2 - x)
    reach = np.abs(dx) * (box[3] - box[1]) / 2 + np.abs(dy) * (box[2] - box[0]) / 2
    return bool((np.abs(off) <= reach).any())


def _count_crossings(ring: Floats, x: float, y: float) -> int:
    """Return how many edges a ray from a point towards larger x crosses."""
    above = ring[:, 1] > y
    crossed = np.flatnonzero(above[:-1] != above[1:])
    (x0, y0), (x1, y1) = ring[crossed].T, ring[crossed + 1].T
    return int(np.count_nonzero(x0 + (y - y0) * (x1 - x0) / (y1 - y0) > x))
