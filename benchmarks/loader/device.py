"""Batches on the training device: decoded by the host's cores, by the device, or kept there.

The same batches (random resized crops, on the device) are made with ``data.decode=host``, with
``data.decode=device`` and with ``data.resident=on`` while this process is pinned to the first
1, 2, 4, ... cores, with as many loader threads; all are interleaved. Tables say up to how many
cores per GPU the device's decoder is faster. The last table gives the differences of its pixels,
and those with TurboJPEG set to upsample chroma as nvJPEG does. What that does to training,
``benchmarks.trainer.input_pipeline`` shows.

    python -m benchmarks.loader.device [--sizes 150 400 600] [--cores 1 2 4 8]

Without a GPU the CPU acts as the device: that runs the code, and says nothing of GPUs.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.harness.cores import describe_winner, pin_to_cores
from benchmarks.harness.imagery import cut_images
from benchmarks.harness.measure import (
    Row,
    Table,
    build_result,
    interleave,
    pair_ratio,
    run_benchmark,
)
from benchmarks.loader.pixels import compare_pixels
from rsdl.config.data import DataConfig
from rsdl.core.batch import Batch
from rsdl.data.class_balance import repeated_shards
from rsdl.data.crop import CropRule
from rsdl.data.dataset import DataSet, SplitData
from rsdl.data.gpu.decoder import DeviceDecoder
from rsdl.data.gpu.loader import DeviceLoader
from rsdl.data.gpu.read_split import estimate_pixels, read_split
from rsdl.data.gpu.resident import ResidentLoader
from rsdl.data.loader import BatchLoader, LoadRule
from rsdl.data.packing.pack import PackOptions, pack
from rsdl.data.plan import SamplingPlan, Share
from rsdl.data.shuffle import GlobalOrder, OrderRule
from rsdl.data.sources.folder import FolderSource
from rsdl.storage.connect import connect

OpenLoader = Callable[[SamplingPlan, LoadRule], Iterable[Batch]]
HOST, DEVICE, RESIDENT = "host", "device", "resident"
REPEATS = 1000  # of every image in an epoch, so that no epoch ends before its turn
WARM_BATCHES = 6  # those prefetched at the start, which do not count


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's own options."""
    add = parser.add_argument
    add("--sizes", type=int, nargs="+", default=[150, 400, 600], help="px of JPEGs (150 400 600)")
    add("--cores", type=int, nargs="+", help="per GPU (1 2 4 ... to all that there are)")
    add("--batch-size", type=int, default=64, help="images (%(default)s)")
    add("--image-size", type=int, default=224, help="px of the crop (%(default)s)")
    add("--count", type=int, help="images of each size (1280; quick: 256)")
    add("--seconds", type=float, help="that a turn takes (3; quick: 0.5)")
    add("--device", help="cuda:0 or cpu (a GPU, where there is one)")
    add("--work", type=Path, help="folder for what is made once (default: a temporary one)")


