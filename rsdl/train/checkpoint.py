"""Checkpoints: their content, and reads that execute no pickled code.

A checkpoint is one file, or the index of shards that each rank has written (``shards.py``). All
readers take it from ``read_checkpoint``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import nn

from rsdl.core.errors import DataError, StorageError
from rsdl.core.sample_counts import SampleCounts
from rsdl.core.versions import newer_format, unknown_names
from rsdl.storage.connect import join
from rsdl.storage.store import Store
from rsdl.train.shards import StoredShards, shard_state

STATE = "rsdl"
FORMAT = 1  # version of the dict at STATE; a checkpoint without one has version 1
SHARDED = 2  # its version in an index of shards, which older releases must refuse
FIELDS = ("format", "position", "tally", "train_sums", "logged")

# Prefixes of a TrainingModule's weights in its state dict.
NETWORK, AVERAGED = "model.", "averaged.module."

OPTIMIZERS = "optimizer_states"  # Lightning's key
SHARDS = "shards"  # key of the files' stem and the table of shards in their index


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


def read_checkpoint(store: Store, name: str, *, optimizer: bool = False) -> dict[str, Any]:
    """Read a checkpoint of one file or of shards on the CPU, without executing code from it.

    Args:
        store: The run's folder.
        name: Name of the checkpoint in it.
        optimizer: Whether to read the optimizer's state, too.

    Raises:
        DataError: If it is damaged or holds anything but tensors and plain values.
    """
    while True:
        content = open_checkpoint(store, name)
        shards = content.pop(SHARDS, None)
        if not optimizer:
            content.pop(OPTIMIZERS, None)
        try:
            return content if shards is None else shards.fill(content)
        except StorageError:
            # The run may have replaced the checkpoint, and deleted these shards, meanwhile.
            if open_checkpoint(store, name).get(SHARDS) == shards:
                raise


def open_checkpoint(store: Store, name: str) -> dict[str, Any]:
    """Read a checkpoint, but not its shards; see :func:`read_checkpoint`.

    Returns:
        Its content. If it has shards, meta tensors stand for them, and :class:`StoredShards` is at
        ``SHARDS``.
    """
    path, where = store.local(name), join(store.url, name)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        if SHARDS in content:
            content[SHARDS] = StoredShards(store, **content[SHARDS])
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
    if (given := state.get("format", FORMAT)) not in (FORMAT, SHARDED):
        raise newer_format(where, given, reads=SHARDED)
    unknown = [name for name in state if name not in FIELDS]
    for name, kind in (("position", Position), ("tally", SampleCounts)):
        known = {field.name for field in fields(kind)}
        unknown += [f"{name}.{key}" for key in state.get(name, ()) if key not in known]
    if unknown:
        raise unknown_names(where, "field", unknown)
    return state
