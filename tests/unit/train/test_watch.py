"""Ranks that look at each other over a real store find who is gone, and end with one story."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
import torch.distributed as dist

from rsdl.core.errors import DataError, PeerError, PreemptedError
from rsdl.core.world import Place
from rsdl.train.failure import Failure, means_lost_peer
from rsdl.train.meeting import MeetingPoint
from rsdl.train.watch import Watch

LIMIT_S = 120


@pytest.fixture
def point() -> Iterator[MeetingPoint]:
    """Return where a store is served."""
    server = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    yield MeetingPoint("127.0.0.1", server.port, True, "test")
    del server


@pytest.fixture
def watches(point: MeetingPoint) -> Iterator[list[Watch]]:
    """Return the watches of three ranks that have heard of each other."""
    three = [Watch(Place(rank, 3, rank, 3), point, 600) for rank in range(3)]
    for watch in three:
        watch.start()
    wait_until(lambda: all(len(watch._others) == 2 for watch in three))
    yield three
    for watch in three:
        watch.close()


def wait_until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def raised(watch: Watch) -> PeerError | None:
    with suppress(PeerError):
        watch.check()
        return None
    return watch._failure.to_error(watch._place) if watch._failure else None


def test_once_greeted_all_ranks_are_known_by_name(point: MeetingPoint):
    one, two = (Watch(Place(rank, 2, rank, 2), point, 600) for rank in range(2))
    one.start()
    one.greet(0.3)  # alone it waits no longer than that
    assert not one._others
    two.start()
    for watch in (one, two):
        watch.greet()
        assert len(watch._others) == 1
        watch.close()


def test_greeting_ends_where_a_rank_has_failed(point: MeetingPoint):
    one, two = (Watch(Place(rank, 3, rank, 3), point, 600) for rank in range(2))
    for watch in (one, two):
        watch.start()
    two.settle(ArithmeticError("trouble"))
    with pytest.raises(PeerError, match="trouble"):
        one.greet(LIMIT_S)
    for watch in (one, two):
        watch.close()


def test_no_thread_is_left_in_the_store_when_the_process_goes_down():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    watch = Watch(Place(1, 2, 1, 2), MeetingPoint("127.0.0.1", port, True, "test"), 600)
    watch.start()  # tries again and again: nobody listens there any more
    watch.close()
    assert not any(thread.is_alive() for thread in watch._threads)


def test_an_error_of_one_rank_reaches_all_with_its_name_and_code(watches: list[Watch]):
    own = DataError("train.tar", "is broken", "mend it")
    assert watches[1].settle(own) is own
    wait_until(lambda: raised(watches[0]) and raised(watches[2]))
    for watch in (watches[0], watches[2]):
        error = raised(watch)
        assert error is not None and error.exit_code == 2
        assert "rank 1 on" in str(error) and "train.tar: is broken; mend it" in str(error)
    # One line for each node: the rank's own, and that of the first process there.
    assert [raised(watches[rank]).quiet for rank in (0, 2)] == [False, True]  # type: ignore[union-attr]


def test_the_first_story_is_the_one_that_counts(watches: list[Watch]):
    errors: dict[int, BaseException] = {}

    def fail(rank: int) -> None:
        errors[rank] = watches[rank].settle(ArithmeticError(f"trouble {rank}"))

    threads = [threading.Thread(target=fail, args=(rank,)) for rank in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    own = [rank for rank, error in errors.items() if isinstance(error, ArithmeticError)]
    assert len(own) == 1
    assert all(f"trouble {own[0]}" in str(error) for error in errors.values())


def test_a_collective_that_fails_is_put_down_to_the_rank_that_fell_silent(watches: list[Watch]):
    watches[2].note(41, "training")
    wait_until(lambda: watches[0]._others[2][0].step == 41)
    watches[2]._talk = lambda store, closing: None  # type: ignore[method-assign]
    error = watches[0].settle(RuntimeError("[gloo/transport/tcp/pair.cc] Connection closed"))
    assert isinstance(error, PeerError) and error.exit_code == 1
    assert "rank 2 on" in str(error) and "last at step 41 (training)" in str(error)
    wait_until(lambda: raised(watches[1]))
    assert "rank 2 on" in str(raised(watches[1]))


def test_a_rank_that_lives_and_does_not_come_is_named_but_not_by_itself(watches: list[Watch]):
    for rank in (0, 1):
        watches[rank].note(7, "training")
    wait_until(lambda: watches[2]._others[1][0].step == 7 == watches[2]._others[0][0].step)
    wait_until(lambda: 2 in watches[0]._others and watches[0]._others[1][0].step == 7)
    blamed = watches[0]._find_behind("the pair was closed")
    assert blamed.rank == 2 and "does not come forward" in blamed.text and blamed.lost
    # Whoever is behind waited for the others at its own place, and in vain.
    own = watches[2]._find_behind("the pair was closed")
    assert own.rank is None and "trainer.timeout_s=" in own.text and not own.lost
    assert own.text.endswith("the pair was closed")


def test_who_has_left_in_good_order_is_not_missed(watches: list[Watch]):
    watches[2].close()
    wait_until(lambda: watches[0]._others[2][0].gone)
    assert watches[0]._find_silent(0.0) is None or "rank 2" not in str(watches[0]._find_silent(0.0))


def test_a_store_that_is_gone_is_put_down_to_its_host(point: MeetingPoint):
    nowhere = MeetingPoint("127.0.0.1", 1, True, "test")
    watch = Watch(Place(1, 2, 0, 1), nowhere, 600)
    assert watch._find_silent(0) is None, "it may still be starting"
    watch._answered, watch._clock = 10.0, 710.0
    failure = watch._find_silent(600)
    assert failure is not None and failure.rank is None
    assert "127.0.0.1:1 has not answered for 700 s" in failure.text


def test_being_preempted_is_no_failure(watches: list[Watch]):
    error = PreemptedError("run", "stopped by SIGTERM")
    assert watches[0].settle(error) is error
    assert watches[0]._failure is None and watches[0]._to_post is None


def test_alone_there_is_nothing_to_watch():
    watch = Watch(Place(), None, 600)
    watch.start()
    watch.note(1, "training")
    watch.check()
    error = ArithmeticError()
    assert watch.settle(error) is error
    watch.close()


@pytest.mark.parametrize(
    ("error", "lost"),
    [
        (RuntimeError("Application timeout caused pair closure"), True),
        (RuntimeError("NCCL communicator was aborted on rank 0"), True),
        (dist.DistNetworkError("The client socket has timed out"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("timeout must be positive"), False),
    ],
)
def test_a_lost_peer_is_told_from_trouble_of_ones_own(error: BaseException, lost: bool):
    assert means_lost_peer(error) == lost


def test_a_failure_travels_as_text():
    failure = Failure(3, "rank 3 on node-b", "is gone", 1, 1, lost=True)
    assert Failure.from_json(failure.to_json()) == failure
