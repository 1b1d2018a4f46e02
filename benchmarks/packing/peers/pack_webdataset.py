"""webdataset's ShardWriter, after its README: one writer per process."""

import random
import shutil
from multiprocessing import get_context
from pathlib import Path

import webdataset as wds

from benchmarks.harness.task import SHARD_BYTES, Counter, Task, Workload

Part = tuple[str, list[tuple[Path, int]]]


def write(part: Part) -> int:
    """Write one part to its own shards; bytes are stored unchanged."""
    pattern, images = part
    with wds.ShardWriter(pattern, maxsize=SHARD_BYTES, verbose=0) as sink:
        for path, label in images:
            key = f"{path.parent.name}_{path.stem}"
            sink.write({"__key__": key, "jpg": path.read_bytes(), "cls": label})
    return len(images)


def build(task: Task) -> Workload:
    """Return the packer."""
    out = Path(task.work) / "webdataset"

    def run_epoch(take: Counter) -> None:
        images = task.list_images()
        random.Random(task.seed).shuffle(images)
        parts = [
            (str(out / f"train-{number}-%06d.tar"), images[number :: task.workers])
            for number in range(task.workers)
        ]
        if task.workers == 1:
            take.count(write(parts[0]))
            return
        with get_context("fork").Pool(task.workers) as pool:
            for count in pool.imap(write, parts):
                take.count(count)

    def reset() -> None:
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)

    return Workload(run_epoch, reset, note="processes; no index, no checksums")
