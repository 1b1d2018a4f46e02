from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rsdl.config.data import DataConfig
from rsdl.core.errors import ConfigError, CorruptSampleError, DataError, StorageError
from rsdl.data.crop import CropRule
from rsdl.data.dataset import DataSet, SplitData
from rsdl.data.gpu import resident as room
from rsdl.data.gpu.read_split import DoesNotFitError, ResidentSplit, estimate_pixels, read_split
from rsdl.data.gpu.resident import ResidentLoader, open_resident
from rsdl.data.loader import BatchLoader, LoadRule
from rsdl.data.plan import SamplingPlan, Share
from rsdl.data.shuffle import GlobalOrder, OrderRule
from tests.unit.data.batches import assert_alike, damage, total

CPU = torch.device("cpu")
RANDOM_CROP = CropRule(random=True, scale=(0.3, 1.0))
MANY = 1 << 40


def load(data: SplitData, device: torch.device = CPU, **given: int) -> ResidentSplit:
    rule = {"expected": estimate_pixels(data), "limit": MANY, "num_workers": 2} | given
    return read_split(data, device, **rule)


def loaders(
    data: SplitData,
    resident: ResidentSplit | None = None,
    *,
    batch: int = 4,
    epoch: int = 0,
    share: Share | None = None,
    start: int = 0,
    **rule: Any,  # noqa: ANN401
) -> tuple[ResidentLoader, BatchLoader]:
    """Return the loader from the device and the one from files, for the same plan."""
    order = GlobalOrder(data.index.shard_samples, OrderRule(seed=3, epoch=epoch, window=2))
    plan = SamplingPlan(order, global_batch=batch, tail="pad")
    given: dict[str, Any] = {"image_size": 16, "crop": RANDOM_CROP} | rule
    rest = (plan, share or Share(), LoadRule(**given), start)
    return ResidentLoader(resident or load(data), *rest), BatchLoader(data, *rest)


def noise(sizes: list[tuple[int, int]], dtype: str = "uint8", bands: int = 3) -> list[np.ndarray]:
    random = np.random.default_rng(len(sizes))
    top = {"uint8": 255, "uint16": 65535, "float32": 1}[dtype]
    return [(random.random((*size, bands)) * top).astype(dtype) for size in sizes]


@pytest.fixture
def train(packed: str) -> SplitData:
    return DataSet(DataConfig(url=packed)).split("train", "data.train_split")


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25, deadline=None
)
@given(
    epoch=st.integers(0, 3),
    start=st.integers(0, 18),
    batch=st.sampled_from([4, 8, 12]),
    parts=st.sampled_from([(1, 1), (2, 1), (2, 2), (4, 1)]),
    data=st.data(),
)
def test_batches_are_those_from_files(
    train: SplitData,
    epoch: int,
    start: int,
    batch: int,
    parts: tuple[int, int],
    data: st.DataObject,
):
    share = Share(data.draw(st.integers(0, parts[0] - 1)), *parts)
    ours, theirs = loaders(train, batch=batch, epoch=epoch, share=share, start=start)
    batches = list(ours)
    assert len(ours) == len(theirs) == len(batches)
    assert ours.start == theirs.start and ours.waited_s == 0
    assert_alike(batches, list(theirs))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("bands", [1, 3, 13])
@pytest.mark.parametrize("same", [True, False])
def test_every_type_and_size_is_kept(
    dtype: str, bands: int, same: bool, open_arrays: Callable[..., SplitData]
):
    sizes = [(30, 20)] * 9 if same else [(30 + n, 50 - 5 * n) for n in range(9)]
    data = open_arrays(noise(sizes, dtype, bands))
    ours, theirs = loaders(data)
    tolerance = 1e-5 if dtype == "float32" else 1
    assert_alike(list(ours), list(theirs), most=tolerance)


@pytest.mark.parametrize("same", [True, False])
def test_images_that_are_shrunk_first_are_kept_so(
    same: bool, open_arrays: Callable[..., SplitData]
):
    images = noise([(60, 50 + (0 if same else n)) for n in range(9)])
    data = replace(open_arrays(images), decode_size=24)
    resident = load(data)
    assert resident.store.widths.max() <= 29
    ours, theirs = loaders(data, resident)
    assert_alike(list(ours), list(theirs))


