"""Notes every batch that a rank begins to train on; for the PYTHONPATH of a test's processes.

Each rank writes JSON lines to a file of its own below $RSDL_TRACE: attempt, rank, world size, step,
samples that count. With $RSDL_TRACE_PAUSE a batch takes so many seconds more.
"""

import importlib.abc
import importlib.util
import json
import os
import sys
import time
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any


class Finder(importlib.abc.MetaPathFinder):
    """Wraps the training step as soon as its module is imported."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name != "rsdl.train.module":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        assert spec is not None and spec.loader is not None
        load = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            load(module)
            trace(module.TrainingModule)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def trace(kind: Any) -> None:  # noqa: ANN401
    train = kind.training_step
    rank = os.environ.get("RANK", "0")
    names = ("TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT")
    attempt = "-".join(os.environ.get(name, "") for name in names)
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    path = Path(os.environ["RSDL_TRACE"], f"{time.time_ns()}-{rank}")
    pause_s = float(os.environ.get("RSDL_TRACE_PAUSE", "0"))

    def training_step(self: Any, batch: Any, batch_idx: int) -> Any:  # noqa: ANN401
        pairs = zip(batch.samples.tolist(), batch.valid.tolist(), strict=True)
        rows = [sample for sample, counts in pairs if counts]
        with path.open("a") as stream:
            line = [attempt, int(rank), world_size, self.global_step, rows]
            stream.write(json.dumps(line) + "\n")
        time.sleep(pause_s)
        return train(self, batch, batch_idx)

    kind.training_step = training_step


if "RSDL_TRACE" in os.environ and "train" in sys.argv + sys.orig_argv:
    sys.meta_path.insert(0, Finder())
