"""An opened data set: the config that says where it is, its splits, and their sampling plans."""

from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ByteSize, ConfigDict, Field, field_validator, model_validator

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


class DataConfig(BaseModel):
    """Where the data lies and how it is fed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str = Field(description="Root of the data set: a folder or s3:// with a manifest.json.")
    train_split: str = Field("train", description="Split to train on.")
    val_split: str = Field("val", description="Split to validate on after every epoch.")
    test_split: str = Field("test", description="Split for the final evaluation.")
    batch_size: int = Field(
        64,
        ge=1,
        description="Samples per optimizer step, over all devices and accumulation steps.",
    )
    eval_batch_size: int | None = Field(
        None,
        ge=1,
        description="Samples per validation batch over all devices; null: batch_size, and on GPUs "
        "four micro-batches of training for each. Scores do not depend on it.",
    )
    image_size: int = Field(224, ge=8, description="Side of the image that the network sees, px.")
    num_workers: int | None = Field(
        None, ge=1, description="Loader threads per process; null: one per core of the process."
    )
    prefetch: int = Field(4, ge=1, description="Batches in flight.")
    window: int = Field(16, ge=1, description="Consecutive shards that are shuffled together.")
    partitions: int = Field(1, ge=1, description="Parts of the data, for as many nodes.")
    tail: Literal["drop", "pad"] = Field(
        "drop", description="The last, incomplete training batch: drop it, or pad it uncounted."
    )
    sampling: Literal["natural", "balanced"] = Field(
        "natural", description="Each sample once, or each class equally often."
    )
    on_corrupt: Literal["error", "skip"] = Field(
        "error", description="A sample that cannot be decoded stops the run, or is left out."
    )
    crop_scale: tuple[float, float] = Field(
        (0.35, 1.0), description="Random crop: smallest and largest share of the image's area."
    )
    crop_ratio: tuple[float, float] = Field(
        (3 / 4, 4 / 3), description="Random crop: smallest and largest width over height."
    )
    cache: CacheConfig | Literal["none"] = Field(
        CacheConfig(), description="Copies of remote shards on this node; none: read by range."
    )
    decoded_cache: ByteSize | Literal["auto", "off"] = Field(
        "auto",
        description="Pixels kept on this node after they were first decoded, read by later epochs "
        "and runs. auto: within data.cache, when they fit into what the shards leave of its size "
        'and into half of the memory; off; or a budget beside it, such as "200GB".',
    )
    decode_size: int | None = Field(
        None,
        ge=8,
        description="Shrink the shorter side to so many px before the crop; null: full size.",
    )
    scaled_decode: bool = Field(
        False,
        description="Decode a JPEG at 1/2, 1/4 or 1/8 where its crop has pixels to spare.",
    )
    decode: Literal["host", "device"] = Field(
        "host",
        description="Who decodes JPEGs for training: cores, or the GPU, where cores are few.",
    )
    eval_crop: float = Field(
        1.0, gt=0, le=1, description="Evaluation: central square, as a share of the shorter side."
    )
    resident: Literal["auto", "off", "on"] = Field(
        "off",
        description="Decoded train split in the device's memory; auto: on a GPU, where it fits.",
    )

    @field_validator("decoded_cache", mode="before")
    @classmethod
    def _off_is_a_word(cls, value: Any) -> Any:  # noqa: ANN401
        if value is True:
            raise ValueError("must be auto, off or a size, is true")
        return "off" if value is False else value  # as YAML reads it

    @model_validator(mode="after")
    def _scale_once(self) -> "DataConfig":
        if self.scaled_decode and self.decode_size is not None:
            raise ValueError("scaled_decode and decode_size exclude each other; choose one")
        if self.scaled_decode and self.decoded_cache not in ("auto", "off"):
            raise ValueError(
                "scaled_decode decodes each crop at its own scale, so decoded_cache cannot keep "
                "anything; choose one"
            )
        if self.scaled_decode and self.resident == "on":
            raise ValueError("scaled_decode is for images in files, resident=on has none; choose")
        return self

    @model_validator(mode="after")
    def _device_decodes_whole(self) -> "DataConfig":
        if self.decode == "device" and (self.scaled_decode or self.decode_size is not None):
            name = "scaled_decode" if self.scaled_decode else "decode_size"
            raise ValueError(f"decode=device decodes whole images, {name} less of them; choose one")
        return self

    @model_validator(mode="after")
    def _ranges_ascend(self) -> "DataConfig":
        low, high = self.crop_scale
        if not 0 < low <= high <= 1:
            raise ValueError(f"crop_scale must ascend within (0, 1], is [{low}, {high}]")
        low, high = self.crop_ratio
        if not 0 < low <= high:
            raise ValueError(f"crop_ratio must ascend above 0, is [{low}, {high}]")
        return self

    @field_validator("resident", mode="before")
    @classmethod
    def _read_switch(cls, value: object) -> object:
        # YAML takes on and off for true and false.
        return ("on" if value else "off") if isinstance(value, bool) else value


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
