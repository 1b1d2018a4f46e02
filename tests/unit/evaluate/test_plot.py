from itertools import combinations, pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from rsdl.evaluate.figures.axes import (
    BOTTOM,
    LEFT,
    WIDTH,
    Point,
    linear_axis,
    log_axis,
    place_labels,
    plain,
    scientific,
    thin,
    tight_axis,
)

values = st.floats(-1e6, 1e6, allow_subnormal=False)
positive = st.floats(1e-3, 1e6)
SPAN = (50.0, 350.0)


@given(values, values)
def test_a_linear_axis_holds_its_values_between_round_ends(a: float, b: float) -> None:
    low, high = min(a, b), max(a, b)
    assume(high == low or high - low > 1e-6 * max(abs(low), abs(high)))
    axis = linear_axis(low, high, SPAN)
    slack = 1e-6 * (axis.high - axis.low)
    assert axis.low - slack <= low <= high <= axis.high + slack
    assert SPAN[0] - 0.1 <= axis.place(low) <= axis.place(high) <= SPAN[1] + 0.1
    assert 2 <= len(axis.ticks) <= 9
    assert axis.ticks[0].at == pytest.approx(SPAN[0], abs=0.1)
    assert axis.ticks[-1].at == pytest.approx(SPAN[1], abs=0.1)


@given(values, values)
def test_ticks_are_evenly_spaced(a: float, b: float) -> None:
    assume(abs(b - a) > 1e-6 * max(abs(a), abs(b)))
    ticks = linear_axis(min(a, b), max(a, b), SPAN).ticks
    gaps = [q.at - p.at for p, q in pairwise(ticks)]
    assert max(gaps) - min(gaps) <= 0.25


@given(positive, positive)
def test_a_log_axis_keeps_its_values_off_the_edges(a: float, b: float) -> None:
    axis = log_axis(min(a, b), max(a, b), SPAN)
    assert SPAN[0] < axis.place(min(a, b)) <= axis.place(max(a, b)) < SPAN[1]
    assert all(SPAN[0] <= tick.at <= SPAN[1] for tick in axis.ticks)


def test_a_tight_axis_ends_where_the_values_end() -> None:
    axis = tight_axis(0.2, 12, SPAN)
    assert (axis.low, axis.high) == (0.2, 12)
    assert [tick.label for tick in axis.ticks] == ["5", "10"]


@pytest.mark.parametrize(("value", "words"), [(2e-5, "2e-5"), (1.5e-3, "1.5e-3"), (0, "0")])
def test_small_values_are_written_with_their_power(value: float, words: str) -> None:
    assert scientific(value) == words


def test_tick_labels_show_no_float_dust() -> None:
    labels = [tick.label for tick in linear_axis(0, 0.3, SPAN, word=plain).ticks]
    assert labels == ["0", "0.1", "0.2", "0.3"]


@given(st.lists(st.tuples(values, values), max_size=60), st.integers(1, 20))
def test_thinning_keeps_the_mean_and_the_order(
    pairs: list[tuple[float, float]], limit: int
) -> None:
    thinned = thin(pairs, limit)
    assert len(thinned) == min(limit, len(pairs))
    assert [x for x, _ in thinned] == sorted(x for x, _ in thinned)
    if len(pairs) <= limit:
        assert thinned == sorted(pairs)
    elif len(pairs) % limit == 0:
        mean = sum(y for _, y in pairs) / len(pairs)
        assert sum(y for _, y in thinned) / limit == pytest.approx(mean, abs=1e-6)


@given(st.lists(st.tuples(st.floats(LEFT, 362), st.floats(12, BOTTOM)), max_size=20))
def test_labels_hit_neither_each_other_nor_dots(places: list[tuple[float, float]]) -> None:
    points = place_labels([Point(x, y, "resnet50", 0, "") for x, y in places])
    wide = 6.2 * len("resnet50")
    boxes = []
    for point in points:
        if point.label:
            x, y, anchor = point.label
            left = x - {"start": 0, "middle": wide / 2, "end": wide}[anchor]
            boxes.append((left, y - 10, left + wide, y + 3))
    dots = [(p.x, p.y, p.x, p.y) for p in points]
    for one, other in [*combinations(boxes, 2), *((b, d) for b in boxes for d in dots)]:
        apart = one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
        assert apart
    assert all(box[0] >= LEFT and box[2] <= WIDTH for box in boxes)


def test_a_lone_dot_always_gets_its_label() -> None:
    assert place_labels([Point(360, BOTTOM, "efficientnet_b5", 0, "")])[0].label is not None
