"""Alone, a process is the whole world."""

import os

import pytest
import torch

from rsdl.core.errors import ConfigError
from rsdl.distributed.rank import (
    RankInfo,
    adopt_rank,
    find_rank,
    is_main,
    rank,
    sum_over_ranks,
    world_size,
)

CPU = torch.device("cpu")


def test_alone_everything_is_our_own():
    assert (world_size(), rank()) == (1, 0)
    assert sum_over_ranks([1, 1 << 63], CPU) == [1, 1 << 63]


@pytest.mark.parametrize(
    ("environment", "main"),
    [
        ({}, True),
        ({"RANK": "0", "LOCAL_RANK": "0"}, True),
        ({"RANK": "1", "LOCAL_RANK": "1"}, False),
        ({"RANK": "8", "LOCAL_RANK": "0"}, False),  # first process of the second node
        ({"NODE_RANK": "1"}, True),  # starts the ranks of a node, and is none itself
    ],
)
def test_the_main_process_is_known_before_the_processes_meet(
    environment: dict[str, str], main: bool, monkeypatch: pytest.MonkeyPatch
):
    for name in ("RANK", "LOCAL_RANK", "NODE_RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert is_main() == main


SLURM = {
    "SLURM_STEP_ID": "0", "SLURM_JOB_ID": "77", "SLURM_PROCID": "3", "SLURM_NTASKS": "4",
    "SLURM_LOCALID": "1", "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
    "SLURM_STEP_NODELIST": "gpu[07-08],x",
}  # fmt: skip
TORCHRUN = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}


@pytest.fixture
def environ(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Return an environment of this process that tells of no launcher."""
    clean = {n: v for n, v in os.environ.items() if not n.startswith(("SLURM_", "OMPI_", "PMI_"))}
    for name in (*TORCHRUN, "MASTER_ADDR", "MASTER_PORT"):
        clean.pop(name, None)
    monkeypatch.setattr(os, "environ", clean)
    return clean


@pytest.mark.parametrize(
    ("told", "rank_info"),
    [
        ({}, None),
        (TORCHRUN, RankInfo(3, 4, 1, 2)),
        ({"RANK": "1", "WORLD_SIZE": "2"}, RankInfo(1, 2, 0, 1)),  # a PyTorchJob
        ({"RANK": "0", "WORLD_SIZE": "1"}, None),  # of one pod, which may have several devices
        (SLURM, RankInfo(3, 4, 1, 2)),
        (SLURM | {"SLURM_STEP_ID": ""}, None),  # the script of sbatch
        (SLURM | {"SLURM_NTASKS": "1", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}, None),
        (SLURM | TORCHRUN, RankInfo(3, 4, 1, 2)),
    ],
)
def test_a_process_finds_its_rank_info(
    told: dict[str, str], rank_info: RankInfo | None, environ: dict[str, str]
):
    environ.update(told)
    assert find_rank() == rank_info
    assert is_main() == (rank_info is None or rank_info.rank == 0)
    assert adopt_rank() == rank_info
    assert find_rank() == rank_info


@pytest.mark.parametrize(
    ("told", "named"),
    [
        ({"RANK": "1"}, "RANK: without WORLD_SIZE"),
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE: without RANK"),
        ({"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}, "without LOCAL_WORLD_SIZE"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "RANK, WORLD_SIZE: counts a rank"),
        ({"RANK": "one", "WORLD_SIZE": "2"}, 'RANK: "one" is not a number'),
        ({"RANK": "0", "WORLD_SIZE": "4", "PET_NPROC_PER_NODE": "2"}, "2 processes in each pod"),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, "OMPI_COMM_WORLD_SIZE: is 2"),
        (SLURM | {"SLURM_STEP_TASKS_PER_NODE": "2,1"}, "SLURM_STEP_TASKS_PER_NODE"),
        (SLURM | {"SLURM_STEP_NODELIST": ""}, "without SLURM_STEP_NODELIST"),
    ],
)
def test_what_is_not_understood_is_refused_by_name(
    told: dict[str, str], named: str, environ: dict[str, str]
):
    environ.update(told)
    with pytest.raises(ConfigError, match=named):
        find_rank()


@pytest.mark.parametrize(
    ("nodes", "host"), [("gpu[07-08],x", "gpu07"), ("a,b", "a"), ("n[3,5]-ib", "n3-ib")]
)
def test_tasks_of_srun_meet_on_the_first_host(nodes: str, host: str, environ: dict[str, str]):
    environ.update(SLURM | {"SLURM_STEP_NODELIST": nodes})
    adopt_rank()
    assert (environ["MASTER_ADDR"], environ["MASTER_PORT"]) == (host, str(20000 + 77 * 31))
