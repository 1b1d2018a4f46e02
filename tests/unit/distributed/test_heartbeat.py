"""Ranks that look at each other over a real store find who is gone, and end with one story."""

import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch.distributed as dist

from rsdl.core.errors import PeerError, PreemptedError
from rsdl.distributed.beat import find_progress
from rsdl.distributed.failure import Failure, means_lost_peer
from rsdl.distributed.heartbeat import Heartbeat
from rsdl.distributed.rank import RankInfo
from rsdl.distributed.rendezvous import RendezvousPoint
from tests.waiting import wait_for

LIMIT_S = 120


@pytest.fixture
def point() -> Iterator[RendezvousPoint]:
    """Return where a store is served."""
    server = dist.TCPStore(  # type: ignore[attr-defined]  # its stubs do not export it
        "127.0.0.1", 0, is_master=True, wait_for_workers=False
    )
    yield RendezvousPoint("127.0.0.1", server.port, True, "test")
    del server


@pytest.fixture
def ranks(point: RendezvousPoint) -> Iterator[list[Heartbeat]]:
    """Return the ranks of three ranks that have heard of each other."""
    three = [Heartbeat(RankInfo(rank, 3, rank, 3), point, 600) for rank in range(3)]
    for heartbeat in three:
        heartbeat.start()
    wait_for(lambda: all(len(heartbeat._others) == 2 for heartbeat in three))
    yield three
    for heartbeat in three:
        heartbeat.close()


def test_greeting_ends_where_a_rank_has_failed(point: RendezvousPoint):
    one, two = (Heartbeat(RankInfo(rank, 3, rank, 3), point, 600) for rank in range(2))
    for heartbeat in (one, two):
        heartbeat.start()
    two.final_error(ArithmeticError("trouble"))
    with pytest.raises(PeerError, match="trouble"):
        one.wait_for_peers(LIMIT_S)
    for heartbeat in (one, two):
        heartbeat.close()


def test_no_thread_is_left_in_the_store_when_the_process_goes_down():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    heartbeat = Heartbeat(
        RankInfo(1, 2, 1, 2), RendezvousPoint("127.0.0.1", port, True, "test"), 600
    )
    heartbeat.start()  # tries again and again: nobody listens there any more
    heartbeat.close()
    assert not any(thread.is_alive() for thread in heartbeat._threads)


def test_the_first_story_is_the_one_that_counts(ranks: list[Heartbeat]):
    errors: dict[int, BaseException] = {}

    def fail(rank: int) -> None:
        errors[rank] = ranks[rank].final_error(ArithmeticError(f"trouble {rank}"))

    threads = [threading.Thread(target=fail, args=(rank,)) for rank in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    own = [rank for rank, error in errors.items() if isinstance(error, ArithmeticError)]
    assert len(own) == 1
    assert all(f"trouble {own[0]}" in str(error) for error in errors.values())


def test_a_rank_that_lives_and_does_not_come_is_named_but_not_by_itself(
    ranks: list[Heartbeat],
):
    for rank in (0, 1):
        ranks[rank].note(7, "training")
    wait_for(lambda: ranks[2]._others[1][0].step == 7 == ranks[2]._others[0][0].step)
    wait_for(lambda: 2 in ranks[0]._others and ranks[0]._others[1][0].step == 7)
    blamed = ranks[0]._find_behind("the pair was closed")
    assert blamed.rank == 2 and "does not come forward" in blamed.text and blamed.lost
    # Whoever is behind waited for the others in vain.
    own = ranks[2]._find_behind("the pair was closed")
    assert own.rank is None and "trainer.timeout_s=" in own.text and not own.lost
    assert own.text.endswith("the pair was closed")


def test_who_has_left_in_good_order_is_not_missed(ranks: list[Heartbeat]):
    ranks[2].close()
    wait_for(lambda: ranks[0]._others[2][0].gone)
    assert ranks[0]._find_silent(0.0) is None or "rank 2" not in str(ranks[0]._find_silent(0.0))


def test_a_store_that_is_gone_is_put_down_to_its_host(point: RendezvousPoint):
    nowhere = RendezvousPoint("127.0.0.1", 1, True, "test")
    heartbeat = Heartbeat(RankInfo(1, 2, 0, 1), nowhere, 600)
    assert heartbeat._find_silent(0) is None, "it may still be starting"
    heartbeat._answered, heartbeat._clock = 10.0, 710.0
    failure = heartbeat._find_silent(600)
    assert failure is not None and failure.rank is None
    assert "127.0.0.1:1 has not answered for 700 s" in failure.text


def test_the_store_knows_how_far_the_last_attempt_came_that_trained(point: RendezvousPoint):
    for attempt, steps in ((1, (5, 7)), (2, (9,)), (3, ())):
        for rank, step in enumerate(steps or (0,)):
            there = replace(point, attempt=f"id-{attempt}")
            heartbeat = Heartbeat(RankInfo(rank, 2, rank, 2), there, 600)
            heartbeat.start()
            if steps:
                heartbeat.note(step, "training")
            heartbeat.close()
    assert find_progress(replace(point, attempt="id-1"), 2) is None
    reached = find_progress(replace(point, attempt="id-2"), 2)
    assert reached is not None and reached[0] == 7
    reached = find_progress(replace(point, attempt="id-4"), 2)
    assert reached is not None and reached[0] == 9 and time.time() - 60 < reached[1] <= time.time()


def test_being_preempted_is_no_failure(ranks: list[Heartbeat]):
    error = PreemptedError("run", "stopped by SIGTERM")
    assert ranks[0].final_error(error) is error
    assert ranks[0]._failure is None and ranks[0]._to_post is None


def test_alone_there_is_nothing_to_watch():
    heartbeat = Heartbeat(RankInfo(), None, 600)
    heartbeat.start()
    heartbeat.note(1, "training")
    heartbeat.check()
    error = ArithmeticError()
    assert heartbeat.final_error(error) is error
    heartbeat.close()


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
