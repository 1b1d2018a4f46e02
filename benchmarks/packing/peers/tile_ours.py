"""rsdl's tiling: what ``rsdl data pack geotiff`` runs."""

import contextlib
import shutil
import sys
from pathlib import Path

from benchmarks.harness.task import Counter, Task, Workload
from rsdl.commands.data import pack_geotiff
from rsdl.data.manifest import load_manifest
from rsdl.data.packing.pack import PackOptions
from rsdl.data.sources.geotiff_options import GeotiffOptions
from rsdl.storage.connect import connect


def build(task: Task) -> Workload:
    """Return the tiler; ``task.images`` is the scene, with its labels in the same folder."""
    out = Path(task.work) / "tiles"
    scene = Path(task.images)

    def run_epoch(take: Counter) -> None:
        cut = GeotiffOptions(
            scenes=(str(scene),),
            labels=str(scene.with_suffix(".geojson")),
            tile=task.image_size,
            split_by="block",
            fractions=(1.0, 0.0, 0.0),
        )
        with contextlib.redirect_stdout(sys.stderr):
            pack_geotiff(cut, out=str(out), options=PackOptions(num_workers=task.workers))
        splits = load_manifest(connect(str(out))).splits.values()
        take.count(sum(split.samples for split in splits))

    def reset() -> None:
        shutil.rmtree(out, ignore_errors=True)

    note = "threads, a free core hashes; labels, index, SHA-256, band statistics, fsync"
    return Workload(run_epoch, reset, note=note)
