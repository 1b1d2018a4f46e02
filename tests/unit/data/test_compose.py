"""Mosaic and copy-paste: pixels and boxes as one, and rows that depend on the sample alone."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from rsdl.config.data import DataConfig
from rsdl.core.batch import Batch
from rsdl.core.errors import ConfigError, CorruptSampleError
from rsdl.data.compose import MAX_HIDDEN, cut_rows, make_mosaic, paste, shares_covered
from rsdl.data.datamodule import DataModule, Process
from rsdl.data.dataset import DataSet
from rsdl.data.packing.pack import PackOptions, pack
from rsdl.data.sample import Sample, ShardPlan
from rsdl.data.shuffle import GlobalOrder, OrderRule
from rsdl.data.targets.base import Window
from rsdl.data.targets.corners import box_corners, rectangle_corners
from rsdl.data.targets.objects import (
    FLAGS,
    HULL,
    IGNORED,
    LABEL,
    RECTANGLE,
    ObjectList,
    make_objects,
)
from rsdl.storage.connect import connect
from tests.drawn_objects import DrawnObjects, draw_scene
from tests.unit.data.batches import assert_alike, damage, total

KIND, SIDE, NUM = ObjectList(), 96, 22


def fill(picture: NDArray[np.uint8], corners: NDArray[np.float32], value: int) -> None:
    points = np.round((corners - 0.5) * 16).astype(np.int32)
    cv2.fillConvexPoly(picture, points, value, shift=4)


def paint(seed: int) -> tuple[NDArray[np.uint8], Any]:
    """Return black pixels with objects in the colour of their class, and the objects."""
    _, objects = draw_scene(seed, SIDE)
    plane = np.zeros((SIDE, SIDE), np.uint8)
    for corners, label in zip(objects.corners, objects.labels, strict=True):
        fill(plane, corners, 80 * (int(label) + 1))
    return plane[..., None].repeat(3, axis=2), objects


def rows_of(objects: Any) -> NDArray[np.float32]:  # noqa: ANN401
    return KIND.crop(objects, Window(0, 0, *objects.size), objects.size, objects.size)


def repaint(rows: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return the picture of a batch's targets: each rectangle, where its hull is visible."""
    plane = np.zeros((SIDE, SIDE), np.uint8)
    for row in rows[rows[:, LABEL] >= 0]:
        left, top, right, bottom = np.round(row[HULL]).astype(int).tolist()
        own = np.zeros_like(plane)
        fill(own, rectangle_corners(row[None, RECTANGLE])[0], 80 * (int(row[LABEL]) + 1))
        shown = np.where(own > 0, own, plane)  # what is pasted lies above
        plane[top:bottom, left:right] = shown[top:bottom, left:right]
    return plane


def assert_painted(image: NDArray[np.uint8], rows: NDArray[np.float32]) -> None:
    """Check that an image shows its objects and no others, but for their outlines."""
    wrong = (np.abs(image[..., 0].astype(int) - repaint(rows)) > 20).astype(np.uint8)
    assert not cv2.erode(wrong, np.ones((4, 4), np.uint8)).any()


class PaintedObjects(DrawnObjects):
    """Black images with objects, in several shards."""

    def __init__(self) -> None:
        super().__init__(NUM, SIDE, ("train",))

    def shards(self, shard_bytes: int) -> list[ShardPlan]:
        numbers = np.array_split(np.arange(NUM), 4)
        return [ShardPlan("train", [("train", int(n)) for n in part]) for part in numbers]

    def read(self, item: tuple[str, int]) -> Sample:
        image, objects = paint(item[1])
        encoded = cv2.imencode(".png", image)[1].tobytes()
        return Sample(f"s{item[1]:02d}", "png", encoded, objects, {}, image)


class HalfPainted(PaintedObjects):
    """Images without objects for validation."""

    def shards(self, shard_bytes: int) -> list[ShardPlan]:
        return [*super().shards(shard_bytes), ShardPlan("val", [("val", NUM), ("val", NUM + 1)])]

    def read(self, item: tuple[str, int]) -> Sample:
        sample = super().read(item)
        kept = slice(None) if item[0] == "train" else slice(0)
        return sample._replace(target=sample.target.take(kept))


