"""A label for a whole tile at once is what painting each of its pixels gives."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import rasterio
import shapely
from hypothesis import assume, event, given, settings
from hypothesis import strategies as st
from rasterio.features import rasterize

from rsdl.raster.georef import apply, shift
from rsdl.raster.rasterize import LabelRules, PolygonLabels, majority
from rsdl.raster.vectors import make_valid

CRS = rasterio.CRS.from_epsg(32618)
TILE, SIDE = 8, 40
Ring = list[tuple[float, float]]

# Whole and half pixels: edges on the borders of pixels, and on their centres, where ties are.
POSITIONS = st.integers(-20, 2 * SIDE + 20).map(lambda half: half / 2) | st.floats(-10, SIDE + 10)
CORNERS = st.tuples(POSITIONS, POSITIONS)
RINGS = st.lists(CORNERS, min_size=3, max_size=7)


@st.composite
def boxes(draw: st.DrawFn) -> Ring:
    """Return a box that is often large: most tiles of a real scene lie inside one polygon."""
    (x0, y0), (x1, y1) = draw(CORNERS), draw(CORNERS)
    return [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]


@st.composite
def polygons(draw: st.DrawFn) -> list[Ring]:
    """Return rings, closed or not: an outline that has an area, and holes within its box."""
    outer = draw(
        (boxes() | RINGS).filter(
            lambda ring: (
                (np.ptp(ring, axis=0) > 0).all() and len(np.unique(np.round(ring, 3), axis=0)) > 2
            )
        )
    )
    low, high = np.min(outer, axis=0), np.max(outer, axis=0)
    holes = draw(st.lists(boxes() | RINGS, max_size=2))
    clipped = [[tuple(np.clip(corner, low, high)) for corner in hole] for hole in holes]
    rings = [outer, *clipped]
    return [[*ring, ring[0]] if len(ring) == 3 or draw(st.booleans()) else ring for ring in rings]


@st.composite
def transforms(draw: st.DrawFn) -> rasterio.Affine:
    """Return a north-up grid, or a rotated one."""
    pixel = draw(st.sampled_from([1.0, 10.0, 0.3]))
    place = rasterio.Affine.translation(500_000, 4_500_000)
    turned = place @ rasterio.Affine.rotation(draw(st.sampled_from([0, 0, 17, 90])))
    return turned @ rasterio.Affine.scale(pixel, -pixel)


def write_labels(path: Path, shapes: list[list[Ring]], place: rasterio.Affine) -> list[Any]:
    """Write polygons given in pixels and return them in the CRS."""
    geometries = [
        {
            "type": "Polygon",
            "coordinates": [apply(place, np.array(ring, float)).tolist() for ring in rings],
        }
        for rings in shapes
    ]
    features = [
        {"type": "Feature", "properties": {"class": f"class-{number % 3}"}, "geometry": geometry}
        for number, geometry in enumerate(geometries)
    ]
    crs = {"type": "name", "properties": {"name": "EPSG:32618"}}
    page = {"type": "FeatureCollection", "features": features, "crs": crs}
    path.write_text(json.dumps(page))
    return geometries


def valid_parts(geometry: Any) -> list[Any]:  # noqa: ANN401 - GeoJSON
    rings = [ring if ring[0] == ring[-1] else [*ring, ring[0]] for ring in geometry["coordinates"]]
    shape = shapely.Polygon(rings[0], rings[1:])
    if not shape.is_valid:
        shape = make_valid(shape)
    return [part for part in shapely.get_parts(shape) if part.area > 0]


@settings(deadline=None, max_examples=200)
@given(
    st.lists(polygons(), min_size=1, max_size=4),
    transforms(),
    st.integers(0, SIDE - TILE),
    st.integers(0, SIDE - TILE),
)
def test_painting_what_comes_near_is_painting_everything(
    tmp_path_factory: pytest.TempPathFactory,
    shapes: list[list[Ring]],
    place: rasterio.Affine,
    row: int,
    col: int,
):
    path = tmp_path_factory.mktemp("labels") / "labels.geojson"
    geometries = write_labels(path, shapes, place)
    # What crosses itself is repaired; what is left without an area labels nothing.
    areas = [
        (part, number % 3)
        for number, geometry in enumerate(geometries)
        for part in valid_parts(geometry)
    ]
    assume(areas)
    codes = {name: code for code, name in enumerate(sorted({name for _, name in areas}), start=1)}
    scene: Any = SimpleNamespace(transform=place, crs=CRS, height=SIDE, width=SIDE)
    labels = PolygonLabels(path, LabelRules(), [scene])
    wanted = rasterize(
        ((part, codes[name]) for part, name in areas),
        out_shape=(TILE, TILE),
        transform=shift(place, row, col),
        dtype=np.int32,
    )
    painted = labels.paint(0, row, col, TILE)
    event("one label" if isinstance(painted, int) else "painted")
    np.testing.assert_array_equal(np.broadcast_to(painted, wanted.shape), wanted)


def test_a_tile_far_from_every_edge_is_not_painted(tmp_path: Path):
    place = rasterio.Affine(1, 0, 500_000, 0, -1, 4_500_000)
    edge: Ring = [(-5, -5), (45, -5), (45, 45), (-5, 45), (-5, -5)]
    hole: Ring = [(22, 22), (38, 22), (38, 38), (22, 38), (22, 22)]
    slanting: Ring = [(0, 20), (20, 0), (19, 0), (0, 19), (0, 20)]
    write_labels(tmp_path / "labels.geojson", [[slanting], [edge, hole], [slanting]], place)
    scene: Any = SimpleNamespace(transform=place, crs=CRS, height=SIDE, width=SIDE)
    labels = PolygonLabels(tmp_path / "labels.geojson", LabelRules(), [scene])
    assert labels.paint(0, 0, 30, TILE) == 2
    assert labels.paint(0, 26, 26, TILE) == 0
    # Inside the box around the slanting edges, but not near them.
    assert labels.paint(0, 12, 12, TILE) == 2
    assert isinstance(labels.paint(0, 6, 6, TILE), np.ndarray)


@settings(deadline=None)
@given(st.integers(0, 2), st.none() | st.integers(0, 2**16 - 1), st.sampled_from([0.0, 0.5, 1.0]))
def test_one_number_counts_as_much_as_a_tile_full_of_it(
    number: int, mask: int | None, min_cover: float
):
    valid = None if mask is None else np.array([mask >> i & 1 for i in range(16)], bool)
    square = None if valid is None else valid.reshape(4, 4)
    full = np.full((4, 4), number, np.int32)
    assert majority(number, square, 2, min_cover) == majority(full, square, 2, min_cover)
