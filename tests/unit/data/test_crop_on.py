"""Random crops that hold foreground: which box is taken, whoever decodes the image."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simplejpeg
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from rsdl.config.data import DataConfig
from rsdl.core.batch import Batch
from rsdl.core.errors import ConfigError
from rsdl.core.rng import key_of, uniforms
from rsdl.data.crop import CropRule, crop_box, position_choices
from rsdl.data.datamodule import DataModule, Process
from rsdl.data.dataset import DataSet
from rsdl.data.packing.pack import PackOptions, pack
from rsdl.data.plan import Share
from rsdl.data.sample import Sample, ShardPlan
from rsdl.data.targets.base import Window
from rsdl.data.targets.mask import IGNORE, MIN_FOREGROUND, Classes, Mask, foreground
from rsdl.storage.connect import connect
from tests.unit.data.batches import assert_alike, damage, total

KIND, NUM, SIZE = Mask(), 18, (40, 56)
RULE = CropRule(random=True, scale=(0.1, 0.4), foreground=True)


def draw_mask(number: int) -> Classes:
    """Return ground with a small roof, a third class in a few, and a corner without label."""
    random = np.random.default_rng(number)
    mask = np.zeros(SIZE, np.uint8)
    row, col = random.integers(0, 30), random.integers(0, 44)
    mask[row : row + 10, col : col + 12] = 1
    if number % 3 == 0:
        mask[-6:, -6:] = 2
    mask[:8, :8] = IGNORE
    return mask


def shares(mask: Classes) -> float:
    """Return the foreground, counted pixel by pixel."""
    labelled = mask[mask != IGNORE].tolist()
    return 1 - max(map(labelled.count, set(labelled))) / len(labelled) if labelled else 0.0


def cut(mask: Classes, box: tuple[int, ...]) -> Classes:
    top, left, height, width = box
    return mask[top : top + height, left : left + width]


@given(values=st.lists(st.sampled_from([0, 1, 2, IGNORE]), min_size=1, max_size=60))
def test_foreground_is_what_is_not_of_the_commonest_class(values: list[int]):
    mask = np.array([values], np.uint8)
    assert foreground(mask) == pytest.approx(shares(mask), abs=1e-6)


@given(number=st.integers(0, 200), draw=st.integers(0, 10_000))
def test_the_first_box_with_foreground_is_taken_or_the_one_with_most(number: int, draw: int):
    mask = draw_mask(number)
    numbers = uniforms(key_of("test"), np.array([draw]), RULE.num_uniforms)[0].tolist()
    boxes = [crop_box(RULE, *SIZE, each) for each in position_choices(numbers)]
    found = [shares(cut(mask, box)) for box in boxes]
    assert len(boxes) == 10 and len({box[2:] for box in boxes}) == 1, "all are of one size"
    assert boxes[0] == crop_box(replace(RULE, foreground=False), *SIZE, numbers[:22])

    taken = KIND.aim(mask, lambda height, width: [Window(*box) for box in boxes])

    passing = [place for place, share in enumerate(found) if share > MIN_FOREGROUND + 1e-6]
    assert taken == passing[0] if passing else found[taken] == pytest.approx(max(found), abs=1e-6)


class JpegsWithMasks:
    """JPEGs of masks that are drawn, as a source."""

    dataset, target, dtype = "roofs", "mask", "uint8"
    classes, bands = ("ground", "roof", "rare"), ("red", "green", "blue")
    left_out: dict[str, int] = {}  # noqa: RUF012
    provenance: dict[str, Any] = {"source": "drawn"}  # noqa: RUF012

    def shards(self, shard_bytes: int) -> list[ShardPlan]:
        return [ShardPlan("train", range(0, 9)), ShardPlan("train", range(9, NUM))]

    def read(self, item: int) -> Sample:
        mask = draw_mask(item)
        noise = np.random.default_rng(item).integers(0, 60, (*SIZE, 3))
        pixels: NDArray[np.uint8] = (noise + np.minimum(mask, 3)[..., None] * 60).astype(np.uint8)
        data = simplejpeg.encode_jpeg(pixels, quality=95, colorsubsampling="444")
        return Sample(f"s{item:02d}", "jpg", data, mask, {}, pixels)


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Return the URL of such a data set."""
    monkeypatch.setenv("RSDL_CACHE", str(tmp_path / "cache"))
    source: Any = JpegsWithMasks()
    pack(source, connect(str(tmp_path / "roofs")), PackOptions(num_workers=1))
    yield str(tmp_path / "roofs")


def module(url: str, **fields: Any) -> DataModule:  # noqa: ANN401
    given: dict[str, Any] = {
        "batch_size": 6, "image_size": 16, "crop_scale": (0.1, 0.4), "crop_on": "foreground",
        "decoded_cache": "off", "on_corrupt": "skip", "num_workers": 2,
    } | fields  # fmt: skip
    return DataModule(DataSet(DataConfig(url=url, **given)), seed=5)


