"""Packers that other environments lack are tested by running the benchmark; here is the rest."""

import dataclasses
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio

from benchmarks.harness.imagery import cut_images
from benchmarks.harness.measure import Row, Table
from benchmarks.harness.worker_process import Contender
from benchmarks.packing.pack import (
    DECODER,
    OURS,
    PEAK,
    SAMPLED,
    TILER,
    packing_aims,
    peak_megabytes,
    tiling_aims,
)
from benchmarks.packing.scene import make_scene
from benchmarks.peers.task import Task
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
        with Contender(name, sys.executable, task, tmp_path / "log") as contender:
            contender.await_ready()
            assert contender.run_turn(0) > 0

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
def test_each_turn_of_rsdl_packs_the_whole_tree_anew(name: str, tmp_path: Path) -> None:
    images = cut_images_of_noise(tmp_path / "images")
    task = Task(str(images), "", str(tmp_path), "", workers=1)
    with Contender(name, sys.executable, task, tmp_path / "log") as contender:
        contender.await_ready()
        first, second = contender.run_turn(0), contender.run_turn(0)
        assert peak_megabytes(contender.pid) > peak_megabytes(os.getpid()) / 100
    assert first > 0
    assert second > 0
    manifest = load_manifest(connect(str(tmp_path / "ours")))
    assert sum(split.samples for split in manifest.splits.values()) == 20
    assert ("decoded" in manifest.provenance) == (name == SAMPLED)


def cut_images_of_noise(folder: Path) -> Path:
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (3, 256, 256), np.uint8)
    profile = {"driver": "GTiff", "height": 256, "width": 256, "count": 3, "dtype": "uint8"}
    with rasterio.open(
        folder / "scene.tif", "w", **profile, crs="EPSG:32632",
        transform=rasterio.Affine(1, 0, 0, 0, -1, 256),
    ) as scene:  # fmt: skip
        scene.write(pixels)
    return cut_images(folder / "cut", size=64, count=20, scenes=folder)


def test_aims_leave_out_who_was_absent_and_judge_memory() -> None:
    rows = [Row(SAMPLED, [8.0]), Row(OURS, [4.0]), Row("one", [2.0]), Row("absent")]
    decoder = Row(DECODER, [5.0])
    aims = packing_aims(Table("", "", OURS, [*rows, decoder]))
    assert {aim.text: (aim.value, aim.bound) for aim in aims} == {
        f"{SAMPLED} over one": (4.0, 1.0),
        f"{OURS} over {DECODER}": (0.8, 0.8),
    }
    without = packing_aims(Table("", "", OURS, [*rows, Row(DECODER)]))
    assert [aim.text for aim in without] == [f"{SAMPLED} over one"]
    loops = [Row(TILER, [3.0], facts={PEAK: 1200.0}), Row("rasterio windows, saved", [2.0])]
    table = Table("", "", TILER, [*loops, Row("rasterio windows, dropped", [4.0])])
    assert [aim.met for aim in tiling_aims(table)] == [True, False, False]
    fits = dataclasses.replace(loops[0], facts={PEAK: 900.0})
    table = dataclasses.replace(table, rows=[fits, *table.rows[1:]])
    assert [aim.met for aim in tiling_aims(table)] == [True, False, True]
