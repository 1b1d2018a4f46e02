"""The Lightning data module: loaders for each epoch from the config, with resume in mid-epoch."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pytorch_lightning as pl
import torch

from rsdl.config.data import DataConfig
from rsdl.core.batch import Batch
from rsdl.core.errors import ConfigError
from rsdl.core.image_size import aspect_ratio
from rsdl.core.resources import usable_cores
from rsdl.data.batch_buffer import open_buffer
from rsdl.data.crop import CropRule
from rsdl.data.dataset import DataSet, SplitData, eval_plan, train_plan
from rsdl.data.gpu.decoder import DeviceDecoder
from rsdl.data.gpu.loader import DeviceLoader, choose_decoder
from rsdl.data.gpu.read_split import ResidentSplit
from rsdl.data.gpu.resident import ResidentLoader, open_resident
from rsdl.data.gpu.transfer import Transfer
from rsdl.data.loader import BatchLoader, LoadRule
from rsdl.data.partners import ComposeRule
from rsdl.data.plan import PlannedBatch, SamplingPlan, Share, check_share
from rsdl.data.sample_loader import SampleLoader
from rsdl.data.targets import KINDS

log = logging.getLogger(__name__)

# Training micro-batches in one evaluation batch. Evaluation keeps nothing for gradients: on the
# five networks measured, four took 30% to 70% less memory than a training step of one.
EVAL_BATCHES = 4


def load_rule(config: DataConfig, *, training: bool, pin_memory: bool, processes: int) -> LoadRule:
    """Return the rule by which samples become rows.

    Args:
        config: The user's data config.
        training: Whether crops are random.
        pin_memory: Whether to load into page-locked memory.
        processes: Processes that share this machine's cores.
    """
    aspect = aspect_ratio(config.image_size)
    narrowest, widest = config.crop_ratio
    central = None if config.eval_crop == "whole" else config.eval_crop
    return LoadRule(
        image_size=config.image_size,
        crop=CropRule(
            training,
            config.crop_scale,
            (narrowest * aspect, widest * aspect),
            central,
            aspect,
            foreground=training and config.crop_on == "foreground",
        ),
        on_corrupt=config.on_corrupt,
        num_workers=config.num_workers or max(1, usable_cores() // processes),
        prefetch=config.prefetch,
        pin_memory=pin_memory,
        compose=ComposeRule(config.mosaic, config.copy_paste) if training else ComposeRule(),
    )


@dataclass(frozen=True, slots=True)
class Process:
    """The process that batches are loaded for.

    Attributes:
        device: Device that it computes on.
        rank: Rank among all processes.
        world_size: Number of processes.
        local_world_size: Processes that share this machine's cores.
    """

    device: torch.device
    rank: int = 0
    world_size: int = 1
    local_world_size: int = 1


def process_of(trainer: pl.Trainer) -> Process:
    """Return the process of a Lightning trainer."""
    return Process(
        trainer.strategy.root_device,
        trainer.global_rank,
        trainer.world_size,
        max(1, trainer.num_devices),
    )


class DataModule(pl.LightningDataModule):
    """Loaders for Lightning, created anew for every epoch.

    Args:
        data: The opened dataset.
        seed: Seed of the run.
        accumulate: Micro-batches in an optimizer step.
        multiple: Rows of each rank's part of a batch are filled up to a multiple of so many, for
            any number of ranks; ``None``: a batch must divide equally.
    """

    def __init__(
        self, data: DataSet, *, seed: int, accumulate: int = 1, multiple: int | None = None
    ) -> None:
        super().__init__()
        self.data = data
        self.seed = seed
        self.accumulate = accumulate
        self.multiple = multiple
        self.train_loader: BatchLoader | ResidentLoader | None = None
        self.eval_loader: BatchLoader | None = None
        self.evaluation_split = data.config.test_split
        self._train = data.split(data.config.train_split, "data.train_split")
        self._starts: Mapping[int, int] = {}
        self._placed = False  # whether it is decided if the split is kept on the device
        self._resident: ResidentSplit | None = None
        self._transfer: Transfer | None = None
        self._decoder: DeviceDecoder | None = None

    def resume(self, epoch: int, consumed: int) -> None:
        """Start ``epoch`` at position ``consumed`` of its global order, in samples."""
        self._starts = {epoch: consumed}

    def plan(self, epoch: int) -> SamplingPlan:
        """Return the plan of one training epoch."""
        return train_plan(self.data.config, self._train, seed=self.seed, epoch=epoch)

    def check(self, world_size: int) -> None:
        """Reject a split of one class, and a batch size unfit for the split or the devices."""
        size, split = self.data.config.batch_size, self.data.config.train_split
        manifest = self.data.manifest
        counts = zip(manifest.classes, self._class_counts(split), strict=True)
        kind = KINDS[manifest.target]
        if len(present := [name for name, count in counts if count]) < kind.least_classes:
            problem = f'"{split}" holds no {kind.counts}'
            if present:
                problem = f'all samples of "{split}" are of the class {", ".join(present)}'
            problem = f"{problem}: there is nothing to tell apart"
            raise ConfigError("data.train_split", problem, "pack the data with other splits")
        if not kind.in_index:
            self._check_own_target(manifest.target)
        elif self.data.config.crop_on == "foreground":
            raise ConfigError(
                "data.crop_on",
                f"is foreground, but a {manifest.target} is that of the whole image",
                "pass data.crop_on=any",
            )
        self._warn_of_empty(self.data.config.val_split)
        self._check_composing(manifest.target)
        if self.plan(0).num_batches() == 0:
            raise ConfigError(
                "data.batch_size",
                f"{size} exceeds the {len(self._train.index)} samples of the train split",
                "use less, or data.tail=pad",
            )
        check_share(size, Share(0, world_size, self.accumulate, self.multiple))
        eval_size = self.data.config.eval_batch_size
        if eval_size is not None:  # fail before the first epoch and not after it
            share = Share(0, world_size, multiple=self.multiple)
            check_share(eval_size, share, where="data.eval_batch_size")

    def _warn_of_empty(self, split: str | None) -> None:
        manifest = self.data.manifest
        known = None if self.data.fold is not None else manifest.splits.get(split or "")
        if known is not None and not any(known.class_counts):
            counts = KINDS[manifest.target].counts
            problem = f'"{split}" holds no {counts}: no metric tells which epoch is best'
            log.warning("data.val_split: %s", problem)

    def _class_counts(self, split: str) -> Sequence[int]:
        """Return how much of each class the targets of the train split hold."""
        manifest, index = self.data.manifest, self._train.index
        if self.data.fold is not None and index.class_counts is not None:
            return [int(n) for n in index.class_counts.sum(axis=0)]
        if self.data.fold is not None and KINDS[manifest.target].in_index:
            return [int(n) for n in np.bincount(index.labels, minlength=len(manifest.classes))]
        return manifest.splits[split].class_counts

    def _check_own_target(self, target: str) -> None:
        """Reject what needs another image than the stored one."""
        if self.data.config.decode_size is not None:
            raise ConfigError(
                "data.decode_size",
                f"shrinks images, and a {target} keeps the size that is stored",
                "leave it out",
            )

    def _check_composing(self, target: str) -> None:
        """Reject images of several others where a target is not objects."""
        for name in ("mosaic", "copy_paste"):
            if getattr(self.data.config, name) and not KINDS[target].composes:
                raise ConfigError(
                    f"data.{name}",
                    f"composes images of objects, and each target here is a {target}",
                    "pass 0, or augment.cutmix, which mixes classes",
                )

    def train_dataloader(self) -> BatchLoader | ResidentLoader:
        """Return a loader for the rest of the current epoch, from device memory or from files."""
        assert self.trainer is not None
        epoch = self.trainer.current_epoch
        is_last = epoch + 1 == self.trainer.max_epochs
        return self.open_train_loader(epoch, process_of(self.trainer), is_last=is_last)

    def open_train_loader(
        self, epoch: int, process: Process, *, is_last: bool = False
    ) -> BatchLoader | ResidentLoader:
        """Return a loader for the rest of an epoch.

        Args:
            epoch: Number of the epoch.
            process: The process to load for.
            is_last: Whether no epoch follows whose first shards are worth fetching.
        """
        rule = self._rule(process, training=True)
        if not self._placed:
            self._resident = open_resident(
                self.data.config.resident,
                self._train,
                process.device,
                num_workers=rule.num_workers,
                processes=process.local_world_size,
            )
            if self._resident is None and self.data.config.decode == "device":
                self._decoder = choose_decoder(self._train, process.device)
            self._placed = True
        share = Share(process.rank, process.world_size, self.accumulate, self.multiple)
        rest = (self.plan(epoch), share, rule, self._starts.get(epoch, 0))
        if self._resident is not None:
            self.train_loader = ResidentLoader(self._resident, *rest)
        else:
            loader: BatchLoader
            if self._decoder is not None:
                data = replace(self._train, decoded_cache=None)
                loader = DeviceLoader(data, *rest, decoder=self._decoder)
            else:
                loader = BatchLoader(self._train, *rest)
            if not is_last:
                loader.following = partial(self.plan, epoch + 1)
            self.train_loader = loader
        return self.train_loader

    def transfer_batch_to_device(
        self, batch: Batch, device: torch.device, dataloader_idx: int
    ) -> Batch:
        """Return the batch on the device; a copy to a GPU overlaps the previous step."""
        if device.type != "cuda":
            return batch.to(device)
        if self._transfer is None or self._transfer.device != device:
            self._transfer = Transfer(device)
        return self._transfer.send(batch)

    def val_dataloader(self) -> BatchLoader:
        """Return a loader for the whole validation split."""
        assert self.trainer is not None
        return self.open_val_loader(process_of(self.trainer))

    def test_dataloader(self) -> BatchLoader:
        """Return a loader for the whole split to evaluate."""
        assert self.trainer is not None
        return self.open_test_loader(process_of(self.trainer))

    def open_val_loader(self, process: Process) -> BatchLoader:
        """Return a loader that reads every sample of the validation split once."""
        split = self.data.config.val_split
        assert split is not None, "a run without validation asks for none"
        return self._open_loader(split, "data.val_split", process)

    def open_test_loader(self, process: Process) -> BatchLoader:
        """Return a loader that reads every sample of the split to evaluate once."""
        return self._open_loader(self.evaluation_split, "data.test_split", process)

    def read_samples(self, data: SplitData, samples: Sequence[int]) -> Iterator[Batch]:
        """Yield samples one by one as evaluation sees them, as batches of one row."""
        rule = load_rule(self.data.config, training=False, pin_memory=False, processes=1)
        with closing(SampleLoader(data, rule, [])) as loader:
            for sample in samples:
                one = np.array([sample], np.int64)
                planned = PlannedBatch(0, one, one, np.array([True]), 1)
                buffer = open_buffer(planned, data.manifest, rule, np.empty((1, 0)))
                loader.fill(buffer, 0, 1)
                yield buffer.to_batch(np.empty((1, 0)))

    def _open_loader(self, split: str, where: str, process: Process) -> BatchLoader:
        data = self.data.split(split, where)
        plan = eval_plan(self.data.config, data, self._eval_batch(process.device))
        share = Share(process.rank, process.world_size, multiple=self.multiple and 1)
        self.eval_loader = BatchLoader(data, plan, share, self._rule(process, training=False))
        return self.eval_loader

    def _eval_batch(self, device: torch.device) -> int:
        """Return the default size of an evaluation batch, if the config sets none."""
        size = self.data.config.batch_size
        if device.type != "cuda":
            return size  # four of five networks took longer per image with 16 than with 8
        return EVAL_BATCHES * max(1, size // self.accumulate)

    def _rule(self, process: Process, *, training: bool) -> LoadRule:
        pin = torch.cuda.is_available() and process.device.type == "cuda"
        return load_rule(
            self.data.config,
            training=training,
            pin_memory=pin,
            processes=process.local_world_size,
        )
