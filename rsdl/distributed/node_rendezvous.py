"""Rendezvous of nodes, on PyTorch's c10d rendezvous: which nodes take part, and their ranks.

Its state is in a store. Of a fixed number of nodes, node 0 serves it. Of a number that may change,
any node may be lost, so the store is served by a process of its own: ``rsdl rendezvous``.
"""

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import torch.distributed as dist
from torch._C._distributed_c10d import PrefixStore, Store, TCPStore
from torch.distributed.elastic.rendezvous.c10d_rendezvous_backend import C10dRendezvousBackend
from torch.distributed.elastic.rendezvous.dynamic_rendezvous import (
    DynamicRendezvousHandler,
    RendezvousTimeout,
    _Action,
    _RendezvousContext,
)

from rsdl.core.errors import AbsentPeerError, RsdlError
from rsdl.distributed.failure import first_sentence
from rsdl.distributed.rendezvous import SECONDS_TO_CONNECT

DEFAULT_PORT = 29500
ENDED = "ended"  # exit code of a run that has ended for all nodes
SECONDS_TO_GATHER = 3.0  # for further nodes to come, once there are enough
SECONDS_TO_REPLY = 30.0  # timeout of a request to the store
KEEP_ALIVE_S = 1
KEEP_ALIVES_TO_MISS = 8  # a node that is silent for as many is lost


@dataclass(frozen=True, slots=True)
class Nodes:
    """The nodes of a run, and this one among them.

    Attributes:
        least: Nodes without which the run does not go on.
        most: Nodes that it takes.
        size: Processes on each.
        rank: Rank of this node; ``None`` if any will do.
        host: Host of the store.
        port: Port of the store; 0 takes a free one, for a single node only.
        run_id: Rendezvous id; nodes with different ids do not join.
        patience_s: Seconds that nodes may start apart from each other.
    """

    least: int = 1
    most: int = 1
    size: int = 1
    rank: int | None = 0
    host: str = "127.0.0.1"
    port: int = 0
    run_id: str = "rsdl"
    patience_s: float = 600.0

    @property
    def is_elastic(self) -> bool:
        """Whether the number of nodes may change."""
        return self.least < self.most

    @property
    def endpoint(self) -> str:
        """``host:port`` of the store."""
        return f"{self.host}:{self.port}"


class NodeRendezvous(DynamicRendezvousHandler):
    """PyTorch's rendezvous; the store of the nodes is that of the ranks, too.

    Whoever uses it calls :meth:`keep_alive` every ``KEEP_ALIVE_S`` seconds, from a thread that may
    hang: a request to a store behind a cut wire never returns.
    """

    @classmethod
    def join(cls, nodes: Nodes, store: Store) -> "NodeRendezvous":
        """Return the rendezvous of a run; :meth:`next_rendezvous` waits for the other nodes."""
        timeout = RendezvousTimeout(
            join=timedelta(seconds=nodes.patience_s),
            last_call=timedelta(seconds=SECONDS_TO_GATHER if nodes.is_elastic else 0.001),
        )
        rendezvous: NodeRendezvous = cls.from_backend(
            nodes.run_id,
            store,
            C10dRendezvousBackend(store, nodes.run_id),
            nodes.least,
            nodes.most,
            # Orders the nodes. PyTorch adds the process id, which is 1 in every container.
            local_addr=f"{nodes.rank or 0:05d}-{secrets.token_hex(8)}",
            timeout=timeout,
            keep_alive_interval=KEEP_ALIVE_S,
            keep_alive_max_attempt=KEEP_ALIVES_TO_MISS,
        )
        return rendezvous

    def get_run_id(self) -> str:
        """Return the id of the run, with a token that tells a store from one that it replaces."""
        run = run_store(self._store, self.settings.run_id)
        token = run.compare_set("token", "", secrets.token_hex(8)).decode()
        return f"{self.settings.run_id}-{token}"

    @property
    def use_agent_store(self) -> bool:
        """Tell ranks that the store is served already."""
        return True

    def keep_alive(self) -> None:
        """Tell the other nodes that this one is alive."""
        self._keep_alive()

    def leave(self) -> None:
        """Leave, so that the others need not wait until they miss this node."""
        self._op_executor.run(_leave, self._get_deadline(timedelta(seconds=SECONDS_TO_REPLY)))

    def _start_heartbeats(self) -> None:
        """Start no thread."""

    def _stop_heartbeats(self) -> None:
        """Stop no thread."""


def serve_store(
    port: int, *, host: str = "0.0.0.0", remedy: str = "take a free --port"
) -> TCPStore:
    """Serve a store at a port of this host.

    Args:
        port: The port; 0 takes a free one.
        host: Address of this host; by default all that it has.
        remedy: What to do where the port is taken.

    Raises:
        RsdlError: If the port is taken.
    """
    try:
        return TCPStore(host, port, is_master=True, wait_for_workers=False)
    except (dist.DistError, RuntimeError) as error:
        raise RsdlError(
            f"rendezvous at {host}:{port}",
            f"cannot be served here: {first_sentence(error)}",
            remedy,
        ) from error


def connect_store(nodes: Nodes, check: Callable[[], None] = lambda: None) -> Store:
    """Return a new connection to the store of a run.

    Args:
        nodes: The nodes of the run.
        check: Raises to end the wait early; called every few seconds, since a signal handler
            does not run while PyTorch connects.

    Raises:
        AbsentPeerError: If it does not answer in time.
    """
    end = time.monotonic() + nodes.patience_s
    while True:
        try:
            store = TCPStore(
                nodes.host, nodes.port, wait_for_workers=False,
                timeout=timedelta(seconds=SECONDS_TO_CONNECT),
            )  # fmt: skip
            store.set_timeout(timedelta(seconds=SECONDS_TO_REPLY))
            return store
        except (dist.DistError, RuntimeError) as error:
            check()
            if time.monotonic() < end:
                time.sleep(0.1)
                continue
            who, serve = f"node {nodes.rank} of {nodes.most} could not join", ""
            if nodes.is_elastic:
                who = "no store is served there"
                serve = f'start "rsdl rendezvous --port {nodes.port}" there, and '
            raise AbsentPeerError(
                f"rendezvous at {nodes.endpoint}",
                f"{who}: {first_sentence(error)}",
                f"{serve}check that all nodes were started and reach that address",
            ) from error


def run_store(nodes_store: Store, run_id: str) -> Store:
    """Return the part of a store that belongs to one run and outlives its attempts."""
    return PrefixStore(f"rsdl/{run_id}/", nodes_store)


def _leave(context: _RendezvousContext, deadline: float) -> _Action:
    """Return the next action of a node that leaves; for PyTorch's executor of such actions."""
    node, state = context.node, context.state
    if node in state.participants:
        return _Action.REMOVE_FROM_PARTICIPANTS
    if node in state.wait_list:
        return _Action.REMOVE_FROM_WAIT_LIST
    if node in state.redundancy_list:
        return _Action.REMOVE_FROM_REDUNDANCY_LIST
    return _Action.FINISH