@dataclass(frozen=True, slots=True)
class Settings:
    """What all measurements share.

    Attributes:
        device: Device that the batches are for.
        cores: Numbers of cores to try, ascending.
        batch_size: Images of a batch.
        image_size: Side of a crop in pixels.
        seconds: Duration of a turn.
        rounds: Rounds that count.
    """

    device: torch.device
    cores: Sequence[int]
    batch_size: int
    image_size: int
    seconds: float
    rounds: int

    @property
    def place(self) -> str:
        """The device's name; for a CPU, with a remark that the values do not apply to GPUs."""
        if self.device.type == "cuda":
            return torch.cuda.get_device_name(self.device)
        return "device=cpu, which says nothing of GPUs"


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure; return the result."""
    settings = read_options(options)
    tables: list[Table] = []
    with tempfile.TemporaryDirectory() as folder:
        work = (options.work or Path(folder)).resolve()
        count = options.count or (256 if options.quick else 1280)
        for size in options.sizes[:1] if options.quick else options.sizes:
            images = cut_images(work / "imagery", size=size, count=count)
            url = str(work / f"shards-{size}px-{count}")
            pack(FolderSource(images, fractions=(1.0, 0.0, 0.0)), connect(url), PackOptions())
            data = DataSet(DataConfig(url=url, decoded_cache="off"))
            tables.append(measure(settings, data, f"JPEGs of {size} px"))
            tables.append(compare_pixels(images, size, settings.image_size, settings.device))
    title = f"Batches on the device, decoded by the host or the device; {settings.place}"
    return build_result("device", title, tables, options=vars(options))


def read_options(options: argparse.Namespace) -> Settings:
    """Return the settings from the options."""
    device = torch.device(options.device or ("cuda:0" if torch.cuda.is_available() else "cpu"))
    usable = len(os.sched_getaffinity(0))
    powers = [2**power for power in range(usable.bit_length()) if 2**power <= usable]
    cores = sorted(set(options.cores or [*powers, usable]))
    if cores[0] < 1 or cores[-1] > usable:
        raise SystemExit(f"--cores: from 1 to the {usable} that may be used, not {cores}")
    return Settings(
        device=device,
        cores=cores,
        batch_size=options.batch_size,
        image_size=options.image_size,
        seconds=options.seconds or (0.5 if options.quick else 3.0),
        rounds=options.rounds,
    )


def measure(settings: Settings, dataset: DataSet, what: str) -> Table:
    """Interleave all loaders; return a table that says where the device's decoder is faster."""
    data = dataset.split("train", "data.train_split")
    device, pixels = settings.device, estimate_pixels(data)
    decoder = DeviceDecoder(device)
    kept = read_split(data, device, expected=pixels, limit=1 << 62, num_workers=settings.cores[-1])
    ways: dict[str, OpenLoader] = {
        HOST: lambda plan, rule: BatchLoader(data, plan, Share(), rule),
        DEVICE: lambda plan, rule: DeviceLoader(data, plan, Share(), rule, decoder=decoder),
        RESIDENT: lambda plan, rule: ResidentLoader(kept, plan, Share(), rule),
    }
    plan = make_long_plan(data, settings.batch_size)
    loading = {
        name_of(way, cores): Loading(settings, open_loader, plan, cores)
        for cores in settings.cores
        for way, open_loader in ways.items()
    }
    values = interleave(loading, rounds=settings.rounds)
    ratios: dict[int, float] = {}
    for cores in settings.cores:
        ratio = pair_ratio(values[name_of(DEVICE, cores)], values[name_of(HOST, cores)])
        assert ratio is not None, "both have been measured in every round"
        ratios[cores] = ratio.median
    rows = []
    for name, one in loading.items():
        cpu_ms = statistics.median(one.cpu_ms[-settings.rounds :])
        rows.append(Row(name, values[name], facts={"CPU ms/image": cpu_ms}))
    crop = f"{settings.image_size} px, batches of {settings.batch_size}"
    title = f"{what} to {crop}; {settings.place}: {describe_winner(ratios)}"
    return Table(title, "images/s", name_of(HOST, settings.cores[0]), rows)


def name_of(way: str, cores: int) -> str:
    """Return the name of a row."""
    return f"{way}, {cores} core{'' if cores == 1 else 's'}"


def make_long_plan(data: SplitData, batch_size: int) -> SamplingPlan:
    """Return the plan of an epoch that no turn reaches the end of."""
    repeats = np.full(len(data.index), REPEATS)
    order = GlobalOrder(repeated_shards(data.index.shard_samples, repeats), OrderRule(0, 0))
    return SamplingPlan(order, global_batch=batch_size, repeats=repeats)


class Loading:
    """One way of loading on a number of cores.

    Args:
        settings: The settings.
        open_loader: Returns a loader.
        plan: What it loads.
        cores: Cores, and loader threads.
    """

    def __init__(
        self, settings: Settings, open_loader: OpenLoader, plan: SamplingPlan, cores: int
    ) -> None:
        self.cpu_ms: list[float] = []  # per image, of each turn
        self._settings, self._open, self._plan, self._cores = settings, open_loader, plan, cores

    def __call__(self) -> float:
        """Return images per second, after the pipeline has filled."""
        num, begin, cpu_s = 0, 0.0, 0.0
        with pin_to_cores(self._cores), closing(self._batches()) as batches:
            for number, batch in enumerate(batches, 1):
                if number <= WARM_BATCHES:
                    synchronize(self._settings.device)
                    begin, cpu_s = time.perf_counter(), time.process_time()
                    continue
                num += len(batch)
                if time.perf_counter() - begin > self._settings.seconds:
                    break
            synchronize(self._settings.device)
            seconds = time.perf_counter() - begin
        self.cpu_ms.append(1e3 * (time.process_time() - cpu_s) / num)
        return num / seconds

    def _batches(self) -> Generator[Batch, None, None]:
        device = self._settings.device
        rule = LoadRule(
            self._settings.image_size,
            CropRule(True),
            num_workers=self._cores,
            pin_memory=device.type == "cuda",
        )
        for batch in self._open(self._plan, rule):
            yield batch.to(device)


def synchronize(device: torch.device) -> None:
    """Wait for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def main() -> None:
    """Run the benchmark."""
    run_benchmark(__doc__, add_arguments, run)


if __name__ == "__main__":
    main()
