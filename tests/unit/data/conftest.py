"""Small data sets of any imagery, packed for real."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from rsdl.data.dataset import DataConfig, DataSet, SplitData
from rsdl.data.manifest import Dtype
from rsdl.data.pack import PackOptions, pack
from rsdl.data.sample import Sample, ShardPlan
from rsdl.storage.connect import connect


class ArraySource:
    """Arrays in memory as a source: sample ``i`` has label ``i % 3`` and key ``s<i>``."""

    dataset = "arrays"
    classes: tuple[str, ...] = ("a", "b", "c")

    def __init__(self, images: Sequence[NDArray[Any]], *, per_shard: int, split: str) -> None:
        self.images = images
        self.per_shard = per_shard
        self.split = split
        self.bands = tuple(f"band_{band}" for band in range(images[0].shape[2]))
        self.dtype: Dtype = images[0].dtype.name
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
