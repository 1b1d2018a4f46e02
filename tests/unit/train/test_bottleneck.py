"""What holds a run back whose GPU use is low."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsdl.train.bottleneck import StepCosts, find_bottleneck


def costs(
    use: float = 0.2, wait: float = 0.0, busy: float = 0.1, *, encoded: int = 1, cores: int = 4
) -> StepCosts:
    """Return 100 s with shares of the time that data was waited for and that cores were busy."""
    return StepCosts(100, 10, 10 * use, 100 * wait, 100 * busy * cores, encoded)


@pytest.mark.parametrize(
    ("found", "part", "words"),
    [
        (costs(wait=0.7, busy=0.9), "decode", "data.decoded_cache"),
        (costs(wait=0.7, busy=0.9, encoded=0), "decode", "data.resident"),
        (costs(wait=0.7, busy=0.2), "data", "data.cache"),
        (costs(wait=0.7, busy=0.2, encoded=0), "data", "faster disk"),
        (costs(wait=0.02), "model", "data.batch_size"),
        (costs(wait=0.02, busy=1.0), "model", "trainer.compile"),
        # A GPU that idles for a fifth of the time is held back by what takes most of that fifth.
        (costs(use=0.39, wait=0.31, busy=0.1), "data", "31%"),
        (costs(use=0.39, wait=0.29, busy=0.1), "model", "29%"),
    ],
)
def test_the_bottleneck_is_named_with_a_remedy(found: StepCosts, part: str, words: str):
    bottleneck = find_bottleneck(found, 4)
    assert bottleneck.part == part
    assert words in bottleneck.text


@given(
    st.builds(
        StepCosts,
        st.floats(0, 1e5), st.integers(0, 1000), st.floats(0, 300), st.floats(0, 1e6),
        st.floats(0, 1e7), st.integers(0, 1 << 40),
    ),
    st.integers(1, 256),
)  # fmt: skip
def test_there_is_always_an_explanation_in_one_line(found: StepCosts, cores: int):
    bottleneck = find_bottleneck(found, cores)
    assert bottleneck.part in ("data", "decode", "model")
    assert "\n" not in bottleneck.text and "nan" not in bottleneck.text
    percents = [
        float(part.rsplit(" ", 1)[-1].lstrip("(")) for part in bottleneck.text.split("%")[:-1]
    ]
    assert all(0 <= value <= 100 for value in percents)


def test_efforts_add_up():
    total = sum([costs(use=0.2, wait=0.5), costs(use=0.6, wait=0.1)], StepCosts())
    assert total.seconds == 200
    assert total.utilization == pytest.approx(0.4)
    assert total.waited_s == pytest.approx(60)


@pytest.mark.parametrize(("use", "low"), [(0.39, True), (0.41, False)])
def test_less_than_two_fifths_is_low(use: float, low: bool):
    assert costs(use=use).is_low is low


def test_what_was_not_sampled_is_not_low():
    assert not StepCosts(seconds=100).is_low
