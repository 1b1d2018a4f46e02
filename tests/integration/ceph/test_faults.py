"""Struck by a fault while it streams, a run ends as if nothing had happened, or says what happened.

Where it stops, the same command goes on once the cause is mended, and ends bit-equal all the same.
"""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from rsdl.storage.connect import connect

from ..conftest import Command, Ended, Rsdl, Run, Write, assert_same_run, tiny_run
from .conftest import SECRET_KEY, Gateway, copy
from .fault_proxy import FaultProxy

pytestmark = [pytest.mark.ceph, pytest.mark.slow]
FIELDS: dict[str, Any] = {"checkpoint__every_minutes": 1e-4, "trainer__max_epochs": 4}
Mount = Callable[[Path, str], Path]


@pytest.fixture(scope="module")
def whole(
    fork_server: "subprocess.Popen[str]",
    packed_once: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Run:
    """Return the run that nobody disturbed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    config = folder / "whole.yaml"
    config.write_text(yaml.safe_dump(tiny_run(str(packed_once), str(folder), FIELDS)))
    assert Rsdl(fork_server, folder)("train", config).returncode == 0
    return Run(folder / "whole")


class Struck:
    """A run on data in a bucket, to be struck; it lies in the bucket, too, unless told otherwise.

    Args:
        rsdl: Starts commands.
        config: Of the run.
        whole: The run that nobody disturbed.
        output: URL below which the run lies.
        env: Environment of the command.
    """

    def __init__(
        self, rsdl: Rsdl, config: Path, whole: Run, output: str, env: dict[str, str]
    ) -> None:
        self.store = connect(f"{output}/{config.stem}")
        self._rsdl = rsdl
        self._config = config
        self._whole = whole
        self._env = env

    def start(self) -> Command:
        """Start the command, or go on with what it has begun."""
        return self._rsdl.start("train", self._config, env=self._env)

    def start_and_save(self) -> Command:
        """Start the command and wait for its first checkpoint."""
        command = self.start()
        command.wait_for(lambda: self.store.size("checkpoints/last.ckpt"))
        return command

    def check(self, ended: Ended, folder: Path) -> None:
        """Check that the run has ended well, with the numbers of the undisturbed one."""
        assert ended.returncode == 0, ended
        assert "Traceback" not in ended.stderr
        found = folder / "found"
        copy(self.store.url, str(found))
        assert_same_run(self._whole, Run(found))

    def check_refusal(self, ended: Ended, *words: str, code: int = 2) -> None:
        """Check that the run has ended with one line that tells the user all of this.

        Of what is separated by ``|`` one is enough.
        """
        assert ended.returncode == code, ended
        assert "Traceback" not in ended.stderr
        last = ended.stderr.splitlines()[-1]
        for word in words:
            assert any(part in last for part in word.split("|")), ended.stderr


@pytest.fixture
def strike(
    rsdl: Rsdl, write_config: Write, whole: Run, remote: str, bucket: str, env: dict[str, str]
) -> Callable[..., Struck]:
    """Return what makes a run to be struck, with more fields, environment and place."""

    def make(output: str = f"{bucket}/runs", **fields: object) -> Struck:
        now = {name: os.environ[name] for name in env}
        config = write_config(
            "struck", **{**FIELDS, "data__url": remote, "output": output, **fields}
        )
        return Struck(rsdl, config, whole, output, now)

    return make


Strike = Callable[..., Struck]


@pytest.mark.parametrize("outage_s", [20, 60])
def test_a_run_outlives_a_long_death_of_the_gateway(
    outage_s: int, running: Gateway, strike: Strike, monkeypatch: pytest.MonkeyPatch,
    require: Callable[[str, bool], None], tmp_path: Path,
):  # fmt: skip
    require("patience", outage_s < 60 or "RSDL_TEST_PATIENCE" in os.environ)
    monkeypatch.setenv("RSDL_STORE_DEADLINE_S", "120")  # as where nothing is set
    struck = strike(data__cache="none")
    command = struck.start_and_save()
    running.send(signal.SIGKILL)
    end = time.monotonic() + outage_s
    command.wait_for(lambda: "connection refused" in command.stderr)
    time.sleep(max(0.0, end - time.monotonic()))
    running.restart()
    struck.check(command.wait(), tmp_path)


def test_a_run_outlives_a_gateway_that_hangs(
    running: Gateway, strike: Strike, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("RSDL_STORE_DEADLINE_S", "120")
    struck = strike(data__cache="none")
    command = struck.start_and_save()
    running.send(signal.SIGSTOP)
    time.sleep(30)  # more than a request waits for its answer
    running.send(signal.SIGCONT)
    struck.check(command.wait(), tmp_path)


@pytest.mark.parametrize("cache", [{}, "none"])
def test_a_run_takes_up_every_answer_that_breaks_off(
    cache: object, fault_proxy: FaultProxy, strike: Strike, tmp_path: Path
):
    passed, cuts = threading.local(), 0

    def cut(data: bytes) -> bytes | None:
        """End a connection amid the piece that would bring it above a limit."""
        nonlocal cuts
        passed.bytes = getattr(passed, "bytes", 0) + len(data)
        if passed.bytes > 30_000:
            cuts += 1
            return None
        return data

    struck = strike(output=str(tmp_path / "runs"), data__cache=cache)
    fault_proxy.edit = cut
    struck.check(struck.start().wait(), tmp_path)
    assert cuts > 3


def test_a_run_on_bytes_that_are_always_wrong_stops_and_goes_on_when_they_are_right(
    fault_proxy: FaultProxy, strike: Strike, tmp_path: Path
):
    struck = strike(output=str(tmp_path / "runs"))
    fault_proxy.edit = lambda data: data if len(data) < 5000 else data[:-1] + bytes([data[-1] ^ 1])
    ended = struck.start().wait()
    struck.check_refusal(ended, ".tar: its content is not what was written")
    fault_proxy.edit = None
    struck.check(struck.start().wait(), tmp_path)


@pytest.mark.parametrize(
    ("ending", "mending", "message"),
    [
        (
            ("key", "rm", "--access-key=mayfly"),
            ("key", "create", "--uid=mayfly", "--access-key=mayfly", f"--secret-key={SECRET_KEY}"),
            # The gateway may still know whose key it was, but not that it is theirs.
            "the access key is unknown there; set AWS_ACCESS_KEY_ID|access denied; ask for access",
        ),
        (
            ("user", "suspend", "--uid=mayfly"),
            ("user", "enable", "--uid=mayfly"),
            "the account is suspended; ask those who run the service",
        ),
    ],
)
def test_a_run_whose_keys_end_says_so_and_goes_on_with_new_ones(
    ending: tuple[str, ...], mending: tuple[str, ...], message: str, gateway: Gateway,
    monkeypatch: pytest.MonkeyPatch, packed: str, strike: Strike, tmp_path: Path,
):  # fmt: skip
    gateway.administer(
        "user", "create", "--uid=mayfly", "--display-name=mayfly", "--access-key=mayfly",
        f"--secret-key={SECRET_KEY}",
    )  # fmt: skip
    try:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "mayfly")
        gateway.boto("mayfly").create_bucket(Bucket="mayfly")
        copy(packed, "s3://mayfly/packed")
        struck = strike(
            "s3://mayfly/runs",
            data__url="s3://mayfly/packed", data__cache="none",
        )  # fmt: skip
        command = struck.start_and_save()
        gateway.administer(*ending)
        struck.check_refusal(command.wait(), "s3://mayfly/", message)
        gateway.administer(*mending)
        struck.check(struck.start().wait(), tmp_path)
    finally:
        gateway.administer("user", "rm", "--uid=mayfly", "--purge-data")


@pytest.mark.parametrize("cache", [{}, "none"])
def test_a_run_without_a_shard_names_it_and_goes_on_when_it_is_back(
    cache: object, remote: str, strike: Strike, tmp_path: Path
):
    data, name = connect(remote), "train-000003.tar"
    content = data.read(name)
    struck = strike(output=str(tmp_path / "runs"), data__cache=cache)
    if cache == "none":
        command = struck.start_and_save()
        data.delete(name)
    else:  # gone before it was copied
        data.delete(name)
        command = struck.start()
    struck.check_refusal(
        command.wait(), f"{remote}/{name}: no such object; ", f'run "rsdl data verify {remote}"'
    )
    data.write(name, content)
    struck.check(struck.start().wait(), tmp_path)


def test_a_run_with_copies_does_not_need_the_shards_again(
    remote: str, strike: Strike, tmp_path: Path
):
    struck = strike(output=str(tmp_path / "runs"))
    command = struck.start()
    command.wait_for(lambda: "epoch" in command.stdout)  # and a validation is behind
    data = connect(remote)
    data.delete("train-000003.tar")
    data.write("train-000002.tar", b"another version")
    struck.check(command.wait(), tmp_path)


def test_a_run_whose_shard_is_replaced_stops_and_never_reads_the_other_version(
    remote: str, strike: Strike, tmp_path: Path
):
    data, name = connect(remote), "train-000003.tar"
    content = data.read(name)
    struck = strike(output=str(tmp_path / "runs"), data__cache="none")
    command = struck.start_and_save()
    data.write(name, content[:5000] + bytes([content[5000] ^ 1]) + content[5001:])
    struck.check_refusal(command.wait(), f"{remote}/{name}: was replaced while it was being read")
    struck.check_refusal(struck.start().wait(), f"{remote}/{name}: its content is not what was")
    data.write(name, content)
    struck.check(struck.start().wait(), tmp_path)


def test_a_run_whose_disk_fills_up_says_so_and_goes_on_when_there_is_room(
    mount_disk: Mount, strike: Strike, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    disk = mount_disk(tmp_path / "disk", "30m")
    monkeypatch.setenv("RSDL_CACHE", str(disk / "cache"))
    struck = strike()
    command = struck.start_and_save()
    with pytest.raises(OSError, match="No space"), (disk / "ballast").open("wb", 0) as ballast:
        while True:
            ballast.write(bytes(1 << 16))
    remedy = "; free some space and run the same command again"
    struck.check_refusal(command.wait(), "disk", remedy, code=69)
    (disk / "ballast").unlink()
    struck.check(struck.start().wait(), tmp_path)


@pytest.mark.parametrize("size", [50_000_000, 40_000])
def test_two_runs_share_one_cache(
    size: int, rsdl: Rsdl, other_fork_server: "subprocess.Popen[str]", write_config: Write,
    fault_proxy: FaultProxy, remote: str, whole: Run, run_at: Callable[[str], Run], tmp_path: Path,
    env: dict[str, str],
):  # fmt: skip
    (tmp_path / "other").mkdir()
    fields = {
        **FIELDS, "data__url": remote, "data__cache": {"size": size}, "data__decoded_cache": "off",
    }  # fmt: skip
    commands = [
        runner.start("train", write_config(name, **fields),
                     env={**env, "AWS_ENDPOINT_URL_S3": fault_proxy.url})
        for runner, name in ((rsdl, "one"), (Rsdl(other_fork_server, tmp_path / "other"), "two"))
    ]  # fmt: skip
    for command, name in zip(commands, ("one", "two"), strict=True):
        ended = command.wait()
        assert ended.returncode == 0, ended
        assert_same_run(whole, run_at(name))
    shard_cache = tmp_path / "cache" / "copies"
    assert sum(path.stat().st_size for path in shard_cache.iterdir()) <= size
    fetched = [line for line in fault_proxy.requests if line.startswith("GET") and ".tar" in line]
    assert (len(fetched) == len(set(fetched))) == (size > 1_000_000)
