"""Checkpoints on their way to a bucket: no step waits for them, and no kill leaves half of one."""

import io
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from rich.console import Console

from rsdl.config.load import load_config
from rsdl.core.errors import StorageError
from rsdl.records.run_record import BEST, LAST, RunRecord
from rsdl.storage.connect import connect
from rsdl.storage.store import Store
from rsdl.train.build import open_session
from rsdl.train.checkpoint import read_checkpoint
from rsdl.train.ranks import find_ranks
from rsdl.train.run_folder import ExistingRun, RunFolder
from rsdl.train.session import fit
from rsdl.train.signals import StopRequest
from rsdl.train.trainer import fit_to_ranks

from ..conftest import Fault, Ranks, Rsdl, Run, Write
from .conftest import Gateway
from .fault_proxy import FaultProxy

pytestmark = [pytest.mark.ceph, pytest.mark.slow]
Compare = Callable[[Run, Run], None]
Find = Callable[[str], Run]
NAMES = ("AWS_ENDPOINT_URL_S3", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "RSDL_CACHE",
         "RSDL_STORE_DEADLINE_S")  # fmt: skip
LIMIT_S = 60


def environment() -> dict[str, str]:
    """Return what tells a command where the gateway is."""
    return {name: os.environ[name] for name in NAMES}


def load(store: Store, name: str = LAST) -> dict[str, Any] | None:
    """Return a checkpoint as the bucket holds it, or ``None``; half of one cannot be loaded."""
    if store.size(name) is None:
        return None
    content: dict[str, Any] = torch.load(io.BytesIO(store.read(name)), weights_only=True)
    return content


def fetch(store: Store, folder: Path) -> None:
    """Copy a run out of the bucket."""
    for entry in store.list():
        path = folder / entry.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(store.read(entry.name))


def events_of(store: Store) -> list[tuple[int, str]]:
    """Return step and tag of every scalar in a run's TensorBoard events."""
    from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
    from tensorboard.compat.proto.event_pb2 import Event

    found = []
    for entry in store.list("events.out."):
        for data in RawEventFileLoader(str(store.local(entry.name))).Load():
            event = Event.FromString(data)
            found += [(event.step, value.tag) for value in event.summary.value]
    return found


class SyncDetector(pl.Callback):
    """Counts the steps that are made while something lasts, and then calls someone.

    Args:
        lasts: Whether it does.
        enough: Steps to count.
        call: Whom to call then.
    """

    def __init__(self, lasts: Callable[[], bool], enough: int, call: Callable[[], object]) -> None:
        self.steps = 0
        self._lasts, self._enough, self._call = lasts, enough, call

    def on_train_batch_end(self, *_: object) -> None:
        # Until it has begun the steps bide their time: there are few of them.
        end = time.monotonic() + 0.5
        while not self.steps and not self._lasts() and time.monotonic() < end:
            time.sleep(0.005)
        self.steps += self._lasts()
        if self.steps == self._enough:
            self._call()


def test_steps_go_on_while_a_checkpoint_is_on_its_way(
    fault_proxy: FaultProxy, write_config: Write, bucket: str
):
    arrived = threading.Event()

    def is_under_way() -> bool:
        sent = any("last.ckpt" in request for request in fault_proxy.requests)
        return sent and not arrived.is_set()

    def hold(data: bytes) -> bytes:
        # The gateway says nothing until steps were made: were they to wait for it, they never come.
        if is_under_way():
            arrived.wait(LIMIT_S)
        return data

    fault_proxy.edit = hold
    # Steps enough for some to be left when the first checkpoint is on its way.
    fields: dict[str, Any] = {
        "data__batch_size": 1, "checkpoint__every_minutes": 1e-4, "model__name": "test_vit",
    }  # fmt: skip
    path = write_config("run", **fields, output=f"{bucket}/runs", trainer__max_epochs=1)
    config, folder = load_config(str(path)), RunFolder(connect(f"{bucket}/runs/run"))
    trainer = fit_to_ranks(config.trainer, None)
    config = config.model_copy(update={"trainer": trainer})
    ranks = find_ranks(config.trainer, StopRequest())
    session = open_session(config, folder, ExistingRun(), ranks, Console(file=io.StringIO()))
    detector = SyncDetector(is_under_way, 3, arrived.set)
    session.trainer.callbacks.append(detector)  # type: ignore[attr-defined]
    fit(session, ExistingRun())
    folder.uploads.drain()
    assert detector.steps == 3
    last = load(folder.store)
    assert last is not None and last["rsdl"]["position"]["step"] == 18


