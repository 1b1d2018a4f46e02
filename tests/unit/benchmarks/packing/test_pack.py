"""Packers that other environments lack are tested by running the benchmark; here is the rest."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio

from benchmarks.harness.measure import Row, Table
from benchmarks.harness.task import Task
from benchmarks.harness.worker_process import WorkerProcess, peak_megabytes
from benchmarks.packing.catalog import PACKERS, TILERS
from benchmarks.packing.pack import (
    DECODER,
    OURS,
    PEAK,
    SAMPLED,
    TILER,
    packing_targets,
    tiling_targets,
)
from benchmarks.packing.scene import make_scene
from rsdl.data.manifest import load_manifest
from rsdl.storage.connect import connect

SIDE = 700  # no multiple of a tile


def test_a_scene_is_sparse_labelled_and_made_once(tmp_path: Path) -> None:
    path = make_scene(tmp_path / "scene-4096.tif", 4096)
    made = path.stat().st_mtime_ns
    assert path.stat().st_size < 4096**2 * 8 / 8
    with rasterio.open(path) as scene:
        assert (scene.count, scene.dtypes[0], scene.shape) == (4, "uint16", (4096, 4096))
        assert scene.read(1, window=((0, 64), (0, 64))).std() > 0
        assert scene.read(1, window=((512, 576), (0, 64))).max() == 0
    assert make_scene(path, 4096).stat().st_mtime_ns == made


def test_rsdl_and_the_bare_loop_cut_the_same_tiles(tmp_path: Path) -> None:
    scene = make_scene(tmp_path / "scene-700.tif", SIDE)
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for name, work in ((TILER, ours), ("rasterio windows, saved", theirs)):
        task = Task(str(scene), "", str(work), "", workers=2, image_size=256)
        work.mkdir()
        with WorkerProcess(name, TILERS[name], sys.executable, task) as worker:
            worker.await_ready()
            assert worker.run_turn(0) > 0

    saved = sorted((theirs / "tiles").iterdir())
    assert len(saved) == 9
    manifest = load_manifest(connect(str(ours / "tiles")))
    assert manifest.splits["train"].samples == 9
    shards = [ours / "tiles" / shard.name for shard in manifest.splits["train"].shards]
    packed = b"".join(shard.read_bytes() for shard in shards)
    for path in saved:
        # [C, H, W] -> [H, W, C], as a tile lies in the shard
        assert np.moveaxis(np.load(path), 0, 2).tobytes() in packed


@pytest.mark.parametrize("name", [OURS, SAMPLED])
def test_each_turn_of_rsdl_packs_the_whole_tree_anew(
    name: str, image_tree: Path, tmp_path: Path
) -> None:
    task = Task(str(image_tree), "", str(tmp_path), "", workers=1)
    with WorkerProcess(name, PACKERS[name], sys.executable, task) as worker:
        worker.await_ready()
        first, second = worker.run_turn(0), worker.run_turn(0)
        assert peak_megabytes(worker.pid) > peak_megabytes(os.getpid()) / 100
    assert first > 0
    assert second > 0
    manifest = load_manifest(connect(str(tmp_path / "ours")))
    assert sum(split.samples for split in manifest.splits.values()) == len(
        list(image_tree.glob("*/*"))
    )
    assert ("decoded" in manifest.provenance) == (name == SAMPLED)


def test_thresholds_leave_out_who_was_absent_and_judge_memory() -> None:
    rows = [Row(SAMPLED, [8.0]), Row(OURS, [4.0]), Row(DECODER, [5.0]), Row("one", [2.0])]
    targets = packing_targets(Table("", "", OURS, [*rows, Row("absent")]))
    assert [(each.text, each.value) for each in targets] == [(f"{SAMPLED} over one", 4.0)]
    loop = Row("rasterio windows, saved", [4.0])
    for peak, met in ((1200.0, [False, False]), (900.0, [False, True])):
        table = Table("", "", TILER, [Row(TILER, [3.0], facts={PEAK: peak}), loop])
        assert [each.met for each in tiling_targets(table)] == met
