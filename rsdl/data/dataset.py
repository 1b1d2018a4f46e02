"""An opened dataset: its splits and their sampling plans."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from rsdl.config.data import DataConfig
from rsdl.config.fold import parse_fold
from rsdl.core.errors import ConfigError
from rsdl.data.class_balance import (
    class_balanced_counts,
    pixel_balanced_counts,
    repeated_shards,
)
from rsdl.data.decode import DecodeRule
from rsdl.data.decoded_cache.policy import DecodedCache, DecodedCacheRule
from rsdl.data.folds import FoldParts, describe, divide, join_indexes
from rsdl.data.index import Index, Rows, open_index
from rsdl.data.manifest import Manifest, load_manifest
from rsdl.data.plan import SamplingPlan
from rsdl.data.reader import ShardReader
from rsdl.data.sample_reader import Int64s, SampleReader
from rsdl.data.shard_store import check_shards, open_shards
from rsdl.data.shuffle import GlobalOrder, OrderRule
from rsdl.data.targets import KINDS
from rsdl.storage.cache.config import CacheConfig
from rsdl.storage.connect import connect, join
from rsdl.storage.local import LocalStore
from rsdl.storage.s3.endpoint import AWS, StorageConfig
from rsdl.storage.store import Store


@dataclass(frozen=True, slots=True)
class SplitData:
    """One split, ready to read.

    Attributes:
        store: The store of the shards.
        manifest: The dataset's manifest.
        index: Position of each sample of the split in its shard.
        decoded_cache: Cache of decoded pixels; ``None`` disables it.
        decode_size: Pixels to shrink an image's shorter side to; ``None`` does not shrink.
        dataset: URL of the dataset, if its shards are in another store.
    """

    store: Store
    manifest: Manifest
    index: Index
    decoded_cache: DecodedCache | None = None
    decode_size: int | None = None
    dataset: str | None = None

    @property
    def url(self) -> str:
        """Root URL of the dataset, as the user types it."""
        return self.dataset or self.store.url

    def open_reader(self, *, shrink: bool = True) -> SampleReader:
        """Return a reader of the samples for one thread.

        Args:
            shrink: Whether images are shrunk to ``decode_size``.
        """
        index = self.index
        shards = ShardReader(self.store, index.shard_names, index.shard_sha256s, self.dataset)
        rule = self.decode if shrink else replace(self.decode, shorter=None)
        return SampleReader(shards, index, rule)

    def checked_rows(self, samples: Int64s) -> Rows:
        """Return the index rows of samples.

        Raises:
            DataError: If a row has a label out of range or an unknown image format.
        """
        classes, in_index = self.manifest.classes, KINDS[self.manifest.target].in_index
        num_classes = len(classes) if in_index else None
        return self.index.checked_rows(samples, num_classes=num_classes, url=self.url)

    @property
    def decode(self) -> DecodeRule:
        """Rule by which images are decoded."""
        return DecodeRule(len(self.manifest.bands), self.manifest.dtype, self.decode_size)


class DataSet:
    """An opened dataset.

    Attributes:
        store: The store of its manifest and indexes.
        shards: The store of its shards.

    Args:
        config: The data config.
        storage: The S3 endpoint, if the dataset is in a bucket.
        seed: Seed of the run, which draws the folds of ``data.fold``.
    """

    def __init__(
        self, config: DataConfig, storage: StorageConfig = AWS, *, seed: int | None = None
    ) -> None:
        assert config.fold is None or seed is not None, "a fold is drawn by the seed of the run"
        self.config = config
        self._seed = seed
        self._storage = storage
        cache = None if config.cache == "none" else config.cache
        self.store = connect(config.url, cache, storage)
        self.manifest: Manifest = load_manifest(self.store, where="data.url")
        self.shards = open_shards(self.store, self.manifest, cache, storage)
        self._tiers: dict[str, DecodedCache | None] = {}

    @property
    def evaluated_split(self) -> str:
        """The split that scores are told of: the test split, or validation if it has no samples."""
        test, val = self.config.test_split, self.config.val_split
        found = self.manifest.splits.get(test)
        return test if val is None or (found is not None and found.samples) else val

    @cached_property
    def fold(self) -> FoldParts | None:
        """The pooled train and val splits, divided by ``data.fold``; ``None`` without it.

        Raises:
            ConfigError: If the index does not tell which samples are of one scene, or there are
                fewer groups than folds.
            DataError: If an index is damaged.
        """
        if self.config.fold is None or self._seed is None:
            return None
        pool = join_indexes(
            [self._open_index(name, "data.train_split") for name in self._pooled_splits]
        )
        if pool.groups is None and self.manifest.is_cut_from_scenes:
            raise ConfigError(
                "data.fold",
                f"{self.store.url} was cut from scenes by an older rsdl, and its index does not "
                "tell which samples are of one scene",
                "pack it again, with --overwrite",
            )
        in_index = KINDS[self.manifest.target].in_index
        num_classes = len(self.manifest.classes) if in_index else None
        pool.checked_rows(np.arange(len(pool)), num_classes=num_classes, url=self.store.url)
        return divide(pool, parse_fold(self.config.fold), self._seed)

    def describe_fold(self) -> list[str]:
        """Return lines about the fold, classes that a part of it lacks included; none without."""
        if self.fold is None or self.config.fold is None:
            return []
        in_index = KINDS[self.manifest.target].in_index
        classes = self.manifest.classes if in_index else ()
        return describe(self.fold, parse_fold(self.config.fold), classes)

    @property
    def _pooled_splits(self) -> list[str]:
        """The splits that folds are of: train, and val if there is one."""
        train, val = self.config.train_split, self.config.val_split
        found = self.manifest.splits.get(val or "")
        return [train, *([val] if val is not None and found is not None and found.samples else [])]

    def check_split(self, name: str, where: str) -> None:
        """Check that there is a split, or part of a fold; ``where`` is the field for errors."""
        if self._fold_of(name) is None:
            self.manifest.split(name, where=where)

    def _fold_of(self, name: str) -> FoldParts | None:
        """Return the parts of which one stands for a split; ``None`` for a split as stored."""
        return self.fold if name in (self.config.train_split, self.config.val_split) else None

    def split(self, name: str, where: str) -> SplitData:
        """Open one split, or the part of the fold; ``where`` is the config field for errors."""
        names = [name]
        if (fold := self._fold_of(name)) is None:
            index = whole = self._open_index(name, where)
        else:
            names, whole = self._pooled_splits, fold.pool
            index = fold.train if name == self.config.train_split else fold.val
        elsewhere = self.store.url if self.shards is not self.store else None
        if elsewhere is not None:
            for each in names:
                check_shards(self.shards, self.manifest.split(each, where=where), elsewhere)
        key = "+".join(names)  # pixels of the pool are kept once for all of its folds
        if key not in self._tiers:
            self._tiers[key] = self._decoded_cache(names, whole)
        decoded_cache, size = self._tiers[key], self.config.decode_size
        return SplitData(self.shards, self.manifest, index, decoded_cache, size, elsewhere)

    def _open_index(self, name: str, where: str) -> Index:
        split = self.manifest.split(name, where=where)
        url = join(self.store.url, split.index.name)
        return open_index(self.store.local(split.index.name), split, url)

    def _decoded_cache(self, names: Sequence[str], index: Index) -> DecodedCache | None:
        config, manifest = self.config, self.manifest
        wanted = config.decoded_cache
        if wanted == "off":
            return None
        if wanted == "auto" and config.cache == "none":
            return None
        remote = not isinstance(self.shards, LocalStore)
        rule = DecodedCacheRule(
            cache=CacheConfig() if config.cache == "none" else config.cache,
            budget=None if wanted == "auto" else int(wanted),
            shard_bytes=sum(s.bytes for n in names for s in manifest.splits[n].shards) * remote,
            # An existing file is always read. Decoding on a device yields no pixels to store.
            makes=config.decode == "host" or config.train_split not in names,
        )
        decode = DecodeRule(len(manifest.bands), manifest.dtype, config.decode_size)
        # No cache, so reads are by range: probing a few images does not justify copying shards.
        store = connect(self.shards.url, None, self._storage)
        return DecodedCache(rule, decode, index, (manifest.digest, "+".join(names)), store)


def train_plan(config: DataConfig, data: SplitData, *, seed: int, epoch: int) -> SamplingPlan:
    """Return the plan of one training epoch.

    Raises:
        ConfigError: If it is to be balanced, and the index does not tell of what.
    """
    rule = OrderRule(seed, epoch, config.window, config.partitions)
    shards, repeats = data.index.shard_samples, None
    if config.sampling == "balanced":
        repeats = _balanced_counts(data, seed=seed, epoch=epoch)
        shards = repeated_shards(shards, repeats)
    order = GlobalOrder(shards, rule)
    return SamplingPlan(order, global_batch=config.batch_size, tail=config.tail, repeats=repeats)


def _balanced_counts(data: SplitData, *, seed: int, epoch: int) -> Int64s:
    kind = KINDS[data.manifest.target]
    if kind.in_index:
        return class_balanced_counts(data.index.labels, seed=seed, epoch=epoch)
    if data.index.class_counts is None:
        raise ConfigError(
            "data.sampling",
            f"is balanced, but the index of {data.url} does not tell the {kind.counts} of each "
            "class in each sample",
            "pack it again, with --overwrite, or pass data.sampling=natural",
        )
    return pixel_balanced_counts(data.index.class_counts, seed=seed, epoch=epoch)


def eval_plan(config: DataConfig, data: SplitData, default: int | None = None) -> SamplingPlan:
    """Return the plan that reads every sample once, in the order of the index.

    Args:
        config: The data config.
        data: The split.
        default: Batch size if the config sets none; ``None`` takes that of training.
    """
    order = GlobalOrder(data.index.shard_samples, OrderRule(0, 0, shuffle=False))
    size = config.eval_batch_size or default or config.batch_size
    return SamplingPlan(order, global_batch=size, tail="shrink")
