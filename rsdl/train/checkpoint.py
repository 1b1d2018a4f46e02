"""Checkpoints: their content, atomic writes, and reads that execute no pickled code."""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins.io.checkpoint_io import CheckpointIO
from torch import nn

from rsdl.core.errors import DataError, FullDiskError
from rsdl.core.sample_counts import SampleCounts
from rsdl.core.versions import newer_format, unknown_names
from rsdl.storage.connect import join
from rsdl.train.fsdp import shard_state
from rsdl.train.staging import stage_to_cpu
from rsdl.train.upload_queue import UploadQueue

STATE = "rsdl"
FORMAT = 1  # version of the dict at STATE; a checkpoint without one has version 1
FIELDS = ("format", "position", "tally", "train_sums", "logged")

# Prefixes of a TrainingModule's weights in its state dict.
NETWORK, AVERAGED = "model.", "averaged.module."


@dataclass(frozen=True, slots=True)
class Position:
    """The position of a run between two optimizer steps.

    Attributes:
        epoch: Epoch, from 0.
        consumed: Samples consumed of the epoch's global order.
        step: Optimizer steps since the start of the run.
        validate: Whether the previous epoch is not validated yet.
    """

    epoch: int = 0
    consumed: int = 0
    step: int = 0
    validate: bool = False


def read_checkpoint(path: Path, where: str) -> dict[str, Any]:
    """Load a checkpoint on the CPU without executing code from it.

    Raises:
        DataError: If it is damaged or holds anything but tensors and plain values.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:
        reason = "is not a checkpoint that can be loaded safely (damaged, or not plain tensors)"
        raise DataError(where, reason, "restore it, or start again with --restart") from error
    if not isinstance(content, dict) or "state_dict" not in content:
        raise DataError(where, "is no checkpoint of rsdl", "name a run or its checkpoint")
    return content


def load_weights(
    module: nn.Module, checkpoint: dict[str, Any], where: str, *, averaged: bool = False
) -> None:
    """Load a checkpoint's weights into a module.

    Args:
        module: Module that trains or evaluates.
        checkpoint: Result of :func:`read_checkpoint`.
        where: Name of the checkpoint in error messages.
        averaged: Whether to load the averaged weights as the network's own, for a module that
            keeps no average.

    Raises:
        DataError: If the weights belong to another network.
    """
    state = checkpoint["state_dict"]
    try:
        state = average_of(state) if averaged else state
        module.load_state_dict(shard_state(module, state))
    except (RuntimeError, TypeError, AttributeError) as error:
        first = str(error).splitlines()[-1].strip()[:200]
        raise DataError(
            where, f"does not fit the network of the config: {first}", "take the run's own"
        ) from error


def average_of(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return a module's state dict with the network's weights replaced by their average."""
    rest = {k: v for k, v in state.items() if not k.startswith((NETWORK, AVERAGED))}
    average = {
        NETWORK + k.removeprefix(AVERAGED): v for k, v in state.items() if k.startswith(AVERAGED)
    }
    return rest | average


def state_of(checkpoint: dict[str, Any], where: str) -> dict[str, Any]:
    """Return rsdl's own part of a checkpoint: position and sample counts."""
    state = checkpoint.get(STATE)
    if not isinstance(state, dict) or "position" not in state:
        raise DataError(where, "holds no position in the data", "resume from last.ckpt of a run")
    if (given := state.get("format", FORMAT)) != FORMAT:
        raise newer_format(where, given, reads=FORMAT)
    unknown = [name for name in state if name not in FIELDS]
    for name, kind in (("position", Position), ("tally", SampleCounts)):
        known = {field.name for field in fields(kind)}
        unknown += [f"{name}.{key}" for key in state.get(name, ()) if key not in known]
    if unknown:
        raise unknown_names(where, "field", unknown)
    return state


class StoreCheckpointIO(CheckpointIO):
    """Lightning's checkpoint I/O on a store: writes are atomic, reads execute no code.

    With background uploads, saving takes only as long as copying the state to the host. One copy is
    being uploaded and one more may wait, so the host holds at most two.

    Args:
        uploads: Queue that writes to the run's folder.
    """

    def __init__(self, uploads: UploadQueue) -> None:
        self._uploads = uploads
        self._store = uploads.store

    def save_checkpoint(
        self,
        checkpoint: dict[str, Any],
        path: str | Path,
        storage_options: Any | None = None,  # noqa: ANN401 - Lightning's signature
    ) -> None:
        """Submit a checkpoint for upload; the previous one stays until this one is complete.

        Raises:
            StorageError: If this checkpoint, or an earlier background upload, could not be written.
        """
        # On resume, the position sets Lightning's loops; see lightning_private.py.
        checkpoint.pop("loops", None)
        if self._uploads.background:
            self._uploads.make_room(str(path))
            checkpoint = stage_to_cpu(checkpoint)
        self._uploads.submit(str(path), partial(self._write, checkpoint, str(path)), ordered=True)

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Any | None = None,  # noqa: ANN401 - Lightning's signature
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        """Read a checkpoint, always without executing code from it."""
        self._uploads.drain()
        return read_checkpoint(self._store.local(str(path)), join(self._store.url, str(path)))

    def remove_checkpoint(self, path: str | Path) -> None:
        """Delete a checkpoint."""
        self._uploads.drain()
        self._store.delete(str(path))

    def _write(self, checkpoint: dict[str, Any], name: str) -> None:
        with self._store.create(name) as part:
            try:
                torch.save(checkpoint, part)
            except RuntimeError as error:
                free = shutil.disk_usage(part.parent).free
                # torch still has the file open, so deleting it would not free the space that the
                # run record needs.
                os.truncate(part, 0)
                raise FullDiskError(
                    join(self._store.url, name),
                    f"the checkpoint cannot be written ({free / 1e6:.0f} MB free on the disk)",
                    "free some space and run the same command again",
                ) from error
