"""Whether freed memory is kept shows in a process of its own: what it does lasts."""

import os
import platform
import subprocess
import sys

import pytest

from rsdl.core.allocator import VARIABLES

# Touches 64 MB again and again; says what it was told and the pages that the kernel had to map.
PROGRAM = """
import ctypes, resource, sys
from rsdl.core.allocator import keep_freed_memory

def touch():
    block = libc.malloc(64 << 20)
    ctypes.memset(block, 1, 64 << 20)
    libc.free(block)

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes, libc.free.argtypes = [ctypes.c_size_t], [ctypes.c_void_p]
kept = keep_freed_memory() if sys.argv[1] == "keep" else None
touch()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    touch()
faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(kept, faults)
"""
PAGES = 4 * (64 << 20) // 4096


def touch(word: str, env: dict[str, str] | None = None) -> tuple[str, int]:
    command = [sys.executable, "-c", PROGRAM, word]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    kept, faults = done.stdout.split()
    return kept, int(faults)


def test_what_is_freed_is_used_again_without_the_kernel():
    kept, faults = touch("keep")
    if platform.libc_ver()[0] != "glibc":
        assert kept == "False"
        return
    assert kept == "True"
    assert faults < PAGES / 20
    _, before = touch("leave")
    assert before > 4 * faults


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, "131072") for name in VARIABLES),
        ("GLIBC_TUNABLES", "glibc.malloc.trim_threshold=1"),
    ],
)
def test_what_the_user_has_chosen_stands(name: str, value: str):
    kept, _ = touch("keep", {**os.environ, name: value})
    assert kept == "False"
