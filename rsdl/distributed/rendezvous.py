"""Rendezvous of ranks: the store that all of them reach, and the process group."""

import fcntl
import os
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import PrefixStore, Store, TCPStore

from rsdl.core.errors import AbsentPeerError, ConfigError, RsdlError
from rsdl.distributed.failure import first_sentence
from rsdl.distributed.rank import RankInfo

# Environment variable: an id that all attempts of one elastic run have, and no other run.
RUN_TOKEN = "RSDL_RUN_TOKEN"

SECONDS_TO_CONNECT = 2.0  # to the store; PyTorch may take three times as long; we retry

ADDRESS_OF_INTERFACE = 0x8915  # SIOCGIFADDR


@dataclass(frozen=True, slots=True)
class RendezvousPoint:
    """Address of the rendezvous store.

    Attributes:
        host: Name or address.
        port: Port.
        hosted: Whether the launcher serves the store; otherwise rank 0 does.
        attempt: Id of this start of the ranks, which separates it from earlier ones on the store.
    """

    host: str
    port: int
    hosted: bool
    attempt: str

    def __str__(self) -> str:
        """Return ``host:port``."""
        return f"{self.host}:{self.port}"


def find_rendezvous() -> RendezvousPoint:
    """Return the rendezvous point that torchrun or our launcher has set in the environment.

    Raises:
        ConfigError: If it is not set.
    """
    host, port = os.environ.get("MASTER_ADDR", ""), os.environ.get("MASTER_PORT", "")
    if not host or not port.isdigit():
        raise ConfigError(
            "MASTER_ADDR, MASTER_PORT",
            f'are "{host}" and "{port}", but RANK is set',
            "start the ranks with torchrun, or by rsdl train itself with RANK unset",
        )
    hosted = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    names = ("TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT")
    attempt = "-".join(os.environ.get(name, "0") for name in names)
    return RendezvousPoint(host, int(port), hosted, attempt)


def open_store(point: RendezvousPoint, *, serve: bool = False, timeout_s: float) -> Store:
    """Return a new connection to the store; with ``serve``, also serve it.

    Raises:
        torch.distributed.DistError: If it does not answer in time.
    """
    store = TCPStore(
        point.host,
        point.port,
        is_master=serve,
        wait_for_workers=False,
        timeout=timedelta(seconds=timeout_s),
    )
    return PrefixStore(f"rsdl/{point.attempt}", store)


def join_group(
    rank_info: RankInfo,
    point: RendezvousPoint,
    *,
    backend: str,
    patience_s: float,
    timeout_s: float,
    check: Callable[[], None],
) -> dist.ProcessGroup:
    """Wait for all ranks and form the process group.

    Args:
        rank_info: This process's rank.
        point: Address of the store.
        backend: ``nccl`` or ``gloo``.
        patience_s: Timeout of the rendezvous, in seconds.
        timeout_s: Timeout of later collectives, in seconds.
        check: Raises if another rank is known to have failed, to end the wait early.

    Returns:
        A gloo group of all ranks for CPU collectives, beside the default group for the devices.

    Raises:
        AbsentPeerError: If not all ranks have joined in time; the message is one line.
        RsdlError: If all have joined the store but cannot connect to each other.
    """
    try:
        serve = rank_info.rank == 0 and not point.hosted
        store = open_store(point, serve=serve, timeout_s=patience_s)
        _wait_for_all(store, rank_info, patience_s, check)
        choose_interface(rank_info, point)
        group = PrefixStore("group", store)
        dist.init_process_group(
            backend,
            store=group,
            rank=rank_info.rank,
            world_size=rank_info.world_size,
            timeout=timedelta(seconds=timeout_s),
        )
        hosts = dist.new_group(backend="gloo", timeout=timedelta(seconds=timeout_s))
        assert isinstance(hosts, dist.ProcessGroup)
        # Connect now, so that a failure to connect is distinct from one in training.
        dist.barrier(hosts)
    except (dist.DistError, RuntimeError, ValueError, TimeoutError) as error:
        absent = isinstance(error, (TimeoutError, dist.DistNetworkError, dist.DistStoreError))
        raise (AbsentPeerError if absent else RsdlError)(
            f"rendezvous at {point}",
            f"rank {rank_info.rank} of {rank_info.world_size} could not join: "
            f"{first_sentence(error)}",
            _advise(),
        ) from error
    return hosts


def leave_group() -> None:
    """Destroy the process group, if there is one."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def choose_interface(rank_info: RankInfo, point: RendezvousPoint) -> None:
    """Set gloo's network interface to the one towards the store, unless the user has set it.

    By default gloo takes the address that the host's name resolves to. On many systems that is
    127.0.1.1, which works on one node but is unreachable from others.
    """
    if rank_info.world_size == rank_info.local_world_size or "GLOO_SOCKET_IFNAME" in os.environ:
        return
    name = interface_towards(point.host, point.port)
    if name is not None:
        os.environ["GLOO_SOCKET_IFNAME"] = name


def interface_towards(host: str, port: int) -> str | None:
    """Return the network interface that this host uses to reach another; IPv4 only."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((host, port))  # sends nothing
            address = probe.getsockname()[0]
            for _, name in socket.if_nameindex():
                if _address_of(probe, name) == address:
                    return name
    except OSError:
        return None
    return None


def backend_for(accelerator: str) -> str:
    """Return the backend for collectives on tensors of the training device."""
    return "nccl" if accelerator != "cpu" and torch.cuda.is_available() else "gloo"


def _wait_for_all(
    store: Store, rank_info: RankInfo, patience_s: float, check: Callable[[], None]
) -> None:
    keys = [f"here/{rank}" for rank in range(rank_info.world_size)]
    store.set(keys[rank_info.rank], rank_info.host)
    end = time.monotonic() + patience_s
    while not store.check(keys):
        check()
        if time.monotonic() > end:
            missing = [rank for rank, key in enumerate(keys) if not store.check([key])]
            names = ", ".join(map(str, missing[:8])) + (", ..." if len(missing) > 8 else "")
            raise TimeoutError(f"rank {names} has not come within {patience_s:.0f} s")
        time.sleep(0.1)


def _address_of(probe: socket.socket, interface: str) -> str | None:
    request = struct.pack("256s", interface.encode()[:255])
    try:
        return socket.inet_ntoa(fcntl.ioctl(probe.fileno(), ADDRESS_OF_INTERFACE, request)[20:24])
    except OSError:  # has no IPv4 address
        return None


def _advise() -> str:
    names = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")
    chosen = [f"{name}={os.environ[name]}" for name in names if name in os.environ]
    hint = f", and that {' and '.join(chosen)} names an interface of this node" if chosen else ""
    return f"check that all ranks were started and reach that address{hint}"
