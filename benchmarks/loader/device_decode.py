"""Decoding JPEGs on the host's cores or on the training device, by number of cores per GPU.

The same batches (random resized crops, on the device) are made with ``data.decode=host`` and
``data.decode=device`` while this process is pinned to the first 1, 2, 4, ... cores, with as many
loader threads; both are interleaved. Then a network trains on them, compared with the same training
on one batch that stays on the device, which shows what decoding on the device costs it. These
tables say up to how many cores per GPU the device is faster. The last one gives the differences of
the pixels, and those with TurboJPEG set to upsample chroma as nvJPEG does.

    python -m benchmarks.loader.device_decode [--sizes 150 400 600] [--cores 1 2 4 8] [--model NAME]

Without a GPU the CPU acts as the device: that runs the code, and says nothing of GPUs.
"""

import argparse
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch

from benchmarks.harness.cores import hold_on, tell_winner
from benchmarks.harness.imagery import cut_images
from benchmarks.harness.measure import (
    Row,
    Table,
    build_result,
    pair_ratio,
    run_benchmark,
    take_turns,
)
from benchmarks.loader.pixels import compare_pixels
from rsdl.config.data import AugmentConfig, DataConfig
from rsdl.core.batch import Batch
from rsdl.data.augment import Augment
from rsdl.data.class_balance import repeated_shards
from rsdl.data.crop import CropRule
from rsdl.data.dataset import DataSet
from rsdl.data.gpu.decoder import DeviceDecoder
from rsdl.data.gpu.loader import DeviceLoader
from rsdl.data.loader import BatchLoader, LoadRule
from rsdl.data.packing.pack import PackOptions, pack
from rsdl.data.plan import SamplingPlan, Share
from rsdl.data.shuffle import GlobalOrder, OrderRule
from rsdl.data.sources.folder import FolderSource
from rsdl.storage.connect import connect

WAYS = ("host", "device")
MEMORY = "one batch in memory"
REPEATS = 1000  # of every image in an epoch, so that no epoch ends before its turn


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's own options."""
    add = parser.add_argument
    add("--sizes", type=int, nargs="+", default=[150, 400, 600], help="px of JPEGs (150 400 600)")
    add("--cores", type=int, nargs="+", help="per GPU (1 2 4 ... to all that there are)")
    add("--batch-size", type=int, default=64, help="images (%(default)s)")
    add("--image-size", type=int, default=224, help="px of the crop (%(default)s)")
    add("--model", help="network to train (resnet50; without a GPU test_resnet)")
    add("--no-training", action="store_true", help="load only")
    add("--count", type=int, help="images of each size (1280; quick: 256)")
    add("--seconds", type=float, help="that a turn takes (3; quick: 0.5)")
    add("--device", help="cuda:0 or cpu (a GPU, where there is one)")
    add("--work", type=Path, help="folder for what is made once (default: a temporary one)")


@dataclass(frozen=True, slots=True)
class Bench:
    """Settings of all measurements.

    Attributes:
        device: Device that decodes and trains.
        cores: Numbers of cores to try, ascending.
        batch_size: Images of a batch.
        image_size: Side of a crop in pixels.
        seconds: Duration of a turn.
        rounds: Rounds that count.
        model: Network to train; ``None`` trains none.
    """

    device: torch.device
    cores: Sequence[int]
    batch_size: int
    image_size: int
    seconds: float
    rounds: int
    model: str | None

    @property
    def place(self) -> str:
        """The device's name; for a CPU, with a remark that the values do not apply to GPUs."""
        if self.device.type == "cuda":
            return torch.cuda.get_device_name(self.device)
        return "device=cpu, which says nothing of GPUs"


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure; return the result."""
    bench = read_options(options)
    tables: list[Table] = []
    with tempfile.TemporaryDirectory() as folder:
        work = (options.work or Path(folder)).resolve()
        count = options.count or (256 if options.quick else 1280)
        for size in options.sizes[:1] if options.quick else options.sizes:
            images = cut_images(work / "imagery", size=size, count=count)
            url = str(work / f"shards-{size}px-{count}")
            pack(FolderSource(images, fractions=(1.0, 0.0, 0.0)), connect(url), PackOptions())
            config = DataConfig(url=url, decoded_cache="off", batch_size=bench.batch_size)
            data = DataSet(config)
            what = f"JPEGs of {size} px"
            tables += measure(bench, data, what)
            tables.append(compare_pixels(images, size, bench.image_size, bench.device))
    title = f"Decoding JPEGs on the host or on the device; {bench.place}"
    return build_result("device_decode", title, tables, options=vars(options))


def read_options(options: argparse.Namespace) -> Bench:
    """Return the settings from the options."""
    on_gpu = torch.cuda.is_available()
    device = torch.device(options.device or ("cuda:0" if on_gpu else "cpu"))
    usable = len(os.sched_getaffinity(0))
    powers = [2**power for power in range(usable.bit_length()) if 2**power <= usable]
    cores = sorted(set(options.cores or [*powers, usable]))
    if cores[0] < 1 or cores[-1] > usable:
        raise SystemExit(f"--cores: from 1 to the {usable} that may be used, not {cores}")
    model = options.model or ("resnet50" if device.type == "cuda" else "test_resnet")
    return Bench(
        device=device,
        cores=cores,
        batch_size=options.batch_size,
        image_size=options.image_size,
        seconds=options.seconds or (0.5 if options.quick else 3.0),
        rounds=options.rounds,
        model=None if options.no_training else model,
    )


def measure(bench: Bench, data: DataSet, what: str) -> list[Table]:
    """Return the tables of loading speed and of training speed."""
    decoder = DeviceDecoder(bench.device)
    contenders = {
        name_of(way, cores): Turn(bench, data, cores, decoder if way == "device" else None)
        for cores in bench.cores
        for way in WAYS
    }
    crop = f"{bench.image_size} px, batches of {bench.batch_size}"
    tables = [build_table(bench, contenders, f"{what} as batches on the device, {crop}")]
    if bench.model is not None:
        step = train_on(bench, data, bench.model)
        training = {name: replace_use(turn, step) for name, turn in contenders.items()}
        training[MEMORY] = Turn(bench, data, bench.cores[-1], None, step, held=True)
        tables.append(build_table(bench, training, f"{bench.model} training on {what}, {crop}"))
    return tables


def name_of(way: str, cores: int) -> str:
    """Return a contender's name."""
    return f"{way}, {cores} core{'' if cores == 1 else 's'}"


