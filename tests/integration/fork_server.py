"""A process that has imported everything and forks one for each command of ``rsdl``.

Run as a script, with one JSON request a line on stdin. Every command is a process of its own that
can be signalled and killed like any other; only the seconds of importing torch are spent once. It
imports, but never computes before it forks: a fork does not take threads along.

A request may hold ``die``: how often the process may call ``os.fsync``, ``os.replace`` and
``os.pread`` before it is killed by SIGKILL, which hits it in the midst of writing and of reading.
It may hold ``tell``: a function, the number of one of its calls, and a file that appears when that
call begins, so that whoever watches can strike at that time. SIGUSR1 makes a command write on
stderr where each of its threads is.
"""

import atexit
import faulthandler
import functools
import gc
import importlib
import itertools
import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Any


def main() -> None:
    """Serve requests until stdin ends."""
    import numpy  # noqa: F401
    import pytorch_lightning  # noqa: F401
    import timm  # noqa: F401

    import rsdl.commands.data
    import rsdl.commands.evaluate
    import rsdl.commands.train_rank  # noqa: F401

    # Children look through what is theirs alone when they clear up.
    gc.collect()
    gc.freeze()
    answer({"ready": os.getpid()})
    for line in sys.stdin:
        request = json.loads(line)
        pid = os.fork()
        if not pid:
            become(request)
        answer({"pid": pid})
        _, status = os.waitpid(pid, 0)
        answer({"returncode": os.waitstatus_to_exitcode(status)})
    gc.unfreeze()


def answer(content: dict[str, Any]) -> None:
    """Write one line of JSON."""
    print(json.dumps(content), flush=True)


def become(request: dict[str, Any]) -> None:
    """Be the command that is asked for, and end with its exit code."""
    for descriptor, path in ((0, os.devnull), (1, request["stdout"]), (2, request["stderr"])):
        opened = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        os.dup2(opened, descriptor)
        os.close(opened)
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w", buffering=1)
    os.chdir(request["cwd"])
    os.environ.update(request["env"])
    sys.argv = ["rsdl", *request["arguments"]]
    # As in a terminal: whatever was started in the background has been told to ignore it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    faulthandler.register(signal.SIGUSR1, file=sys.stderr)
    if request["tell"] is not None:
        tell_of(*request["tell"])
    if request["die"] is not None:
        die_after(request["die"])
    code: object = 0
    try:
        from rsdl.cli import main as command

        command()
    except SystemExit as error:
        code = error.code
    finally:
        # As at the end of any interpreter: what the last reference holds is let go.
        atexit._run_exitfuncs()
        gc.collect()
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 0 if code is None else 1)


def die_after(calls: int) -> None:
    """Kill this process at one of its next system calls."""
    count = itertools.count()
    for name in ("fsync", "replace", "pread"):
        setattr(os, name, _counted(getattr(os, name), count, calls))


def tell_of(function: str, call: int, path: str) -> None:
    """Make a file when a function (``module:Class.method``) begins its so-manieth call, from 1."""
    module, _, name = function.partition(":")
    *owners, name = name.split(".")
    owner = functools.reduce(getattr, owners, importlib.import_module(module))
    told, count = getattr(owner, name), itertools.count(1)

    @functools.wraps(told)
    def telling(*args: object, **named: object) -> object:
        if next(count) == call:
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
        return told(*args, **named)

    setattr(owner, name, telling)


def _counted(
    call: Callable[..., object], count: "itertools.count[int]", limit: int
) -> Callable[..., object]:
    def counted(*args: object) -> object:
        if next(count) >= limit:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*args)

    return counted


if __name__ == "__main__":
    main()
