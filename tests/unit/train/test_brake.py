"""What holds a run back whose GPU use is low."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsdl.train.brake import Effort, explain_low_use


def effort(
    use: float = 0.2, wait: float = 0.0, busy: float = 0.1, *, encoded: int = 1, cores: int = 4
) -> Effort:
    """Return 100 s with shares of the time that data was waited for and that cores were busy."""
    return Effort(100, 10, 10 * use, 100 * wait, 100 * busy * cores, encoded)


@pytest.mark.parametrize(
    ("found", "part", "words"),
    [
        (effort(wait=0.7, busy=0.9), "decode", "data.decoded_cache"),
        (effort(wait=0.7, busy=0.9, encoded=0), "decode", "data.resident"),
        (effort(wait=0.7, busy=0.2), "data", "data.cache"),
        (effort(wait=0.7, busy=0.2, encoded=0), "data", "faster disk"),
        (effort(wait=0.02), "model", "data.batch_size"),
        (effort(wait=0.02, busy=1.0), "model", "trainer.compile"),
        # A GPU that idles for a fifth of the time is held back by what takes most of that fifth.
        (effort(use=0.39, wait=0.31, busy=0.1), "data", "31%"),
        (effort(use=0.39, wait=0.29, busy=0.1), "model", "29%"),
    ],
)
def test_the_brake_is_named_with_a_remedy(found: Effort, part: str, words: str):
    brake = explain_low_use(found, 4)
    assert brake.part == part
    assert words in brake.text


@given(
    st.builds(
        Effort,
        st.floats(0, 1e5), st.integers(0, 1000), st.floats(0, 300), st.floats(0, 1e6),
        st.floats(0, 1e7), st.integers(0, 1 << 40),
    ),
    st.integers(1, 256),
)  # fmt: skip
def test_there_is_always_an_explanation_in_one_line(found: Effort, cores: int):
    brake = explain_low_use(found, cores)
    assert brake.part in ("data", "decode", "model")
    assert "\n" not in brake.text and "nan" not in brake.text
    percents = [float(part.rsplit(" ", 1)[-1].lstrip("(")) for part in brake.text.split("%")[:-1]]
    assert all(0 <= value <= 100 for value in percents)


def test_efforts_add_up():
    total = sum([effort(use=0.2, wait=0.5), effort(use=0.6, wait=0.1)], Effort())
    assert total.seconds == 200
    assert total.utilization == pytest.approx(0.4)
    assert total.waited_s == pytest.approx(60)


@pytest.mark.parametrize(("use", "low"), [(0.39, True), (0.41, False)])
def test_less_than_two_fifths_is_low(use: float, low: bool):
    assert effort(use=use).is_low is low


def test_what_was_not_sampled_is_not_low():
    assert not Effort(seconds=100).is_low
