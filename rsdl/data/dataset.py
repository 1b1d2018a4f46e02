"""An opened dataset: its splits and their sampling plans."""

from dataclasses import dataclass, replace

from rsdl.config.data import DataConfig
from rsdl.data.class_balance import class_balanced_counts, repeated_shards
from rsdl.data.decode import DecodeRule
from rsdl.data.decoded_cache.policy import DecodedCache, DecodedCacheRule
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
    """

    def __init__(self, config: DataConfig, storage: StorageConfig = AWS) -> None:
        self.config = config
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

    def split(self, name: str, where: str) -> SplitData:
        """Open one split; ``where`` is the config field for errors."""
        split = self.manifest.split(name, where=where)
        url = join(self.store.url, split.index.name)
        index = open_index(self.store.local(split.index.name), split, url)
        elsewhere = self.store.url if self.shards is not self.store else None
        if elsewhere is not None:
            check_shards(self.shards, split, elsewhere)
        if name not in self._tiers:
            self._tiers[name] = self._decoded_cache(name, index)
        decoded_cache, size = self._tiers[name], self.config.decode_size
        return SplitData(self.shards, self.manifest, index, decoded_cache, size, elsewhere)

    def _decoded_cache(self, name: str, index: Index) -> DecodedCache | None:
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
            shard_bytes=sum(s.bytes for s in manifest.splits[name].shards) if remote else 0,
            # An existing file is always read. Decoding on a device yields no pixels to store.
            makes=config.decode == "host" or name != config.train_split,
        )
        decode = DecodeRule(len(manifest.bands), manifest.dtype, config.decode_size)
        # No cache, so reads are by range: probing a few images does not justify copying shards.
        store = connect(self.shards.url, None, self._storage)
        return DecodedCache(rule, decode, index, (manifest.digest, name), store)


def train_plan(config: DataConfig, data: SplitData, *, seed: int, epoch: int) -> SamplingPlan:
    """Return the plan of one training epoch."""
    rule = OrderRule(seed, epoch, config.window, config.partitions)
    shards, repeats = data.index.shard_samples, None
    if config.sampling == "balanced":
        repeats = class_balanced_counts(data.index.labels, seed=seed, epoch=epoch)
        shards = repeated_shards(shards, repeats)
    order = GlobalOrder(shards, rule)
    return SamplingPlan(order, global_batch=config.batch_size, tail=config.tail, repeats=repeats)


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