def read(url: str, epoch: int = 0, share: Share | None = None, **fields: Any) -> list[Batch]:  # noqa: ANN401
    rank, world = (share.rank, share.world_size) if share is not None else (0, 1)
    process = Process(torch.device("cpu"), rank, world)
    return list(module(url, **fields).open_train_loader(epoch, process, is_last=True))


def rows_of(batches: list[Batch]) -> dict[int, tuple[list[int], torch.Tensor, torch.Tensor]]:
    """Return window, image and target by sample."""
    return {
        int(sample): (window.tolist(), image, target)
        for batch in batches
        for sample, window, image, target in zip(
            batch.samples, batch.windows, batch.images, batch.targets, strict=True
        )
    }


def test_masks_are_cropped_with_the_pixels_to_where_foreground_is(url: str):
    aimed, anywhere = [], []
    for epoch in range(4):
        rows = rows_of(read(url, epoch))
        assert len(rows) == NUM
        for sample, (window, image, target) in rows.items():
            part = cut(draw_mask(sample), tuple(window))
            wanted = KIND.crop(part, Window(0, 0, *part.shape), part.shape, 16)
            assert (target.numpy() == wanted).all()
            ground, roof = image[target == 0].double(), image[target == 1].double()
            assert not len(roof) or not len(ground) or roof.mean() > ground.mean() + 25
            aimed.append(shares(part))
        anywhere += [
            shares(cut(draw_mask(sample), tuple(window)))
            for sample, (window, *_) in rows_of(read(url, epoch, crop_on="any")).items()
        ]
    assert np.mean(aimed) > 1.4 * np.mean(anywhere)
    assert np.mean(np.array(aimed) > 0) > 0.9 > np.mean(np.array(anywhere) > 0)


def test_boxes_pixels_and_masks_are_equal_whoever_decodes(url: str):
    host = read(url)
    assert [batch.num_planned for batch in host] == [6, 6, 6]
    first, kept = read(url, decoded_cache="1MB"), read(url, decoded_cache="1MB", num_workers=3)
    assert total(first).encoded_bytes > total(kept).encoded_bytes > 0, "masks are not kept"
    for batches in (read(url, num_workers=1), first, kept):
        assert_alike(batches, host, most=0)
        for one, other in zip(batches, host, strict=True):
            assert torch.equal(one.windows, other.windows)
    device = read(url, decode="device")
    assert_alike(device, host, most=1)
    for one, other in zip(device, host, strict=True):
        assert torch.equal(one.windows, other.windows) and torch.equal(one.targets, other.targets)


def test_boxes_depend_on_neither_ranks_nor_where_an_epoch_is_resumed(url: str):
    whole = rows_of(read(url, 1))
    parts = [rows_of(read(url, 1, Share(rank, 2))) for rank in range(2)]
    assert set(parts[0]) | set(parts[1]) == set(whole)
    data = module(url)
    data.resume(1, 12)
    rest = rows_of(list(data.open_train_loader(1, Process(torch.device("cpu")), is_last=True)))
    assert len(rest) == 6
    for rows in (*parts, rest):
        for sample, (window, image, target) in rows.items():
            assert window == whole[sample][0]
            assert torch.equal(image, whole[sample][1]) and torch.equal(target, whole[sample][2])


@pytest.mark.parametrize("member", ["image", "mask"])
def test_what_cannot_be_read_is_left_out_once(member: str, url: str):
    index = module(url).data.split("train", "").index
    if member == "image":
        damage(url, 4)
    else:
        row, shard = index.rows[4], Path(url) / index.shard_names[0]
        with shard.open("r+b") as stream:
            stream.seek(int(row["target_offset"]))
            stream.write(bytes(int(row["target_length"])))
    batches = read(url)
    assert total(batches).skipped == 1 and total(batches).delivered == NUM - 1
    row = rows_of(batches)[4]
    assert (row[2] == IGNORE).all()


def test_evaluation_and_data_of_one_class_an_image_look_for_none(url: str, packed: str):
    loader = DataModule(
        DataSet(DataConfig(url=url, crop_on="foreground", val_split="train", image_size=16)), seed=0
    ).open_val_loader(Process(torch.device("cpu")))
    assert {tuple(w) for batch in loader for w in batch.windows.tolist()} == {(0, 8, 40, 40)}
    with pytest.raises(ConfigError) as caught:
        DataModule(
            DataSet(DataConfig(url=packed, batch_size=4, crop_on="foreground")), seed=0
        ).check(1)
    assert str(caught.value) == (
        "data.crop_on: is foreground, but a class_index is that of the whole image; "
        "pass data.crop_on=any"
    )
