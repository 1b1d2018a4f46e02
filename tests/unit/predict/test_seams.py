"""No seam shows where windows meet: a network that sees some pixels around each."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from rsdl.predict.scene import WindowRule
from rsdl.predict.windows import Floats
from tests.unit.predict.scenes import describe, draw_scene, predict

WINDOW, RADIUS = 48, 4
KERNELS = torch.from_numpy(
    np.random.default_rng(3).standard_normal((3, 3, 2 * RADIUS + 1, 2 * RADIUS + 1), np.float32)
)


def by_neighbours(windows: NDArray[Any]) -> Floats:
    """Return what a convolution of 9 x 9 pixels says; outside of a window it sees zeros."""
    images = torch.from_numpy(windows).permute(0, 3, 1, 2).float() / 255
    return F.conv2d(images, KERNELS, padding=RADIUS).softmax(1).numpy()


def changes(shares: Floats, columns: NDArray[np.int64]) -> float:
    """Return the share of rows whose class changes from a column to the next."""
    classes = shares.argmax(0)
    return float((classes[:, columns] != classes[:, columns - 1]).mean())


@pytest.fixture
def whole(tmp_path: Path) -> Floats:
    pixels = draw_scene(tmp_path / "a.tif", (200, 300))
    return by_neighbours(np.moveaxis(pixels, 0, 2)[None])[0]


def test_the_map_is_that_of_the_whole_image_where_windows_are_seen_whole(
    tmp_path: Path, whole: Floats
):
    rule = WindowRule((WINDOW, WINDOW), overlap=WINDOW // 4, blend=True)
    shares, _ = predict(describe(tmp_path / "a.tif"), by_neighbours, rule)
    rows, cols = (
        np.any([_near_border(start, side) for start in axis.starts], axis=0)
        for axis, side in zip(rule.cut(200, 300), (200, 300), strict=True)
    )
    # Within the reach of a border of any window the network has seen zeros instead of pixels.
    inner = ~rows[:, None] & ~cols
    assert inner.mean() > 0.3
    np.testing.assert_allclose(shares[:, inner], whole[:, inner], atol=1e-5)
    # There it counts for little, as the outer pixels of a window weigh little.
    assert np.abs(shares - whole)[:, RADIUS:-RADIUS, RADIUS:-RADIUS].mean() < 0.01


def test_classes_change_no_more_at_seams_than_elsewhere(tmp_path: Path, whole: Floats):
    scene = describe(tmp_path / "a.tif")
    blended = WindowRule((WINDOW, WINDOW), overlap=WINDOW // 4, blend=True)
    apart = WindowRule((WINDOW, WINDOW), overlap=0, blend=False)
    found = {}
    for name, rule in (("blended", blended), ("apart", apart)):
        shares, _ = predict(scene, by_neighbours, rule)
        starts = rule.cut(200, 300)[1].starts
        seams = np.unique(np.concatenate([starts[1:], starts[:-1] + WINDOW]))
        rest = np.setdiff1d(np.arange(RADIUS, 300 - RADIUS), seams)
        wrong = (shares.argmax(0) != whole.argmax(0))[:, seams].mean()
        found[name] = changes(shares, seams) / changes(shares, rest), wrong
    assert found["blended"][0] < 1.05
    assert found["blended"][1] < found["apart"][1] / 4
    # What the measure says where windows only touch.
    assert found["apart"][0] > 1.1


def _near_border(start: int, side: int) -> NDArray[np.bool_]:
    """Return which pixels of a side are within the reach of a border of the window at ``start``."""
    middles = np.arange(side) + 0.5
    return np.minimum(abs(middles - start), abs(middles - start - WINDOW)) < RADIUS
