"""rsdl's packer: what ``rsdl data pack folder`` runs."""

import contextlib
import shutil
import sys
from pathlib import Path

from benchmarks.harness.task import SHARD_BYTES, Counter, Task, Workload
from rsdl.commands.data import pack_source
from rsdl.data.packing.pack import PackOptions
from rsdl.data.sources.folder import FolderSource


def build(task: Task, *, sampled: bool = False) -> Workload:
    """Return the packer; each turn packs the whole tree into an empty folder.

    Args:
        task: The task.
        sampled: Whether to decode only a sample of the images.
    """
    out = Path(task.work) / "ours"
    count = len(task.list_images())

    def run_epoch(take: Counter) -> None:
        options = PackOptions(shard_bytes=SHARD_BYTES, num_workers=task.workers)
        with contextlib.redirect_stdout(sys.stderr):
            source = FolderSource(
                Path(task.images), seed=task.seed, decode="sample" if sampled else "all"
            )
            pack_source(source, str(out), options)
        take.count(count)

    def reset() -> None:
        shutil.rmtree(out, ignore_errors=True)

    decoded = "some 250 decoded for statistics" if sampled else "all decoded, checked and measured"
    note = f"threads, a free core hashes; index, SHA-256, fsync; {decoded}"
    return Workload(run_epoch, reset, note=note)
