"""A new kind of target needs no change to what packs, loads, augments, checks or shows data."""

import io
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from rsdl.config.data import AugmentConfig, DataConfig
from rsdl.core.errors import ConfigError, CorruptSampleError, DataError
from rsdl.core.image_size import ImageSize, height_width
from rsdl.data.augment import Augment
from rsdl.data.crop import CropRule
from rsdl.data.datamodule import DataModule
from rsdl.data.dataset import DataSet, SplitData
from rsdl.data.dihedral import apply_dihedral
from rsdl.data.loader import BatchLoader, LoadRule
from rsdl.data.manifest import MANIFEST, load_manifest
from rsdl.data.packing.index_shards import index_shards
from rsdl.data.packing.pack import pack
from rsdl.data.packing.shard import PackOptions
from rsdl.data.packing.verify import check_dataset
from rsdl.data.plan import SamplingPlan, Share
from rsdl.data.preview import contact_sheet, read_pictures
from rsdl.data.rotation import rotate
from rsdl.data.sample import Sample, ShardPlan
from rsdl.data.shuffle import GlobalOrder, OrderRule
from rsdl.data.tar import Member
from rsdl.data.targets import KINDS
from rsdl.data.targets.base import Choices, Content, Dihedral, Window, crop_each
from rsdl.storage.connect import connect

SIDE, SIZE, NUM = 12, 24, 9


