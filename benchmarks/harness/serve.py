"""The process of one peer: build it, then run a turn for each request.

    python -m benchmarks.harness.serve

The protocol is JSON lines: a request with module and task comes in, then a number of seconds for
each turn; measurements go to the original standard output. Output of the library goes to stderr.
"""

import importlib
import json
import os
import sys
import time
import traceback
from typing import Any, TextIO

from benchmarks.harness.machine import describe_versions
from benchmarks.harness.task import Counter, Task, Workload


def serve(inlet: TextIO, outlet: TextIO) -> None:
    """Build the peer of the first line and run its turns until ``inlet`` ends."""
    request = json.loads(inlet.readline())
    task = Task.from_json(request["task"])
    try:
        module = importlib.import_module(request["module"])
        workload: Workload = module.build(task, **request["arguments"])
        versions = describe_versions((*request["packages"], "torch", "torchvision"))
        send(outlet, {"note": workload.note, "versions": versions})
        counter = Counter(task)
        for line in inlet:
            send(outlet, run_turn(workload, counter, float(line)))
    except ModuleNotFoundError as error:
        send(outlet, {"missing": error.name or str(error)})
    except Exception as error:  # any error is reported in the table
        traceback.print_exc()
        send(outlet, {"failed": f"{type(error).__name__}: {error}".splitlines()[0][:200]})


def run_turn(workload: Workload, counter: Counter, seconds: float) -> dict[str, Any]:
    """Run whole epochs for at least ``seconds``, or one epoch if each turn is a first epoch."""
    if workload.reset is not None:
        workload.reset()
    before, begin = counter.images, time.perf_counter()
    while True:
        workload.run_epoch(counter)
        elapsed = time.perf_counter() - begin
        if workload.reset is not None or elapsed >= seconds:
            return {"images": counter.images - before, "seconds": elapsed}


def send(outlet: TextIO, message: dict[str, Any]) -> None:
    """Send one line."""
    outlet.write(json.dumps(message) + "\n")
    outlet.flush()


def main() -> None:
    """Reserve the original stdout for the protocol: output of a library must not break it."""
    outlet = os.fdopen(os.dup(1), "w")
    os.set_inheritable(outlet.fileno(), False)
    os.dup2(2, 1)
    serve(sys.stdin, outlet)


if __name__ == "__main__":
    main()