def test_a_row_does_not_depend_on_the_batch_that_it_is_in(open_arrays: Callable[..., SplitData]):
    data = open_arrays(noise([(20 + 7 * (n % 3), 30) for n in range(12)], "float32"))
    resident = load(data)

    def rows(batch: int, share: Share) -> dict[int, torch.Tensor]:
        ours, _ = loaders(data, resident, batch=batch, share=share)
        return {int(s): b.images[row] for b in ours for row, s in enumerate(b.samples)}

    alone = rows(12, Share())
    shared = rows(12, Share(0, 3)) | rows(12, Share(1, 3)) | rows(12, Share(2, 3, 1))
    assert alone.keys() == shared.keys()
    assert all(torch.equal(alone[sample], shared[sample]) for sample in alone)


def test_bytes_are_charged_once_for_all_that_was_read(train: SplitData):
    resident = load(train)
    first, files = loaders(train, resident)
    charged, read = total(list(first)), total(list(files))
    # The last batch of the files is padded with two samples that were read before.
    assert charged.decoded_bytes == 18 * 40 * 48 * 3 < read.decoded_bytes
    assert charged.encoded_bytes == int(train.index.rows["length"].sum())

    again = total(list(loaders(train, resident, epoch=1)[0]))
    assert (again.encoded_bytes, again.decoded_bytes) == (0, 0)
    assert again.delivered == 18 and again.fingerprint == charged.fingerprint


@pytest.mark.parametrize("bad", [(0,), (2, 11), (17,), tuple(range(18))])
def test_corrupt_samples_are_skipped_in_every_epoch_as_from_files(
    bad: tuple[int, ...], packed: str
):
    for sample in bad:
        damage(packed, sample)
    data = DataSet(DataConfig(url=packed)).split("train", "")
    resident = load(data)
    for epoch in (0, 1):
        ours, theirs = loaders(data, resident, epoch=epoch, on_corrupt="skip")
        batches = list(ours)
        assert_alike(batches, list(theirs))
        counts = total(batches)
        assert (counts.skipped, counts.delivered) == (len(bad), 18 - len(bad))
        assert sorted(ours.skipped) == sorted(theirs.skipped) and len(ours.skipped) == len(bad)


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_what_is_corrupt_looks_like_the_mean(dtype: str, open_arrays: Callable[..., SplitData]):
    data = open_arrays(noise([(20, 20)] * 5, dtype))
    shard = Path(data.store.url) / data.index.shard_names[0]
    content = bytearray(shard.read_bytes())
    at = int(data.index.rows[2]["offset"])
    content[at : at + 6] = bytes(6)
    shard.write_bytes(content)
    ours, theirs = loaders(data, on_corrupt="skip", batch=5)
    assert_alike(list(ours), list(theirs), most=1 if dtype == "uint16" else 1e-5)
    assert len(ours.skipped) == 1


def test_a_corrupt_sample_is_an_error_when_its_turn_comes(packed: str):
    name = damage(packed, 7)
    data = DataSet(DataConfig(url=packed)).split("train", "")
    resident = load(data)
    for _ in range(2):
        ours, theirs = loaders(data, resident)
        found, expected = [], []
        with pytest.raises(CorruptSampleError) as ours_said:
            found.extend(batch for batch in ours)
        with pytest.raises(CorruptSampleError) as theirs_said:
            expected.extend(batch for batch in theirs)
        assert str(ours_said.value) == str(theirs_said.value)
        assert str(ours_said.value).startswith(f"{name}: ")
        assert_alike(found, expected)


def test_pixels_of_another_type_are_corrupt(open_arrays: Callable[..., SplitData]):
    data = open_arrays(noise([(8, 8)] * 4, "uint16"))
    wrong = SplitData(data.store, data.manifest.model_copy(update={"dtype": "float32"}), data.index)
    assert len(load(wrong).corrupt) == 4


