"""The process that reads damaged files; it may hang or die, and whoever started it sees that."""

import itertools
import re
import resource
import sys
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import numpy as np

from rsdl.core.errors import RsdlError
from tests.fuzz.targets import Target, mutate

LIMIT_BYTES = 1 << 30
# A reader that asks for more than the limit only ends well because of the limit.
GREEDY = ("insufficient memory", "unable to allocate", "cannot allocate", "memoryerror")

NAMES = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}|/\S+|\d+")  # what differs where the fault does not


def targets_of(module: str) -> dict[str, Target]:
    """Return the targets that a module names."""
    targets: dict[str, Target] = import_module(module).TARGETS
    return targets


def limit_memory() -> None:
    """Let this process take 1 GB more than it has now."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + LIMIT_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def inputs(target: Target, seed: int, first: int) -> Iterator[tuple[int, bytes]]:
    """Yield number and content of each input, from ``first`` on; equal seeds give equal ones."""
    made, fixed = target.make(), target.fixed()
    for number in itertools.count(first):
        if number < len(fixed):
            yield number, fixed[number]
            continue
        rng = np.random.default_rng([seed, number])
        yield number, mutate(made[int(rng.integers(len(made)))], rng)


def attempt(target: Target, data: bytes) -> str | None:
    """Read one input and return what went wrong, ``None`` where nothing did."""
    try:
        target.read(data)
    except RsdlError as error:
        text = str(error)
        if any(words in text.casefold() for words in GREEDY):
            return f"over 1 GB: {text[:200]}"
        return "an error of several lines" if "\n" in text else None
    except BaseException as error:
        return f"{type(error).__name__}: {str(error)[:200]}"
    return None


def work(module: str, name: str, seed: int, first: int, seconds: float, out: Path) -> int:
    """Read inputs until the time is over, and return the exit code.

    The one being read lies in ``out`` as ``NAME.current``, its number in ``NAME.number``.
    """
    target = targets_of(module)[name]
    for whole in target.make():
        target.read(whole)  # a seed that is refused would test little
    limit_memory()
    seen: set[str] = set()
    end, current = time.monotonic() + seconds, out / f"{name}.current"
    number = first
    for number, data in inputs(target, seed, first):
        if time.monotonic() >= end and number >= len(target.fixed()):
            break
        (out / f"{name}.number").write_text(str(number))
        current.write_bytes(data)
        wrong = attempt(target, data)
        if wrong is not None and (kind := NAMES.sub("", wrong)[:60]) not in seen:
            seen.add(kind)
            kept = out / f"{name}-{seed}-{number}"
            kept.write_bytes(data)
            print(f"{name}: {wrong}\n  scripts/fuzz --rerun {kept}", flush=True)
    current.unlink(missing_ok=True)
    (out / f"{name}.number").write_text(str(number))
    return int(bool(seen))


if __name__ == "__main__":
    module, name, seed, first, seconds, folder = sys.argv[1:]
    sys.exit(work(module, name, int(seed), int(first), float(seconds), Path(folder)))
