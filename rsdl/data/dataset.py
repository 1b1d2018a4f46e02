"""An opened data set: the config that says where it is, its splits, and their sampling plans."""

from dataclasses import dataclass

from rsdl.config.data import DataConfig
from rsdl.data.class_balance import class_balanced_counts, repeated_shards
from rsdl.data.decode import DecodeRule
from rsdl.data.decoded_cache.policy import DecodedCache, DecodedCacheRule
from rsdl.data.index import Index, open_index
from rsdl.data.manifest import Manifest, load_manifest
from rsdl.data.plan import SamplingPlan
from rsdl.data.reader import ShardReader
from rsdl.data.shard_store import check_shards, open_shards
from rsdl.data.shuffle import GlobalOrder, OrderRule
from rsdl.storage.cache.config import CacheConfig
from rsdl.storage.connect import connect, join
from rsdl.storage.local import LocalStore
from rsdl.storage.s3.endpoint import AWS, StorageConfig
from rsdl.storage.store import Store


@dataclass(frozen=True, slots=True)
class SplitData:
    """One split, ready to be read.

    Attributes:
        store: Where the shards lie.
        manifest: What the data set is.
        index: Where each sample of the split lies.
        decoded_cache: Pixels that are kept; ``None`` keeps none.
        decode_size: Shrink the shorter side of an image to so many pixels; ``None`` does not.
        dataset: URL of the data set, where its shards lie elsewhere.
    """

    store: Store
    manifest: Manifest
    index: Index
    decoded_cache: DecodedCache | None = None
    decode_size: int | None = None
    dataset: str | None = None

    @property
    def url(self) -> str:
        """Root of the data set, as the user would type it."""
        return self.dataset or self.store.url

    def open_reader(self) -> ShardReader:
        """Return what reads the shards, for one thread."""
        index = self.index
        return ShardReader(self.store, index.shard_names, index.shard_sha256s, self.dataset)

    @property
    def decode(self) -> DecodeRule:
        """How images become pixels, wherever they go then."""
        return DecodeRule(len(self.manifest.bands), self.manifest.dtype, self.decode_size)


class DataSet:
    """An opened data set.

    Attributes:
        store: Where its manifest and its indexes lie.
        shards: Where its shards lie.

    Args:
        config: Where it lies and how it is fed.
        storage: Where the service is, if it lies in a bucket.
    """

    def __init__(self, config: DataConfig, storage: StorageConfig = AWS) -> None:
        self.config = config
        self._storage = storage
        cache = None if config.cache == "none" else config.cache
        self.store = connect(config.url, cache, storage)
        self.manifest: Manifest = load_manifest(self.store, where="data.url")
        self.shards = open_shards(self.store, self.manifest, cache, storage)
        self._tiers: dict[str, DecodedCache | None] = {}

    def split(self, name: str, where: str) -> SplitData:
        """Open one split; ``where`` is the config field to name in an error."""
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
        # Each crop of a scaled decode has pixels of its own.
        if wanted == "off" or config.scaled_decode:
            return None
        if wanted == "auto" and config.cache == "none":
            return None
        remote = not isinstance(self.shards, LocalStore)
        rule = DecodedCacheRule(
            cache=CacheConfig() if config.cache == "none" else config.cache,
            budget=None if wanted == "auto" else int(wanted),
            shard_bytes=sum(s.bytes for s in manifest.splits[name].shards) if remote else 0,
            # What is there is read; who decodes on a device has nothing to keep.
            makes=config.decode == "host" or name != config.train_split,
        )
        decode = DecodeRule(len(manifest.bands), manifest.dtype, config.decode_size)
        # By range: a look at a few images is not worth the copy of their shards.
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
        config: How the data is fed.
        data: The split.
        default: Samples in a batch where the config names none; ``None`` takes those of training.
    """
    order = GlobalOrder(data.index.shard_samples, OrderRule(0, 0, shuffle=False))
    size = config.eval_batch_size or default or config.batch_size
    return SamplingPlan(order, global_batch=size, tail="shrink")
