"""Checkpoints: their content, atomic writes, and reads that execute no pickled code.

A checkpoint is one file, or the index of shards that each rank has written (``shards.py``). Either
appears under its name by one atomic write, so that all readers take it from ``read_checkpoint``.
"""

import os
import secrets
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from lightning_fabric.plugins.io.checkpoint_io import CheckpointIO
from torch import nn

from rsdl.core.errors import DataError, FullDiskError, StorageError
from rsdl.core.sample_counts import SampleCounts
from rsdl.core.versions import newer_format, unknown_names
from rsdl.records.run_record import LAST
from rsdl.storage.connect import join
from rsdl.storage.store import Store
from rsdl.train.shards import OwnShards, StoredShards, shard_state, stage_shards, take_shards
from rsdl.train.staging import stage_to_cpu
from rsdl.train.upload_queue import UploadQueue

STATE = "rsdl"
FORMAT = 1  # version of the dict at STATE; a checkpoint without one has version 1
SHARDED = 2  # its version in an index of shards, which older releases must refuse
FIELDS = ("format", "position", "tally", "train_sums", "logged")

# Prefixes of a TrainingModule's weights in its state dict.
NETWORK, AVERAGED = "model.", "averaged.module."

OPTIMIZERS = "optimizer_states"  # Lightning's key
SHARDS = "shards"  # key of the files' stem and the table of shards in their index
# Beside the index: the next writer to a folder removes what killed writers have left in it.
SHARD_FILES = "checkpoints/shards-"
KEPT_FILES = "checkpoints/step-"  # earlier checkpoints, by step, as names of shards are
SECONDS_TO_LOOK = 1.0  # longest interval at which rank 0 looks for the shards of other ranks


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
        self._unfinished: set[str] = set()  # stems of the shards that are being written

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

    def save_shards(
        self, checkpoint: dict[str, Any], path: str | Path, group: dist.ProcessGroup
    ) -> None:
        """Submit this rank's shards of a checkpoint for upload, and on rank 0 their index.

        A collective that every rank must call. The previous checkpoint stays until the shards of
        all ranks and then the index are complete. No save is dropped for a newer one, since the
        ranks would not drop the same: if one is being written and one waits, this waits.

        Args:
            checkpoint: The same on all ranks, but for their shards.
            path: Name of the index in the run's folder.
            group: Group of all ranks with a CPU backend.

        Raises:
            StorageError: If an earlier background upload could not be written.
        """
        index, sharded = take_shards({k: v for k, v in checkpoint.items() if k != "loops"})
        # Not the name of an earlier attempt, whose files may be there: rank 0 waits for this one's.
        stems = [f"{SHARD_FILES}{checkpoint['global_step']:09d}-{secrets.token_hex(4)}"]
        dist.broadcast_object_list(stems, src=0, group=group)
        name = f"{stems[0]}-{dist.get_rank()}"
        self._uploads.make_room(name)
        own = stage_shards(sharded, group)
        if own.parts:
            self._uploads.submit(name, partial(self._write_shards, own, name), ordered=True)
        if dist.get_rank() == 0:
            index[STATE] = index[STATE] | {"format": SHARDED}
            index[SHARDS] = {"stem": stems[0], "table": own.table}
            self._unfinished.add(stems[0])
            switch = partial(self._switch, stage_to_cpu(index), own.sizes, str(path))
            self._uploads.submit(str(path), switch, ordered=True)

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Any | None = None,  # noqa: ANN401 - Lightning's signature
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        """Read a checkpoint, always without executing code from it."""
        self._uploads.drain()
        return read_checkpoint(self._store, str(path), optimizer=True)

    def open_shards(self, path: str | Path) -> dict[str, Any]:
        """Read a checkpoint, but leave the optimizer's state if it is in shards.

        Returns:
            Its content; see :func:`open_checkpoint`.
        """
        self._uploads.drain()
        content = open_checkpoint(self._store, str(path))
        if SHARDS in content:
            content["state_dict"] = content[SHARDS].fill(content["state_dict"], "state_dict")
        return content

    def remove_checkpoint(self, path: str | Path) -> None:
        """Delete a checkpoint."""
        self._uploads.drain()
        self._store.delete(str(path))

    def _write_shards(self, own: OwnShards, name: str) -> None:
        with self._store.create(name) as part:
            own.write(part)

    def _switch(self, index: dict[str, Any], sizes: dict[int, int], name: str) -> None:
        """Write the index of shards once the files of all ranks are there; runs on rank 0.

        A rank that fails to write its file ends the run, and so this wait.
        """
        stem: str = index[SHARDS]["stem"]
        wanted, pause_s = {f"{stem}-{rank}": size for rank, size in sizes.items()}, 0.01
        while {entry.name: entry.size for entry in self._store.list(f"{stem}-")} != wanted:
            if self._uploads.is_alone:
                return
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, SECONDS_TO_LOOK)
        self._unfinished.discard(stem)
        self._write(index, name)

    def _sweep(self, current: str | None) -> None:
        """Delete the shards of replaced checkpoints and of attempts that were killed.

        Args:
            current: Stem of the shards that the last checkpoint refers to.
        """
        kept = [entry.name for entry in self._store.list(KEPT_FILES)]
        steps = tuple(
            f"{SHARD_FILES}{name.removeprefix(KEPT_FILES).removesuffix('.ckpt')}-" for name in kept
        )
        for entry in list(self._store.list(SHARD_FILES)):
            stem = entry.name.rpartition("-")[0]
            if stem not in {current, *self._unfinished} and not entry.name.startswith(steps):
                self._store.delete(entry.name)

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
        if name == LAST:
            self._sweep(checkpoint.get(SHARDS, {}).get("stem"))
