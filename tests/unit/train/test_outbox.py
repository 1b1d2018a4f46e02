"""What is sent off arrives in order, without its sender waiting, and failures are not lost."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsdl.core.errors import StorageError
from rsdl.storage.local import LocalStore
from rsdl.train.outbox import Outbox, Parcel, settle

LIMIT_S = 60
Sent = list[tuple[str, bool]]


class Depot:
    """Where parcels arrive, when its gate is open."""

    def __init__(self) -> None:
        self.arrived: list[str] = []
        self.gate = threading.Event()
        self.begun = threading.Event()

    def taking(self, content: str) -> Callable[[], None]:
        def deliver() -> None:
            self.begun.set()
            assert self.gate.wait(LIMIT_S)
            self.arrived.append(content)

        return deliver


@pytest.fixture
def depot() -> Iterator[Depot]:
    depot = Depot()
    yield depot
    depot.gate.set()


@pytest.fixture
def outbox(tmp_path: Path) -> Outbox:
    return Outbox(LocalStore(tmp_path), background=True)


def parcels(sent: Sent) -> list[Parcel]:
    return [Parcel(name, lambda: None, fixed) for name, fixed in sent]


SENT = st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=12)


@given(SENT)
def test_whoever_sees_a_fixed_parcel_sees_all_that_was_sent_before_it(sent: Sent):
    waiting = parcels(sent)
    left = settle(waiting)
    ids = [id(parcel) for parcel in left]
    assert ids == [id(parcel) for parcel in waiting if id(parcel) in ids], "out of order"
    for fixed in (parcel for parcel in waiting if parcel.fixed):
        before, kept = waiting[: waiting.index(fixed)], left[: left.index(fixed)]
        newest = {parcel.name: parcel for parcel in before if not parcel.fixed}
        assert {parcel.name: parcel for parcel in kept if not parcel.fixed} == newest


@given(SENT)
def test_between_fixed_parcels_only_the_newest_of_a_name_is_left(sent: Sent):
    names: set[str] = set()
    for parcel in settle(parcels(sent)):
        assert parcel.fixed or parcel.name not in names
        names = set() if parcel.fixed else names | {parcel.name}


def test_nobody_waits_for_a_delivery_and_records_that_wait_are_replaced(
    outbox: Outbox, depot: Depot
):
    for content in ("first", "second", "third"):
        outbox.post("run.json", depot.taking(content))
        assert depot.begun.wait(LIMIT_S)
    assert depot.arrived == []
    depot.gate.set()
    outbox.drain()
    assert depot.arrived == ["first", "third"]


def test_a_newer_checkpoint_replaces_one_that_waits_but_none_of_another_name(
    outbox: Outbox, depot: Depot
):
    outbox.post("last", depot.taking("last 1"), fixed=True)
    assert depot.begun.wait(LIMIT_S)
    for content in ("last 2", "last 3"):
        outbox.post("run.json", depot.taking(f"run before {content}"))
        outbox.make_room("last")
        outbox.post("last", depot.taking(content), fixed=True)
    with ThreadPoolExecutor(1) as pool:
        room = pool.submit(outbox.make_room, "best")
        # One waits already; the best one must not overtake it.
        assert not room.done()
        depot.gate.set()
        room.result(LIMIT_S)
    outbox.post("best", depot.taking("best"), fixed=True)
    outbox.drain()
    assert depot.arrived == ["last 1", "run before last 3", "last 3", "best"]


def test_a_checkpoint_that_others_build_upon_is_not_replaced(outbox: Outbox, depot: Depot):
    outbox.post("last", depot.taking("last 1"), fixed=True)
    assert depot.begun.wait(LIMIT_S)
    outbox.post("last", depot.taking("last 2"), fixed=True)
    outbox.post("step-2", depot.taking("copy of last 2"), fixed=True)
    with ThreadPoolExecutor(1) as pool:
        room = pool.submit(outbox.make_room, "last")
        depot.gate.set()
        room.result(LIMIT_S)
    outbox.drain()
    assert depot.arrived == ["last 1", "last 2", "copy of last 2"]


def test_after_a_failure_nothing_is_delivered_and_everybody_hears_of_it(
    outbox: Outbox, depot: Depot
):
    def fail() -> None:
        depot.taking("tried")()
        raise StorageError("s3://b/last.ckpt", "access denied")

    outbox.post("best", fail, fixed=True)
    outbox.post("last", depot.taking("last"), fixed=True)
    depot.gate.set()
    for ask in (
        outbox.drain,
        lambda: outbox.post("run.json", depot.taking("run")),
        lambda: outbox.make_room("last"),
        outbox.drain,
    ):
        with pytest.raises(StorageError, match="access denied"):
            ask()
    assert depot.arrived == ["tried"]


def test_after_giving_up_what_comes_is_delivered_at_once(outbox: Outbox, depot: Depot):
    outbox.post("last", depot.taking("last 1"), fixed=True)
    assert depot.begun.wait(LIMIT_S)
    outbox.post("best", depot.taking("best"), fixed=True)
    outbox.abandon()
    depot.gate.set()
    outbox.post("run.json", lambda: depot.arrived.append("run"))
    assert "run" in depot.arrived
    outbox.drain()
    assert sorted(depot.arrived) == ["last 1", "run"]


def test_a_local_folder_is_written_to_at_once(tmp_path: Path):
    outbox, threads = Outbox(LocalStore(tmp_path)), []
    outbox.post("x", lambda: threads.append(threading.current_thread()))
    assert threads == [threading.current_thread()]


def test_the_thread_ends_with_the_last_parcel(outbox: Outbox, depot: Depot):
    depot.gate.set()
    for content in ("one", "two"):
        outbox.post("x", depot.taking(content))
        outbox.drain()
        assert not [t for t in threading.enumerate() if t.name == "outbox" and not _ends(t)]
    assert depot.arrived == ["one", "two"]


def _ends(thread: threading.Thread) -> bool:
    thread.join(LIMIT_S)
    return not thread.is_alive()
