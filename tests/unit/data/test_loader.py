import threading
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import simplejpeg
import torch

from rsdl.config.data import DataConfig
from rsdl.core.errors import ConfigError, CorruptSampleError, DataError, StorageError
from rsdl.data.crop import CropRule
from rsdl.data.dataset import DataSet, SplitData
from rsdl.data.loader import BatchLoader, LoadRule
from rsdl.data.plan import SamplingPlan, Share
from rsdl.data.shuffle import GlobalOrder, OrderRule
from tests.unit.data.batches import total

RANDOM_CROP = CropRule(random=True, scale=(0.3, 1.0))


def loader_of(
    data: SplitData,
    *,
    batch: int = 4,
    tail: str = "pad",
    epoch: int = 0,
    share: Share | None = None,
    start: int = 0,
    **rule: Any,  # noqa: ANN401
) -> BatchLoader:
    order = GlobalOrder(data.index.shard_samples, OrderRule(seed=3, epoch=epoch, window=2))
    plan = SamplingPlan(order, global_batch=batch, tail=tail)
    given: dict[str, Any] = {"image_size": 16, "crop": RANDOM_CROP} | rule
    return BatchLoader(data, plan, share or Share(), LoadRule(**given), start)


def load_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("load-")]


def noise(num: int, dtype: str = "uint8", bands: int = 3, side: int = 20) -> list[np.ndarray]:
    random = np.random.default_rng(num)
    top = {"uint8": 255, "uint16": 65535, "float32": 1}[dtype]
    return [(random.random((side, side, bands)) * top).astype(dtype) for _ in range(num)]


@pytest.fixture
def train(packed: str) -> SplitData:
    return DataSet(DataConfig(url=packed)).split("train", "data.train_split")


@pytest.mark.parametrize(("num_workers", "prefetch"), [(1, 2), (2, 1), (3, 9), (7, 3)])
def test_batches_come_in_plan_order_with_the_same_pixels(
    num_workers: int, prefetch: int, train: SplitData
):
    plain = list(loader_of(train, num_workers=1, prefetch=1))
    loader = loader_of(train, num_workers=num_workers, prefetch=prefetch)

    batches = list(loader)

    assert len(batches) == len(loader) == 5
    planned = list(loader.plan.batches(Share()))
    assert [b.samples.tolist() for b in batches] == [p.samples.tolist() for p in planned]
    for batch, expected in zip(batches, plain, strict=True):
        for name in ("images", "targets", "valid", "samples", "uniforms"):
            assert torch.equal(getattr(batch, name), getattr(expected, name)), name
        # Only the first to come reads the shards: the others find the pixels.
        assert replace(batch.counts, encoded_bytes=expected.counts.encoded_bytes) == expected.counts


def test_a_row_is_the_image_with_the_label_of_its_sample(open_arrays: Callable[..., SplitData]):
    images = noise(10, side=16)
    data = open_arrays(images)

    for batch in loader_of(data, crop=CropRule(), num_workers=2):
        for row, sample in enumerate(batch.samples.tolist()):
            assert np.array_equal(batch.images[row].numpy(), images[sample])
            assert batch.targets[row] == sample % 3
            assert torch.equal(batch.uniforms[row], batch.uniforms[row].clamp(0, 1))


def test_ranks_and_accumulation_together_read_what_one_process_reads(train: SplitData):
    def rows(share: Share) -> dict[int, tuple[list[int], list[float]]]:
        return {
            int(sample): (batch.images[row].flatten().tolist(), batch.uniforms[row].tolist())
            for batch in loader_of(train, share=share, num_workers=2)
            for row, sample in enumerate(batch.samples)
            if batch.valid[row]
        }

    alone = rows(Share())
    together = rows(Share(0, 2, 2)) | rows(Share(1, 2, 2))

    assert len(alone) == 18
    assert together == alone


def test_starting_in_the_middle_yields_the_rest(train: SplitData):
    whole = list(loader_of(train))
    rest = list(loader_of(train, start=8))

    assert len(rest) == 3
    for batch, expected in zip(rest, whole[2:], strict=True):
        assert torch.equal(batch.images, expected.images)
        assert torch.equal(batch.uniforms, expected.uniforms)


def test_crops_change_with_the_epoch(train: SplitData):
    def pixels(epoch: int) -> dict[int, torch.Tensor]:
        return {
            int(sample): batch.images[row]
            for batch in loader_of(train, epoch=epoch)
            for row, sample in enumerate(batch.samples)
        }

    first, again, second = pixels(0), pixels(0), pixels(1)
    assert all(torch.equal(first[sample], again[sample]) for sample in first)
    assert sum(torch.equal(first[sample], second[sample]) for sample in first) < 3