def test_a_val_split_without_objects_is_said_before_training(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    source: Any = HalfPainted()
    pack(source, connect(str(tmp_path / "half")), PackOptions(num_workers=1))
    caplog.clear()
    module(str(tmp_path / "half"), val_split="train").check(1)
    assert "val_split" not in caplog.text
    module(str(tmp_path / "half"), val_split="val").check(1)
    assert 'data.val_split: "val" holds no objects' in caplog.text


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("RSDL_CACHE", str(tmp_path / "cache"))
    source: Any = PaintedObjects()
    pack(source, connect(str(tmp_path / "painted")), PackOptions(num_workers=1))
    yield str(tmp_path / "painted")


def module(url: str, **fields: Any) -> DataModule:  # noqa: ANN401
    given: dict[str, Any] = {
        "batch_size": 6, "image_size": SIDE, "crop_ratio": (1, 1), "tail": "pad", "window": 2,
        "decoded_cache": "off", "num_workers": 2, "mosaic": 0.6, "copy_paste": 0.6,
    } | fields  # fmt: skip
    return DataModule(DataSet(DataConfig(url=url, **given)), seed=5)


def read(url: str, rank: int = 0, world: int = 1, start: int = 0, **fields: Any) -> list[Batch]:  # noqa: ANN401
    data = module(url, **fields)
    data.resume(1, start)
    return list(data.open_train_loader(1, Process(torch.device("cpu"), rank, world), is_last=True))


def by_sample(batches: Sequence[Batch]) -> dict[int, tuple[torch.Tensor, list[list[float]]]]:
    """Return image and objects of the rows that count, by sample."""
    return {
        int(sample): (image, target[target[:, LABEL] >= 0].tolist())
        for batch in batches
        for sample, image, target, valid in zip(
            batch.samples, batch.images, batch.targets, batch.valid, strict=True
        )
        if valid
    }


@pytest.mark.parametrize("fields", [{"copy_paste": 0}, {"mosaic": 0}, {}])
def test_boxes_move_with_their_pixels(fields: dict[str, Any], url: str):
    plain = by_sample(read(url, mosaic=0, copy_paste=0))
    rows = by_sample(read(url, **fields))
    assert set(rows) == set(plain) == set(range(NUM))
    changed = 0
    for sample, (image, objects) in rows.items():
        assert_painted(image.numpy(), np.array(objects, np.float32).reshape(-1, 11))
        changed += not torch.equal(image, plain[sample][0])
    assert NUM / 4 < changed < NUM, "some rows are composed, some are not"


def test_rows_depend_on_neither_ranks_nor_workers_nor_where_an_epoch_is_resumed(url: str):
    whole = read(url)
    for batches in (read(url, num_workers=1), read(url, decoded_cache="1MB")):
        assert_alike(batches, whole, most=0)
    kept = read(url, decoded_cache="1MB", num_workers=3)
    assert_alike(kept, whole, most=0)
    rows = by_sample(whole)
    parts = [read(url, rank, 3) for rank in range(3)] + [read(url, start=12)]
    assert sum(len(by_sample(part)) for part in parts) == NUM + NUM - 12
    for part in parts:
        for sample, (image, objects) in by_sample(part).items():
            assert torch.equal(image, rows[sample][0]) and objects == rows[sample][1]


def test_a_partner_is_no_use_of_its_sample(url: str):
    plain, composed = (total(read(url, mosaic=share, copy_paste=0)) for share in (0, 1))
    for name in ("planned", "delivered", "padded", "skipped", "fingerprint"):
        assert getattr(plain, name) == getattr(composed, name)
    assert composed.decoded_bytes == NUM * 4 * SIDE * SIDE * 3 + 2 * SIDE * SIDE * 3


def test_partners_are_of_the_same_window_of_shards():
    sizes = np.array([7, 0, 5, 9, 1, 6, 8, 4])
    for partitions in (1, 3):
        order = GlobalOrder(sizes, OrderRule(3, 2, window=2, partitions=partitions))
        positions = np.arange(order.num_samples)
        samples = order.at(positions)
        numbers = np.random.default_rng(0).random((len(samples), 64))
        drawn = order.neighbours(samples, numbers)
        for part in range(partitions):
            for window in order.windows(part):
                mine = (positions >= window.first) & (positions < window.stop)
                mine &= positions % partitions == part
                assert set(drawn[mine].ravel().tolist()) == set(samples[mine].tolist())
        again = order.neighbours(samples[::-1].copy(), numbers[::-1])
        assert (again[::-1] == drawn).all(), "a function of the sample"


def test_an_object_that_the_seam_cuts_keeps_its_shape_and_is_ignored_below_half():
    corners = box_corners([(0, 0, 40, 10), (20, 30, 60, 40), (35, 50, 75, 60), (50, 70, 90, 80)])
    rows = rows_of(make_objects(corners, [0, 1, 2, 0], (96, 96)))
    cut = cut_rows(rows, (0, 0, 96, 50))
    assert (cut[:, RECTANGLE] == rows[:3, RECTANGLE]).all()
    assert cut[:, HULL].tolist() == [[0, 0, 40, 10], [20, 30, 50, 40], [35, 50, 50, 60]]
    assert cut[:, FLAGS].tolist() == [0, 0, IGNORED]


def test_a_mosaic_shows_of_each_image_what_lies_in_its_quarter():
    scenes = [paint(seed) for seed in range(4)]
    pixels = scenes[0][0].copy()
    regions = [(0, 0, 40, 60), (0, 60, 40, 96), (40, 0, 96, 60), (40, 60, 96, 96)]
    others = [(image, rows_of(objects)) for image, objects in scenes[1:]]
    rows = make_mosaic(pixels, rows_of(scenes[0][1]), others, regions)
    for (image, _), (top, left, bottom, right) in zip(scenes, regions, strict=True):
        inside = slice(top, bottom), slice(left, right)
        assert (pixels[inside] == image[inside]).all()
    assert_painted(pixels, rows)


def test_what_is_pasted_hides_no_object_and_brings_its_own_along():
    pasted = 0
    for seed in range(0, 60, 2):
        (image, objects), (other, theirs) = paint(seed), paint(seed + 1)
        rows, fresh, pixels = rows_of(objects), rows_of(theirs), image.copy()
        found = paste(pixels, rows, other, fresh, np.ones(len(fresh), bool))
        assert (found[: len(rows)] == rows).all()
        new = found[len(rows) :]
        pasted += len(new)
        assert not len(new) or (shares_covered(new, rows).sum(0) <= MAX_HIDDEN + 1e-5).all()
        assert_painted(pixels, found)
        refused = [row for row in fresh.tolist() if row not in new.tolist()]
        for row in refused:
            assert shares_covered(np.array([row], np.float32), rows).max() > 0
    assert pasted > 50


def test_what_lies_in_a_pasted_box_is_an_object_too():
    harbour, ship, half = (0, 0, 60, 60), (10, 10, 20, 20), (50, 40, 80, 50)
    corners, labels = box_corners([harbour, ship, half]), [0, 1, 2]
    objects = rows_of(make_objects(corners, labels, (96, 96)))
    pixels = np.zeros((96, 96, 3), np.uint8)
    wanted = np.array([True, False, False])
    found = paste(pixels, objects[:0], np.ones_like(pixels), objects, wanted)
    assert found[:, LABEL].tolist() == [0, 1, 2]
    assert found[:, FLAGS].tolist() == [0, 0, IGNORED], "a third of the last is pasted"
    assert pixels[:60, :60].all() and pixels.sum() == 3 * 60 * 60
    ignored = objects.copy()
    ignored[:, FLAGS] = IGNORED
    assert not len(paste(pixels, objects[:0], pixels, ignored, wanted)), "none is of an ignored one"


def test_a_partner_that_cannot_be_read_is_told_once(url: str):
    name = damage(url, 4)
    batches = read(url, mosaic=1, on_corrupt="skip")
    assert total(batches).skipped == 1 and total(batches).delivered == NUM - 1
    mean = np.array(DataSet(DataConfig(url=url)).manifest.mean).astype(np.uint8)
    for image, objects in by_sample(batches).values():
        pixels = image.numpy().copy()
        pixels[(pixels == mean).all(axis=2)] = 0  # the part of the corrupt one
        assert_painted(pixels, np.array(objects, np.float32).reshape(-1, 11))
    with pytest.raises(CorruptSampleError, match=name):
        read(url, mosaic=1)


def test_images_of_one_class_and_decoding_on_the_device_are_refused(url: str, packed: str):
    for name in ("mosaic", "copy_paste"):
        data = DataSet(DataConfig.model_validate({"url": packed, "batch_size": 4, name: 0.5}))
        with pytest.raises(ConfigError) as caught:
            DataModule(data, seed=0).check(1)
        assert str(caught.value) == (
            f"data.{name}: composes images of objects, and each target here is a class_index; "
            "pass 0, or augment.cutmix, which mixes classes"
        )
        with pytest.raises(ValueError, match="pass decode=host"):
            DataConfig.model_validate({"url": url, "decode": "device", name: 0.5})
