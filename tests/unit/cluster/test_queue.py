"""Which run is next, and what exit codes mean."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsdl.cluster.queue import Queue


def test_runs_begin_in_their_order():
    queue = Queue("abc")
    assert queue.waiting == ("a", "b", "c")
    queue.begin("a")
    queue.begin("c")
    assert queue.waiting == ("b",)
    assert not queue.is_done


def test_a_preempted_run_goes_on_first_and_a_crashed_one_last():
    queue = Queue("abcd")
    queue.begin("a")
    queue.begin("b")
    assert queue.finish("a", 1) == "crashed"
    assert queue.finish("b", 75) == "preempted"
    assert queue.waiting == ("b", "c", "d", "a")


@pytest.mark.parametrize("code", [1, 130, -9, -15, 3])
def test_a_crash_is_tried_again_a_few_times(code: int):
    queue = Queue("a", tries=3)
    outcomes = []
    while not queue.is_done:
        queue.begin("a")
        outcomes.append(queue.finish("a", code))
    assert outcomes == ["crashed", "crashed", "failed"]
    assert queue.outcomes == {"a": "failed"}


def test_preemptions_are_no_crashes():
    queue = Queue("a", tries=2)
    for code in [75] * 10 + [1] + [75] * 10:
        queue.begin("a")
        queue.finish("a", code)
    assert queue.waiting == ("a",)


def test_wrong_input_is_not_tried_again():
    queue = Queue("a")
    queue.begin("a")
    assert queue.finish("a", 2) == "wrong"
    assert queue.is_done


@pytest.mark.parametrize("code", [75, 130, -15, 1])
def test_once_it_stops_nothing_is_begun_again(code: int):
    queue = Queue("ab")
    queue.begin("a")
    queue.stopping = True
    assert queue.waiting == () and not queue.is_done
    assert queue.finish("a", code) == "stopped"
    assert queue.is_done and queue.is_cut_short


def test_a_queue_that_was_stopped_at_its_end_is_not_cut_short():
    queue = Queue("a")
    queue.begin("a")
    queue.stopping = True
    assert queue.finish("a", 0) == "completed"
    assert not queue.is_cut_short


def test_what_somebody_else_has_completed_is_passed_over():
    queue = Queue("ab")
    queue.skip("a")
    assert queue.waiting == ("b",)
    assert queue.outcomes == {"a": "completed"}


@given(
    st.sets(st.text("abcdefgh", min_size=1, max_size=2), min_size=1, max_size=9),
    st.integers(1, 4),
    st.integers(1, 4),
    st.data(),
)
def test_every_run_comes_to_one_end(names: set[str], tries: int, places: int, data: st.DataObject):
    queue, running, crashes = Queue(sorted(names), tries), [], Counter()
    preempted = 0
    while not queue.is_done:
        while len(running) < places and queue.waiting:
            running.append(queue.waiting[0])
            queue.begin(running[-1])
        assert len(set(running)) == len(running) <= places
        name = running.pop(data.draw(st.integers(0, len(running) - 1)))
        code = data.draw(st.sampled_from([0, 1, 2, 75, -9] if preempted < 20 else [0, 1, 2, -9]))
        preempted += code == 75
        crashes[name] += code in (1, -9)
        queue.finish(name, code)
    assert set(queue.outcomes) == names
    assert max(crashes.values(), default=0) <= tries
    for name, outcome in queue.outcomes.items():
        assert (outcome == "failed") == (crashes[name] == tries)
