"""Weights are mirrored to a bucket once, and runs start from there without a hub."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rsdl.storage.connect import connect
from tests.hub_server import Hub, serve

from ..conftest import Ended, Find, Rsdl, Write, refusal

pytestmark = pytest.mark.ceph


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with serve(tmp_path / "hub") as running:
        yield running


def fetch(*arguments: str, endpoint: str, tmp_path: Path) -> Ended:
    """Run ``rsdl models fetch`` in a process of its own, which reads the hub's address anew."""
    env = os.environ | {
        "HF_ENDPOINT": endpoint, "HF_HUB_CACHE": str(tmp_path / "hf"), "no_proxy": "127.0.0.1",
        "TORCH_HOME": str(tmp_path / "torch"),
    }  # fmt: skip
    command = [sys.executable, "-m", "rsdl", "models", "fetch", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    return Ended(done.returncode, done.stdout, done.stderr)


def test_a_run_starts_from_a_mirror_and_goes_on_without_it(
    rsdl: Rsdl, hub: Hub, bucket: str, write_config: Write, run_at: Find, env: dict[str, str],
    tmp_path: Path,
):  # fmt: skip
    hub.publish("test_resnet")
    url = f"{bucket}/weights"
    fetched = fetch("test_resnet", "--out", url, endpoint=hub.url, tmp_path=tmp_path)
    assert fetched.returncode == 0, fetched.stderr
    assert fetched.stdout.endswith(f"{url}: 1 fetched, 0 there already\n")
    again = fetch("test_resnet", "--out", url, endpoint=hub.url, tmp_path=tmp_path)
    assert again.stdout.endswith(f"{url}: 0 fetched, 1 there already\n")

    # A mirror's normalisation is followed, whatever timm says.
    store = connect(url)
    card = json.loads(store.read("test_resnet.json")) | {"mean": [1, 2, 3], "std": [40, 50, 60]}
    store.write("test_resnet.json", json.dumps(card).encode())
    fields: dict[str, object] = {
        "model__weights": url,
        "model__name": "test_resnet",
        "trainer__max_epochs": 1,
    }
    config = write_config("mirrored", **fields)
    ended = rsdl("train", config, env=env)
    assert ended.returncode == 0, ended.stderr
    assert f"normalised by the weights of {url}" in ended.stdout
    spec = json.loads((run_at("mirrored").folder / "model.json").read_text())
    assert (spec["mean"], spec["std"]) == ([1, 2, 3], [40, 50, 60])

    for entry in list(store.list()):
        store.delete(entry.name)
    assert rsdl("evaluate", run_at("mirrored").folder, env=env).returncode == 0
    longer = rsdl("train", config, "trainer.max_epochs=2", env=env)
    assert longer.returncode == 0 and "normalised by the run's model.json" in longer.stdout
    spec = json.loads((run_at("mirrored").folder / "model.json").read_text())
    assert (spec["mean"], spec["std"]) == ([1, 2, 3], [40, 50, 60])
    gone = refusal(rsdl("train", write_config("other", **fields), env=env))
    assert f"model.weights: {url}: no such file, and no mirror with test_resnet" in gone


def test_a_hub_that_is_away_ends_with_69_in_one_line(bucket: str, tmp_path: Path):
    url = f"{bucket}/weights"
    ended = fetch("test_vit", "--out", url, endpoint="http://127.0.0.1:1", tmp_path=tmp_path)
    assert refusal(ended, 69).startswith("test_vit: http://127.0.0.1:1/timm/test_vit")
    assert list(connect(url).list()) == []
