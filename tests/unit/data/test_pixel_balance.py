"""Balanced sampling of masks: draws by the pixels of each class, as the index tells them."""

from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from rsdl.config.data import DataConfig
from rsdl.core.errors import ConfigError
from rsdl.data.class_balance import class_balanced_counts, pixel_balanced_counts
from rsdl.data.datamodule import DataModule
from rsdl.data.dataset import DataSet, train_plan
from rsdl.data.packing.pack import PackOptions, pack
from rsdl.data.packing.verify import check_dataset
from rsdl.data.plan import Share
from rsdl.data.sources.mask_folder import MaskFolderSource, MaskOptions
from rsdl.data.targets.mask import IGNORE
from rsdl.storage.connect import connect

SIDE, NUM, RARE = 12, 24, 3
COUNTS = st.integers(1, 5).flatmap(
    lambda classes: st.lists(
        st.lists(st.integers(0, 300), min_size=classes, max_size=classes), min_size=1, max_size=50
    )
)
KEYS = {"seed": st.integers(0, 99), "epoch": st.integers(0, 99)}


def wanted_draws(pixels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the draws before rounding: each class its equal part, by pixels."""
    held = pixels[:, pixels.any(axis=0)]
    return np.asarray((held / held.sum(axis=0)).mean(axis=1) * len(pixels))


def shares(pixels: NDArray[np.int64], repeats: NDArray[np.int64]) -> NDArray[np.float64]:
    drawn = (pixels * repeats[:, None]).sum(axis=0)
    return np.asarray(drawn / drawn.sum())


@given(rows=COUNTS, **KEYS)
def test_each_sample_is_drawn_as_often_as_its_part_in_the_classes_asks(
    rows: list[list[int]], seed: int, epoch: int
):
    pixels = np.array(rows)
    repeats = pixel_balanced_counts(pixels, seed=seed, epoch=epoch)
    assert repeats.sum() == len(pixels) and repeats.min() >= 0
    assert repeats.tolist() == pixel_balanced_counts(pixels, seed=seed, epoch=epoch).tolist()
    if pixels.any():
        assert (np.abs(repeats - wanted_draws(pixels)) < 1 + 1e-4).all()
        assert not repeats[~pixels.any(axis=1)].any(), "what has no label is not drawn"


@given(labels=st.lists(st.integers(0, 4), min_size=1, max_size=60), **KEYS)
def test_samples_of_one_class_are_drawn_as_classes_are(labels: list[int], seed: int, epoch: int):
    pixels = np.eye(5, dtype=np.int64)[labels] * 400
    ours = pixel_balanced_counts(pixels, seed=seed, epoch=epoch)
    theirs = class_balanced_counts(np.array(labels), seed=seed, epoch=epoch)
    assert (np.abs(ours - theirs) <= 1).all()


@given(seed=st.integers(0, 99))
def test_drawn_pixels_come_nearer_to_equal_shares_and_every_image_of_a_rare_class_is_drawn(
    seed: int,
):
    random = np.random.default_rng(seed)
    rare = np.where(np.arange(400) % 40 == 7, random.integers(100, 400, 400), 0)
    pixels = np.stack((4096 - rare, rare), axis=1)
    repeats = pixel_balanced_counts(pixels, seed=seed, epoch=0)
    natural = rare.sum() / pixels.sum()
    assert shares(pixels, repeats)[1] > 10 * natural
    assert repeats[rare > 0].min() >= 1


@given(rows=COUNTS, seed=st.integers(0, 99))
def test_no_mix_of_classes_is_drawn_less_equally_than_it_is(rows: list[list[int]], seed: int):
    # In images of one size the mean log share of the classes does not fall: a step of
    # expectation-maximization, which the draws before rounding are.
    pixels = np.array(rows) + 1
    pixels = np.rint(pixels / pixels.sum(axis=1, keepdims=True) * 1e6).astype(np.int64)
    before = np.log(pixels.sum(axis=0) / pixels.sum()).mean()
    drawn = wanted_draws(pixels) @ pixels
    assert np.log(drawn / drawn.sum()).mean() >= before - 1e-9


@pytest.mark.parametrize(
    "pixels", [np.random.default_rng(0).integers(0, 100, (60, 3)), np.array([[1], [9]])]
)
def test_who_is_drawn_once_more_changes_with_the_epoch_and_all_get_their_turn(
    pixels: NDArray[np.int64],
):
    epochs = [pixel_balanced_counts(pixels, seed=0, epoch=epoch) for epoch in range(400)]
    assert len({tuple(epoch.tolist()) for epoch in epochs[:20]}) > 1
    gap = np.mean(epochs, axis=0) - wanted_draws(pixels)
    assert np.abs(gap).max() < 0.12


def write_pairs(root: Path) -> MaskFolderSource:
    """Write images whose mask is ground, with roofs in a few; half of each mask is ignored."""
    for folder in ("images", "masks"):
        (root / folder).mkdir()
    for number in range(NUM):
        mask = np.zeros((SIDE, SIDE), np.uint8)
        mask[: SIDE // 2] = IGNORE
        if number % (NUM // RARE) == 0:
            mask[-2:] = 1
        pixels = np.random.default_rng(number).integers(1, 255, (SIDE, SIDE, 3), np.uint8)
        assert cv2.imwrite(str(root / f"images/{number:02d}.png"), pixels)
        assert cv2.imwrite(str(root / f"masks/{number:02d}.png"), mask)
    options = MaskOptions(classes=("ground", "roofs"), fractions=(1.0, 0.0, 0.0))
    return MaskFolderSource(root / "images", root / "masks", options)


@pytest.fixture
def packed(tmp_path: Path) -> str:
    """Return the URL of such a data set."""
    url = str(tmp_path / "packed")
    pack(write_pairs(tmp_path), connect(url), PackOptions(num_workers=1, shard_bytes=20_000))
    return url


def open_data(url: str, **fields: Any) -> DataSet:  # noqa: ANN401
    given: dict[str, Any] = {"batch_size": 4, "image_size": 8, "decoded_cache": "off"} | fields
    return DataSet(DataConfig(url=url, sampling="balanced", **given), seed=3)


def test_the_index_tells_the_pixels_of_each_class_without_those_that_are_ignored(packed: str):
    index = open_data(packed).split("train", "").index
    assert index.class_counts is not None and len(index.shard_names) > 1
    per_image = Counter(map(tuple, index.class_counts.tolist()))
    half = SIDE * SIDE // 2
    assert per_image == {(half - 2 * SIDE, 2 * SIDE): RARE, (half, 0): NUM - RARE}
    assert not check_dataset(connect(packed)).problems


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_training_draws_rare_pixels_more_often_whatever_the_number_of_ranks(
    packed: str, world_size: int
):
    data = DataModule(open_data(packed), seed=3)
    data.check(world_size)
    index = data.data.split("train", "").index
    assert index.class_counts is not None
    plan = data.plan(1)
    read: list[int] = []
    for rank in range(world_size):
        for planned in plan.batches(Share(rank, world_size)):
            read += planned.samples[planned.valid].tolist()
    repeats = pixel_balanced_counts(index.class_counts, seed=3, epoch=1)
    assert np.bincount(read, minlength=NUM).tolist() == repeats.tolist()
    # Half of the draws are for roofs, and a fifth of the pixels in those; 1 of 24 without.
    assert 0.15 < shares(index.class_counts.astype(np.int64), repeats)[1] < 0.3


def test_folds_keep_the_counts_of_their_samples(packed: str):
    dataset = open_data(packed, fold="1/3")
    data = dataset.split("train", "")
    pool = dataset.fold.pool if dataset.fold is not None else None
    assert pool is not None and pool.class_counts is not None and data.index.origin is not None
    assert data.index.class_counts is not None
    kept = pool.class_counts[data.index.origin]
    assert data.index.class_counts.tolist() == kept.tolist()
    assert train_plan(dataset.config, data, seed=3, epoch=0).num_samples == len(data.index) == 16


def test_verify_names_counts_that_are_not_those_of_the_mask(packed: str):
    path = Path(packed) / "index-train.npy"
    rows = np.load(path)
    rows["class_counts"][5, 0] += 1
    np.save(path, rows)
    problems = check_dataset(connect(packed)).problems
    assert any("disagrees with the manifest's counts of train" in line for line in problems)
    name = rows["key"][5].decode()
    assert any(f"{name}: the index counts other pixels than" in line for line in problems)


def test_counts_of_other_classes_than_the_manifests_are_refused(packed: str):
    path = Path(packed) / "index-train.npy"
    rows = np.load(path)
    kind = [(n, t) for n, t, *_ in rows.dtype.descr if n != "class_counts"]
    other = np.zeros(len(rows), [*kind, ("class_counts", "<u4", (3,))])
    np.save(path, other)
    with pytest.raises(Exception, match="counts 3 classes, the manifest has 2; run") as caught:
        open_data(packed).split("train", "")
    assert "\n" not in str(caught.value)


def test_an_index_without_counts_is_read_but_not_balanced(packed: str):
    path = Path(packed) / "index-train.npy"
    rows = np.load(path)
    np.save(path, rows[[name for name in rows.dtype.names if name != "class_counts"]].copy())
    rows = np.load(path)
    kind = [(n, t) for n, t, *_ in rows.dtype.descr if n]
    np.save(path, np.array(rows.tolist(), kind))
    dataset = open_data(packed)
    assert dataset.split("train", "").index.class_counts is None
    with pytest.raises(ConfigError) as caught:
        DataModule(dataset, seed=3).check(1)
    assert str(caught.value) == (
        f"data.sampling: is balanced, but the index of {packed} does not tell the pixels of each "
        "class in each sample; pack it again, with --overwrite, or pass data.sampling=natural"
    )
