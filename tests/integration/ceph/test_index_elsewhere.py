"""Shards in a public bucket that are indexed into a folder, by somebody who may not write there."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rsdl.core.errors import DeniedError
from rsdl.data.manifest import load_manifest
from rsdl.storage.cache.config import CacheConfig
from rsdl.storage.cache.node_cache import open_cache
from rsdl.storage.connect import connect
from rsdl.storage.s3.endpoint import StorageConfig

from ..conftest import Find, Rsdl, Write
from .conftest import Gateway

pytestmark = pytest.mark.ceph

Allow = Callable[..., None]


@pytest.fixture
def shards(packed: str, bucket: str) -> str:
    """Return the URL of bare shards in a bucket."""
    store = connect(f"{bucket}/shards")
    for path in Path(packed).glob("*.tar"):
        store.write(path.name, path.read_bytes())
    return store.url


@pytest.fixture
def allow(gateway: Gateway, bucket: str) -> Allow:
    """Return what lets everybody do some things in the bucket, and nothing else."""
    name = bucket.removeprefix("s3://")

    def let(*actions: str) -> None:
        rule = {
            "Effect": "Allow", "Principal": "*", "Action": list(actions),
            "Resource": [f"arn:aws:s3:::{name}", f"arn:aws:s3:::{name}/*"],
        }  # fmt: skip
        policy = json.dumps({"Version": "2012-10-17", "Statement": [rule]})
        gateway.boto().put_bucket_policy(Bucket=name, Policy=policy)

    return let


@pytest.fixture
def keyless(env: dict[str, str]) -> dict[str, str]:
    """Return the environment of somebody without keys."""
    return {
        **{name: value for name, value in env.items() if "KEY" not in name},
        "AWS_NO_SIGN_REQUEST": "YES",
    }


def objects(gateway: Gateway, bucket: str) -> list[tuple[str, str, Any]]:
    page = gateway.boto().list_objects_v2(Bucket=bucket.removeprefix("s3://"))
    return [(each["Key"], each["ETag"], each["LastModified"]) for each in page["Contents"]]


def test_a_public_bucket_is_indexed_into_a_folder_and_trained_from(
    rsdl: Rsdl, gateway: Gateway, bucket: str, shards: str, allow: Allow, keyless: dict[str, str],
    write_config: Write, run_at: Find, tmp_path: Path,
):  # fmt: skip
    allow("s3:GetObject", "s3:ListBucket")
    before = objects(gateway, bucket)
    beside = rsdl("data", "index", shards, env=keyless)
    assert beside.returncode == 2
    assert beside.stderr.splitlines()[-1].endswith("or index into another place with --out")
    for out in ("out", "second"):
        ended = rsdl("data", "index", shards, "--out", tmp_path / out, env=keyless)
        assert ended.returncode == 0 and f"9 shards, 0.1 MB at {shards}" in ended.stdout
    for act in (("info",), ("verify",), ("plan", "--global-batch", "4")):
        ended = rsdl("data", act[0], tmp_path / "out", *act[1:], env=keyless)
        assert ended.returncode == 0, ended.stderr

    allow("s3:GetObject")  # who trains need not list
    for name, url in (("one", "out"), ("two", "second")):
        config = write_config(
            name, data__url=str(tmp_path / url), data__decoded_cache="off", trainer__max_epochs=1,
            storage__anonymous=True,
        )  # fmt: skip
        ended = rsdl("train", config, env=keyless)
        assert ended.returncode == 0, ended.stderr
        assert run_at(name).record["status"] == "completed"
    assert run_at("one").record["ledger"] == run_at("two").record["ledger"]
    shard_cache = open_cache(CacheConfig(folder=keyless["RSDL_CACHE"])).usage()[0]
    assert shard_cache == len(before)  # both indexes share them
    assert objects(gateway, bucket) == before


@pytest.mark.parametrize("cache", [{}, "none"])
def test_a_shard_that_was_replaced_is_refused_by_both_names(
    cache: object, rsdl: Rsdl, shards: str, env: dict[str, str], write_config: Write, tmp_path: Path
):
    out = tmp_path / "out"
    assert rsdl("data", "index", shards, "--out", out, env=env).returncode == 0
    store = connect(shards)
    for name in [entry.name for entry in store.list("train")]:
        data = store.read(name)
        store.write(name, data[:-1] + b"\1")  # of the same size
    config = write_config("run", data__url=str(out), data__cache=cache)
    ended = rsdl("train", config, env=env)
    assert ended.returncode == 2
    line = ended.stderr.splitlines()[-1]
    assert line.startswith(f"{shards}/train-0") and f"(a shard of {out}); restore it" in line
    assert f'"rsdl data index {shards} --out {out} --overwrite"' in line
    ended = rsdl("data", "verify", out, env=env)
    assert ended.returncode == 1 and "its SHA-256 is not the manifest's" in ended.stdout
    store.write(name, data + b"\0")
    ended = rsdl("data", "plan", out, "--global-batch", 4, env=env)
    assert ended.returncode == 2 and f"has {len(data) + 1} bytes, not {len(data)}" in ended.stderr


def test_shards_in_a_bucket_that_is_gone_are_refused_by_both_names(
    rsdl: Rsdl, gateway: Gateway, bucket: str, shards: str, env: dict[str, str]
):
    gateway.boto().create_bucket(Bucket=f"{bucket.removeprefix('s3://')}-own")
    own = f"{bucket}-own/set"
    assert rsdl("data", "index", shards, "--out", own, env=env).returncode == 0
    assert sorted(e.name for e in connect(own).list()) == [
        "index-test.npy", "index-train.npy", "index-val.npy", "manifest.json",
    ]  # fmt: skip
    assert rsdl("data", "verify", own, env=env).stdout.startswith("ok: 36 samples")
    for entry in list(connect(bucket).list()):
        connect(bucket).delete(entry.name)
    gateway.boto().delete_bucket(Bucket=bucket.removeprefix("s3://"))
    ended = rsdl("data", "plan", own, "--global-batch", 4, env=env)
    assert ended.returncode == 2 and len(ended.stderr.splitlines()) == 1
    assert f"{shards}: no such bucket (the shards of {own}); " in ended.stderr


def test_where_nobody_may_list_a_manifest_that_is_not_there_may_also_be_forbidden(
    bucket: str, allow: Allow
):
    allow("s3:GetObject")
    store = connect(f"{bucket}/set", storage=StorageConfig(anonymous=True))
    with pytest.raises(DeniedError) as caught:
        load_manifest(store, where="data.url")
    assert str(caught.value) == (
        f"{bucket}/set/manifest.json: access denied without keys: there is no manifest, or you may "
        "not read it; check data.url, or unset storage.anonymous and AWS_NO_SIGN_REQUEST, and "
        "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
    )
