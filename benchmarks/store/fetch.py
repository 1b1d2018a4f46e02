"""CPU seconds per GB for fetching cold shards from a real Ceph gateway on loopback.

    python -m benchmarks.store.fetch [--peers PYTHON] [--json FILE]

Starts its own gateway (scripts/ceph_rgw), uploads random shards, and interleaves the clients, each
in its own process. rsdl's value includes work that the others omit: the file is preallocated,
written, fsynced and verified by SHA-256. So a bare ranged GET is measured twice, once dropping its
bytes and once with the same work, and rsdl twice too: as it is, and moving bytes only. The lower
bound is the cost of hashing alone. ``--peers`` names the Python of an environment with
s3torchconnector, awscli and webdataset; missing ones are reported.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.harness.measure import Row, Table, Target, build_result, interleave, run_benchmark

ROOT = Path(__file__).parents[2]
CLIENT = Path(__file__).with_name("s3_client.py")
BUCKET, PREFIX, WARMUP = "benchmark", "shards", "warmup.tar"
OURS, MOVED = "rsdl, verified and fsynced", "rsdl, written and fsynced, not verified"
BARE = "boto3 ranged GET, 8 threads, dropped"
DUTIFUL = "boto3 ranged GET, 8 threads, verified and fsynced"
NAMES = {
    "rsdl": OURS,
    "rsdl_unverified": MOVED,
    "ranges": BARE,
    "ranges_kept": DUTIFUL,
    "download_file": "boto3 download_file",
    "s3torchconnector": "s3torchconnector",
    "aws_pipe": "aws s3 cp through a WebDataset pipe",
}
HASHING = "SHA-256 alone"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--peers", type=Path, default=Path(sys.executable), metavar="PYTHON",
                        help="Python of the peers' environment (this one)")  # fmt: skip
    parser.add_argument("--shards", type=int, default=4, help="shards a turn (%(default)s)")
    parser.add_argument("--shard-mib", type=int, default=128, help="their size (%(default)s)")


def run(options: argparse.Namespace) -> dict[str, Any]:
    num_shards = 2 if options.quick else options.shards
    with gateway() as env, tempfile.TemporaryDirectory() as folder:
        digests = fill(env, num_shards, options.shard_mib << 20)
        shards = [name for name in digests if name != WARMUP]
        env |= {"RSDL_BENCHMARK_SHARDS": ",".join(shards),
                "RSDL_BENCHMARK_SHA256": json.dumps(digests)}  # fmt: skip
        versions: dict[str, str] = {"python": sys.version.split()[0]}
        notes: dict[str, str] = {}
        walls: dict[str, list[float]] = {name: [] for name in NAMES}

        def turn(name: str) -> float:
            told = start(name, options.peers, env, Path(folder))
            if "missing" in told:
                notes[name] = told["missing"]
                return 0.0
            versions.update(told["versions"])
            walls[name].append(told["wall_s"] / told["bytes"] * 1e9)
            return float(told["cpu_s"] / told["bytes"] * 1e9)

        clients = {name: partial(turn, name) for name in NAMES} | {"hashing": hashing}
        taken = interleave(clients, rounds=options.rounds)
    rows = [
        Row(label, () if name in notes else taken[name], notes.get(name, ""),
            {"wall s/GB": sorted(walls[name])[len(walls[name]) // 2]} if walls[name] else {})
        for name, label in NAMES.items()
    ]  # fmt: skip
    rows.append(Row(HASHING, taken["hashing"], "what verifying costs at least"))
    table = Table("Cold shards from Ceph on loopback", "CPU s/GB", BARE, rows)
    table = replace(table, targets=make_targets(table))
    told = {"shards": num_shards, "shard_mib": options.shard_mib, "rounds": options.rounds}
    title = "Client CPU of fetching shards"
    return build_result("store", title, [table], options=told, versions=versions)


def make_targets(table: Table) -> list[Target]:
    """Return the regression thresholds: no more CPU time than clients that do as much.

    Measured: moving the bytes 0.97 times the bare GET, with all duties 0.2 to 0.9 times the others
    (``store.json``).
    """
    targets = []
    if (ratio := table.ratio(MOVED)) is not None:
        text = "rsdl without SHA-256 over the bare ranged GET"
        targets.append(Target(text, ratio.median, 1.2, at_least=False))
    for name in ("ranges_kept", "download_file", "s3torchconnector", "aws_pipe"):
        if (ratio := table.ratio(OURS, NAMES[name])) is not None:
            targets.append(Target(f"rsdl over {NAMES[name]}", ratio.median, 1.0, at_least=False))
    return targets


def hashing() -> float:
    """Return the CPU seconds per GB of SHA-256 over bytes in the core's cache."""
    block, count = bytes(256 << 10), 1024
    begun, digest = time.process_time(), hashlib.sha256()
    for _ in range(count):
        digest.update(block)
    return (time.process_time() - begun) / (len(block) * count) * 1e9


def start(name: str, peers: Path, env: dict[str, str], folder: Path) -> dict[str, Any]:
    """Run one client in an empty folder and return its output."""
    for old in folder.iterdir():
        shutil.rmtree(old) if old.is_dir() else old.unlink()
    foreign = name in ("s3torchconnector", "aws_pipe")
    python = str(peers) if foreign else sys.executable
    command = [python, str(CLIENT), name, BUCKET, PREFIX, str(folder)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr}")
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def fill(env: dict[str, str], count: int, size: int) -> dict[str, str]:
    """Upload random shards in parts and return the SHA-256 of each by name.

    In parts, so that the service knows no checksum of the whole object and the client must bring
    its own.
    """
    import io

    import boto3

    client = boto3.client(
        "s3", endpoint_url=env["AWS_ENDPOINT_URL"], region_name="us-east-1",
        aws_access_key_id=env["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=env["AWS_SECRET_ACCESS_KEY"],
    )  # fmt: skip
    client.create_bucket(Bucket=BUCKET)
    digests = {}
    for name in (WARMUP, *(f"train-{number:06d}.tar" for number in range(count))):
        data = random.Random(name).randbytes(16 << 20 if name == WARMUP else size)
        client.upload_fileobj(io.BytesIO(data), BUCKET, f"{PREFIX}/{name}")
        digests[name] = hashlib.sha256(data).hexdigest()
    return digests


@contextmanager
def gateway() -> Iterator[dict[str, str]]:
    """Run a gateway and yield the environment for its clients."""
    folder = Path(tempfile.mkdtemp(prefix="b-", dir="/tmp"))  # Unix sockets need a short path
    script = str(ROOT / "scripts" / "ceph_rgw")
    port = free_ports()
    try:
        subprocess.run([script, "start", str(folder), str(port)], check=True, capture_output=True)
        yield {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ACCESS_KEY_ID": "testaccesskey",
            "AWS_SECRET_ACCESS_KEY": "testsecretkey",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
    finally:
        subprocess.run([script, "stop", str(folder)], check=False, capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)


def free_ports() -> int:
    """Return the first of two consecutive free ports; the monitor uses the second."""
    for first in range(21000 + os.getpid() % 4000, 32000, 2):
        try:
            for port in (first, first + 1):
                with socket.socket() as listener:
                    listener.bind(("127.0.0.1", port))
        except OSError:
            continue
        return first
    raise SystemExit("no free ports")


def main() -> None:
    run_benchmark(__doc__, add_arguments, run)


if __name__ == "__main__":
    main()
