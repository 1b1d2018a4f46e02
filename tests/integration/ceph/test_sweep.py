"""Where a study stands, and what it has made, out of a bucket."""

import hashlib
import json
from pathlib import Path

import pytest

from rsdl.commands.sweep.collect import Item, fetch
from rsdl.core.errors import StorageError
from rsdl.storage.connect import connect
from rsdl.storage.local import LocalStore

from ..conftest import Rsdl, Write
from .conftest import Gateway

pytestmark = pytest.mark.ceph
BEST = "checkpoints/best.ckpt"


def test_a_study_in_a_bucket_is_shown_and_gathered(
    rsdl: Rsdl, write_config: Write, bucket: str, env: dict[str, str], tmp_path: Path
):
    runs = f"{bucket}/runs/study"
    fields = {"trainer__max_epochs": 1, "output": runs}
    assert rsdl("train", write_config("tiny", **fields), env=env).returncode == 0
    store = connect(runs)
    record = json.loads(store.read("tiny/run.json"))
    begun = record | {"name": "begun", "status": "running", "updated_at": "2020-01-01T00:00:00Z"}
    store.write("begun/run.json", json.dumps(begun).encode())
    alone = env | {"PATH": "/nowhere", "RSDL_RUNS": runs}
    ended = rsdl("sweep", "status", "--json", env=alone)
    rows = {row["run"]: row for row in json.loads(ended.stdout)["runs"]}
    assert {name: row["status"] for name, row in rows.items()} == {
        "begun": "stale", "tiny": "completed",
    }  # fmt: skip
    assert rows["tiny"]["oa"] == record["metrics"]["best"]["oa"]
    ended = rsdl("sweep", "collect", runs, "--out", "out", env=env)
    assert ended.returncode == 1 and "begun: is running" in ended.stdout
    model = (tmp_path / "out" / "tiny" / BEST).read_bytes()
    assert model == store.read(f"tiny/{BEST}")
    index = json.loads((tmp_path / "out" / "models.json").read_text())
    kept = index["runs"]["tiny"]["files"][BEST]
    assert kept["sha256"] == hashlib.sha256(model).hexdigest()
    ended = rsdl("sweep", "collect", runs, "--out", "out", "--partial", "--dry-run", env=env)
    assert ended.returncode == 0 and f"tiny/{BEST}" not in ended.stdout


def test_a_model_that_is_not_what_was_written_is_refused(
    bucket: str, gateway: Gateway, tmp_path: Path
):
    """The writer's SHA-256 stays with an object whose bytes someone has replaced."""
    name = bucket.removeprefix("s3://")
    digest = hashlib.sha256(b"right").hexdigest()
    gateway.boto().put_object(
        Bucket=name, Key=f"runs/tiny/{BEST}", Body=b"wrong", Metadata={"sha256": digest}
    )
    source, target = connect(f"{bucket}/runs", cache=None), LocalStore(tmp_path / "out")
    with pytest.raises(StorageError, match="its content is not what was written"):
        fetch(source, target, Item("tiny", BEST, 5), lambda count: None)
    assert not (tmp_path / "out" / "tiny" / BEST).exists()
