"""The process of one loader: build it, then run a turn for each request.

    python -m benchmarks.peers.serve MODULE

The protocol is JSON lines: a task comes in, then a number of seconds for each turn; measurements go
to the original standard output. Output of the library goes to stderr.
"""

import importlib
import json
import os
import sys
import time
import traceback
from typing import Any, TextIO

from benchmarks.harness.machine import describe_versions
from benchmarks.peers.catalog import ALL
from benchmarks.peers.task import Counter, Feed, Task


def serve(name: str, inlet: TextIO, outlet: TextIO) -> None:
    """Build the loader called ``name`` and run its turns until ``inlet`` ends."""
    peer = ALL[name]
    task = Task.from_json(inlet.readline())
    try:
        module = importlib.import_module(f"benchmarks.peers.{peer.module}")
        versions = describe_versions((*peer.packages, "torch", "torchvision"))
        feed: Feed = module.build(task, **peer.arguments)
        say(outlet, {"ready": True, "note": feed.note, "versions": versions})
        counter = Counter(task)
        for line in inlet:
            say(outlet, run_turn(feed, counter, float(line)))
    except ModuleNotFoundError as error:
        say(outlet, {"missing": error.name or str(error)})
    except Exception as error:  # any error is reported in the table
        traceback.print_exc()
        say(outlet, {"failed": f"{type(error).__name__}: {error}".splitlines()[0][:200]})


def run_turn(feed: Feed, counter: Counter, seconds: float) -> dict[str, Any]:
    """Run whole epochs for at least ``seconds``, or one epoch if each turn is a first epoch."""
    if feed.reset is not None:
        feed.reset()
    before, begin = counter.images, time.perf_counter()
    while True:
        feed.run_epoch(counter)
        elapsed = time.perf_counter() - begin
        if feed.reset is not None or elapsed >= seconds:
            return {"images": counter.images - before, "seconds": elapsed}


def say(outlet: TextIO, message: dict[str, Any]) -> None:
    """Send one line."""
    outlet.write(json.dumps(message) + "\n")
    outlet.flush()


def main() -> None:
    """Reserve the original stdout for the protocol: output of a library must not break it."""
    outlet = os.fdopen(os.dup(1), "w")
    os.set_inheritable(outlet.fileno(), False)
    os.dup2(2, 1)
    serve(sys.argv[1], sys.stdin, outlet)


if __name__ == "__main__":
    main()