def test_the_ledger_balances(train: SplitData):
    loader = loader_of(train)
    counts = total(list(loader))

    assert counts.planned == counts.delivered == loader.plan.num_planned == 18
    assert (counts.padded, counts.skipped) == (2, 0)
    assert counts.fingerprint == loader.plan.fingerprint()
    assert counts.decoded_bytes == 20 * 40 * 48 * 3
    assert 0 < counts.encoded_bytes < counts.decoded_bytes


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("bands", [1, 2, 3, 4, 5, 13])
def test_every_type_and_number_of_bands_reaches_the_batch(
    dtype: str, bands: int, open_arrays: Callable[..., SplitData]
):
    images = noise(6, dtype, bands, side=32)
    batches = list(loader_of(open_arrays(images), crop=CropRule(), batch=6))

    assert batches[0].images.shape == (6, 16, 16, bands)
    assert str(batches[0].images.dtype) == f"torch.{dtype}"
    for row, sample in enumerate(batches[0].samples.tolist()):
        halved = images[sample].astype(np.float64).reshape(16, 2, 16, 2, bands).mean((1, 3))
        found = batches[0].images[row].numpy().astype(np.float64)
        assert np.abs(found - halved).max() <= (1e-6 if dtype == "float32" else 0.5)


def test_images_of_different_sizes_share_a_batch(open_arrays: Callable[..., SplitData]):
    sizes = [(1, 1), (3, 50), (70, 5), (16, 16), (200, 300)]
    images = [np.full((*size, 3), 50 * number, np.uint8) for number, size in enumerate(sizes)]

    (batch,) = loader_of(open_arrays(images), batch=5)

    for row, sample in enumerate(batch.samples.tolist()):
        assert (batch.images[row] == 50 * sample).all()


def damage(packed: str, sample: int, content: bytes) -> str:
    """Write over the image of a training sample; return what it is called."""
    data = DataSet(DataConfig(url=packed)).split("train", "")
    row, name = data.index.rows[sample], data.index.name(sample)
    path = Path(packed) / name.partition(":")[0]
    whole = bytearray(path.read_bytes())
    at, length = int(row["offset"]), int(row["length"])
    whole[at : at + length] = (content + bytes(length))[:length]
    path.write_bytes(whole)
    return name


PNG = cv2.imencode(".png", np.zeros((4, 4, 3), np.uint8))[1].tobytes()
JPEG = simplejpeg.encode_jpeg(np.zeros((40, 48, 3), np.uint8))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "cannot be decoded|holds no image"),
        (PNG, "is named as a JPEG but holds a PNG; rename it, or pass data.on_corrupt=skip"),
        (JPEG[: len(JPEG) // 2], "cannot be decoded as JPEG"),
    ],
    ids=["zeros", "png", "half"],
)
@pytest.mark.parametrize("num_workers", [1, 3])
def test_an_error_in_a_thread_reaches_the_loop_with_the_samples_name(
    content: bytes, problem: str, num_workers: int, packed: str
):
    name = damage(packed, 7, content)
    data = DataSet(DataConfig(url=packed)).split("train", "")

    with pytest.raises(CorruptSampleError, match=problem) as caught:
        list(loader_of(data, num_workers=num_workers))

    assert str(caught.value).startswith(f"{name}: ")
    assert "\n" not in str(caught.value)
    assert not load_threads()


@pytest.mark.parametrize("num_workers", [1, 3])
def test_skipped_samples_are_counted_named_and_not_valid(num_workers: int, packed: str):
    names = {damage(packed, sample, b"") for sample in (2, 11)}
    data = DataSet(DataConfig(url=packed)).split("train", "")
    loader = loader_of(data, on_corrupt="skip", num_workers=num_workers)

    batches = list(loader)

    valid = {int(s): bool(v) for b in batches for s, v in zip(b.samples, b.valid, strict=True)}
    assert sum(int(batch.valid.sum()) for batch in batches) == 16
    assert not valid[2] and not valid[11]
    counts = total(batches)
    assert (counts.planned, counts.delivered, counts.skipped, counts.padded) == (18, 16, 2, 2)
    assert counts.fingerprint == loader.plan.fingerprint()
    assert {line.partition(": ")[0] for line in loader.skipped} == names
    mean = np.array(data.manifest.mean)
    for batch in batches:
        for row, sample in enumerate(batch.samples.tolist()):
            if sample in (2, 11):
                assert np.abs(batch.images[row].numpy() - mean).max() <= 1


def test_padding_is_not_skipped_twice(packed: str):
    data = DataSet(DataConfig(url=packed)).split("train", "")
    padding = list(loader_of(data, batch=4).plan.batches(Share()))[-1]
    sample = int(padding.samples[~padding.valid][0])
    damage(packed, sample, b"")
    loader = loader_of(data, on_corrupt="skip")

    counts = total(list(loader))

    assert (counts.skipped, counts.delivered, len(loader.skipped)) == (1, 17, 1)


def test_a_truncated_shard_names_the_first_sample_that_is_gone(packed: str):
    data = DataSet(DataConfig(url=packed)).split("train", "")
    shard = Path(packed) / data.index.shard_names[1]
    first = int(data.index.shard_samples[0])
    last = first + int(data.index.shard_samples[1]) - 1
    shard.write_bytes(shard.read_bytes()[: int(data.index.rows[last]["offset"]) + 10])

    with pytest.raises(CorruptSampleError, match=r"is truncated: .* bytes expected") as caught:
        list(loader_of(data))
    assert str(caught.value).startswith(data.index.name(last))

    counts = total(list(loader_of(data, on_corrupt="skip")))
    assert counts.skipped == 1


