"""One client of benchmarks/store/fetch.py: read every shard once and print the cost.

    python s3_client.py CLIENT BUCKET PREFIX FOLDER

Standalone, since peers run it in their own environment. A first, uncounted shard covers imports and
connections. Counted is the CPU time of this process and of its ended children.
"""

import hashlib
import json
import os
import resource
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

MIB = 1 << 20
RANGE_BYTES = 8 * MIB
THREADS = 8
WARMUP = "warmup.tar"
PACKAGES = {
    "rsdl": ("rsdl-train", "boto3"),
    "rsdl_unverified": ("rsdl-train", "boto3"),
    "ranges": ("boto3",),
    "ranges_kept": ("boto3",),
    "download_file": ("boto3", "s3transfer"),
    "s3torchconnector": ("s3torchconnector",),
    "aws_pipe": ("awscli", "webdataset"),
}


def main() -> None:
    """Fetch, and print one line of JSON."""
    name, bucket, prefix, folder = sys.argv[1:]
    try:
        fetch = CLIENTS[name](bucket, prefix, Path(folder))
    except ImportError as error:
        print(json.dumps({"missing": f"{error.name} is not installed"}))
        return
    names = os.environ["RSDL_BENCHMARK_SHARDS"].split(",")
    fetch([WARMUP])
    begun, cpu = time.perf_counter(), cpu_seconds()
    num_bytes = fetch(names)
    cost = {"cpu_s": cpu_seconds() - cpu, "wall_s": time.perf_counter() - begun}
    print(json.dumps(cost | {"bytes": num_bytes, "versions": versions(name)}))


def cpu_seconds() -> float:
    """Return user and system seconds of this process and of its ended children."""
    own, others = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + others.ru_utime + others.ru_stime


def versions(name: str) -> dict[str, str]:
    """Return the versions of a client's packages."""
    found = {}
    for package in PACKAGES[name]:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "from source"
    return found


def rsdl(bucket: str, prefix: str, folder: Path) -> Any:  # noqa: ANN401
    """Return a client of the cold node cache: shards written, fsynced and verified one by one."""
    from rsdl.storage.cache.config import CacheConfig
    from rsdl.storage.connect import connect

    store = connect(f"s3://{bucket}/{prefix}", CacheConfig(folder=str(folder)))
    digests = json.loads(os.environ["RSDL_BENCHMARK_SHA256"])

    def fetch(names: list[str]) -> int:
        for name in names:
            store.open(name, digests[name]).close()
        return sum(store.size(name) or 0 for name in names)

    return fetch


def rsdl_unverified(bucket: str, prefix: str, folder: Path) -> Any:  # noqa: ANN401
    """Return the same client without a checksum to compare: the cost of moving the bytes."""
    from rsdl.storage.cache.config import CacheConfig
    from rsdl.storage.connect import connect

    store = connect(f"s3://{bucket}/{prefix}", CacheConfig(folder=str(folder)))

    def fetch(names: list[str]) -> int:
        for name in names:
            store.open(name).close()
        return sum(store.size(name) or 0 for name in names)

    return fetch


def boto() -> Any:  # noqa: ANN401
    """Return a plain boto3 client."""
    import boto3
    from botocore.config import Config

    settings = Config(max_pool_connections=THREADS, s3={"addressing_style": "path"})
    return boto3.client("s3", config=settings)


def ranges(bucket: str, prefix: str, folder: Path) -> Any:  # noqa: ANN401
    """Return a client with ranged GETs of 8 MiB in 8 threads, read by 1 MiB and dropped."""
    client = boto()

    def read(part: tuple[str, int]) -> int:
        key, at = part
        answer = client.get_object(
            Bucket=bucket, Key=key, Range=f"bytes={at}-{at + RANGE_BYTES - 1}"
        )
        with closing(answer["Body"]) as body:
            return sum(len(block) for block in iter(lambda: body.read(MIB), b""))

    def fetch(names: list[str]) -> int:
        parts = []
        for name in names:
            key = f"{prefix}/{name}"
            size = client.head_object(Bucket=bucket, Key=key)["ContentLength"]
            parts += [(key, at) for at in range(0, size, RANGE_BYTES)]
        with ThreadPoolExecutor(THREADS) as pool:
            return sum(pool.map(read, parts))

    return fetch


