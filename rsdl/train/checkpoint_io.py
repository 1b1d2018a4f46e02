"""Checkpoints of one file, or of one by each rank, written atomically and in the background."""

import os
import secrets
import shutil
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from lightning_fabric.plugins.io.checkpoint_io import CheckpointIO

from rsdl.core.errors import FullDiskError
from rsdl.records.run_record import LAST
from rsdl.storage.connect import join
from rsdl.train.checkpoint import SHARDED, SHARDS, STATE, open_checkpoint, read_checkpoint
from rsdl.train.shards import OwnShards, stage_shards, take_shards
from rsdl.train.staging import stage_to_cpu
from rsdl.train.upload_queue import UploadQueue

# Beside the index: the next writer to a folder removes what killed writers have left in it.
SHARD_FILES = "checkpoints/shards-"
KEPT_FILES = "checkpoints/step-"  # earlier checkpoints, by step, as names of shards are
SECONDS_TO_LOOK = 1.0  # longest interval at which rank 0 looks for the shards of other ranks


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
        used = {current, *self._unfinished}
        names = [entry.name for entry in self._store.list(SHARD_FILES)]
        spare = [name for name in names if name.rpartition("-")[0] not in used]
        if not spare:  # as of every run that is not sharded
            return
        kept = [entry.name for entry in self._store.list(KEPT_FILES)]
        steps = tuple(
            f"{SHARD_FILES}{name.removeprefix(KEPT_FILES).removesuffix('.ckpt')}-" for name in kept
        )
        for name in spare:
            if not name.startswith(steps):
                self._store.delete(name)

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