def test_a_missing_shard_is_an_error_under_both_policies(train: SplitData):
    name = train.index.shard_names[2]
    train.store.delete(name)
    for policy in ("error", "skip"):
        with pytest.raises(StorageError, match=f'{name}: no such file; run "rsdl data verify'):
            list(loader_of(train, on_corrupt=policy))
    assert not load_threads()


@pytest.mark.parametrize("label", [3, -1, 2**31 - 1])
def test_a_label_out_of_range_is_an_error_under_both_policies(label: int, packed: str):
    path = Path(packed) / "index-train.npy"
    rows = np.load(path)
    rows["label"][5] = label
    np.save(path, rows)
    data = DataSet(DataConfig(url=packed)).split("train", "")

    for policy in ("error", "skip"):
        with pytest.raises(DataError, match=f"label {label} is out of range, .* 3 classes") as err:
            list(loader_of(data, on_corrupt=policy))
        assert str(err.value).startswith(data.index.name(5))


def test_an_unknown_kind_of_image_in_the_index_is_one_line(packed: str):
    path = Path(packed) / "index-train.npy"
    rows = np.load(path)
    rows["extension"][5] = 9
    np.save(path, rows)
    data = DataSet(DataConfig(url=packed)).split("train", "")
    with pytest.raises(DataError, match="the index does not say what kind of image it is"):
        list(loader_of(data))


def test_pixels_of_another_type_are_corrupt(open_arrays: Callable[..., SplitData]):
    data = open_arrays(noise(4, "uint16"))
    wrong = SplitData(data.store, data.manifest.model_copy(update={"dtype": "float32"}), data.index)
    with pytest.raises(CorruptSampleError, match="has uint16 pixels, the data set float32"):
        list(loader_of(wrong))
    assert total(list(loader_of(wrong, on_corrupt="skip"))).skipped == 4


@pytest.mark.parametrize("num_taken", [0, 1, 3])
def test_threads_are_gone_when_the_iteration_is_left(num_taken: int, train: SplitData):
    batches = iter(loader_of(train, num_workers=3))
    for _ in range(num_taken):
        next(batches)
    assert len(load_threads()) == (3 if num_taken else 0)

    batches.close()  # type: ignore[attr-defined]

    assert not load_threads()


def test_threads_are_gone_when_the_iterator_is_forgotten_or_exhausted(train: SplitData):
    for _ in loader_of(train):
        break
    assert not load_threads()
    for _ in loader_of(train):
        pass
    assert not load_threads()


def test_a_batch_that_cannot_be_shared_leaves_no_threads(train: SplitData):
    with pytest.raises(ConfigError, match="cannot be shared equally by 3 devices"):
        list(loader_of(train, share=Share(0, 3)))
    assert not load_threads()


def test_a_loader_can_be_iterated_again(train: SplitData):
    loader = loader_of(train)
    first, second = list(loader), list(loader)
    assert all(torch.equal(a.images, b.images) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("prefetch", [1, 3])
def test_a_bounded_number_of_batches_is_in_flight(
    prefetch: int, train: SplitData, monkeypatch: pytest.MonkeyPatch
):
    loader = loader_of(train, batch=1, prefetch=prefetch)
    alive: list[weakref.ref[Any]] = []
    most = 0
    original = loader._open_buffer

    def count(planned: Any) -> Any:  # noqa: ANN401
        nonlocal most
        buffer = original(planned)
        alive.append(weakref.ref(buffer.images))
        most = max(most, sum(ref() is not None for ref in alive))
        return buffer

    monkeypatch.setattr(loader, "_open_buffer", count)
    num = 0
    for batch in loader:
        num += len(batch)
        del batch

    assert num == 18
    assert prefetch <= most <= prefetch + 1


def test_an_unforeseen_error_tells_the_sample_too(
    train: SplitData, monkeypatch: pytest.MonkeyPatch
):
    def fail(*_: object) -> None:
        raise MemoryError("no more")

    monkeypatch.setattr("rsdl.data.sample_loader.resize_into", fail)
    with pytest.raises(MemoryError, match="no more") as caught:
        list(loader_of(train))
    assert caught.value.__notes__[0].startswith("while reading train-")
    assert not load_threads()


def test_a_smaller_decode_is_the_data_set_of_smaller_images(open_arrays: Callable[..., SplitData]):
    images = noise(6, side=32)
    halved = [image.reshape(16, 2, 16, 2, 3).mean((1, 3)) for image in images]
    small = open_arrays([np.floor(image + 0.5).astype(np.uint8) for image in halved], per_shard=3)
    for found, expected in zip(
        loader_of(replace(open_arrays(images), decode_size=16), batch=6, crop=CropRule()),
        loader_of(small, batch=6, crop=CropRule()),
        strict=True,
    ):
        for sample in range(6):
            ours = found.images[found.samples == sample].int()
            theirs = expected.images[expected.samples == sample].int()
            assert (ours - theirs).abs().max() <= 1
