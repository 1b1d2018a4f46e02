"""The Lightning data module: config in, loaders at the right place of the right epoch out."""

from collections.abc import Mapping
from typing import Literal

import pytorch_lightning as pl
import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator

from rsdl.core.errors import ConfigError
from rsdl.core.machine import usable_cores
from rsdl.data.crop import CropRule
from rsdl.data.index import open_index
from rsdl.data.loader import BatchLoader, LoadRule, SplitData
from rsdl.data.manifest import Manifest, load_manifest
from rsdl.data.plan import (
    GlobalOrder,
    OrderRule,
    SamplingPlan,
    Share,
    balanced_repeats,
    check_share,
    repeated_shards,
)
from rsdl.storage.connect import connect, join


class DataConfig(BaseModel):
    """Where the data lies and how it is fed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str = Field(description="Root of the data set: a folder with a manifest.json.")
    train_split: str = Field("train", description="Split to train on.")
    val_split: str = Field("val", description="Split to validate on after every epoch.")
    test_split: str = Field("test", description="Split for the final evaluation.")
    batch_size: int = Field(
        64,
        ge=1,
        description="Samples per optimizer step, over all devices and accumulation steps.",
    )
    eval_batch_size: int | None = Field(
        None, ge=1, description="Samples per validation batch over all devices; null: batch_size."
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
    eval_crop: float = Field(
        1.0, gt=0, le=1, description="Evaluation: central square, as a share of the shorter side."
    )

    @model_validator(mode="after")
    def _ranges_ascend(self) -> "DataConfig":
        low, high = self.crop_scale
        if not 0 < low <= high <= 1:
            raise ValueError(f"crop_scale must ascend within (0, 1], is [{low}, {high}]")
        low, high = self.crop_ratio
        if not 0 < low <= high:
            raise ValueError(f"crop_ratio must ascend above 0, is [{low}, {high}]")
        return self


class DataSet:
    """An opened data set.

    Args:
        config: Where it lies and how it is fed.
    """

    def __init__(self, config: DataConfig) -> None:
        self.config = config
        self.store = connect(config.url)
        self.manifest: Manifest = load_manifest(self.store, where="data.url")

    def split(self, name: str, where: str) -> SplitData:
        """Open one split; ``where`` is the config field to name in an error."""
        split = self.manifest.split(name, where=where)
        url = join(self.store.url, split.index.name)
        index = open_index(self.store.local(split.index.name), split, url)
        return SplitData(self.store, self.manifest, index)


def train_plan(config: DataConfig, data: SplitData, *, seed: int, epoch: int) -> SamplingPlan:
    """Return the plan of one training epoch."""
    rule = OrderRule(seed, epoch, config.window, config.partitions)
    shards, repeats = data.index.shard_samples, None
    if config.sampling == "balanced":
        repeats = balanced_repeats(data.index.labels, seed=seed, epoch=epoch)
        shards = repeated_shards(shards, repeats)
    order = GlobalOrder(shards, rule)
    return SamplingPlan(
        order, global_batch=config.batch_size, tail=config.tail, repeats=repeats
    )


def eval_plan(config: DataConfig, data: SplitData) -> SamplingPlan:
    """Return the plan that reads every sample once, in the order of the index."""
    order = GlobalOrder(data.index.shard_samples, OrderRule(0, 0, shuffle=False))
    size = config.eval_batch_size or config.batch_size
    return SamplingPlan(order, global_batch=size, tail="shrink")


def load_rule(config: DataConfig, *, training: bool, pin_memory: bool, processes: int) -> LoadRule:
    """Return how samples become rows.

    Args:
        config: What the user asked for.
        training: Whether crops are drawn.
        pin_memory: Whether to load into page-locked memory.
        processes: Processes that share this machine's cores.
    """
    return LoadRule(
        image_size=config.image_size,
        crop=CropRule(training, config.crop_scale, config.crop_ratio, config.eval_crop),
        on_corrupt=config.on_corrupt,
        num_workers=config.num_workers or max(1, usable_cores() // processes),
        prefetch=config.prefetch,
        pin_memory=pin_memory,
    )


class DataModule(pl.LightningDataModule):
    """Loaders for Lightning, fresh for every epoch.

    Args:
        data: The opened data set.
        seed: Seed of the run.
        accumulate: Micro-batches in an optimizer step.
    """

    def __init__(self, data: DataSet, *, seed: int, accumulate: int = 1) -> None:
        super().__init__()
        self.data = data
        self.seed = seed
        self.accumulate = accumulate
        self.train_loader: BatchLoader | None = None
        self.eval_loader: BatchLoader | None = None
        self._train = data.split(data.config.train_split, "data.train_split")
        self._starts: Mapping[int, int] = {}

    def resume(self, epoch: int, consumed: int) -> None:
        """Begin ``epoch`` at position ``consumed`` of its global order, in samples."""
        self._starts = {epoch: consumed}

    def plan(self, epoch: int) -> SamplingPlan:
        """Return the plan of one training epoch."""
        return train_plan(self.data.config, self._train, seed=self.seed, epoch=epoch)

    def check(self, world_size: int) -> None:
        """Refuse a batch that does not fit the split or the number of devices."""
        size = self.data.config.batch_size
        if self.plan(0).num_batches() == 0:
            raise ConfigError(
                "data.batch_size",
                f"{size} exceeds the {len(self._train.index)} samples of the train split",
                "use less, or data.tail=pad",
            )
        check_share(size, Share(0, world_size, self.accumulate))

    def train_dataloader(self) -> BatchLoader:
        """Return what is left of the current epoch."""
        assert self.trainer is not None
        epoch = self.trainer.current_epoch
        self.train_loader = BatchLoader(
            self._train,
            self.plan(epoch),
            self._share(self.accumulate),
            self._rule(training=True),
            self._starts.get(epoch, 0),
        )
        return self.train_loader

    def val_dataloader(self) -> BatchLoader:
        """Return the whole validation split."""
        return self.evaluation_loader(self.data.config.val_split, "data.val_split")

    def test_dataloader(self) -> BatchLoader:
        """Return the whole test split."""
        return self.evaluation_loader(self.data.config.test_split, "data.test_split")

    def evaluation_loader(self, split: str, where: str) -> BatchLoader:
        """Return a loader that reads every sample of a split once."""
        data = self.data.split(split, where)
        plan = eval_plan(self.data.config, data)
        self.eval_loader = BatchLoader(data, plan, self._share(1), self._rule(training=False))
        return self.eval_loader

    def _share(self, accumulate: int) -> Share:
        assert self.trainer is not None
        return Share(self.trainer.global_rank, self.trainer.world_size, accumulate)

    def _rule(self, *, training: bool) -> LoadRule:
        assert self.trainer is not None
        processes = max(1, self.trainer.num_devices)
        pin = torch.cuda.is_available() and self.trainer.strategy.root_device.type == "cuda"
        return load_rule(
            self.data.config, training=training, pin_memory=pin, processes=processes
        )
