"""What reads a split reads a part of a fold: files, kept pixels, device memory, prefetching."""

from typing import Any

import numpy as np
import pytest
import torch

from rsdl.config.data import DataConfig
from rsdl.core.batch import Batch
from rsdl.core.errors import ConfigError
from rsdl.data.batch_buffer import LoadRule
from rsdl.data.crop import CropRule
from rsdl.data.datamodule import DataModule
from rsdl.data.dataset import DataSet, SplitData, eval_plan, train_plan
from rsdl.data.gpu.read_split import estimate_pixels, read_split
from rsdl.data.gpu.resident import ResidentLoader, shard_bytes
from rsdl.data.loader import BatchLoader
from rsdl.data.plan import SamplingPlan, Share
from rsdl.data.prefetch_schedule import walk_requests
from rsdl.data.preview import contact_sheet
from tests.unit.data.batches import assert_alike, total

RULE = LoadRule(image_size=16, crop=CropRule(random=True, scale=(0.3, 1.0)))
CENTRAL = LoadRule(image_size=16, crop=CropRule())


def open_fold(url: str, fold: str | None = "2/3", **fields: Any) -> DataSet:  # noqa: ANN401
    given: dict[str, Any] = {"batch_size": 4, "tail": "pad", "window": 2} | fields
    return DataSet(DataConfig(url=url, fold=fold, **given), seed=5)


def plan_of(dataset: DataSet, data: SplitData, epoch: int = 0) -> SamplingPlan:
    return train_plan(dataset.config, data, seed=5, epoch=epoch)


def read_all(dataset: DataSet, epoch: int = 0) -> tuple[list[Batch], list[Batch]]:
    """Return what an epoch of training and the validation after it read."""
    train, val = dataset.split("train", ""), dataset.split("val", "")
    training = BatchLoader(train, plan_of(dataset, train, epoch), Share(), RULE)
    validation = BatchLoader(val, eval_plan(dataset.config, val), Share(), CENTRAL)
    return list(training), list(validation)


def images_of(dataset: DataSet, split: str) -> dict[str, torch.Tensor]:
    """Return the central crop of each image by its key."""
    data = dataset.split(split, "")
    batches = list(BatchLoader(data, eval_plan(dataset.config, data), Share(), CENTRAL))
    return {
        data.index.keys(np.array([sample]))[0]: image
        for batch in batches
        for sample, image in zip(batch.samples.tolist(), batch.images, strict=True)
    }


def test_each_image_of_the_pool_is_read_once_as_without_folds(packed: str):
    whole, part = open_fold(packed, None), open_fold(packed)
    expected = images_of(whole, "train") | images_of(whole, "val")
    train, val = images_of(part, "train"), images_of(part, "val")
    assert len(train) + len(val) == len(expected) == 27
    for key, image in (train | val).items():
        assert torch.equal(image, expected[key]), key


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_the_ledger_of_an_epoch_balances_for_any_number_of_ranks(packed: str, world_size: int):
    dataset = open_fold(packed)
    data = dataset.split("train", "")
    plan = plan_of(dataset, data)
    batches = [
        batch
        for rank in range(world_size)
        for batch in BatchLoader(data, plan, Share(rank, world_size), RULE)
    ]
    read = [s for b in batches for s, ok in zip(b.samples.tolist(), b.valid, strict=True) if ok]
    assert sorted(read) == list(range(len(data.index)))
    counts = total(batches)
    assert counts.delivered == plan.num_planned and counts.fingerprint == plan.fingerprint()


def test_pixels_that_one_fold_has_kept_are_read_by_the_others(packed: str):
    first = read_all(open_fold(packed, "1/3"))
    assert all(total(batches).encoded_bytes > 0 for batches in first)
    kept = open_fold(packed, "3/3")
    plain = open_fold(packed, "3/3", decoded_cache="off")
    for found, expected in zip(read_all(kept, 1), read_all(plain, 1), strict=True):
        assert total(found).encoded_bytes == 0 < total(expected).encoded_bytes
        assert_alike(found, expected, most=0)
    caches = [kept.split(name, "").decoded_cache for name in ("train", "val")]
    assert caches[0] is caches[1] and caches[0] is not None and caches[0].is_complete


def test_a_part_in_device_memory_is_that_of_the_files(packed: str):
    dataset = open_fold(packed, decoded_cache="off")
    data = dataset.split("train", "")
    device = torch.device("cpu")
    resident = read_split(
        data, device, expected=estimate_pixels(data), limit=1 << 40, num_workers=2
    )
    rest = (plan_of(dataset, data), Share(), RULE)
    assert_alike(list(ResidentLoader(resident, *rest)), list(BatchLoader(data, *rest)))
    bytes_of_pool = sum(
        shard.bytes for name in ("train", "val") for shard in data.manifest.splits[name].shards
    )
    assert 0.5 * bytes_of_pool < shard_bytes(data) < bytes_of_pool


@pytest.mark.parametrize("split", ["train", "val"])
def test_every_shard_that_is_read_is_prefetched(packed: str, split: str):
    dataset = open_fold(packed, "1/9")
    data = dataset.split(split, "")
    plan = plan_of(dataset, data) if split == "train" else eval_plan(dataset.config, data)
    read = {
        shard
        for batch in plan.batches(Share())
        for shard in data.index.shards_of(batch.samples[batch.valid]).tolist()
    }
    assert {request.shard for request in walk_requests(plan, Share())} == read
    assert split == "train" or len(read) < len(data.index.shard_names)


def test_classes_are_drawn_equally_often_from_a_part(packed: str):
    dataset = open_fold(packed, "1/2", sampling="balanced")
    data = dataset.split("train", "")
    drawn = [s for b in plan_of(dataset, data).batches(Share()) for s in b.samples[b.valid]]
    counts = np.bincount(data.index.labels[np.array(drawn)])
    assert counts.max() - counts.min() <= 1


def test_a_sheet_shows_a_part(packed: str):
    assert contact_sheet(open_fold(packed).split("val", "")).any()


def test_a_part_that_cannot_fill_a_batch_is_refused(packed: str):
    module = DataModule(open_fold(packed, batch_size=20, tail="drop"), seed=5)
    with pytest.raises(ConfigError, match="20 exceeds the 18 samples of the train split"):
        module.check(1)
