"""rsdl's packer: what ``rsdl data pack folder`` runs."""

import contextlib
import shutil
import sys
from pathlib import Path

from benchmarks.peers.task import Counter, Feed, Task
from rsdl.commands.data import pack_folder
from rsdl.data.pack import PackOptions

SHARD_BYTES = 64 << 20


def build(task: Task) -> Feed:
    """Return the packer; each turn packs the whole tree into an empty folder."""
    out = Path(task.work) / "ours"
    count = len(task.list_images())

    def run_epoch(take: Counter) -> None:
        options = PackOptions(shard_bytes=SHARD_BYTES, num_workers=task.workers)
        with contextlib.redirect_stdout(sys.stderr):
            pack_folder(
                task.images, out=str(out), name=None, fractions=(0.8, 0.1, 0.1), seed=task.seed,
                options=options,
            )  # fmt: skip
        take.count(count)

    def reset() -> None:
        shutil.rmtree(out, ignore_errors=True)

    return Feed(run_epoch, reset, note="threads; index, SHA-256, band statistics, fsync")
