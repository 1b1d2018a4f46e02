"""The data module for anyone's loop or Lightning Trainer: a URL and keywords, no run config.

It is a thin face of :mod:`rsdl.data.datamodule`: order, crops and pixels are those of a run. Stored
pixels go to the device and are augmented and normalised there, a batch at a time: the caller gets
what a network takes, and the host copies a quarter of its bytes.
"""

import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Unpack

import pytorch_lightning as pl
import torch

from rsdl.config.data import AugmentConfig, DataFields
from rsdl.config.load import validate
from rsdl.core.batch import Batch
from rsdl.core.errors import ConfigError
from rsdl.data.augment import Augment
from rsdl.data.datamodule import DataModule as RunDataModule
from rsdl.data.datamodule import Process, process_of
from rsdl.data.dataset import DataSet
from rsdl.data.epochs import Batches, LabeledBatch, Loader, StoredBatch
from rsdl.data.targets import KINDS
from rsdl.distributed.rank import rank, world_size


class DataModule(pl.LightningDataModule):
    """Loaders of a packed data set, for a plain PyTorch loop and for any Lightning Trainer.

    Both give :class:`LabeledBatch`. In a plain loop:

    >>> data = DataModule("data/mine", image_size=32, batch_size=4)
    >>> data.classes
    ('beach', 'field', 'forest')
    >>> loader = data.train_loader()          # on a GPU: data.train_loader("cuda")
    >>> for epoch in range(2):                # each iteration is an epoch, in an order of its own
    ...     for images, targets, valid in loader:
    ...         pass
    >>> images.shape, images.dtype, targets.dtype
    (torch.Size([4, 3, 32, 32]), torch.float32, torch.int64)

    In Lightning, ``trainer.fit(model, datamodule=data)`` gives each ``training_step`` such a batch,
    on its device. Pass no ``reload_dataloaders_every_n_epochs``: every epoch has its own order.

    Under ``torch.distributed``, and in a Lightning Trainer with several devices, each process reads
    its part of every batch: ``batch_size`` counts the samples of all of them.

    Args:
        url: Root of the data set: a folder or ``s3://`` with a ``manifest.json``.
        seed: Seed of order, crops and augmentation.
        augment: Fields of ``augment`` in a config, such as ``{"hue": 0.1}``; ``None`` flips and
            rotates by quarter turns. Evaluation is never augmented.
        storage: Fields of ``storage`` in a config, such as ``{"anonymous": True}``.
        fields: Fields of ``data`` in a config, such as ``image_size`` (224) and ``batch_size``
            (64). ``eval_batch_size`` is ``batch_size`` if left out.

    Raises:
        ConfigErrors: With every field that is wrong.
        ConfigError: If images are to be mixed: mixed targets are the loss's part.
        DataError: If there is no data set at ``url``, or it is damaged.
    """

    def __init__(
        self,
        url: str | os.PathLike[str],
        *,
        seed: int = 0,
        augment: Mapping[str, Any] | None = None,
        storage: Mapping[str, Any] | None = None,
        **fields: Unpack[DataFields],
    ) -> None:
        super().__init__()
        self._open = partial(type(self), url, seed=seed, augment=augment, storage=storage, **fields)
        config = validate(
            {
                # Every config has these two; no loader looks at them.
                "name": "data",
                "model": {"name": "resnet50"},
                "seed": seed,
                "data": {"url": os.fspath(url), **fields},
                "augment": dict(augment or {}),
                "storage": dict(storage or {}),
            }
        )
        _refuse_mixing(config.augment)
        data = config.data
        if data.eval_batch_size is None:  # the caller may keep gradients, rsdl train does not
            data = data.model_copy(update={"eval_batch_size": data.batch_size})
        self.data = DataSet(data, config.storage, seed=seed)
        manifest = self.data.manifest
        self._kind = KINDS[manifest.target]
        self._loaders = RunDataModule(self.data, seed=seed)
        self._augment = Augment(config.augment, manifest.mean, manifest.std, manifest.dtype)

    def __reduce__(self) -> tuple[Any, ...]:
        """Open the data set anew in another process, as Lightning's ddp_spawn demands."""
        opened = ("_open", "data", "_kind", "_loaders", "_augment")
        return self._open, (), {k: v for k, v in vars(self).items() if k not in opened}

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, by class index."""
        return tuple(self.data.manifest.classes)

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.classes)

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of the bands, by channel."""
        return tuple(self.data.manifest.bands)

    def train_loader(self, device: str | torch.device = "cpu") -> Loader:
        """Return the loader of the train split: shuffled, randomly cropped, augmented.

        Args:
            device: Device of the batches it yields.

        Raises:
            ConfigError: If the split has one class or less than a batch, or the batch does not
                divide by the processes.
        """
        process = this_process(device)
        self._loaders.check(process.world_size)
        open_epoch = partial(self._loaders.open_train_loader, process=process)
        return Loader(open_epoch, partial(self._send, process.device, training=True))

    def val_loader(self, device: str | torch.device = "cpu") -> Loader:
        """Return the loader of the validation split: every sample once, central crops.

        Args:
            device: Device of the batches it yields.

        Raises:
            ConfigError: If ``val_split`` is ``None``.
        """
        if self.data.config.val_split is None:
            raise ConfigError(
                "data.val_split", "is null: there is no split to validate on", "name one"
            )
        return self._plain_eval(self._loaders.open_val_loader, device)

    def test_loader(self, device: str | torch.device = "cpu") -> Loader:
        """Return the loader of the test split, as :meth:`val_loader`."""
        return self._plain_eval(self._loaders.open_test_loader, device)

    def prepare(self, batch: Batch, *, training: bool) -> LabeledBatch:
        """Return a batch of stored pixels as a network takes it, on the batch's device.

        Args:
            batch: Images ``[B, H, W, C]`` as stored, of any device.
            training: Whether to augment.
        """
        if self._augment.mean.device != batch.images.device:
            self._augment.to(batch.images.device)
        images, _ = self._augment(batch, training=training)
        targets = batch.targets
        if training:
            targets = self._augment.turn_targets(batch, self._kind)
        return LabeledBatch(images, targets, batch.valid)

    def setup(self, stage: str) -> None:
        """Check the splits against the trainer's devices; called by Lightning."""
        if stage == "fit" and self.trainer is not None:
            self._loaders.check(self.trainer.world_size)

    def train_dataloader(self) -> Loader:
        """Return the training batches; called by Lightning."""
        assert self.trainer is not None
        process = process_of(self.trainer)
        open_epoch = partial(self._loaders.open_train_loader, process=process)
        return Loader(open_epoch, StoredBatch, self.trainer)

    def val_dataloader(self) -> Loader | list[Loader]:
        """Return the validation batches, none without a ``val_split``; called by Lightning."""
        assert self.trainer is not None
        if self.data.config.val_split is None:
            return []
        process = process_of(self.trainer)
        return Loader(lambda _: self._loaders.open_val_loader(process), StoredBatch)

    def test_dataloader(self) -> Loader:
        """Return the test batches; called by Lightning."""
        assert self.trainer is not None
        process = process_of(self.trainer)
        return Loader(lambda _: self._loaders.open_test_loader(process), StoredBatch)

    def transfer_batch_to_device(
        self, batch: StoredBatch, device: torch.device, dataloader_idx: int
    ) -> StoredBatch:
        """Return the batch on the device; called by Lightning."""
        return StoredBatch(self._loaders.transfer_batch_to_device(batch.content, device, 0))

    def on_after_batch_transfer(self, batch: StoredBatch, dataloader_idx: int) -> LabeledBatch:
        """Return the batch as the network takes it, in the trainer's precision."""
        assert self.trainer is not None
        labeled = self.prepare(batch.content, training=self.trainer.training)
        return LabeledBatch(*self.trainer.precision_plugin.convert_input(labeled))

    def _plain_eval(
        self, open_split: Callable[[Process], Batches], device: str | torch.device
    ) -> Loader:
        process = this_process(device)
        send = partial(self._send, process.device, training=False)
        return Loader(lambda _: open_split(process), send)

    def _send(self, device: torch.device, batch: Batch, *, training: bool) -> LabeledBatch:
        moved = self._loaders.transfer_batch_to_device(batch, device, 0)
        return self.prepare(moved, training=training)


def this_process(device: str | torch.device) -> Process:
    """Return this process, with its rank as ``torch.distributed`` knows it."""
    if world_size() == 1:
        return Process(torch.device(device))
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return Process(torch.device(device), rank(), world_size(), local)


def _refuse_mixing(config: AugmentConfig) -> None:
    if config.mixes:
        name = "mixup" if config.mixup else "cutmix"
        raise ConfigError(
            f"augment.{name}",
            "mixes targets too, which a batch of rsdl.DataModule does not tell",
            "leave it out and mix batches by torchvision.transforms.v2, or train by rsdl.train",
        )
