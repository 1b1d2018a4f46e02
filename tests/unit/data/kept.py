"""Splits of noise whose pixels are kept, and what was read of them."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rsdl.config.data import DataConfig
from rsdl.core.batch import Batch
from rsdl.core.sample_counts import SampleCounts
from rsdl.data.crop import CropRule
from rsdl.data.dataset import DataSet, SplitData
from rsdl.data.decoded_cache.file import DecodedFile
from rsdl.data.loader import BatchLoader, LoadRule
from rsdl.data.plan import SamplingPlan, Share
from rsdl.data.shuffle import GlobalOrder, OrderRule
from tests.unit.data import filler_process

CROP = CropRule(random=True, scale=(0.3, 1.0))
UNLIKE = [(5, 9), (30, 20), (16, 16), (40, 8), (25, 25), (9, 33), (12, 50)]
ALIKE = [(20, 24)] * 7


def open_split(url: str, decoded_cache: Any = "auto", **config: Any) -> SplitData:  # noqa: ANN401
    return DataSet(DataConfig(url=url, decoded_cache=decoded_cache, **config)).split("train", "")


def read(data: SplitData, epoch: int = 0, **rule: Any) -> list[Batch]:  # noqa: ANN401
    order = GlobalOrder(data.index.shard_samples, OrderRule(seed=3, epoch=epoch, window=2))
    plan = SamplingPlan(order, global_batch=4, tail="pad")
    given: dict[str, Any] = {"image_size": 16, "crop": CROP} | rule
    return list(BatchLoader(data, plan, Share(), LoadRule(**given)))


def encoded_bytes(batches: list[Batch]) -> int:
    return sum((batch.counts for batch in batches), SampleCounts()).encoded_bytes


def assert_same(found: list[Batch], expected: list[Batch]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        for name in ("images", "targets", "valid", "samples", "uniforms"):
            assert torch.equal(getattr(one, name), getattr(other, name)), name
        for name in ("planned", "delivered", "skipped", "padded", "decoded_bytes", "fingerprint"):
            assert getattr(one.counts, name) == getattr(other.counts, name), name


def file_of(data: SplitData) -> DecodedFile:
    assert data.decoded_cache is not None
    file = data.decoded_cache.file()
    assert file is not None
    return file


def fill(url: str, **config: Any) -> Path:  # noqa: ANN401
    """Keep the pixels of all samples, sealed, and return where."""
    data = open_split(url, **config)
    read(data)
    for thread in threading.enumerate():
        if thread.name == "seal":
            thread.join()
    file = file_of(data)
    assert file.is_complete and not file.wants_seal
    file.close()
    return file.path


def read_while(
    filler: Callable[..., int],
    config: dict[str, Any],
    data: SplitData,
    order: list[int],
) -> np.ndarray:
    """Return the rows of samples read backwards while another process reads them forwards."""
    thread = threading.Thread(target=filler, args=(config, order))
    thread.start()
    found, _ = filler_process.read_rows(data, order[::-1])
    thread.join()
    return found
