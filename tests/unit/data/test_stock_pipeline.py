"""The stock webdataset library reads what rsdl reads."""

import json
from typing import Any

import numpy as np
import pytest
import torch

from rsdl.config.data import DataConfig
from rsdl.core.errors import InputError
from rsdl.data import as_webdataset
from rsdl.data.dataset import DataSet
from rsdl.data.manifest import load_manifest

# Threads of the library's own loader, and of torch's in a forked worker.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")


def labels_of(samples: list[dict[str, Any]]) -> dict[str, int]:
    return {sample["__key__"]: int(sample["cls"]) for sample in samples}


def test_every_sample_comes_once_with_its_bytes(packed: str):
    manifest = load_manifest(DataSet(DataConfig(url=packed)).store)
    for name, split in manifest.splits.items():
        samples = list(as_webdataset(packed, name))
        assert len(samples) == split.samples == len(labels_of(samples))
        counts = np.bincount([int(sample["cls"]) for sample in samples], minlength=3)
        assert counts.tolist() == list(split.class_counts)
        assert {sample["__url__"] for sample in samples} == {s.name for s in split.shards}
        assert all(json.loads(sample["json"]) for sample in samples)
        assert all(sample["jpg"].startswith(b"\xff\xd8") for sample in samples)


def test_it_is_gone_on_with_as_any_other(packed: str):
    pairs = list(as_webdataset(packed).shuffle(100).decode("rgb8").to_tuple("jpg", "cls"))
    assert len(pairs) == 18
    assert {image.shape for image, _ in pairs} == {(40, 48, 3)}
    assert {label for _, label in pairs} == {0, 1, 2}


def test_a_seed_shuffles_shards_otherwise_in_each_epoch_and_alike_in_each_run(packed: str):
    def order(epochs: int) -> list[list[str]]:
        pipeline = as_webdataset(packed, seed=3)
        return [[sample["__key__"] for sample in pipeline] for _ in range(epochs)]

    plain = [sample["__key__"] for sample in as_webdataset(packed)]
    first = order(4)
    assert first == order(4)
    assert all(sorted(epoch) == sorted(plain) for epoch in first)
    assert len({tuple(epoch) for epoch in first}) > 1


def test_workers_share_the_shards(packed: str):
    loader = torch.utils.data.DataLoader(
        as_webdataset(packed), batch_size=None, num_workers=2, multiprocessing_context="spawn"
    )
    keys = [sample["__key__"] for sample in loader]
    assert sorted(keys) == sorted(sample["__key__"] for sample in as_webdataset(packed))


def test_a_split_that_is_not_there_is_refused(packed: str):
    with pytest.raises(InputError, match="has no split"):
        as_webdataset(packed, "validation")
