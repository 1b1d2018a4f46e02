"""The launching thread's time is told apart: at work, without a core, waiting for the lock."""

import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
import torch

from benchmarks.trainer.gil_contention import (
    ALONE,
    KEPT,
    PROCESS,
    THREADS,
    Launcher,
    Spent,
    make_table,
    pack_images,
    read_batches,
)


def test_time_without_a_core_is_nobodys_loss():
    assert Spent(1.0, 0.6, 0.4).lost_pct == pytest.approx(0.0)
    assert Spent(1.0, 0.6, 0.2).lost_pct == pytest.approx(25.0)
    assert Spent(1.0, 1.001, 0.0).lost_pct == 0.0


def test_sleeping_is_lost_time_and_working_is_not():
    begin = Spent.now()
    time.sleep(0.05)
    asleep = Spent.now().since(begin, Spent())
    assert asleep.wall_s - asleep.cpu_s - asleep.queue_s > 0.03  # some of it is measuring
    begin = Spent.now()
    end = time.thread_time() + 0.05
    while time.thread_time() < end:
        pass
    both = Spent.now().since(begin, asleep)
    assert both.cpu_s >= asleep.cpu_s + 0.05


def test_a_thread_that_holds_the_lock_is_seen_to_cost_the_one_that_launches():
    launcher, stop = Launcher(seconds=0.01), threading.Event()

    def hold() -> None:
        while not stop.is_set():
            sum(range(10_000))  # never lets go before it is asked to

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        beside = launcher.run(5, None)
    finally:
        stop.set()
        thread.join()
    assert beside.lost_pct > 1


def test_waiting_for_a_batch_is_no_part_of_a_step():
    spent = Launcher(seconds=0.001).run(3, lambda: time.sleep(0.02))
    assert spent.fetch_s >= 0.06


def test_the_aim_is_missed_where_threads_cost_more_than_a_process():
    free, held = [Spent(1.0, 1.0)] * 3, [Spent(1.0, 0.95)] * 3
    spent = {ALONE: free, PROCESS: free, THREADS: held, KEPT: free}
    assert [aim.met for aim in make_table(1000, 10, spent).aims] == [False, True]
    assert all(aim.met for aim in make_table(1000, 10, spent | {PROCESS: held}).aims)
    busy = [Spent(2.0, 1.0, 1.0)] * 3
    for name in (THREADS, KEPT):
        table = make_table(1000, 10, spent | {name: busy})
        assert not table.aims and "no verdict" in table.title


def test_kept_pixels_are_read_as_any_others(tmp_path: Path):
    url = pack_images(tmp_path, size=32)
    found = []
    for kept in (False, True, True):
        with closing(read_batches(url, 32, threads=1, kept=kept)) as batches:
            found.append([next(batches).images for _ in range(3)])
    for step in zip(*found, strict=True):
        assert all(torch.equal(images, step[0]) for images in step)
    assert list(tmp_path.glob("*-pixels/decoded/*"))
