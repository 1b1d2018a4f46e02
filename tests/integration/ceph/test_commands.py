"""What a command takes as a folder may be a bucket, and what comes out is the same."""

import random
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rsdl import load
from rsdl.commands.export import export
from rsdl.core.errors import DataError
from rsdl.data.packing.pack import PackOptions, pack
from rsdl.data.sources.folder import FolderSource
from rsdl.storage.connect import connect

from ..conftest import Rsdl, Run, Write
from .conftest import copy

pytestmark = pytest.mark.ceph
Compare = Callable[[Run, Run], None]


def test_packing_into_a_bucket_gives_the_bytes_of_packing_into_a_folder(
    rsdl: Rsdl, image_tree: Path, bucket: str, tmp_path: Path, env: dict[str, str]
):
    flags = ("--split", "0.5,0.25,0.25", "--shard-mb", "0.014")
    for out in (str(tmp_path / "local"), f"{bucket}/remote"):
        ended = rsdl("data", "pack", "folder", image_tree, "--out", out, *flags, env=env)
        assert ended.returncode == 0 and f"{out}: 18 train, 9 val, 9 test" in ended.stdout
        assert rsdl("data", "verify", out, env=env).stdout.startswith("ok: 36 samples")
    local, remote = connect(str(tmp_path / "local")), connect(f"{bucket}/remote")
    assert list(local.list()) == list(remote.list())
    for entry in local.list():
        assert local.read(entry.name) == remote.read(entry.name), entry.name
    plans = [
        rsdl("data", "plan", store.url, "--global-batch", 4, env=env).stdout
        for store in (local, remote)
    ]
    assert plans[0] == plans[1] and len(plans[0].splitlines()) == 16


def test_of_two_who_pack_at_once_one_is_told(bucket: str, image_tree: Path, tmp_path: Path):
    store = connect(f"{bucket}/contested")
    options = PackOptions(shard_bytes=14_000)
    fractions = (0.5, 0.25, 0.25)
    ours = FolderSource(image_tree, fractions=fractions, seed=1, name="ours")
    theirs = FolderSource(image_tree, fractions=fractions, seed=2, name="theirs")
    begun = []

    def meet(*_: int) -> None:
        if not begun:
            begun.append(True)
            store.write_once(
                "manifest.json", pack(theirs, connect(str(tmp_path / "theirs")), options).to_json()
            )

    with pytest.raises(DataError, match="another data set was finished here in the meantime"):
        pack(ours, store, options, meet)
    assert b'"theirs"' in store.read("manifest.json")
    with pytest.raises(DataError, match="holds another data set"):
        pack(ours, store, options)
    pack(ours, store, replace(options, overwrite=True))
    assert b'"ours"' in store.read("manifest.json")


@pytest.mark.slow
def test_a_run_in_a_bucket_killed_at_any_moment_ends_as_one_in_a_folder(
    rsdl: Rsdl, write_config: Write, run_at: Callable[[str], Run], compare_runs: Compare,
    remote: str, bucket: str, env: dict[str, str], tmp_path: Path,
):  # fmt: skip
    fields: dict[str, Any] = {
        "checkpoint__every_minutes": 1e-4, "trainer__max_epochs": 2, "data__decoded_cache": "off",
    }  # fmt: skip
    whole = write_config("whole", **fields)
    killed = write_config("killed", **fields, output=f"{bucket}/runs", data__url=remote)
    assert rsdl("train", whole).returncode == 0
    moments, deaths = random.Random(1), 0
    while (ended := rsdl("train", killed, env=env, die=moments.randint(10, 50))).returncode:
        assert ended.returncode == -signal.SIGKILL, ended.stderr
        deaths += 1
        assert deaths < 60, "no progress"
    assert deaths > 1, "hardly anything was killed"
    copy(f"{bucket}/runs/killed", str(tmp_path / "runs" / "killed"))
    compare_runs(run_at("whole"), run_at("killed"))
    names = [entry.name for entry in connect(f"{bucket}/runs/killed").list()]
    assert any(name.startswith("events.out.tfevents") for name in names)
    ended = rsdl("evaluate", f"{bucket}/runs/killed/checkpoints/best.ckpt", env=env)
    assert f"report: {bucket}/runs/killed/report.html" in ended.stdout
    page = f"{bucket}/runs/page.html"
    ended = rsdl("report", f"{bucket}/runs/killed", tmp_path / "runs/whole", "--out", page, env=env)
    assert ended.returncode == 0 and connect(bucket).size("runs/page.html")
    assert export(f"{bucket}/runs/killed", to="safetensors", out=f"{bucket}/models/one") == 0
    image = np.full((50, 60, 3), 90, np.uint8)
    runs = (f"{bucket}/runs/killed", f"{bucket}/models/one", str(tmp_path / "runs/whole"))
    told = [load(run).predict(image).probabilities for run in runs]
    assert torch.equal(told[0], told[1]) and torch.equal(told[0], told[2])
    assert not list((tmp_path / "cache" / "spool").iterdir())


def test_the_cache_is_shown_and_cleared(rsdl: Rsdl, remote: str, env: dict[str, str]):
    assert rsdl("data", "verify", remote, env=env).returncode == 0
    shown = rsdl("data", "cache", "show", env=env).stdout
    assert env["RSDL_CACHE"] in shown and " 0 copies" not in shown
    assert " 0 copies are in use and stay" in rsdl("data", "cache", "clear", env=env).stdout
    assert ": 0 copies, 0.0 MB of" in rsdl("data", "cache", "show", env=env).stdout
    assert rsdl("data", "info", remote, env=env).returncode == 0
