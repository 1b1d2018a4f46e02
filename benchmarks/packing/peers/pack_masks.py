"""rsdl's packer of images with masks: what ``rsdl data pack masks`` runs."""

import contextlib
import shutil
import sys
from pathlib import Path

from benchmarks.harness.imagery import NUM_CLASSES, masks_of
from benchmarks.harness.task import SHARD_BYTES, Counter, Task, Workload
from rsdl.commands.data import pack_source
from rsdl.data.packing.pack import PackOptions
from rsdl.data.sources.mask_folder import MaskOptions, MaskSource
from rsdl.data.sources.mask_pairs import pair_folders

CLASSES = tuple(f"class_{number}" for number in range(NUM_CLASSES))


def build(task: Task) -> Workload:
    """Return the packer; each turn packs both trees into an empty folder."""
    images, out = Path(task.images), Path(task.work) / "masks"
    count = len(task.list_images())

    def run_epoch(take: Counter) -> None:
        options = PackOptions(shard_bytes=SHARD_BYTES, num_workers=task.workers)
        with contextlib.redirect_stdout(sys.stderr):
            pairs = pair_folders(images, masks_of(images))
            source = MaskSource(pairs, MaskOptions(seed=task.seed, classes=CLASSES))
            pack_source(source, str(out), options)
        take.count(count)

    def reset() -> None:
        shutil.rmtree(out, ignore_errors=True)

    return Workload(run_epoch, reset, note="as images alone; masks checked, counted, encoded anew")
