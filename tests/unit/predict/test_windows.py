"""Windows cover a scene, their weights add up to one, and a strip gives what the whole would."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsdl.core.errors import ConfigError
from rsdl.predict.windows import Axis, Strip, lay_windows


@st.composite
def axes(draw: st.DrawFn) -> Axis:
    window = draw(st.integers(1, 24))
    return lay_windows(
        draw(st.integers(1, 90)),
        window=window,
        overlap=draw(st.integers(0, window - 1)),
        blend=draw(st.booleans()),
    )


@given(axes())
def test_weights_of_each_pixel_add_up_to_one_and_none_is_negative(axis: Axis):
    total = np.zeros(axis.length)
    for start, weights in zip(axis.starts, axis.weights, strict=True):
        total[start : start + axis.window] += weights
    assert (axis.weights >= 0).all()
    np.testing.assert_allclose(total, 1, atol=1e-6)


@given(st.integers(1, 90), st.integers(1, 24), st.data())
def test_windows_end_with_a_side_and_exceed_only_a_shorter_one(
    length: int, window: int, data: st.DataObject
):
    overlap = data.draw(st.integers(0, window - 1))
    axis = lay_windows(length, window=window, overlap=overlap, blend=True)
    assert axis.length == max(length, window)
    assert np.diff(axis.starts).max(initial=0) <= window - overlap


@given(axes(), axes(), st.integers(1, 3), st.integers(0, 9))
def test_a_strip_gives_the_sum_over_the_whole_scene_row_by_row(
    rows: Axis, cols: Axis, num_classes: int, seed: int
):
    rng = np.random.default_rng(seed)
    whole = np.zeros((num_classes, rows.length, cols.length))
    known = np.zeros((rows.length, cols.length), bool)
    strip, found, there, tops = Strip(rows, cols, num_classes), [], [], []
    for number, top in enumerate(rows.starts):
        for col, left in enumerate(cols.starts):
            shares = rng.random((num_classes, rows.window, cols.window), np.float32)
            valid = rng.random(shares.shape[1:]) < 0.2
            place = slice(top, top + rows.window), slice(left, left + cols.window)
            whole[:, *place] += shares * np.outer(rows.weights[number], cols.weights[col])
            known[place] |= valid
            strip.add(col, shares, valid)
        tops.append(strip.top)
        final, final_valid = strip.rows()
        found.append(final.copy())
        there.append(final_valid.copy())
        strip.advance()
    assert tops == rows.starts.tolist()
    np.testing.assert_allclose(np.concatenate(found, axis=1), whole, atol=1e-5)
    np.testing.assert_array_equal(np.concatenate(there), known)


def test_blended_weights_fall_towards_the_edge_that_a_neighbour_covers():
    axis = lay_windows(28, window=16, overlap=4, blend=True)
    assert axis.starts.tolist() == [0, 12]
    np.testing.assert_array_equal(axis.weights[0, :12], 1)  # alone, up to the scene's edge
    assert (np.diff(axis.weights[0, 11:]) < 0).all()
    np.testing.assert_allclose(axis.weights[0, 12:] + axis.weights[1, :4], 1, rtol=1e-6)


def test_tiles_without_overlap_own_their_squares_and_the_last_one_the_half_it_shares():
    axis = lay_windows(20, window=8, overlap=0, blend=False)
    assert axis.starts.tolist() == [0, 8, 12]
    assert axis.weights.sum(axis=1).tolist() == [8, 6, 6]


def test_windows_that_never_advance_are_refused():
    with pytest.raises(ConfigError, match="overlap: is 8 pixels"):
        lay_windows(20, window=8, overlap=8, blend=True)
