"""MosaicML's MDSWriter, after its guide to converting a data set: one writer per process."""

import random
import shutil
from multiprocessing import get_context
from pathlib import Path

from PIL import Image
from streaming import MDSWriter
from streaming.base.util import merge_index

from benchmarks.harness.task import SHARD_BYTES, Counter, Task, Workload

COLUMNS = {"image": "jpeg", "label": "int"}
Part = tuple[str, list[tuple[Path, int]], list[str]]


def convert(part: Part) -> int:
    """Write one part to its own folder; an opened JPEG is stored as its original bytes."""
    out, images, hashes = part
    with MDSWriter(out=out, columns=COLUMNS, hashes=hashes, size_limit=SHARD_BYTES) as writer:
        for path, label in images:
            writer.write({"image": Image.open(path), "label": label})
    return len(images)


def build(task: Task, *, hashed: bool = False) -> Workload:
    """Return the packer; with two processes the parts' indexes are merged into one.

    Args:
        task: The task.
        hashed: Whether the index holds the SHA-256 of every shard.
    """
    out = Path(task.work) / "mds"
    hashes = ["sha256"] if hashed else []

    def run_epoch(take: Counter) -> None:
        images = task.list_images()
        random.Random(task.seed).shuffle(images)
        if task.workers == 1:
            take.count(convert((str(out), images, hashes)))
            return
        parts = [
            (str(out / str(number)), images[number :: task.workers], hashes)
            for number in range(task.workers)
        ]
        with get_context("fork").Pool(task.workers) as pool:
            for count in pool.imap(convert, parts):
                take.count(count)
        merge_index(str(out), keep_local=True)

    def reset() -> None:
        shutil.rmtree(out, ignore_errors=True)

    return Workload(run_epoch, reset, note=f"processes; index{', SHA-256' if hashed else ''}")
