"""Cost of the decoded cache's checksums for the loader's threads: epochs with and without them.

Packed JPEGs are read by rsdl's loader (random resized crops to 224 px, batches of 64), an epoch at
a time: one that decodes and caches every image; one of a process that reads cached images for the
first time, and verifies each; and later ones of that process, which verify none. For comparison,
one variant verifies at each read, which rsdl does not do. Files are in the page cache.

    python -m benchmarks.loader.decoded_checksums
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from benchmarks.harness.imagery import cut_images
from benchmarks.harness.machine import describe_versions
from benchmarks.harness.measure import Aim, Row, Table, build_result, run_benchmark, take_turns
from rsdl.config.data import DataConfig
from rsdl.core.allocator import keep_freed_memory
from rsdl.core.pixels import Pixels
from rsdl.data.crop import CropRule
from rsdl.data.dataset import DataSet, SplitData, train_plan
from rsdl.data.decoded_cache.file import DecodedFile, Int64s, KeptSamples
from rsdl.data.loader import BatchLoader, LoadRule
from rsdl.data.packing.pack import PackOptions, pack
from rsdl.data.plan import Share
from rsdl.data.sources.folder import FolderSource
from rsdl.storage.connect import connect

OFF, ON, ALWAYS = "without checksums", "with checksums", "checked at each read"
SIDE = 224
COUNTS = {"full": 640, "quick": 192}


class Unchecked(DecodedFile):
    """A decoded cache without checksums."""

    def _checksum(self, sample: int, pixels: Pixels) -> int:
        return 0

    def _matches(self, sample: int, offset: int, height: int, width: int) -> bool:
        return True


class AlwaysChecked(DecodedFile):
    """A decoded cache that verifies every read."""

    def find(self, samples: Int64s) -> KeptSamples:
        """Return the cached samples, marked as not verified yet."""
        self._checked.here[samples] = False
        return super().find(samples)


FILES = {OFF: Unchecked, ON: DecodedFile, ALWAYS: AlwaysChecked}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's own options."""
    add = parser.add_argument
    add("--sizes", type=int, nargs="*", default=[256, 600], help="of the images, px (256 600)")
    add("--threads", type=int, default=2, help="of the loader (%(default)s)")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure; return the result."""
    keep_freed_memory()  # as a run does on a CPU
    with tempfile.TemporaryDirectory() as work:
        tables = [table for size in options.sizes for table in measure(Path(work), size, options)]
    versions = describe_versions(("rsdl-train", "numpy", "simplejpeg", "opencv-python-headless"))
    return build_result(
        "decoded_checksums",
        f"Checksums of the decoded cache: random resized crops to {SIDE} px",
        tables,
        options=vars(options),
        versions=versions,
    )


def measure(work: Path, size: int, options: argparse.Namespace) -> list[Table]:
    """Return the cost of the three kinds of epochs for images of one size."""
    count = COUNTS["quick" if options.quick else "full"]
    url = str(work / f"packed-{size}")
    source = FolderSource(cut_images(work, size=size, count=count), fractions=(1.0, 0.0, 0.0))
    pack(source, connect(url), PackOptions())
    bench = Bench(url, size, work, options.threads)
    bench.fill(ON)  # epochs that only read share one file
    tables = []
    for epoch, ways, turn, bound in (
        ("an epoch that decodes and keeps", (OFF, ON), bench.fill, 1.1),
        ("a process's first epoch of kept pixels", (OFF, ON), bench.read_first, None),
        ("its later epochs of kept pixels", (OFF, ON, ALWAYS), bench.read_later, 1.02),
    ):
        bench.speeds = {way: [] for way in ways}
        turns = {way: Turn(turn, way) for way in ways}
        figures = take_turns(turns, rounds=options.rounds)
        rows = [
            Row(way, values, "", {"images/s": float(np.median(bench.speeds[way][1:]))})
            for way, values in figures.items()
        ]
        table = Table(f"JPEGs of {size} px: {epoch}", "CPU us/image", OFF, rows)
        aims = []
        if bound is not None and (ratio := table.ratio(ON)):
            aims = [Aim(f"CPU time {ON} over {OFF}", ratio.median, bound, at_least=False)]
        tables.append(Table(table.title, table.unit, OFF, rows, aims))
    return tables


class Turn:
    """A kind of epoch with one kind of file."""

    def __init__(self, turn: Any, way: str) -> None:  # noqa: ANN401
        self._turn, self._way = turn, way

    def __call__(self) -> float:
        """Return microseconds of the loader's threads per image."""
        return float(self._turn(self._way))


class Bench:
    """Epochs of one data set.

    Args:
        url: The data set.
        size: Side of its images, in pixels.
        work: Folder for decoded caches.
        threads: Loader threads.

    Attributes:
        speeds: Images per second of each turn, by the kind of file.
    """

    def __init__(self, url: str, size: int, work: Path, threads: int) -> None:
        self._config = DataConfig.model_validate({"url": url, "decoded_cache": "4GB"})
        self._rule = LoadRule(SIDE, CropRule(True), num_workers=threads)
        self._kept, self._work = work / f"kept-{size}", work
        self.speeds: dict[str, list[float]] = {OFF: [], ON: [], ALWAYS: []}

    def fill(self, way: str) -> float:
        """Decode and cache all images; the first call fills the cache that the readers share."""
        if not self._kept.exists():
            with self._open(self._kept, way) as data:
                return self._read(data, way)
        with tempfile.TemporaryDirectory(dir=self._work) as new, self._open(Path(new), way) as data:
            return self._read(data, way)

    def read_first(self, way: str) -> float:
        """Read all images as a process that has read none of them before."""
        with self._open(self._kept, way) as data:
            return self._read(data, way)

    def read_later(self, way: str) -> float:
        """Read all images as a process that has read them before."""
        with self._open(self._kept, way) as data:
            self._read(data, None)
            return self._read(data, way, epochs=8)

    @contextmanager
    def _open(self, folder: Path, way: str) -> Iterator[SplitData]:
        cache = self._config.cache.model_copy(update={"folder": str(folder)})  # type: ignore[union-attr]
        config = self._config.model_copy(update={"cache": cache})
        with patch("rsdl.data.decoded_cache.policy.DecodedFile", FILES[way]):
            data = DataSet(config).split("train", "data.train_split")
            assert data.decoded_cache is not None
            file = data.decoded_cache.file()
        assert isinstance(file, FILES[way]), "no room for the pixels"
        yield data
        file.close()

    def _read(self, data: SplitData, way: str | None, epochs: int = 1) -> float:
        cpu_s, images, begin = 0.0, 0, time.perf_counter()
        for epoch in range(epochs):
            plan = train_plan(self._config, data, seed=0, epoch=epoch)
            loader = BatchLoader(data, plan, Share(), self._rule)
            images += sum(len(batch.samples) for batch in loader)
            cpu_s += loader.cpu_s
        if way is not None:
            self.speeds[way].append(images / (time.perf_counter() - begin))
        return 1e6 * cpu_s / images


def main() -> None:
    """Run the benchmark."""
    run_benchmark(__doc__, add_arguments, run)


if __name__ == "__main__":
    main()