@pytest.mark.parametrize("keep", [1, 3])
def test_killed_while_checkpoints_are_under_way_a_run_ends_bit_equal(
    keep: int, rsdl: Rsdl, write_config: Write, run_at: Find, compare_runs: Compare,
    fault_proxy: FaultProxy, bucket: str, tmp_path: Path,
):  # fmt: skip
    fields: dict[str, Any] = {
        "checkpoint__every_minutes": 1e-4, "checkpoint__keep": keep, "trainer__max_epochs": 4,
    }  # fmt: skip
    whole = write_config("whole", **fields)
    killed = write_config("killed", **fields, output=f"{bucket}/runs")
    assert rsdl("train", whole).returncode == 0
    # Slow enough that the next save comes while one is on its way.
    fault_proxy.pause_s = 0.01
    store, moments = connect(f"{bucket}/runs/killed"), random.Random(keep)
    folder, step, deaths, under_way = RunFolder(store), 0, 0, 0
    while True:
        command = rsdl.start("train", killed, env=environment())
        if deaths < 8:
            seen = len(fault_proxy.requests)
            # One that was killed after its last save has none to send: it ends.
            command.wait_for(
                lambda seen=seen, it=command: sent(fault_proxy, seen) or not it.runs(), LIMIT_S
            )
            time.sleep(moments.uniform(0, 0.3))
            under_way += bool(fault_proxy.unanswered)
            command.kill()
        ended = command.wait()
        if ended.returncode == 0:
            break
        assert ended.returncode == -signal.SIGKILL, ended.stderr
        deaths += 1
        last, record = load(store), folder.read_record()
        if last is not None:
            assert record is not None
            check_together(last, load(store, BEST), record)
            assert last["rsdl"]["position"]["step"] >= step, "an older one came back"
            step = last["rsdl"]["position"]["step"]
    assert under_way, "none was killed while it sent something"
    fetch(store, tmp_path / "runs" / "killed")
    compare_runs(run_at("whole"), run_at("killed"))
    kept = [name for name in run_at("killed").names if "/step-" in name]
    assert len(kept) == keep - 1
    assert all(entry["balanced"] for entry in run_at("killed").record["ledger"])


def sent(fault_proxy: FaultProxy, seen: int) -> bool:
    return any("last.ckpt" in r and r.startswith("PUT") for r in fault_proxy.requests[seen:])


def check_together(last: dict[str, Any], best: dict[str, Any] | None, record: RunRecord) -> None:
    """Check that whoever sees the last checkpoint sees all that it builds upon."""
    position = last["rsdl"]["position"]
    validated = position["epoch"] - position["validate"]
    assert {entry.epoch for entry in record.ledger} >= set(range(position["epoch"]))
    if validated:
        assert best is not None and "best" in record.metrics
    if best is not None:
        assert best["global_step"] <= position["step"]
    if "best" in record.metrics:
        assert best is not None and best["epoch"] >= int(record.metrics["best"]["epoch"] or 0)


def test_killed_while_shards_are_on_their_way_the_bucket_has_the_checkpoint_before(
    ranks: Ranks, fault: type[Fault], write_config: Write, run_at: Find, compare_runs: Compare,
    bucket: str, env: dict[str, str], tmp_path: Path,
):  # fmt: skip
    fields: dict[str, Any] = {"model__name": "test_vit", "data__batch_size": 6}
    whole = write_config("whole", **fields)
    killed = write_config("killed", **fields, output=f"{bucket}/runs")
    assert ranks(2, "train", whole, "trainer.strategy=fsdp") == [0, 0], ranks.said(0)

    def train(what: str, rank: int, step: int, stage: str) -> list[int | None]:
        """Train until something becomes of one rank."""
        becomes = fault(what, rank, step, stage)
        return ranks(2, "train", killed, "trainer.strategy=fsdp", fault=becomes, env=env)

    assert train("kill", 1, 1, "saving") == [1, -signal.SIGKILL], ranks.said(0)
    store = connect(f"{bucket}/runs/killed")
    assert read_checkpoint(store, LAST)["rsdl"]["position"]["step"] == 3
    # Whoever exits 75 has seen the index in the bucket.
    assert train("term", 1, 3, "training") == [75, 75], ranks.said(0)
    assert 3 < read_checkpoint(store, LAST)["rsdl"]["position"]["step"] < 9
    assert train("none", 0, 0, "never") == [0, 0], ranks.said(0)
    assert len({entry.name[:-1] for entry in store.list("checkpoints/shards-")}) == 1
    fetch(store, tmp_path / "runs" / "killed")
    compare_runs(run_at("whole"), run_at("killed"))


