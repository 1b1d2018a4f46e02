"""Launcher: start one process for each device of this node and combine their exit codes."""

import os
import sys
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import Store
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.rendezvous.api import (
    RendezvousClosedError,
    RendezvousError,
    RendezvousGracefulExitError,
    RendezvousTimeoutError,
)

from rsdl.config.trainer import TrainerConfig
from rsdl.core.errors import UNAVAILABLE, AbsentPeerError, ConfigError, PreemptedError
from rsdl.core.resources import usable_cores
from rsdl.distributed.agent import NodeAgent, Signals
from rsdl.distributed.failure import Failure, first_sentence
from rsdl.distributed.node_rendezvous import (
    DEFAULT_PORT,
    ENDED,
    Nodes,
    connect_store,
    run_store,
    serve_store,
)

MOST_FUTILE = 5  # attempts in a row without a step, after which a node gives up
SECONDS_TO_RETRY = 1.0


@dataclass(frozen=True, slots=True)
class Node:
    """This node among several nodes, as the command line tells.

    Attributes:
        rank: Node rank; of a fixed number of nodes, node 0 serves the rendezvous store.
        endpoint: ``host:port`` of the store; ``None`` if there is only one node.
        run_id: Rendezvous id, shared only by the nodes of one start.
    """

    rank: int | None = None
    endpoint: str | None = None
    run_id: str = "rsdl"


def plan_launch(config: TrainerConfig, node: Node) -> Nodes | None:
    """Return the nodes and processes to start; ``None`` if this process is enough.

    Raises:
        ConfigError: If the config has several nodes and this node's rank or endpoint is missing.
    """
    size = config.devices if config.devices != "auto" else _count_devices(config)
    least, most = config.node_range or (1, 1)
    if most == 1:
        if node.endpoint is not None:
            raise ConfigError(
                "--rdzv-endpoint", "is for several nodes", "say how many with --nnodes"
            )
        return Nodes(size=size) if size > 1 else None
    if node.endpoint is None or (node.rank is None and least == most):
        raise ConfigError(
            "trainer.num_nodes",
            f"is {config.num_nodes}, but this node does not know its place among them",
            "pass --rdzv-endpoint HOST:PORT of the first node and --node-rank, or use torchrun"
            if least == most
            else "pass --rdzv-endpoint HOST:PORT of a rsdl rendezvous",
        )
    if node.rank is not None and node.rank >= most:
        raise ConfigError("--node-rank", f"is {node.rank} of {most} nodes", "count from 0")
    host, _, port = node.endpoint.rpartition(":")
    if not host:
        host, port = port, str(DEFAULT_PORT)
    if not port.isdigit() or not 0 < int(port) < 1 << 16:
        raise ConfigError("--rdzv-endpoint", f"{node.endpoint!r} is not HOST:PORT", "add the port")
    patience_s = config.rendezvous_s
    return Nodes(least, most, size, node.rank, host, int(port), node.run_id, patience_s)


def launch(nodes: Nodes, arguments: Sequence[str]) -> int:
    """Run ``rsdl ARGUMENTS`` once for each device of this node, and wait for all processes.

    Of an elastic run, when a node is lost or comes, the others meet again and go on.

    Args:
        nodes: The nodes of the run, and this one among them.
        arguments: Arguments of the command.

    Returns:
        The combined exit code; see :func:`combine_exit_codes`.

    Raises:
        AbsentPeerError: If not enough nodes come in time.
        RsdlError: If the store cannot be served at the port.
    """
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, usable_cores() // nodes.size)))
    server: Store | None = None
    if nodes.rank == 0 and not nodes.is_elastic:
        remedy = "take a free port and this node's own address, or give this node its --node-rank"
        served = serve_store(nodes.port, host=nodes.host, remedy=remedy)
        server, nodes = served, replace(nodes, port=served.port)
    signals = Signals()
    signals.install()
    futile = 0
    while True:
        code, goes_on, has_trained = _attempt(nodes, server, signals, arguments)
        futile = 0 if has_trained else futile + 1
        if has_trained:  # a run is begun anew only once
            arguments = [word for word in arguments if word != "--restart"]
        if not goes_on:
            return code
        if futile == MOST_FUTILE:
            sys.stderr.write(f"no step was made in {futile} attempts\n")
            return code


def _attempt(
    nodes: Nodes, server: Store | None, signals: Signals, arguments: Sequence[str]
) -> tuple[int, bool, bool]:
    """Meet and run the ranks once.

    Returns:
        The exit code of this node, whether it is to meet the others again nevertheless, and whether
        a step was made.
    """
    agent: NodeAgent | None = None
    code, goes_on = AbsentPeerError.exit_code, False
    try:
        signals.check()
        store = server or connect_store(nodes, signals.check)
        agent = NodeAgent(nodes, store, signals, arguments)
        codes = agent.run_ranks()
        code = combine_exit_codes(codes)
        if nodes.is_elastic:
            failure = agent.monitor.failure
            ending = find_ending(codes, failure, agent.ranks, asked=signals.asked)
            goes_on = ending is None
            code = code if ending is None else ending
            if goes_on:
                why = "the nodes change" if failure is None else f"{failure.where} {failure.text}"
                sys.stderr.write(f"rendezvous at {nodes.endpoint}: meets again: {why}\n")
    except SignalException:
        code = PreemptedError.exit_code
    except (RendezvousClosedError, RendezvousGracefulExitError):
        code = _read_ended(nodes, store)
    except (RendezvousError, dist.DistError) as error:
        is_late = isinstance(error, RendezvousTimeoutError)
        if is_late or not nodes.is_elastic:
            late = f"fewer than {nodes.least} nodes have come within {nodes.patience_s:.0f} s"
            raise AbsentPeerError(
                f"rendezvous at {nodes.endpoint}",
                late if is_late else f"its store is gone: {first_sentence(error)}",
                "check that all nodes were started and reach that address",
            ) from error
        goes_on = True  # the rendezvous may come back
        time.sleep(SECONDS_TO_RETRY)
    finally:
        if agent is not None:
            agent.close(code if nodes.is_elastic and code in (0, 2) else None)
    return code, goes_on, agent is not None and agent.monitor.has_trained


def find_ending(
    codes: Sequence[int], failure: Failure | None, ranks: Collection[int], *, asked: bool
) -> int | None:
    """Return the exit code of a node of an elastic run; ``None`` if it goes on with the others.

    Args:
        codes: Exit codes of the ranks of this node.
        failure: The failure that ended all ranks, if there was one.
        ranks: Ranks of this node.
        asked: Whether this node was asked to stop.
    """
    code = combine_exit_codes(codes)
    if code in (0, 2):
        return code
    # A rank that was stopped early, or found the run's folder or the store taken for now, may be
    # started again here.
    retried = (PreemptedError.exit_code, UNAVAILABLE)
    here = failure is not None and failure.rank in ranks and failure.code not in retried
    if min(codes) < 0 or here:
        return code
    return PreemptedError.exit_code if asked else None


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


def _read_ended(nodes: Nodes, store: Store) -> int:
    """Return how a run has ended that this node came too late for."""
    code = int(run_store(store, nodes.run_id).get(ENDED))
    what = "is completed" if code == 0 else "has ended with wrong input (2)"
    sys.stderr.write(
        f"rendezvous at {nodes.endpoint}: the run {nodes.run_id} {what}; to begin another there, "
        "take another --rdzv-id\n"
    )
    return code


def _count_devices(config: TrainerConfig) -> int:
    if config.accelerator == "cpu" or not torch.cuda.is_available():
        return 1
    return max(1, torch.cuda.device_count())
