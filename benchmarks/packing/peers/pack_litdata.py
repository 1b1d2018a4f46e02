"""LitData's optimize, after its README."""

import random
import shutil
from pathlib import Path

from litdata import optimize

from benchmarks.harness.task import SHARD_BYTES, Counter, Task, Workload
from benchmarks.loader.peers.litdata_streaming import read_sample


def build(task: Task) -> Workload:
    """Return the packer; ``optimize`` starts its own worker processes."""
    out = Path(task.work) / "litdata"

    def run_epoch(take: Counter) -> None:
        images = [(str(path), label) for path, label in task.list_images()]
        random.Random(task.seed).shuffle(images)
        optimize(
            fn=read_sample,
            inputs=images,
            output_dir=str(out),
            chunk_bytes=SHARD_BYTES,
            num_workers=task.workers,
            start_method="fork",
            verbose=False,
        )
        if not (out / "index.json").exists():
            raise RuntimeError("wrote no index.json")
        take.count(len(images))

    def reset() -> None:
        shutil.rmtree(out, ignore_errors=True)

    return Workload(run_epoch, reset, note="processes; index")
