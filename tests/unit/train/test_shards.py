"""Shards that were written by any number of ranks are read whole, or by any number of ranks."""

import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard, distribute_tensor
from torch.testing._internal.distributed.fake_pg import FakeStore

from rsdl.core.errors import ConfigError, DataError, RsdlError
from rsdl.models.tensors import read_tensors
from rsdl.records.run_record import LAST
from rsdl.storage.local import LocalBlob, LocalStore
from rsdl.train.checkpoint import read_checkpoint
from rsdl.train.shards import OwnShards, Part, StoredShards, map_tree, shard_like

STEM = "checkpoints/shards-000000007-0a1b2c3d"


def write(folder: Path, tensors: dict[str, Tensor], world_size: int, stem: str = STEM) -> None:
    """Write a checkpoint as FSDP2 deals it: to each rank the next rows of each tensor."""
    table: dict[str, list[Part]] = {}
    (folder / "checkpoints").mkdir(exist_ok=True)
    for rank in range(world_size):
        parts, start = [], 0
        for name, tensor in tensors.items():
            each = -(-len(tensor) // world_size)
            rows = tensor[rank * each : (rank + 1) * each]
            if rows.numel():
                offsets = (rank * each, *(0,) * (tensor.ndim - 1))
                part = rank, start, offsets, tuple(rows.shape)
                table.setdefault(f"state_dict.{name}", []).append(part)
                parts.append(rows)
                start += rows.nbytes
        OwnShards(parts, {}, {}).write(folder / f"{stem}-{rank}")
    index = map_tree({"state_dict": tensors}, lambda path, value: value.to("meta"))  # type: ignore[attr-defined]
    torch.save(index | {"shards": {"stem": stem, "table": table}}, folder / LAST)


SHAPES = st.lists(st.integers(1, 9), min_size=1, max_size=3).map(tuple)
DTYPES = st.sampled_from([torch.float32, torch.bfloat16, torch.int64, torch.bool])


@st.composite
def tensors(draw: st.DrawFn) -> dict[str, Tensor]:
    shapes = draw(st.lists(st.tuples(SHAPES, DTYPES), min_size=1, max_size=4))
    return {
        f"weight.{at}": torch.randint(0, 100, shape).to(dtype)
        for at, (shape, dtype) in enumerate(shapes)
    }


@contextmanager
def rank_of(world_size: int, rank: int) -> Iterator[None]:
    """Be one rank of a group whose collectives do nothing."""
    dist.init_process_group("fake", rank=rank, world_size=world_size, store=FakeStore())
    try:
        yield
    finally:
        dist.destroy_process_group()


@given(tensors(), st.integers(1, 5))
def test_a_single_process_reads_the_shards_of_any_number_of_ranks(
    written: dict[str, Tensor], world_size: int
):
    with TemporaryDirectory() as folder:
        write(Path(folder), written, world_size)
        state = read_checkpoint(LocalStore(Path(folder)), LAST)["state_dict"]
    assert state.keys() == written.keys()
    assert all(torch.equal(state[name], value) for name, value in written.items())
    assert all(state[name].dtype == value.dtype for name, value in written.items())


@given(tensors(), st.integers(1, 5), st.integers(1, 5))
def test_a_rank_reads_its_shard_of_those_of_any_number_of_ranks(
    written: dict[str, Tensor], before: int, after: int
):
    rank = after // 2  # PyTorch remembers where in a mesh this process is
    with TemporaryDirectory() as folder, rank_of(after, rank):
        write(Path(folder), written, before)
        mesh = init_device_mesh("cpu", (after,))
        wanted = {
            f"state_dict.{name}": distribute_tensor(value, mesh, [Shard(0)], src_data_rank=None)
            for name, value in written.items()
        }
        own = {name: shard_like(value.to("meta"), wanted[f"state_dict.{name}"])
               for name, value in written.items()}  # fmt: skip
        targets = {f"state_dict.{name}": value for name, value in own.items()}
        content: Any = torch.load(Path(folder) / LAST, weights_only=True)
        stored = StoredShards(LocalStore(Path(folder)), **content["shards"])
        stored.read(targets)  # type: ignore[arg-type]
        for name, value in targets.items():
            assert isinstance(value, DTensor)
            assert torch.equal(value.to_local(), wanted[name].to_local())


WEIGHTS = {"weight": torch.arange(24.0).reshape(6, 4), "bias": torch.arange(5.0)}


class Trap:
    """What a malicious pickle would run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


TABLE = "table"
PART = (0, 0, (0, 0), (6, 4))
WRONG: list[tuple[str, object]] = [
    ("stem", 7),
    ("stem", "../elsewhere/shards"),
    ("stem", "/etc/passwd"),
    ("stem", "checkpoints/shards-of-another"),
    (TABLE, None),
    (TABLE, {}),
    (TABLE, {"state_dict.weight": []}),
    (TABLE, {"state_dict.weight": [PART[:3]]}),
    (TABLE, {"state_dict.weight": [("../0", *PART[1:])]}),
    (TABLE, {"state_dict.weight": [(9, *PART[1:])]}),
    (TABLE, {"state_dict.weight": [(0, -64, *PART[2:])]}),
    (TABLE, {"state_dict.weight": [(0, 1 << 60, *PART[2:])]}),
    (TABLE, {"state_dict.weight": [(0, 0, (0, 0), (3, 4))]}),
    (TABLE, {"state_dict.weight": [(0, 0, (0, 0), (-6, 4))]}),
    (TABLE, {"state_dict.weight": [(0, 0, (0,), (6,))]}),
    (TABLE, {"state_dict.weight": [(0, 0, (0, 0), (6, 4 << 40))]}),
]


@pytest.mark.parametrize(("key", "change"), WRONG)
def test_a_wrong_table_is_refused_in_one_line(tmp_path: Path, key: str, change: Any):  # noqa: ANN401
    write(tmp_path, WEIGHTS, 1)
    index: dict[str, Any] = torch.load(tmp_path / LAST, weights_only=True)
    rest = index["shards"][TABLE]
    index["shards"][key] = rest | change if key == TABLE and change else change
    torch.save(index, tmp_path / LAST)
    with pytest.raises(RsdlError) as caught:
        read_checkpoint(LocalStore(tmp_path), LAST)
    assert caught.value.exit_code == 2 and "\n" not in str(caught.value)
    assert caught.value.where.startswith((str(tmp_path), "../", "/etc/passwd")), caught.value


def test_damaged_shards_are_refused_in_one_line(tmp_path: Path):
    write(tmp_path, WEIGHTS, 2)
    file = tmp_path / f"{STEM}-1"
    whole = file.read_bytes()
    for left in (whole[:-1], b""):
        file.write_bytes(left)
        with pytest.raises(DataError, match="the shards of a checkpoint are damaged"):
            read_checkpoint(LocalStore(tmp_path), LAST)
    file.unlink()
    with pytest.raises(RsdlError, match=f"{file.name}: no such file"):
        read_checkpoint(LocalStore(tmp_path), LAST)


def test_a_malicious_index_never_runs(tmp_path: Path):
    write(tmp_path, WEIGHTS, 1)
    trap = tmp_path / "trap"
    index: dict[str, Any] = torch.load(tmp_path / LAST, weights_only=True)
    for place in ("stem", TABLE):
        wrong = index | {"shards": index["shards"] | {place: Trap(trap)}}
        (tmp_path / LAST).unlink()
        torch.save(wrong, tmp_path / LAST)
        with pytest.raises(DataError, match="is not a checkpoint that can be loaded safely"):
            read_checkpoint(LocalStore(tmp_path), LAST)
    assert not trap.exists()
    pickle.loads(pickle.dumps(Trap(trap)))
    assert trap.exists(), "the trap must be able to spring"


class ReplacedStore(LocalStore):
    """A run's folder whose checkpoint is replaced between the index and the first shard."""

    def open(self, name: str, sha256: str | None = None) -> LocalBlob:
        if name == f"{STEM}-0":
            write(self._root, {"weight": torch.ones(3, 2)}, 2, stem="checkpoints/shards-8-b")
            (self._root / name).unlink(missing_ok=True)
        return super().open(name, sha256)


def test_a_checkpoint_that_is_replaced_while_it_is_read_is_read_anew(tmp_path: Path):
    write(tmp_path, {"weight": torch.zeros(3, 2)}, 2)
    state = read_checkpoint(ReplacedStore(tmp_path), LAST)["state_dict"]
    assert torch.equal(state["weight"], torch.ones(3, 2))


def test_weights_in_shards_are_no_file_to_begin_with(tmp_path: Path):
    write(tmp_path, WEIGHTS, 2)
    with pytest.raises(ConfigError, match=r"in the shards of a run; use the run's best.ckpt"):
        read_tensors(tmp_path / LAST, "last.ckpt")