def ranges_kept(bucket: str, prefix: str, folder: Path) -> Any:  # noqa: ANN401
    """Return a client with the same GETs, written to a file, hashed in order and fsynced."""
    client = boto()
    digests = json.loads(os.environ["RSDL_BENCHMARK_SHA256"])

    def read(key: str, fd: int, at: int) -> None:
        answer = client.get_object(
            Bucket=bucket, Key=key, Range=f"bytes={at}-{at + RANGE_BYTES - 1}"
        )
        with closing(answer["Body"]) as body:
            for block in iter(lambda: body.read(MIB), b""):
                os.pwrite(fd, block, at)
                at += len(block)

    def fetch_one(name: str, pool: ThreadPoolExecutor) -> int:
        key = f"{prefix}/{name}"
        size: int = client.head_object(Bucket=bucket, Key=key)["ContentLength"]
        digest = hashlib.sha256()
        with (folder / name).open("w+b") as file:
            os.posix_fallocate(file.fileno(), 0, size)
            starts = range(0, size, RANGE_BYTES)
            arrived = pool.map(lambda at: read(key, file.fileno(), at), starts)
            for at, _ in zip(starts, arrived, strict=True):
                digest.update(os.pread(file.fileno(), RANGE_BYTES, at))
            os.fsync(file.fileno())
        if digest.hexdigest() != digests[name]:
            raise ValueError(f"{name} is damaged")
        return size

    def fetch(names: list[str]) -> int:
        with ThreadPoolExecutor(THREADS) as pool:
            return sum(fetch_one(name, pool) for name in names)

    return fetch


def download_file(bucket: str, prefix: str, folder: Path) -> Any:  # noqa: ANN401
    """Return a client of boto3's own transfer to a file."""
    client = boto()

    def fetch(names: list[str]) -> int:
        for name in names:
            client.download_file(bucket, f"{prefix}/{name}", str(folder / name))
        return sum((folder / name).stat().st_size for name in names)

    return fetch


def s3torchconnector(bucket: str, prefix: str, folder: Path) -> Any:  # noqa: ANN401
    """Return a client of its map dataset, which reads each object to memory by 1 MiB."""
    from s3torchconnector import S3ClientConfig, S3MapDataset

    def fetch(names: list[str]) -> int:
        data = S3MapDataset.from_objects(
            [f"s3://{bucket}/{prefix}/{name}" for name in names],
            region="us-east-1", endpoint=os.environ["AWS_ENDPOINT_URL"],
            s3client_config=S3ClientConfig(force_path_style=True),
        )  # fmt: skip
        return sum(_drain(data[number]) for number in range(len(data)))

    return fetch


def _drain(stream: Any) -> int:  # noqa: ANN401
    return sum(len(block) for block in iter(lambda: stream.read(MIB), b""))


def aws_pipe(bucket: str, prefix: str, folder: Path) -> Any:  # noqa: ANN401
    """Return a client as in WebDataset: a pipe from ``aws s3 cp`` per shard, its bytes dropped."""
    from importlib.metadata import version as installed

    from webdataset.gopen import gopen

    try:
        installed("awscli")
    except PackageNotFoundError as error:
        raise ImportError("awscli", name="awscli") from error
    program = Path(sys.executable).parent / "aws"

    def fetch(names: list[str]) -> int:
        total = 0
        for name in names:
            with gopen(f"pipe:{program} s3 cp s3://{bucket}/{prefix}/{name} -") as stream:
                total += _drain(stream)
        return total

    return fetch


CLIENTS = {
    each.__name__: each
    for each in (
        rsdl, rsdl_unverified, ranges, ranges_kept, download_file, s3torchconnector, aws_pipe
    )
}  # fmt: skip

if __name__ == "__main__":
    main()
