"""A process that has imported everything and forks the ranks of a run, as torchrun starts them.

Run as a script, with one JSON request a line on stdin; see ``fork_server.py`` for why it forks.
Each rank writes what it says to ``rank-N.err`` and ``rank-N.out``, and each training batch that it
sees to ``rank-N.trace``. A request may hold a ``fault``: what becomes of one rank at one batch.
"""

import itertools
import json
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP, "term": signal.SIGTERM}


def main() -> None:
    """Serve requests until stdin ends."""
    import numpy  # noqa: F401
    import pytorch_lightning  # noqa: F401
    import timm  # noqa: F401

    import rsdl.commands.train_rank  # noqa: F401

    answer([os.getpid()])
    for line in sys.stdin:
        request = json.loads(line)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        pids = []
        for rank in range(request["num_ranks"]):
            pid = os.fork()
            if not pid:
                become(request, rank, port)
            pids.append(pid)
        answer(wait(pids, request["limit_s"]))


def answer(content: list[int | None]) -> None:
    """Write one line of JSON."""
    print(json.dumps(content), flush=True)


def wait(pids: list[int], limit_s: float) -> list[int | None]:
    """Return exit codes; ``None`` for what had to be killed: it was stopped, or late."""
    codes: dict[int, int | None] = {}
    end = time.monotonic() + limit_s
    while len(codes) < len(pids) and time.monotonic() < end:
        pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED)
        if not pid:
            time.sleep(0.01)
        else:
            codes[pid] = None if os.WIFSTOPPED(status) else os.waitstatus_to_exitcode(status)
    for pid in pids:
        if codes.get(pid) is None:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    return [codes.get(pid) for pid in pids]


def become(request: dict[str, Any], rank: int, port: int) -> None:
    """Be one rank, and end with its exit code."""
    folder = Path(request["cwd"])
    for descriptor, name in ((0, os.devnull), (1, f"rank-{rank}.out"), (2, f"rank-{rank}.err")):
        opened = os.open(folder / name, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        os.dup2(opened, descriptor)
        os.close(opened)
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w", buffering=1)
    os.chdir(folder)
    os.environ.update(request["env"])
    size = str(request["world_size"])
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": size}
    os.environ |= {"LOCAL_WORLD_SIZE": size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    sys.argv = ["rsdl", *request["arguments"]]
    watch_batches(folder / f"rank-{rank}.trace", rank, request["fault"])
    code: object = 0
    try:
        from rsdl.cli import main as command

        command()
    except SystemExit as error:
        code = error.code
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 0 if code is None else 1)


def watch_batches(trace: Path, rank: int, fault: dict[str, Any] | None) -> None:
    """Note every batch that is trained on, and do what the fault says at its place."""
    from rsdl.data.datamodule import DataModule
    from rsdl.train.module import TrainingModule
    from rsdl.train.shards import OwnShards

    trace.unlink(missing_ok=True)
    train, validate = TrainingModule.training_step, TrainingModule.validation_step
    feed, write, writes = DataModule.train_dataloader, OwnShards.write, itertools.count()

    def act(stage: str, step: int) -> None:
        if fault is None or (rank, stage, step) != (
            fault["rank"],
            fault["stage"],
            fault["step"],
        ):
            return
        if fault["what"] == "raise":
            raise ArithmeticError("the rank's own trouble")
        os.kill(os.getpid(), SIGNALS[fault["what"]])

    def training_step(self: Any, batch: Any, batch_idx: int) -> Any:  # noqa: ANN401
        with trace.open("a") as stream:
            valid = batch.valid.tolist()
            rows = [s for s, counts in zip(batch.samples.tolist(), valid, strict=True) if counts]
            stream.write(json.dumps([self.global_step, rows]) + "\n")
        act("training", self.global_step)
        return train(self, batch, batch_idx)

    def validation_step(self: Any, batch: Any, batch_idx: int) -> Any:  # noqa: ANN401
        act("validation", self.global_step)
        return validate(self, batch, batch_idx)

    def train_dataloader(self: Any) -> Any:  # noqa: ANN401
        act("feeding", self.trainer.global_step)
        return feed(self)

    def write_shards(self: Any, path: Path) -> None:  # noqa: ANN401
        write(self, path)
        act("saving", next(writes))  # before the file has its name

    OwnShards.write = write_shards  # type: ignore[method-assign]
    DataModule.train_dataloader = train_dataloader  # type: ignore[method-assign]
    TrainingModule.training_step = training_step  # type: ignore[method-assign]
    TrainingModule.validation_step = validation_step  # type: ignore[method-assign]


if __name__ == "__main__":
    main()
