"""Launcher: start one process for each device of this node and combine their exit codes.

It differs from ``torchrun``: it does not restart ranks; a rank's exit code 75 (preempted) or 2
(wrong input) becomes that of the command; ranks that were asked to stop get the time that saving
takes; and the death of a rank is posted to all other ranks at once. The launcher of the first node
serves the rendezvous store, so the store outlives every rank.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import FrameType

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import PrefixStore, Store, TCPStore

from rsdl.config.trainer import TrainerConfig
from rsdl.core.errors import UNAVAILABLE, ConfigError, PreemptedError, RsdlError
from rsdl.core.resources import usable_cores
from rsdl.distributed.failure import Failure, name_rank
from rsdl.distributed.heartbeat import FAILURE
from rsdl.distributed.rank import RankInfo
from rsdl.distributed.rendezvous import RendezvousPoint
from rsdl.train.signals import SIGNALS

# Time for ranks to end by themselves after one failed: longer than their heartbeat takes.
SECONDS_TO_END = 90.0
DEFAULT_PORT = 29500


@dataclass(frozen=True, slots=True)
class Node:
    """This node among several nodes.

    Attributes:
        rank: Node rank; node 0 serves the rendezvous store.
        endpoint: ``host:port`` of node 0; ``None`` if there is only one node.
        run_id: Rendezvous id, shared only by the nodes of one start.
    """

    rank: int | None = None
    endpoint: str | None = None
    run_id: str = "rsdl"


@dataclass(frozen=True, slots=True)
class LaunchPlan:
    """The processes to start on this node.

    Attributes:
        node: Rank of this node.
        num_nodes: Number of nodes.
        size: Processes on each node.
        host: Host of the rendezvous store.
        port: Port of the store; 0 takes a free one, for a single node only.
        run_id: Rendezvous id; nodes with different ids do not join.
    """

    node: int
    num_nodes: int
    size: int
    host: str
    port: int
    run_id: str = "rsdl"


def plan_launch(config: TrainerConfig, node: Node) -> LaunchPlan | None:
    """Return the processes to start; ``None`` if this process is enough.

    Raises:
        ConfigError: If the config has several nodes and this node's rank or endpoint is missing.
    """
    size = config.devices if config.devices != "auto" else _count_devices(config)
    num_nodes = 1 if config.num_nodes == "auto" else config.num_nodes
    if num_nodes == 1:
        if node.endpoint is not None:
            raise ConfigError(
                "--rdzv-endpoint", "is for several nodes", "say how many with --nnodes"
            )
        return LaunchPlan(0, 1, size, "127.0.0.1", 0) if size > 1 else None
    if node.endpoint is None or node.rank is None:
        raise ConfigError(
            "trainer.num_nodes",
            f"is {num_nodes}, but this node does not know its place among them",
            "pass --rdzv-endpoint HOST:PORT of the first node and --node-rank, or use torchrun",
        )
    if node.rank >= num_nodes:
        raise ConfigError("--node-rank", f"is {node.rank} of {num_nodes} nodes", "count from 0")
    host, _, port = node.endpoint.rpartition(":")
    if not host:
        host, port = port, str(DEFAULT_PORT)
    if not port.isdigit() or not 0 < int(port) < 1 << 16:
        raise ConfigError("--rdzv-endpoint", f"{node.endpoint!r} is not HOST:PORT", "add the port")
    return LaunchPlan(node.rank, num_nodes, size, host, int(port), node.run_id)


def launch(plan: LaunchPlan, arguments: Sequence[str]) -> int:
    """Run ``rsdl ARGUMENTS`` once for each device of this node, and wait for all processes.

    Args:
        plan: Processes to start.
        arguments: Arguments of the command.

    Returns:
        The combined exit code; see :func:`combine_exit_codes`.

    Raises:
        RsdlError: If the store cannot be served at the port.
    """
    received: list[int] = []

    def remember(number: int, frame: FrameType | None) -> None:
        received.append(number)

    for number in SIGNALS:
        signal.signal(number, remember)
    store, point = _serve(plan)
    ranks = [
        subprocess.Popen(
            [sys.executable, "-m", "rsdl", *arguments],
            env=os.environ | environment_of(plan, local_rank, point),
            start_new_session=True,  # the launcher forwards Ctrl-C, so ranks get it once
        )
        for local_rank in range(plan.size)
    ]
    try:
        codes = _wait(plan, ranks, store, received)
    finally:
        for process in ranks:
            process.kill()
            process.wait()
    return combine_exit_codes(codes)


def combine_exit_codes(codes: Sequence[int]) -> int:
    """Return the exit code of a command whose ranks ended with ``codes``.

    Wrong input (2) wins over all others, since a retry cannot help. A crash comes next, since a
    retry can help, then an unavailable resource (69), which may be available later. The run is
    preempted (75) only if no rank has any of these.
    """
    retried = (0, 2, UNAVAILABLE, PreemptedError.exit_code)
    crashes = [code for code in codes if code not in retried]
    if 2 in codes:
        return 2
    if crashes:
        return 130 if set(crashes) == {130} else 1
    return UNAVAILABLE if UNAVAILABLE in codes else max(codes)


def environment_of(plan: LaunchPlan, local_rank: int, point: RendezvousPoint) -> dict[str, str]:
    """Return the environment variables of a process, named as torchrun's."""
    threads = os.environ.get("OMP_NUM_THREADS", str(max(1, usable_cores() // plan.size)))
    return {
        "RANK": str(plan.node * plan.size + local_rank),
        "WORLD_SIZE": str(plan.num_nodes * plan.size),
        "LOCAL_RANK": str(local_rank),
        "LOCAL_WORLD_SIZE": str(plan.size),
        "GROUP_RANK": str(plan.node),
        "MASTER_ADDR": point.host,
        "MASTER_PORT": str(point.port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "TORCHELASTIC_RUN_ID": point.attempt.rpartition("-")[0],
        "TORCHELASTIC_RESTART_COUNT": "0",
        "TORCHELASTIC_MAX_RESTARTS": "0",
        "OMP_NUM_THREADS": threads,
    }


def _serve(plan: LaunchPlan) -> tuple[Store | None, RendezvousPoint]:
    """Serve the store on the first node; return it (else ``None``) and its address."""
    point = RendezvousPoint(plan.host, plan.port, True, f"{plan.run_id}-0")
    if plan.node:
        return None, point
    try:
        server = TCPStore(plan.host, plan.port, is_master=True, wait_for_workers=False)
    except (dist.DistError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise RsdlError(
            f"rendezvous at {point}",
            f"cannot be served here: {reason}",
            "take a free port and this node's own address, or give this node its --node-rank",
        ) from error
    point = RendezvousPoint(plan.host, server.port, True, point.attempt)
    return PrefixStore(f"rsdl/{point.attempt}", server), point


def _wait(
    plan: LaunchPlan,
    ranks: "Sequence[subprocess.Popen[bytes]]",
    store: Store | None,
    received: list[int],
) -> list[int]:
    """Wait for all ranks; forward signals, and post the failure of a rank that was killed."""
    codes: list[int | None] = [None] * len(ranks)
    end: float | None = None
    while None in codes:
        while received:
            number = received.pop(0)
            for process in ranks:
                process.send_signal(number)  # no effect on a process that has ended
        for local_rank, process in enumerate(ranks):
            if codes[local_rank] is None and (code := process.poll()) is not None:
                codes[local_rank] = code
                if code < 0:
                    _tell_killed(plan, local_rank, code, store)
                if code not in (0, PreemptedError.exit_code) and end is None:
                    end = time.monotonic() + SECONDS_TO_END
        if end is not None:
            _end(plan, ranks, store, in_time=time.monotonic() < end)
        time.sleep(0.05)
    return [code for code in codes if code is not None]


def _end(
    plan: LaunchPlan,
    ranks: "Sequence[subprocess.Popen[bytes]]",
    store: Store | None,
    *,
    in_time: bool,
) -> None:
    """Kill the rank that others declared lost; unless ``in_time``, kill all remaining ranks."""
    lost = None
    if store is not None and store.check([FAILURE]):
        failure = Failure.from_json(store.get(FAILURE))
        lost = failure.rank if failure.lost else None
    for local_rank, process in enumerate(ranks):
        if not in_time or plan.node * plan.size + local_rank == lost:
            process.kill()


def _tell_killed(plan: LaunchPlan, local_rank: int, code: int, store: Store | None) -> None:
    place = RankInfo(plan.node * plan.size + local_rank)
    where = name_rank(place.rank, place.host)
    text = f"was killed by {signal.Signals(-code).name}"
    if store is None or local_rank == 0:
        sys.stderr.write(f"{where}: {text}\n")
    if store is not None:
        failure = Failure(place.rank, where, text, 1, max(local_rank, 1))
        store.compare_set(FAILURE, "", failure.to_json())


def _count_devices(config: TrainerConfig) -> int:
    if config.accelerator == "cpu" or not torch.cuda.is_available():
        return 1
    return max(1, torch.cuda.device_count())
