"""Read rsdl shards with the stock ``webdataset`` library.

Shards are in WebDataset's own format, so nothing is converted: the library splits the shard list
over nodes and workers, and each shard is opened through the store. As in the library, there is no
exactly-once order and no resuming; :mod:`rsdl.data.loader` has both.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import webdataset
from webdataset.tariterators import group_by_keys, tar_file_expander

from rsdl.config.data import DataConfig
from rsdl.data.dataset import DataSet
from rsdl.storage.cache.config import CacheConfig
from rsdl.storage.connect import connect


class Pipeline(webdataset.DataPipeline, webdataset.FluidInterface):  # type: ignore[misc]
    """A pipeline with the fluid interface: ``.shuffle``, ``.decode``, ``.to_tuple`` etc."""


class OpenShards:
    """Opens shards by name; picklable for worker processes.

    Args:
        url: Root URL of the shards.
        cache: Cache for copies of remote shards.
    """

    def __init__(self, url: str, cache: CacheConfig) -> None:
        self._url = url
        self._cache = cache

    def __call__(self, shards: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Yield each shard with an open stream."""
        store = connect(self._url, cache=self._cache)
        for shard in shards:
            with store.local(shard["url"]).open("rb") as stream:
                yield {**shard, "stream": stream}


def as_webdataset(url: str, split: str = "train", *, seed: int | None = None) -> Pipeline:
    """Return the stock pipeline over the shards of a split: dicts of bytes by extension.

    Each sample has ``__key__``, ``__url__``, its image (``jpg``, ``png``, ``tif`` or ``npy``),
    ``cls`` with the class index and ``json``. Use it like any other pipeline:
    ``as_webdataset(url).shuffle(1000).decode("rgb8").to_tuple("jpg", "cls")``.

    Args:
        url: A packed dataset, or the manifest of indexed shards: a folder or ``s3://``.
        split: Name of the split.
        seed: Seed to shuffle the shards, differently in each epoch; ``None`` keeps their order.

    Raises:
        InputError: If there is no dataset, or it has no such split.
        StorageError: If a shard cannot be read.
    """
    data = DataSet(DataConfig(url=url))
    names = list(data.split(split, "split").index.shard_names)
    stages = [webdataset.SimpleShardList(names)]
    if seed is not None:
        stages.append(webdataset.detshuffle(len(names), seed=seed))
    return Pipeline(
        *stages,
        webdataset.split_by_node,
        webdataset.split_by_worker,
        OpenShards(data.shards.url, CacheConfig()),
        tar_file_expander,
        group_by_keys,
    )
