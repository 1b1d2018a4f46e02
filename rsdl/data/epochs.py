"""What ``rsdl.DataModule`` yields: batches as a network takes them, an epoch each iteration."""

from collections.abc import Callable, Iterator, Sized
from typing import Any, NamedTuple, Protocol

import pytorch_lightning as pl
from torch import Tensor

from rsdl.core.batch import Batch


class LabeledBatch(NamedTuple):
    """What a network takes and what it should answer; unpacks as ``images, targets, valid``.

    Attributes:
        images: Cropped, augmented and normalised by the data set's statistics, ``[B, C, H, W]``
            float32 in channels-last memory.
        targets: For scene classification the class index, ``[B]`` int64.
        valid: Which rows count, ``[B]`` bool. All do, but for padding where several processes share
            the last evaluation batch, or the end of an epoch with ``tail="pad"``, and for images
            that cannot be decoded with ``on_corrupt="skip"``.
    """

    images: Tensor
    targets: Tensor
    valid: Tensor


class StoredBatch:
    """A batch on its way through Lightning, which would round stored pixels to its precision."""

    def __init__(self, content: Batch) -> None:
        self.content = content


class Batches(Sized, Protocol):
    """A loader of one epoch."""

    def __iter__(self) -> Iterator[Batch]:
        """Yield batches of stored pixels."""


class Loader:
    """The batches of a split; each iteration reads it once, a training split in a new order.

    Args:
        open_epoch: Returns the loader of an epoch.
        prepare: Turns a batch as stored into what is yielded.
        trainer: The trainer whose epoch is read; ``None`` counts iterations.

    Attributes:
        epoch: Epoch of the next iteration. Order, crops and augmentation are functions of it, so
            setting it repeats or resumes an epoch.
    """

    def __init__(
        self,
        open_epoch: Callable[[int], Batches],
        prepare: Callable[[Batch], Any],
        trainer: pl.Trainer | None = None,
    ) -> None:
        self.epoch = 0
        self._open_epoch = open_epoch
        self._prepare = prepare
        self._trainer = trainer
        self._length: int | None = None

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        if self._length is None:
            self._length = len(self._open_epoch(self.epoch))
        return self._length

    def __iter__(self) -> Iterator[Any]:
        """Yield the batches of the next epoch."""
        epoch = self.epoch if self._trainer is None else self._trainer.current_epoch
        self.epoch = epoch + 1
        for batch in self._open_epoch(epoch):
            yield self._prepare(batch)
            del batch  # free its memory while waiting for the next
