"""Small data sets of any imagery, packed for real."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from rsdl.config.data import DataConfig
from rsdl.core.pixels import Dtype
from rsdl.data.dataset import DataSet, SplitData
from rsdl.data.packing.pack import PackOptions, pack
from rsdl.data.sample import Sample, ShardPlan
from rsdl.storage.connect import connect


class ArraySource:
    """Arrays in memory as a source: sample ``i`` has label ``i % 3`` and key ``s<i>``."""

    dataset = "arrays"
    target = "class_index"
    classes: tuple[str, ...] = ("a", "b", "c")

    def __init__(self, images: Sequence[NDArray[Any]], *, per_shard: int, split: str) -> None:
        self.images = images
        self.per_shard = per_shard
        self.split = split
        self.bands = tuple(f"band_{band}" for band in range(images[0].shape[2]))
        self.dtype = cast(Dtype, images[0].dtype.name)
        self.provenance: dict[str, Any] = {"source": "arrays", "count": len(images)}
        self.left_out: dict[str, int] = {}

    def shards(self, shard_bytes: int) -> list[ShardPlan]:
        items = range(len(self.images))
        starts = range(0, len(items), self.per_shard)
        return [ShardPlan(self.split, items[start : start + self.per_shard]) for start in starts]

    def read(self, item: int) -> Sample:
        pixels = self.images[item]
        stream = io.BytesIO()
        np.save(stream, pixels)
        meta = {"class": self.classes[item % 3], "number": item}
        return Sample(f"s{item:04d}", "npy", stream.getvalue(), item % 3, meta, pixels)


@pytest.fixture
def array_source() -> type[ArraySource]:
    """Return the class of a source of arrays."""
    return ArraySource


@pytest.fixture
def open_arrays(tmp_path: Path) -> Callable[..., SplitData]:
    """Return a function that packs arrays as ``.npy`` and opens them as a split."""

    def open_arrays(
        images: Sequence[NDArray[Any]], *, per_shard: int = 4, split: str = "train"
    ) -> SplitData:
        url = str(tmp_path / f"arrays-{split}-{len(images)}-{per_shard}")
        source = ArraySource(images, per_shard=per_shard, split=split)
        pack(source, connect(url), PackOptions(num_workers=1))
        return DataSet(DataConfig(url=url)).split(split, "data.train_split")

    return open_arrays


@pytest.fixture
def pack_sizes(array_source: Any, tmp_path: Path) -> Callable[..., str]:  # noqa: ANN401
    """Return a function that packs noise of given sizes and gives its URL."""

    def pack_sizes(
        sizes: list[tuple[int, int]], *, bands: int = 3, dtype: str = "uint8", seed: int = 0
    ) -> str:
        random = np.random.default_rng(seed)
        images = [(random.random((*size, bands)) * 250).astype(dtype) for size in sizes]
        url = str(tmp_path / f"packed-{len(list(tmp_path.iterdir()))}")
        source = array_source(images, per_shard=4, split="train")
        pack(source, connect(url), PackOptions(num_workers=1))
        return url

    return pack_sizes


@pytest.fixture(scope="module")
def filler() -> Iterator[Callable[..., int]]:
    """Return what has a process read a split; it gives the process's exit code."""
    server = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("filler_process.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )

    def fill(data: dict[str, Any], order: list[int], die: int | None = None) -> int:
        assert server.stdin and server.stdout
        server.stdin.write(json.dumps({"data": data, "order": order, "die": die}) + "\n")
        server.stdin.flush()
        return int(json.loads(server.stdout.readline()))

    yield fill
    server.communicate(timeout=60)
