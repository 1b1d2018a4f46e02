import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsdl.storage.s3.retry import RetryRule, RetryState


class Time:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.waits: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds

    def retry_state(self, rule: RetryRule) -> RetryState:
        return RetryState(rule, "s3://bucket/x", sleep=self.sleep, clock=lambda: self.now)


@given(deadline=st.floats(0, 500), first=st.floats(0.01, 2), longest=st.floats(0.1, 20))
def test_it_is_tried_until_the_deadline_and_not_beyond(
    deadline: float, first: float, longest: float
):
    time = Time()
    retry_state = time.retry_state(RetryRule(deadline, first, longest))
    while retry_state.wait("refused"):
        pass
    assert time.now == pytest.approx(deadline)
    assert all(wait <= longest for wait in time.waits)


def test_waits_grow_and_differ_from_rank_to_rank():
    times = [Time() for _ in range(20)]
    for time in times:
        retry_state = time.retry_state(RetryRule(120, 0.1, 5))
        for _ in range(10):
            retry_state.wait("refused")
        assert time.waits[0] <= 0.1 and 2.5 <= time.waits[-1] <= 5
    assert len({time.now for time in times}) > 10


def test_an_operation_that_gets_on_has_its_whole_time_again():
    time = Time()
    retry_state = time.retry_state(RetryRule(10))
    for _ in range(50):
        assert retry_state.wait("refused")
        time.now += 9
        assert retry_state.wait("refused") == (retry_state.waited_s < 10)
        retry_state.over()
    assert retry_state.failures == 0 and retry_state.waited_s == 0


def test_a_long_wait_is_said_once_and_so_is_its_end(caplog: pytest.LogCaptureFixture):
    time = Time()
    retry_state = time.retry_state(RetryRule(120))
    with caplog.at_level(logging.INFO, "rsdl"):
        for _ in range(3):
            retry_state.wait("refused")
        assert not caplog.records
        for _ in range(20):
            retry_state.wait("refused")
        retry_state.over()
    first, last = (record.getMessage() for record in caplog.records)
    assert first.startswith("s3://bucket/x: refused; trying for ") and "goes on after" in last


def test_a_wait_that_will_be_long_is_said_before_it_is(caplog: pytest.LogCaptureFixture):
    time = Time()
    retry_state = time.retry_state(RetryRule(120))
    with caplog.at_level(logging.INFO, "rsdl"):
        while not caplog.records:
            said_at = time.now
            retry_state.wait("refused")
    assert said_at <= 5


def test_less_patience_than_the_rule_has_ends_it_sooner():
    time = Time()
    retry_state = time.retry_state(RetryRule(120))
    while retry_state.wait("no such host", 10):
        pass
    assert time.now == pytest.approx(10)
