"""Cold first epochs from an S3 store with and without prefetch, and the traffic of small caches.

An epoch is the loader's, with a pause after each batch in place of a training step. Epochs with
and without prefetch alternate, each with an empty cache, so that other load affects both alike.
Then three epochs are read through caches of several sizes, in shuffle windows, and the bytes
received from the store are compared with the size of the data set.

    python -m benchmarks.loader.prefetch s3://bucket/dataset [--step-ms 20] [--pairs 5] [--out FILE]
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from rsdl.config.data import DataConfig
from rsdl.data import loader as room
from rsdl.data.crop import CropRule
from rsdl.data.dataset import DataSet, train_plan
from rsdl.data.loader import BatchLoader, LoadRule
from rsdl.data.plan import Share
from rsdl.storage.cache.config import CacheConfig
from rsdl.storage.s3.client import shared_client

SIZES = (0.25, 0.5, 1.0, 2.0)


class Meter:
    """Counts the bytes of the objects that the store sends."""

    def __init__(self) -> None:
        self.drawn = 0
        shared_client().boto.meta.events.register("after-call.s3.GetObject", self.count)

    def count(self, parsed: dict[str, Any], **_: object) -> None:
        """Add the size of a response."""
        self.drawn += parsed.get("ContentLength", 0)


@contextmanager
def no_prefetch(*_: object, **__: object) -> Iterator[Any]:
    yield lambda position: None


def run_epoch(config: DataConfig, epoch: int, step_s: float) -> tuple[float, float]:
    """Read one epoch; return its seconds and the seconds waited for data."""
    data = DataSet(config).split(config.train_split, "data.train_split")
    plan = train_plan(config, data, seed=0, epoch=epoch)
    rule = LoadRule(config.image_size, CropRule(True), num_workers=2)
    loader = BatchLoader(data, plan, Share(), rule)
    loader.following = lambda: train_plan(config, data, seed=0, epoch=epoch + 1)
    begin = time.perf_counter()
    for _ in loader:
        time.sleep(step_s)
    return time.perf_counter() - begin, loader.waited_s


def with_cache(config: DataConfig, folder: str, size: int) -> DataConfig:
    """Return the config with another cache."""
    return config.model_copy(update={"cache": CacheConfig(folder=folder, size=size)})


def time_cold(config: DataConfig, step_s: float, *, ahead: bool) -> tuple[float, float]:
    """Return the seconds, and the seconds waited, of an epoch that starts with an empty cache."""
    with tempfile.TemporaryDirectory() as folder:
        own = with_cache(config, folder, 10**12)
        if ahead:
            return run_epoch(own, 0, step_s)
        with mock.patch.object(room, "fetch_ahead", no_prefetch):
            return run_epoch(own, 0, step_s)


def draw(config: DataConfig, size: int, meter: Meter) -> list[int]:
    """Return the bytes received in each of three epochs through a cache of a given size."""
    drawn = []
    with tempfile.TemporaryDirectory() as folder:
        for epoch in range(3):
            before = meter.drawn
            run_epoch(with_cache(config, folder, size), epoch, 0.0)
            drawn.append(meter.drawn - before)
    return drawn


def main() -> None:
    """Measure, print the table and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("url")
    parser.add_argument("--step-ms", type=float, default=20)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--window", type=int, default=8)
    parser.add_argument("--image-size", type=int, default=96)
    parser.add_argument("--out", help="JSON file")
    options = parser.parse_args()
    config = DataConfig(url=options.url, window=options.window, image_size=options.image_size)
    shards = DataSet(config).manifest.split(config.train_split, where="split").shards
    sizes = sorted((shard.bytes for shard in shards), reverse=True)
    window, whole = sum(sizes[: options.window]), sum(sizes)
    print(f"{len(sizes)} shards, {whole / 1e6:.1f} MB; window of {options.window}: "
          f"{window / 1e6:.1f} MB; step {options.step_ms:g} ms")  # fmt: skip
    step_s, meter = options.step_ms / 1e3, Meter()
    time_cold(config, step_s, ahead=True)  # warm-up: imports, connections
    pairs = [
        {key: time_cold(config, step_s, ahead=ahead) for key, ahead in turns}
        for turns in [(("with", True), ("without", False))] * options.pairs
    ]
    ratios = [pair["with"][0] / pair["without"][0] for pair in pairs]
    for key in ("with", "without"):
        seconds, waited = zip(*(pair[key] for pair in pairs), strict=True)
        print(f"cold epoch {key:7} prefetch {statistics.median(seconds):6.2f} s, waited for data "
              f"{statistics.median(waited):5.2f} s")  # fmt: skip
    print(f"with / without {statistics.median(ratios):.3f} "
          f"({min(ratios):.3f} to {max(ratios):.3f})")  # fmt: skip
    places = [(f"{share:g} windows", int(share * window)) for share in SIZES]
    caches = {}
    for name, size in [*places, ("the data set", int(1.1 * whole))]:
        drawn = draw(config, size, meter)
        caches[name] = {"size": size, "drawn": drawn, "share": [each / whole for each in drawn]}
        print(f"cache of {name:12} ({size / 1e6:6.1f} MB): drawn in epochs 1, 2, 3: "
              + ", ".join(f"{each / whole:.2f}" for each in drawn) + " data sets")  # fmt: skip
    if options.out:
        with open(options.out, "w") as stream:
            json.dump({"pairs": pairs, "ratios": ratios, "caches": caches}, stream, indent=2)


if __name__ == "__main__":
    main()
