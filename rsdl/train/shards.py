"""Shards of tensors in a checkpoint: each rank writes its own, any number of ranks reads them.

``torch.distributed.checkpoint`` (DCP) plans which part of each tensor a rank writes, and which
parts of which files make up what a rank reads. Its storage is not used: it pickles its metadata,
reads what is no tensor with pickle, and ends a save by collectives, which a background thread must
not call. Here the file of a rank is the bytes of its parts, one after the other, so that all places
are known before a byte is written. The index is an ordinary checkpoint with a meta tensor (a shape
without values) for each sharded tensor, and the table of their parts.
"""

from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner, DefaultSavePlanner
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.planner import ReadItem, SavePlan, WriteItem
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from rsdl.core.errors import DataError, RsdlError
from rsdl.storage.connect import join
from rsdl.storage.store import Blob, Store
from rsdl.train.staging import stage_to_cpu

# A part of a tensor: number of the rank whose file holds it, its first byte there, and the part's
# offsets and sizes in the whole tensor.
Part = tuple[int, int, tuple[int, ...], tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class OwnShards:
    """What one rank writes of a checkpoint.

    Attributes:
        parts: Its parts of the tensors, on the host, in the order of its file.
        table: Parts of all ranks, by the tensor's path in the checkpoint; on rank 0 only.
        sizes: Bytes of each rank's file; on rank 0 only.
    """

    parts: list[Tensor]
    table: dict[str, list[Part]]
    sizes: dict[int, int]

    def write(self, path: Path) -> None:
        """Write this rank's file."""
        with path.open("wb") as file:
            for part in self.parts:
                file.write(part.contiguous().view(-1).view(torch.uint8).numpy().data)


def take_shards(tree: Any) -> tuple[Any, dict[str, DTensor]]:  # noqa: ANN401 - a checkpoint
    """Return a checkpoint with meta tensors for sharded ones, and these by path.

    A collective that every rank must call. Tensors that are not sharded by rows stay in the
    checkpoint whole.
    """
    shards: dict[str, DTensor] = {}

    def take(path: str, value: object) -> object:
        if not isinstance(value, DTensor):
            return value
        if value.placements != (Shard(0),):
            return value.full_tensor()
        shards[path] = value
        return torch.empty(value.shape, dtype=value.dtype, device="meta")

    return map_tree(tree, take), shards


def stage_shards(shards: Mapping[str, DTensor], group: dist.ProcessGroup) -> OwnShards:
    """Copy this rank's shards to the host, and tell rank 0 what they are.

    A collective that every rank must call.

    Args:
        shards: Sharded tensors by path.
        group: Group of all ranks with a CPU backend.
    """
    is_first = dist.get_rank() == 0
    planner = DefaultSavePlanner(flatten_state_dict=False, flatten_sharded_tensors=False)
    planner.set_up_planner(dict(shards), is_coordinator=is_first)
    own = [item for item in planner.create_local_plan().items if _num_values(item)]
    plans: list[Any] | None = [None] * dist.get_world_size() if is_first else None
    dist.gather_object(SavePlan(own), plans, dst=0, group=group)
    parts: list[Tensor] = stage_to_cpu([planner.resolve_data(item) for item in own])
    table: dict[str, list[Part]] = {}
    sizes: dict[int, int] = {}
    # DCP checks that the parts cover each tensor once.
    for rank, plan in enumerate(planner.create_global_plan(plans)[0] if plans is not None else []):
        for item in plan.items:
            assert item.tensor_data is not None
            start, chunk = sizes.get(rank, 0), item.tensor_data.chunk
            part = rank, start, tuple(chunk.offsets), tuple(chunk.sizes)
            table.setdefault(item.index.fqn, []).append(part)
            sizes[rank] = start + _num_values(item) * item.tensor_data.properties.dtype.itemsize
    return OwnShards(parts, table, sizes)


def _num_values(item: WriteItem) -> int:
    assert item.tensor_data is not None
    return prod(item.tensor_data.chunk.sizes)


@dataclass(frozen=True, slots=True)
class StoredShards:
    """The shards of a checkpoint in a run's folder.

    Attributes:
        store: The run's folder.
        stem: Name of each file in it, but for the number of the rank that wrote it.
        table: Parts of each tensor, by its path in the checkpoint.
    """

    store: Store
    stem: str
    table: Mapping[str, list[Part]]

    def fill(self, tree: Any, path: str = "") -> Any:  # noqa: ANN401 - a part of a checkpoint
        """Return a part of a checkpoint with whole tensors for meta ones, on the CPU.

        Args:
            tree: The part.
            path: Its path in the checkpoint.
        """
        whole: dict[str, Tensor] = {}

        def allocate(at: str, value: object) -> object:
            if not isinstance(value, Tensor) or not value.is_meta:
                return value
            return whole.setdefault(at, torch.empty(value.shape, dtype=value.dtype))

        filled = map_tree(tree, allocate, path)
        self.read(whole)
        return filled

    def read(self, targets: Mapping[str, Tensor]) -> None:
        """Read tensors in place, whole ones or, of a ``DTensor``, this rank's shard.

        Args:
            targets: Tensors by path, of the shapes and dtypes that were saved.

        Raises:
            StorageError: If a file is missing or cannot be read.
            DataError: If the files or the table are damaged.
        """
        try:
            self._read(dict(targets))
        except RsdlError:
            raise
        except Exception as error:  # whatever a damaged or hostile table leads to
            raise self._damaged() from error

    def _read(self, targets: dict[str, Tensor]) -> None:
        metadata = Metadata({path: self._describe(path, value) for path, value in targets.items()})
        planner = DefaultLoadPlanner(flatten_state_dict=False, flatten_sharded_tensors=False)
        planner.set_up_planner(targets, metadata, is_coordinator=True)
        items = planner.create_local_plan().items
        places = [self._place(item) for item in items]
        missing = sum(_local(value).numel() for value in targets.values())
        blobs: dict[int, Blob] = {}
        with ExitStack() as stack:
            for at in sorted(range(len(items)), key=lambda at: places[at][:2]):
                item, (rank, start, sizes) = items[at], places[at]
                if rank not in blobs:
                    blob = self.store.open(f"{self.stem}-{rank}")
                    blobs[rank] = stack.enter_context(closing(blob))
                part = planner.resolve_tensor(item)
                # Rows lie one after the other, and only rows are sharded.
                first, count = item.storage_offsets[0], item.lengths[0]
                row = prod(sizes[1:]) * part.dtype.itemsize
                data = blobs[rank].read(start + first * row, count * row)
                rows = torch.frombuffer(bytearray(data), dtype=part.dtype)
                part.copy_(rows.view(count, *sizes[1:]))
                missing -= part.numel()
        if missing:
            raise self._damaged()

    def _describe(self, path: str, target: Tensor) -> TensorStorageMetadata:
        chunks = [
            ChunkStorageMetadata(torch.Size(offsets), torch.Size(sizes))
            for _, _, offsets, sizes in self.table[path]
        ]
        return TensorStorageMetadata(TensorProperties(dtype=target.dtype), target.shape, chunks)

    def _damaged(self) -> DataError:
        problem = "the shards of a checkpoint are damaged, or not those of its index"
        remedy = "restore them, or start again with --restart"
        return DataError(join(self.store.url, str(self.stem)), problem, remedy)

    def _place(self, item: ReadItem) -> tuple[int, int, tuple[int, ...]]:
        """Return the file that a part lies in, its first byte there, and its sizes."""
        index = item.storage_index
        rank, start, _, sizes = self.table[index.fqn][index.index or 0]
        return int(rank), int(start), sizes


def shard_like(value: object, weight: Tensor) -> object:
    """Return this rank's shard of a full tensor, sharded like a weight of the same shape.

    Of a meta tensor, the shard has no values yet.
    """
    if not isinstance(value, Tensor) or isinstance(value, DTensor):
        return value
    is_sharded = isinstance(weight, DTensor) and value.shape == weight.shape
    if value.is_meta:
        return torch.empty_like(weight if is_sharded else value, dtype=value.dtype,
                                device=weight.device, requires_grad=False)  # fmt: skip
    if not is_sharded:
        return value
    assert isinstance(weight, DTensor)
    value = value.to(weight.device)
    # Every rank has read the full tensor, so nothing needs to be sent.
    return distribute_tensor(value, weight.device_mesh, weight.placements, src_data_rank=None)


def shard_state(module: nn.Module, state: Mapping[str, Any]) -> dict[str, Any]:
    """Return a state dict of full tensors, sharded like the module's own."""
    own = module.state_dict()
    return {name: shard_like(value, own[name]) if name in own else value
            for name, value in state.items()}  # fmt: skip


def gather_whole(tree: Any, *, keep: bool) -> Any:  # noqa: ANN401 - a checkpoint
    """Return a checkpoint with full tensors on the host; with empty ones unless ``keep``.

    A collective that every rank must call.
    """

    def whole(path: str, value: object) -> object:
        if isinstance(value, DTensor):
            value = value.full_tensor()
        if isinstance(value, Tensor):
            return value.detach().cpu() if keep else torch.empty(0)
        return value

    return map_tree(tree, whole)


def map_tree(
    tree: Any,  # noqa: ANN401 - dicts, lists, tuples, tensors and values
    change: Callable[[str, object], object],
    path: str = "",
) -> Any:  # noqa: ANN401
    """Return a tree with each leaf replaced by ``change(path, leaf)``.

    Args:
        tree: Dicts, lists and tuples, and what they hold.
        change: Returns what takes the place of a leaf.
        path: Path of the tree, such as ``optimizer_states.0.state``.
    """
    if isinstance(tree, Mapping):
        return {key: map_tree(value, change, join_path(path, key)) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        values = [map_tree(value, change, join_path(path, at)) for at, value in enumerate(tree)]
        return type(tree)(values)
    return change(path, tree)


def join_path(*names: object) -> str:
    """Return the path of a value in a checkpoint."""
    return ".".join(str(name) for name in names if name != "")


def _local(value: Tensor) -> Tensor:
    return value.to_local() if isinstance(value, DTensor) else value
