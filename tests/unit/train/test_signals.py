"""A signal only sets a flag; a second Ctrl-C quits."""

import os
import signal
from collections.abc import Iterator

import pytest

from rsdl.train.signals import SIGNALS, StopRequest


@pytest.fixture
def stop() -> Iterator[StopRequest]:
    """Return a request that handles the signals until the test is over."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    request = StopRequest()
    request.install()
    yield request
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_remembered(number: signal.Signals, stop: StopRequest):
    assert not stop
    os.kill(os.getpid(), number)
    assert stop and stop.reason == number.name


def test_a_second_ctrl_c_interrupts_and_a_second_sigterm_does_not(stop: StopRequest):
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGTERM)
    assert stop.reason == "SIGTERM"
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


def test_without_a_signal_another_rank_was_asked():
    assert StopRequest().reason == "a signal to another rank"