def test_asked_to_stop_a_run_exits_75_only_when_its_checkpoint_is_in_the_bucket(
    rsdl: Rsdl, write_config: Write, fault_proxy: FaultProxy, bucket: str
):
    config = write_config("run", output=f"{bucket}/runs", trainer__max_epochs=500)
    folder = RunFolder(connect(f"{bucket}/runs/run"))
    fault_proxy.pause_s = 0.02
    command = rsdl.start("train", config, env=environment())
    command.wait_for(lambda: sent(fault_proxy, 0), LIMIT_S)
    command.send(signal.SIGTERM)
    ended = command.wait()
    assert ended.returncode == 75, ended.stderr
    fault_proxy.pause_s = 0
    last, record = load(folder.store), folder.read_record()
    assert last is not None and record is not None
    assert (record.status, record.preemptions) == ("preempted", 1)
    assert last["rsdl"]["position"]["step"] == record.optimizer_steps > 0


def test_a_checkpoint_that_cannot_be_brought_up_ends_the_run_with_its_error(
    rsdl: Rsdl, write_config: Write, running: Gateway, bucket: str, monkeypatch: pytest.MonkeyPatch
):
    config = write_config("run", output=f"{bucket}/runs", trainer__max_epochs=500)
    store = connect(f"{bucket}/runs/run")
    monkeypatch.setenv("RSDL_STORE_DEADLINE_S", "2")
    command = rsdl.start("train", config, env=environment())
    command.wait_for(lambda: store.size(LAST), LIMIT_S)
    running.send(signal.SIGKILL)
    time.sleep(0.5)  # mid-training, with something on its way
    command.send(signal.SIGTERM)
    ended = command.wait()
    assert ended.returncode == 69, ended.stderr  # which Kubernetes tries again, uncounted
    line = ended.stderr.strip().splitlines()[-1]
    assert line.startswith(store.url) and "connection refused; check AWS_ENDPOINT_URL" in line
    running.restart()
    assert load(store) is not None
    reached = position_of(store)
    command = rsdl.start("train", config, env=environment())
    command.wait_for(lambda: position_of(store) > reached, LIMIT_S)
    command.send(signal.SIGTERM)
    assert command.wait().returncode == 75


def test_a_bucket_that_refuses_ends_the_run_with_exit_code_2(
    rsdl: Rsdl, write_config: Write, gateway: Gateway, bucket: str
):
    config = write_config("run", output=f"{bucket}/runs", trainer__max_epochs=500)
    store = connect(f"{bucket}/runs/run")
    command = rsdl.start("train", config, env=environment())
    command.wait_for(lambda: store.size(LAST), LIMIT_S)
    boto, name = gateway.boto(), bucket.removeprefix("s3://")
    while True:
        for item in boto.list_objects_v2(Bucket=name).get("Contents", ()):
            boto.delete_object(Bucket=name, Key=item["Key"])
        try:
            boto.delete_bucket(Bucket=name)
            break
        except boto.exceptions.ClientError:
            continue  # it has written again
    ended = command.wait()
    assert ended.returncode == 2, ended.stderr
    assert "no such bucket; check its name" in ended.stderr.strip().splitlines()[-1]
    with pytest.raises(StorageError):
        store.read(LAST)


def test_a_killed_run_has_its_events_up_to_the_last_save(
    rsdl: Rsdl, write_config: Write, gateway: Gateway, bucket: str
):
    config = write_config("run", output=f"{bucket}/runs", trainer__max_epochs=500)
    store = connect(f"{bucket}/runs/run")
    command = rsdl.start("train", config, env=environment())
    command.wait_for(lambda: position_of(store) >= 8, LIMIT_S)
    command.kill()
    assert command.wait().returncode == -signal.SIGKILL
    reached = position_of(store)
    steps = {step for step, tag in events_of(store) if tag == "train_loss"}
    assert steps >= set(range(1, reached + 1))
    (file,) = store.list("events.out.")
    command = rsdl.start("train", config, env=environment())
    command.wait_for(lambda: position_of(store) > reached, LIMIT_S)
    command.send(signal.SIGTERM)
    assert command.wait().returncode == 75
    assert file in store.list("events.out."), "the earlier file stays"
    steps = {step for step, tag in events_of(store) if tag == "train_loss"}
    assert steps >= set(range(1, position_of(store) + 1))


def position_of(store: Store) -> int:
    last = load(store)
    return 0 if last is None else int(last["rsdl"]["position"]["step"])
