"""Two hosts, made of network namespaces: they meet, train, lose each other and go on."""

import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.integration.hosts import Hosts, open_hosts

if TYPE_CHECKING:
    from tests.integration.conftest import Find, Write

pytestmark = pytest.mark.slow

FIELDS = {"model__name": "test_vit", "data__batch_size": 6, "trainer__max_epochs": 400}
NUM_HOSTS = 2
PORT = 29611
LIMIT_S = 900


@pytest.fixture
def hosts(tmp_path: Path, require: Callable[[str, bool], None]) -> Iterator[Hosts]:
    """Return two hosts, 10.77.0.1 and 10.77.0.2."""
    with open_hosts(NUM_HOSTS, tmp_path) as two:
        require("netns", two is not None)
        assert two is not None
        yield two


def own_command(config: Path, host: int) -> list[str]:
    return [
        sys.executable, "-m", "rsdl", "train", str(config), f"--nnodes={NUM_HOSTS}",
        f"--node-rank={host}", f"--rdzv-endpoint=10.77.0.1:{PORT}",
    ]  # fmt: skip


def torchrun_command(config: Path, host: int) -> list[str]:
    # Its c10d rendezvous wants host names that resolve, which these have not.
    return [
        sys.executable, "-m", "torch.distributed.run", f"--nnodes={NUM_HOSTS}",
        "--nproc-per-node=1", f"--node-rank={host}", "--master-addr=10.77.0.1",
        f"--master-port={PORT}", "-m", "rsdl", "train", str(config),
    ]  # fmt: skip


def begin(
    hosts: Hosts, command: Callable[[Path, int], list[str]], config: Path
) -> "list[subprocess.Popen[bytes]]":
    """Start a run on both hosts and wait until it has trained an epoch."""
    for host in range(NUM_HOSTS):
        (hosts.folder / f"host-{host}").unlink(missing_ok=True)
    running = [hosts.start(host, *command(config, host)) for host in range(NUM_HOSTS)]
    end = time.monotonic() + LIMIT_S
    while not re.search(r"^epoch ", hosts.said(0), re.MULTILINE):
        ended = [process.poll() for process in running]
        assert ended == [None, None] and time.monotonic() < end, hosts.said(0) + hosts.said(1)
        time.sleep(0.05)
    return running


def finish(hosts: Hosts, running: "list[subprocess.Popen[bytes]]") -> list[int]:
    """Ask all to stop, through one host alone; return the exit codes."""
    running[1].send_signal(signal.SIGTERM)
    return [process.wait(LIMIT_S) for process in running]


def test_two_hosts_lose_each_other_and_go_on(hosts: Hosts, write_config: "Write", run_at: "Find"):
    config = write_config("run", trainer__timeout_s=15, **FIELDS)

    # All of one host is gone at once.
    running = begin(hosts, own_command, config)
    hosts.kill(1)
    assert [process.wait(LIMIT_S) for process in running] == [1, -signal.SIGKILL]
    assert "rank 1 on node-b" in hosts.said(0) and "last at step" in hosts.said(0), hosts.said(0)
    assert "rank 1 on node-b" in run_at("run").record["reason"]

    # The wire is cut: each side names the other.
    running = begin(hosts, own_command, config)
    hosts.cut(1)
    assert [process.wait(LIMIT_S) for process in running] == [1, 1]
    assert "rank 1 on node-b" in hosts.said(0) and "not been heard of" in hosts.said(0)
    assert "rank 0 on node-a" in hosts.said(1), hosts.said(1)
    assert "Traceback" not in hosts.said(0) + hosts.said(1)
    hosts.mend(1)

    # The run goes on, and one host that is asked to stop takes the other along: 75 for both.
    running = begin(hosts, own_command, config)
    assert finish(hosts, running) == [75, 75], hosts.said(0) + hosts.said(1)
    record = run_at("run").record
    assert record["status"] == "preempted" and record["device_count"] == 2
    assert record["ledger"] and all(entry["balanced"] for entry in record["ledger"])


def test_torchrun_joins_two_hosts(hosts: Hosts, write_config: "Write", run_at: "Find"):
    config = write_config("run", **FIELDS)
    running = begin(hosts, torchrun_command, config)
    hosts.kill(1)
    assert [process.wait(LIMIT_S) for process in running] == [1, -signal.SIGKILL]
    assert "rank 1 on node-b" in hosts.said(0), hosts.said(0)
    assert run_at("run").record["status"] == "failed"


def test_a_rendezvous_that_fails_is_told_in_one_line(hosts: Hosts, write_config: "Write"):
    config = write_config("run", trainer__rendezvous_s=5, **FIELDS)
    alone = hosts.start(1, *own_command(config, 1))  # the first host never comes
    assert alone.wait(LIMIT_S) == 75  # which is tried again
    said = hosts.said(1).strip().splitlines()
    assert len(said) == 1, said
    assert said[0].startswith(f"rendezvous at 10.77.0.1:{PORT}: node 1 of 2 could not join"), said