def test_wrong_rows_and_missing_shards_are_errors_while_loading(packed: str):
    data = DataSet(DataConfig(url=packed)).split("train", "")
    rows = np.array(data.index.rows)
    rows["label"][5] = 9
    data.index.rows = rows
    with pytest.raises(DataError, match="label 9 is out of range"):
        load(data, expected=1000)

    data = DataSet(DataConfig(url=packed)).split("train", "")
    data.store.delete(data.index.shard_names[2])
    with pytest.raises(StorageError, match='no such file; run "rsdl data verify') as caught:
        load(data, expected=1000)
    assert "while reading train-" in caught.value.__notes__[0]


def test_the_estimate_is_exact_for_one_size_and_near_for_many(
    train: SplitData, open_arrays: Callable[..., SplitData]
):
    assert estimate_pixels(train) == 18 * 40 * 48
    sizes = [(20 + n % 7, 30 - n % 5) for n in range(80)]
    mixed = open_arrays(noise(sizes), per_shard=3)
    exact = sum(height * width for height, width in sizes)
    assert 0.9 * exact < estimate_pixels(mixed) < 1.2 * exact


@pytest.mark.parametrize("expected", [0, 1, 700, 10**6])
def test_a_wrong_estimate_changes_nothing(expected: int, open_arrays: Callable[..., SplitData]):
    data = open_arrays(noise([(9, 4 + n) for n in range(30)]), per_shard=7)
    right, other = load(data), load(data, expected=expected)
    assert torch.equal(right.store.pixels, other.store.pixels)
    assert torch.equal(right.store.starts, other.store.starts)


def test_more_pixels_than_may_be_are_refused(train: SplitData):
    pixels = 18 * 40 * 48
    load(train, limit=pixels)
    for expected in (100, pixels):
        with pytest.raises(DoesNotFitError):
            load(train, limit=pixels - 1, expected=expected)


def ask(wanted: str, data: SplitData, device: torch.device = CPU) -> ResidentSplit | None:
    return open_resident(wanted, data, device, num_workers=1, processes=1)


def test_the_device_is_used_where_it_is_wanted(train: SplitData):
    assert ask("off", train) is None
    assert ask("auto", train) is None  # a processor is better served from files
    resident = ask("on", train)
    assert resident is not None and resident.decoded_bytes == 18 * 40 * 48 * 3


@pytest.mark.parametrize("bytes_free", [10, 100_000, 140_000])
def test_what_is_demanded_and_does_not_fit_is_an_error(
    bytes_free: int, train: SplitData, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(room, "free_bytes", lambda *_: bytes_free)
    with pytest.raises(ConfigError, match=r"^data\.resident: is on, but .* takes about .* GB") as e:
        ask("on", train)
    assert "pass data.resident=off" in str(e.value) and "\n" not in str(e.value)


def test_what_turns_out_not_to_fit_stays_in_its_files(
    train: SplitData, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    caplog.set_level("INFO")
    monkeypatch.setitem(room.SHARES, "on", 1.0)
    monkeypatch.setattr(room, "estimate_pixels", lambda _: 10)
    monkeypatch.setattr(room, "free_bytes", lambda *_: 50_000)
    with pytest.raises(ConfigError, match=r"takes about .* GB, more than the 100% of"):
        ask("on", train)
    assert "loading 18 images" in caplog.text


@pytest.mark.parametrize("bytes_free", [10, 20_000, 140_000])
def test_what_does_not_fit_a_gpu_stays_in_its_files_by_itself(
    bytes_free: int,
    train: SplitData,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    caplog.set_level("INFO")
    monkeypatch.setattr(room, "free_bytes", lambda *_: bytes_free)
    assert ask("auto", train, torch.device("cuda", 0)) is None
    assert "images stay in their files: the decoded split takes about" in caplog.text


def test_shards_of_what_cannot_fit_are_not_opened(
    train: SplitData, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(room, "free_bytes", lambda *_: 1000)
    for name in train.index.shard_names:
        train.store.delete(name)
    assert ask("auto", train, torch.device("cuda", 0)) is None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_takes_the_split_by_itself_and_never_waits(train: SplitData):
    resident = ask("auto", train, torch.device("cuda", 0))
    assert resident is not None
    ours, theirs = loaders(train, resident)
    torch.cuda.set_sync_debug_mode("error")
    try:
        batches = list(ours)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(batch.images.is_cuda for batch in batches)
    assert_alike(batches, list(theirs))