def look_at(batch: Batch) -> None:
    """Discard a batch: only its transfer to the device is measured."""


class Turn:
    """One way of loading on a number of cores.

    Args:
        bench: The settings.
        data: The data set; all of it is its train split.
        cores: Cores, and loader threads.
        decoder: The device's decoder; ``None`` decodes on the host.
        use: Called with each batch.
        held: Batch to use repeatedly instead of loading.
    """

    def __init__(
        self,
        bench: Bench,
        data: DataSet,
        cores: int,
        decoder: DeviceDecoder | None,
        use: Callable[[Batch], None] = look_at,
        *,
        held: bool = False,
    ) -> None:
        self.given = (bench, data, cores, decoder)
        self.cpu_ms: list[float] = []  # per image, of each turn
        self._use = use
        self._held = held

    def __call__(self) -> float:
        """Return images per second, after the pipeline has filled."""
        bench, _, cores, _ = self.given
        with hold_on(cores), closing(self._batches()) as batches:
            num = 0
            for number, batch in enumerate(batches):
                self._use(batch)
                if number == 5:  # the batches prefetched at the start are consumed
                    synchronize(bench.device)
                    num, begin, work = 0, time.perf_counter(), time.process_time()
                    continue
                num += len(batch)
                if number > 6 and time.perf_counter() - begin > bench.seconds:
                    break
            synchronize(bench.device)
            passed = time.perf_counter() - begin
        self.cpu_ms.append(1e3 * (time.process_time() - work) / num)
        return num / passed

    def _batches(self) -> Generator[Batch, None, None]:
        loader, device = self.open_loader(), self.given[0].device
        if self._held:
            yield from itertools.repeat(next(iter(loader)).to(device))
        for batch in loader:
            yield batch.to(device)

    def open_loader(self) -> BatchLoader:
        """Return a loader for a long epoch."""
        bench, dataset, cores, decoder = self.given
        data = dataset.split("train", "data.train_split")
        repeats = np.full(len(data.index), REPEATS)
        order = GlobalOrder(repeated_shards(data.index.shard_samples, repeats), OrderRule(0, 0))
        plan = SamplingPlan(order, global_batch=bench.batch_size, repeats=repeats)
        config = dataset.config
        crop = CropRule(True, config.crop_scale, config.crop_ratio)
        rule = LoadRule(
            bench.image_size, crop, num_workers=cores, pin_memory=bench.device.type == "cuda"
        )
        if decoder is None:
            return BatchLoader(data, plan, Share(), rule)
        return DeviceLoader(data, plan, Share(), rule, decoder=decoder)


def replace_use(turn: Turn, use: Callable[[Batch], None]) -> Turn:
    """Return the same way of loading with another use of the batches."""
    return Turn(*turn.given, use)


def synchronize(device: torch.device) -> None:
    """Wait for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def train_on(bench: Bench, data: DataSet, model: str) -> Callable[[Batch], None]:
    """Return a training step, in bfloat16 and channels-last on a GPU."""
    device, manifest = bench.device, data.manifest
    network = timm.create_model(model, num_classes=len(manifest.classes)).to(device)
    network = network.to(memory_format=torch.channels_last).train()
    augment = Augment(AugmentConfig(), manifest.mean, manifest.std, manifest.dtype).to(device)
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9)

    def step(batch: Batch) -> None:
        images, _ = augment(batch, training=True)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            loss = torch.nn.functional.cross_entropy(network(images), batch.targets)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def build_table(bench: Bench, contenders: Mapping[str, Turn], title: str) -> Table:
    """Interleave all contenders; return a table that says where the device is faster."""
    figures = take_turns(contenders, rounds=bench.rounds)
    ratios: dict[int, float] = {}
    for cores in bench.cores:
        ratio = pair_ratio(figures[name_of("device", cores)], figures[name_of("host", cores)])
        assert ratio is not None, "both have taken every turn"
        ratios[cores] = ratio.median
    rows = []
    for name, turn in contenders.items():
        cores = turn.given[2]
        facts = {"CPU ms/image": statistics.median(turn.cpu_ms[-bench.rounds :])}
        if name == name_of("device", cores):
            facts["device / host"] = ratios[cores]
        rows.append(Row(name, figures[name], "", facts))
    title = f"{title}; {bench.place}: {tell_winner(ratios)}"
    return Table(title, "images/s", name_of("host", bench.cores[0]), rows)


def main() -> None:
    """Run the benchmark."""
    run_benchmark(__doc__, add_arguments, run)


if __name__ == "__main__":
    main()