class Brightness:
    """A dense kind, as a mask would be: for each pixel its own first band, as an array."""

    name, member, counts, in_index = "brightness", "bright", "pixels", False
    least_classes = 2
    composes = False

    def encode(self, target: NDArray[np.uint8]) -> bytes:
        stream = io.BytesIO()
        np.save(stream, target)
        return stream.getvalue()

    def decode(self, data: bytes, where: str) -> NDArray[np.uint8]:
        try:
            return np.load(io.BytesIO(data))  # type: ignore[no-any-return]
        except ValueError as error:
            raise CorruptSampleError(where, "is no array") from error

    def find(
        self, members: Mapping[str, Member], content: Content, where: str
    ) -> tuple[NDArray[np.uint8], str | None]:
        if self.member not in members:
            raise CorruptSampleError(where, "has no brightness")
        return self.decode(content(members[self.member]), where), None

    def label(self, target: NDArray[np.uint8]) -> int:
        return -1

    def problem(self, target: NDArray[np.uint8], num_classes: int) -> str | None:
        return None if target.max() < 250 else "is too bright"

    def count(self, target: NDArray[np.uint8]) -> Counter[int]:
        return Counter({0: int((target < 128).sum()), 1: int((target >= 128).sum())})

    def allocate(self, rows: int, image_size: ImageSize) -> NDArray[np.uint8]:
        return np.zeros((rows, *height_width(image_size)), np.uint8)

    def aim(self, target: NDArray[np.uint8], choices: Choices) -> int:
        parts = [target[t : t + h, x : x + w] for t, x, h, w in choices(*target.shape)]
        return int(np.argmax([part.mean() for part in parts]))

    def crop(
        self,
        target: NDArray[np.uint8],
        window: Window,
        size: tuple[int, int],
        image_size: ImageSize,
    ) -> NDArray[np.uint8]:
        top, left, height, width = window
        part = target[top : top + height, left : left + width]
        size = height_width(image_size)[::-1]
        return cv2.resize(part, size, interpolation=cv2.INTER_NEAREST)  # type: ignore[return-value]

    def crop_all(self, cuts: Any, image_size: ImageSize) -> list[Any]:  # noqa: ANN401
        return crop_each(self, cuts, image_size)

    def collate(self, targets: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return targets

    def draw(
        self, picture: NDArray[np.uint8], target: NDArray[np.uint8], classes: Sequence[str]
    ) -> NDArray[np.uint8]:
        picture[target >= 128] = (255, 0, 0)
        return picture

    def turn(self, targets: Tensor, turned: Dihedral, image_size: ImageSize) -> Tensor:
        return apply_dihedral(targets[..., None], *turned)[..., 0]

    def rotate(self, targets: Tensor, angles: Tensor, image_size: ImageSize) -> Tensor:
        return rotate(targets[:, None].float(), angles)[:, 0].to(targets.dtype)


class Source:
    """Blocky images, whose first band is their target."""

    dataset, target, dtype = "blocks", "brightness", "uint8"
    classes, bands = ("dark", "bright"), ("grey", "other")
    provenance: dict[str, Any] = {"source": "drawn"}  # noqa: RUF012
    left_out: dict[str, int] = {}  # noqa: RUF012

    def __init__(self, damaged: int | None = None, too_bright: bool = False) -> None:
        self.damaged, self.top = damaged, 255 if too_bright else 240

    def shards(self, shard_bytes: int) -> list[ShardPlan]:
        return [ShardPlan("train", range(0, 5)), ShardPlan("train", range(5, NUM))]

    def read(self, item: int) -> Sample:
        random = np.random.default_rng(item)
        blocks = random.integers(0, self.top, (4, 4, 2)).repeat(6, 0).repeat(6, 1).astype(np.uint8)
        blocks[0, 0, 0] = self.top
        stream = io.BytesIO()
        np.save(stream, blocks)
        image = stream.getvalue()[:60] if item == self.damaged else stream.getvalue()
        return Sample(f"s{item}", "npy", image, blocks[:, :, 0], {}, blocks)


@pytest.fixture
def packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Return a function that packs a source of the kind, and returns the URL."""
    monkeypatch.setitem(KINDS, "brightness", Brightness())

    def make(**options: Any) -> str:  # noqa: ANN401
        url = str(tmp_path / "data")
        source: Any = Source(**options)
        pack(source, connect(url), PackOptions(num_workers=1))
        return url

    return make


def open_split(url: str, **config: Any) -> SplitData:  # noqa: ANN401
    return DataSet(DataConfig(url=url, **config)).split("train", "")


def batches_of(
    data: SplitData, crop: CropRule, epoch: int = 0, size: ImageSize = SIDE
) -> list[Any]:
    order = GlobalOrder(data.index.shard_samples, OrderRule(seed=1, epoch=epoch, window=2))
    plan = SamplingPlan(order, global_batch=4, tail="pad")
    rule = LoadRule(image_size=size, crop=crop, on_corrupt="skip", num_workers=2)
    return list(BatchLoader(data, plan, Share(), rule))


def test_targets_are_cropped_with_their_pixels(packed: Callable[..., str]):
    # Half the side, and aligned with blocks or not: nearest neighbours of whole blocks.
    data = open_split(packed(), decoded_cache="off")
    for batch in batches_of(data, CropRule()):
        whole = batch.images[..., 0].numpy()
        # A mean of 2 x 2 pixels of one block is that block's value; the marked corner is not.
        same = whole[:, 1:, 1:] == batch.targets.numpy()[:, 1:, 1:]
        assert same.all()
        assert batch.windows.tolist() == [[0, 0, SIZE, SIZE]] * 4
        assert batch.sizes.tolist() == [[SIZE, SIZE]] * 4


@pytest.mark.parametrize("cache", ["off", "auto"])
@pytest.mark.parametrize("size", [SIDE, (SIDE // 2, SIDE)])
def test_a_random_window_is_that_of_the_pixels(
    size: ImageSize, cache: str, packed: Callable[..., str]
):
    data = open_split(packed(), decoded_cache=cache)
    crop = CropRule(random=True, scale=(0.2, 1.0))
    for epoch in range(3):  # with a cache the pixels of later epochs are kept ones
        for batch in batches_of(data, crop, epoch, size):
            for row in range(4):
                top, left, height, width = batch.windows[row].tolist()
                source = Source().read(int(batch.samples[row])).target
                part = source[top : top + height, left : left + width]
                wanted = Brightness().crop(part, Window(0, 0, height, width), part.shape, size)
                assert (batch.targets[row].numpy() == wanted).all()


def test_targets_turn_with_their_images(packed: Callable[..., str]):
    augment = Augment(AugmentConfig(), (0.0, 0.0), (1.0, 1.0), "uint8")
    turned = 0
    for batch in batches_of(open_split(packed()), CropRule(random=True)):
        # Let the first band be the target itself, so that both must stay equal.
        images = batch.images.clone()
        images[..., 0] = batch.targets
        batch = replace(batch, images=images)
        moved, _ = augment(batch, training=True)
        targets = augment.turn_targets(batch, Brightness())
        assert torch.equal(moved[:, 0], targets.float())
        turned += int((targets != batch.targets).any())
    assert turned


def test_a_corrupt_image_has_no_target(packed: Callable[..., str]):
    data = open_split(packed(damaged=3), decoded_cache="off")
    rows = [
        (int(sample), bool(valid), bool(target.any()))
        for batch in batches_of(data, CropRule())
        for sample, valid, target in zip(batch.samples, batch.valid, batch.targets, strict=True)
    ]
    assert {sample for sample, _, any_target in rows if not any_target} == {3}
    assert not any(valid for sample, valid, _ in rows if sample == 3)


def test_the_manifest_names_the_kind_and_counts_pixels(packed: Callable[..., str]):
    manifest = load_manifest(connect(packed()))
    assert (manifest.format, manifest.target) == (2, "brightness")
    assert sum(manifest.splits["train"].class_counts) == NUM * SIZE * SIZE


def test_the_sheet_draws_each_sample_with_its_target(packed: Callable[..., str]):
    data = open_split(packed())
    sheet = contact_sheet(data, columns=NUM, side=SIZE)
    assert sheet.shape == (SIZE + 6, 180 + NUM * (SIZE + 6), 3)  # one row: a target is no class
    for sample in range(NUM):
        target = Source().read(sample).target
        left = 180 + sample * (SIZE + 6)
        shown = sheet[3 : 3 + SIZE, left : left + SIZE]
        assert (shown[target >= 128] == (255, 0, 0)).all()
        assert (shown[target < 128] == target[target < 128, None]).all()
    (plain,) = read_pictures(data, [0], SIZE)
    assert plain is not None and (plain[..., 0] == Source().read(0).target).all()


def test_verify_reads_every_target(packed: Callable[..., str]):
    assert check_dataset(connect(packed())).problems == []


def test_verify_names_a_target_that_does_not_fit(packed: Callable[..., str]):
    problems = check_dataset(connect(packed(too_bright=True))).problems
    assert len(problems) == NUM and all("is too bright" in line for line in problems)


def test_verify_names_a_target_that_lies_elsewhere(packed: Callable[..., str]):
    url = packed()
    path = Path(url) / "index-train.npy"
    rows = np.load(path)
    rows["target_offset"][2] += 512
    np.save(path, rows)
    problems = check_dataset(connect(url)).problems
    assert any("s2: the index and the tar disagree on where its target lies" in p for p in problems)


def test_another_size_is_refused(packed: Callable[..., str]):
    dataset = DataSet(DataConfig(url=packed(), batch_size=4, decode_size=8))
    with pytest.raises(ConfigError) as caught:
        DataModule(dataset, seed=0, accumulate=1).check(1)
    problem = "data.decode_size: shrinks images, and a brightness keeps the size"
    assert problem in str(caught.value)


def test_samples_are_balanced_by_what_their_targets_hold(packed: Callable[..., str]):
    data = open_split(packed(), batch_size=4, sampling="balanced")
    targets = [Source().read(sample).target for sample in range(NUM)]
    held = [[int((t < 128).sum()), int((t >= 128).sum())] for t in targets]
    assert data.index.class_counts is not None and data.index.class_counts.tolist() == held


def test_a_kind_that_is_not_known_is_refused(
    packed: Callable[..., str], monkeypatch: pytest.MonkeyPatch
):
    url = packed()
    monkeypatch.delitem(KINDS, "brightness")
    with pytest.raises(DataError, match="'brightness' is no kind of target"):
        load_manifest(connect(url))


def test_foreign_shards_of_a_class_are_indexed_as_such(packed: Callable[..., str]):
    url = packed()
    (Path(url) / MANIFEST).unlink()
    with pytest.raises(CorruptSampleError, match="has no label"):
        index_shards(connect(url))
