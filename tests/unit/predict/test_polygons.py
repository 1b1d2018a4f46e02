"""Polygons are the map's pixels, whole whatever the strips, and share edges when simplified."""

import cv2
import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from rasterio import Affine
from rasterio.features import rasterize

from rsdl.predict import polygons
from rsdl.predict.polygons import Traced, trace_polygons

Classes = NDArray[np.uint8]
maps = st.tuples(st.integers(1, 24), st.integers(1, 12)).flatmap(
    lambda size: arrays(np.uint8, size, elements=st.sampled_from([0, 1, 2, 255]))
)


def trace(classes: Classes, simplify_px: float = 0.0) -> Traced:
    """Return all polygons of a map."""
    found = list(
        trace_polygons(
            lambda top, count: classes[top : top + count], *classes.shape, simplify_px=simplify_px
        )
    )
    return Traced(*(np.concatenate(each) for each in zip(*found, strict=True)))


def draw(found: Traced, shape: tuple[int, int]) -> Classes:
    """Return the map that polygons are of."""
    marks = [(each, int(label)) for each, label in zip(*found, strict=True)]
    blank = np.full(shape, 255, np.uint8)
    return rasterize(marks, out=blank, transform=Affine.identity()) if marks else blank


def num_regions(classes: Classes) -> int:
    """Return the regions of pixels that touch at an edge."""
    regions = 0
    for label in range(3):
        regions += cv2.connectedComponents((classes == label).astype(np.uint8), connectivity=4)[0]
    return regions - 3  # each counts a background


def smooth_map(seed: int = 0, size: tuple[int, int] = (90, 70)) -> Classes:
    """Return a map of four classes in blobs."""
    noise = np.random.default_rng(seed).normal(size=(4, *size)).astype(np.float32)
    return (
        np.stack([cv2.GaussianBlur(each, (0, 0), 4) for each in noise]).argmax(0).astype(np.uint8)
    )


@given(classes=maps)
def test_each_region_is_one_valid_polygon_of_its_pixels_whatever_the_strips(classes: Classes):
    for edges, rows in ((300_000, 16), (1, 1), (5, 3)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(polygons, "MAX_EDGES", edges)
            patch.setattr(polygons, "CHUNK_ROWS", rows)
            found = trace(classes)
        assert shapely.is_valid(found.shapes).all()
        np.testing.assert_array_equal(draw(found, classes.shape), classes)
        assert len(found.shapes) == num_regions(classes)
        assert shapely.area(found.shapes).sum() == (classes != 255).sum()


def test_what_waits_beyond_the_limit_is_cut_and_loses_no_pixel(monkeypatch: pytest.MonkeyPatch):
    classes = smooth_map()
    whole = trace(classes)
    monkeypatch.setattr(polygons, "MAX_EDGES", 200)
    monkeypatch.setattr(polygons, "MAX_WAITING", 60)
    cut = trace(classes)
    assert len(cut.shapes) > len(whole.shapes)
    np.testing.assert_array_equal(draw(cut, classes.shape), classes)
    assert shapely.area(cut.shapes).sum() == classes.size


@pytest.mark.parametrize("max_edges", [300_000, 300])
def test_simplified_neighbours_leave_neither_gaps_nor_overlaps(
    max_edges: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(polygons, "MAX_EDGES", max_edges)
    classes = smooth_map()
    outline, found = trace(classes), trace(classes, 1.5)
    corners = shapely.get_num_coordinates
    assert corners(found.shapes).sum() < 0.6 * corners(outline.shapes).sum()
    if max_edges == 300_000:  # of one strip; a corner on a border may be another's straight edge
        assert shapely.coverage_is_valid(found.shapes)
    assert shapely.is_valid(found.shapes).all()
    assert len(found.shapes) == len(outline.shapes)
    assert shapely.area(found.shapes).sum() == pytest.approx(classes.size)
    assert shapely.area(shapely.union_all(found.shapes)) == pytest.approx(classes.size)
    assert (draw(found, classes.shape) == classes).mean() > 0.9


def test_the_border_of_missing_data_is_simplified_as_that_of_a_class():
    rows, cols = np.indices((64, 64))
    classes = np.where(cols > rows, 255, 0).astype(np.uint8)  # a collar, as of a turned scene
    (found,) = trace(classes, 1.0).shapes
    assert shapely.get_num_coordinates(found) < 12


def test_a_map_without_data_has_no_polygons():
    assert not len(trace(np.full((20, 30), 255, np.uint8)).shapes)
