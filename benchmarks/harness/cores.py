"""Restrict a process to some cores, and find the core count up to which one way is faster."""

import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch


@contextmanager
def pin_to_cores(cores: int) -> Iterator[None]:
    """Pin every thread of this process to the first ``cores`` cores; new threads inherit that."""
    every, threads = sorted(os.sched_getaffinity(0)), torch.get_num_threads()
    move_threads(every[:cores])
    torch.set_num_threads(cores)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        move_threads(every)


def move_threads(cores: Sequence[int]) -> None:
    """Pin all threads of this process to these cores."""
    for thread in os.listdir("/proc/self/task"):
        try:
            os.sched_setaffinity(int(thread), cores)
        except ProcessLookupError:  # the thread has ended meanwhile
            continue


def describe_winner(ratios: Mapping[int, float]) -> str:
    """Return up to how many cores per GPU the device is faster, as text.

    Args:
        ratios: Speed of the device over that of the host, by cores.
    """
    cores = sorted(ratios)
    wins = list(itertools.takewhile(lambda each: ratios[each] > 1, cores))
    if not wins:
        return f"the host wins from {cores[0]} core{'' if cores[0] == 1 else 's'} per GPU on"
    if wins == cores:
        return f"the device wins at all that were tried, up to {cores[-1]} cores per GPU"
    return f"the device wins up to {wins[-1]} per GPU, and no more at {cores[len(wins)]} cores"
