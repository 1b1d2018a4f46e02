"""Our shards for whoever trains with the stock ``webdataset`` library.

Shards are WebDataset's own format, so nothing is converted: a shard list, split over nodes and
workers as the library does it, and each shard opened through the store. What the library does not
have is not here either: no exactly-once order, no resuming. That is :class:`rsdl.data.loader`.
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
    """A pipeline with ``.shuffle``, ``.decode``, ``.to_tuple`` and the like."""


class OpenShards:
    """Opens shards by their names; picklable, so that worker processes can have it.

    Args:
        url: Where the shards lie.
        cache: Where copies of remote ones are kept.
    """

    def __init__(self, url: str, cache: CacheConfig) -> None:
        self._url = url
        self._cache = cache

    def __call__(self, shards: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Yield each shard with a stream of it."""
        store = connect(self._url, cache=self._cache)
        for shard in shards:
            with store.local(shard["url"]).open("rb") as stream:
                yield {**shard, "stream": stream}


def as_webdataset(url: str, split: str = "train", *, seed: int | None = None) -> Pipeline:
    """Return the stock pipeline over the shards of a split: dicts of bytes by extension.

    Each sample has ``__key__``, ``__url__``, its image (``jpg``, ``png``, ``tif`` or ``npy``),
    ``cls`` with the class index and ``json``. Go on as with any other:
    ``as_webdataset(url).shuffle(1000).decode("rgb8").to_tuple("jpg", "cls")``.

    Args:
        url: A packed data set, or the manifest of indexed shards: a folder or ``s3://``.
        split: Name of the split.
        seed: Shuffles the shards, otherwise in each epoch; ``None`` keeps their order.

    Raises:
        InputError: If there is no data set, or it has no such split.
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
