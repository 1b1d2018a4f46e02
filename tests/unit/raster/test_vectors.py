"""Polygons that are not valid are repaired, however flat the angles of their edges are."""

import numpy as np
import pytest
import shapely
from rasterio import Affine

from rsdl.raster.georef import apply
from rsdl.raster.vectors import make_valid


def test_edges_that_nearly_coincide_do_not_defeat_the_repair():
    place = Affine.translation(5e5, 4.5e6) @ Affine.rotation(17) @ Affine.scale(10, -10)
    outline = [(0, 0), (7.5, 0), (7.5, 16.5), (0, 16.5)]
    spike = [(0, 0), (0, 0), (0, 0.5), (0, 16.5)]
    crossing = [(7.5, 1), (5.5, 16.5), (7.5, 0.265625), (7.5, 13), (7.5, 0)]
    rings = [apply(place, np.array(ring, float)) for ring in (outline, spike, crossing)]
    shape = shapely.Polygon(rings[0], rings[1:])  # GEOS 3.14 raises a TopologyException for it
    repaired = make_valid(shape)
    assert repaired is not None and repaired.is_valid
    assert repaired.area == pytest.approx(shape.buffer(0).area, abs=0.1)
