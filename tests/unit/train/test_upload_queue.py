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
from rsdl.train.upload_queue import UploadQueue, UploadTask, coalesce

LIMIT_S = 60
Sent = list[tuple[str, bool]]


class Depot:
    """Where tasks arrive, when its gate is open."""

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
def uploads(tmp_path: Path) -> UploadQueue:
    return UploadQueue(LocalStore(tmp_path), background=True)


def tasks(sent: Sent) -> list[UploadTask]:
    return [UploadTask(name, lambda: None, ordered) for name, ordered in sent]


SENT = st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=12)


@given(SENT)
def test_whoever_sees_a_fixed_parcel_sees_all_that_was_sent_before_it(sent: Sent):
    waiting = tasks(sent)
    left = coalesce(waiting)
    ids = [id(task) for task in left]
    assert ids == [id(task) for task in waiting if id(task) in ids], "out of order"
    for ordered in (task for task in waiting if task.ordered):
        before, kept = waiting[: waiting.index(ordered)], left[: left.index(ordered)]
        newest = {task.name: task for task in before if not task.ordered}
        assert {task.name: task for task in kept if not task.ordered} == newest


@given(SENT)
def test_between_fixed_parcels_only_the_newest_of_a_name_is_left(sent: Sent):
    names: set[str] = set()
    for task in coalesce(tasks(sent)):
        assert task.ordered or task.name not in names
        names = set() if task.ordered else names | {task.name}


def test_nobody_waits_for_a_delivery_and_records_that_wait_are_replaced(
    uploads: UploadQueue, depot: Depot
):
    for content in ("first", "second", "third"):
        uploads.submit("run.json", depot.taking(content))
        assert depot.begun.wait(LIMIT_S)
    assert depot.arrived == []
    depot.gate.set()
    uploads.drain()
    assert depot.arrived == ["first", "third"]


def test_a_newer_checkpoint_replaces_one_that_waits_but_none_of_another_name(
    uploads: UploadQueue, depot: Depot
):
    uploads.submit("last", depot.taking("last 1"), ordered=True)
    assert depot.begun.wait(LIMIT_S)
    for content in ("last 2", "last 3"):
        uploads.submit("run.json", depot.taking(f"run before {content}"))
        uploads.make_room("last")
        uploads.submit("last", depot.taking(content), ordered=True)
    with ThreadPoolExecutor(1) as pool:
        room = pool.submit(uploads.make_room, "best")
        # One waits already; the best one must not overtake it.
        assert not room.done()
        depot.gate.set()
        room.result(LIMIT_S)
    uploads.submit("best", depot.taking("best"), ordered=True)
    uploads.drain()
    assert depot.arrived == ["last 1", "run before last 3", "last 3", "best"]


def test_a_checkpoint_that_others_build_upon_is_not_replaced(uploads: UploadQueue, depot: Depot):
    uploads.submit("last", depot.taking("last 1"), ordered=True)
    assert depot.begun.wait(LIMIT_S)
    uploads.submit("last", depot.taking("last 2"), ordered=True)
    uploads.submit("step-2", depot.taking("copy of last 2"), ordered=True)
    with ThreadPoolExecutor(1) as pool:
        room = pool.submit(uploads.make_room, "last")
        depot.gate.set()
        room.result(LIMIT_S)
    uploads.drain()
    assert depot.arrived == ["last 1", "last 2", "copy of last 2"]


def test_after_a_failure_nothing_is_delivered_and_everybody_hears_of_it(
    uploads: UploadQueue, depot: Depot
):
    def fail() -> None:
        depot.taking("tried")()
        raise StorageError("s3://b/last.ckpt", "access denied")

    uploads.submit("best", fail, ordered=True)
    uploads.submit("last", depot.taking("last"), ordered=True)
    depot.gate.set()
    for ask in (
        uploads.drain,
        lambda: uploads.submit("run.json", depot.taking("run")),
        lambda: uploads.make_room("last"),
        uploads.check,
        uploads.drain,
    ):
        with pytest.raises(StorageError, match="access denied"):
            ask()
    assert depot.arrived == ["tried"]


def test_after_giving_up_what_comes_is_delivered_at_once(uploads: UploadQueue, depot: Depot):
    uploads.submit("last", depot.taking("last 1"), ordered=True)
    assert depot.begun.wait(LIMIT_S)
    uploads.submit("best", depot.taking("best"), ordered=True)
    uploads.abandon()
    depot.gate.set()
    uploads.submit("run.json", lambda: depot.arrived.append("run"))
    assert "run" in depot.arrived
    uploads.drain()
    assert sorted(depot.arrived) == ["last 1", "run"]


def test_a_local_folder_is_written_to_at_once(tmp_path: Path):
    uploads, threads = UploadQueue(LocalStore(tmp_path)), []
    uploads.submit("x", lambda: threads.append(threading.current_thread()))
    assert threads == [threading.current_thread()]


def test_the_thread_ends_with_the_last_parcel(uploads: UploadQueue, depot: Depot):
    depot.gate.set()
    for content in ("one", "two"):
        uploads.submit("x", depot.taking(content))
        uploads.drain()
        assert not [t for t in threading.enumerate() if t.name == "uploads" and not _ends(t)]
    assert depot.arrived == ["one", "two"]


def _ends(thread: threading.Thread) -> bool:
    thread.join(LIMIT_S)
    return not thread.is_alive()
