import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import simplejpeg
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rsdl.config.data import DataConfig
from rsdl.core.batch import Batch
from rsdl.core.errors import ConfigError, CorruptSampleError
from rsdl.core.pixels import Dtype
from rsdl.data.crop import CropRule
from rsdl.data.dataset import DataSet, SplitData
from rsdl.data.gpu import loader as room
from rsdl.data.gpu.decoder import DeviceDecoder, lay_out
from rsdl.data.gpu.jpeg import Jpeg, read_jpeg
from rsdl.data.gpu.loader import DeviceLoader, choose_decoder, cut_chunks
from rsdl.data.loader import BatchLoader, LoadRule
from rsdl.data.packing.pack import PackOptions, pack
from rsdl.data.plan import SamplingPlan, Share
from rsdl.data.sample import Sample, ShardPlan
from rsdl.data.shuffle import GlobalOrder, OrderRule
from rsdl.storage.connect import connect
from tests.unit.data.batches import assert_alike, damage, total

CPU = torch.device("cpu")
RANDOM_CROP = CropRule(random=True, scale=(0.3, 1.0))
GPU = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def decoder(device: torch.device = CPU) -> DeviceDecoder:
    return DeviceDecoder(device)


def loaders(
    data: SplitData,
    *,
    batch: int = 4,
    epoch: int = 0,
    share: Share | None = None,
    start: int = 0,
    device: torch.device = CPU,
    **rule: Any,  # noqa: ANN401
) -> tuple[DeviceLoader, BatchLoader]:
    """Return the loader that decodes on a device and the one of the host, for the same plan."""
    order = GlobalOrder(data.index.shard_samples, OrderRule(seed=3, epoch=epoch, window=2))
    plan = SamplingPlan(order, global_batch=batch, tail="pad")
    given: dict[str, Any] = {"image_size": 16, "crop": RANDOM_CROP} | rule
    rest = (plan, share or Share(), LoadRule(**given), start)
    return DeviceLoader(data, *rest, decoder=decoder(device)), BatchLoader(data, *rest)


def assert_same(
    ours: list[Batch], theirs: list[Batch], *, most: float = 1, mean: float = 1
) -> None:
    """Check that batches are the same, bytes read and decoded too, and pixels but for so much."""
    assert_alike(ours, theirs, most=most, mean=mean)
    assert [batch.counts for batch in ours] == [batch.counts for batch in theirs]


def open_split(packed: str) -> SplitData:
    return DataSet(DataConfig(url=packed, decoded_cache="off")).split("train", "")


@pytest.fixture
def train(packed: str) -> SplitData:
    return open_split(packed)


@dataclass
class EncodedSource:
    """Encoded images as they are given, as a source: sample ``i`` has label ``i % 3``."""

    images: Sequence[tuple[str, bytes]]
    bands: tuple[str, ...] = ("r", "g", "b")
    dtype: Dtype = "uint8"
    dataset = "encoded"
    target = "class_index"
    classes: tuple[str, ...] = ("a", "b", "c")

    @property
    def left_out(self) -> dict[str, int]:
        return {}

    @property
    def provenance(self) -> dict[str, Any]:
        return {"source": "encoded", "count": len(self.images)}

    def shards(self, shard_bytes: int) -> list[ShardPlan]:
        items = range(len(self.images))
        return [ShardPlan("train", items[first : first + 5]) for first in items[::5]]

    def read(self, item: int) -> Sample:
        kind, data = self.images[item]
        # Of statistics nothing is asked here.
        pixels = np.zeros((2, 2, len(self.bands)), self.dtype)
        return Sample(f"s{item:04d}", kind, data, item % 3, {"class": "x"}, pixels)


@pytest.fixture
def open_images(tmp_path: Path) -> Callable[..., SplitData]:
    """Return a function that packs encoded images and opens them as a split."""

    def open_images(images: Sequence[tuple[str, bytes]], **options: Any) -> SplitData:  # noqa: ANN401
        url = str(tmp_path / "encoded")
        source: Any = EncodedSource(images, **options)
        pack(source, connect(url), PackOptions(num_workers=1))
        return open_split(url)

    return open_images


def draw(height: int, width: int, bands: int = 3, seed: int = 0) -> np.ndarray:
    """Return a picture with some detail."""
    random = np.random.default_rng((height, width, seed))
    noise = random.integers(0, 256, (height, width, bands), dtype=np.uint8)
    return np.ascontiguousarray(cv2.GaussianBlur(noise, (0, 0), 2).reshape(noise.shape))


def jpeg(height: int = 40, width: int = 48, seed: int = 0, sampling: str = "420") -> bytes:
    return simplejpeg.encode_jpeg(draw(height, width, seed=seed), 90, "RGB", sampling)


def encode_cv2(suffix: str, picture: np.ndarray, *options: int) -> bytes:
    return cv2.imencode(suffix, picture, list(options))[1].tobytes()


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25, deadline=None
)
@given(
    epoch=st.integers(0, 3),
    start=st.integers(0, 18),
    batch=st.sampled_from([4, 8, 12]),
    parts=st.sampled_from([(1, 1), (2, 1), (2, 2), (4, 1)]),
    num_workers=st.integers(1, 4),
    prefetch=st.integers(1, 3),
    data=st.data(),
)
def test_batches_are_those_of_the_host(
    train: SplitData,
    epoch: int,
    start: int,
    batch: int,
    parts: tuple[int, int],
    num_workers: int,
    prefetch: int,
    data: st.DataObject,
):
    share = Share(data.draw(st.integers(0, parts[0] - 1)), *parts)
    ours, theirs = loaders(
        train, batch=batch, epoch=epoch, share=share, start=start,
        num_workers=num_workers, prefetch=prefetch,
    )  # fmt: skip
    batches = list(ours)
    assert len(ours) == len(theirs) == len(batches)
    assert_same(batches, list(theirs))


@pytest.mark.parametrize("crop", [CropRule(), RANDOM_CROP], ids=["central", "random"])
@pytest.mark.parametrize("sampling", ["444", "422", "420", "440", "Gray"])
def test_images_of_any_size_and_sampling_are_those_of_the_host(
    crop: CropRule, sampling: str, open_images: Callable[..., SplitData]
):
    sizes = [(1, 1), (3, 50), (70, 5), (16, 16), (100, 130), (33, 64), (17, 16)]
    images = [("jpg", jpeg(*size, sampling=sampling)) for size in sizes]
    assert_same(*map(list, loaders(open_images(images), crop=crop)))


def test_grey_images_of_a_grey_data_set_are_decoded(open_images: Callable[..., SplitData]):
    pictures = [draw(20 + number, 30, 1) for number in range(6)]
    images = [("jpg", simplejpeg.encode_jpeg(p, 90, "GRAY")) for p in pictures]
    ours, theirs = loaders(open_images(images, bands=("pan",)))
    assert count_encoded(ours) == 8  # six, and two that pad
    assert_same(list(ours), list(theirs))


def count_encoded(loader: DeviceLoader) -> int:
    """Iterate a loader; return how many rows its device was given."""
    given: list[int] = []
    decode = loader._decoder.decode

    def count(jpegs: Sequence[Jpeg]) -> Any:  # noqa: ANN401
        given.append(len(jpegs))
        return decode(jpegs)

    loader._decoder.decode = count  # type: ignore[method-assign]
    list(loader)
    loader._decoder.decode = decode  # type: ignore[method-assign]
    return sum(given)


def test_what_the_device_does_not_take_comes_from_the_host(open_images: Callable[..., SplitData]):
    picture = draw(44, 52)
    progressive = encode_cv2(".jpg", picture, cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
    grey = simplejpeg.encode_jpeg(draw(30, 20, 1), 90, "GRAY")
    images = [
        ("png", encode_cv2(".png", picture)),
        ("jpg", jpeg(seed=1)),
        ("jpg", progressive),
        ("jpg", grey),
        ("jpg", jpeg(60, 30, seed=2)),
        ("png", encode_cv2(".png", draw(20, 20))),
        ("jpg", jpeg(seed=3)),
        ("jpg", jpeg(seed=4) + b"\0"),
    ]
    data = open_images(images)
    for batch in (1, 4, 8):
        ours, theirs = loaders(data, batch=batch)
        assert_same(list(ours), list(theirs))
    assert count_encoded(ours) == 3


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("bands", [1, 3, 13])
def test_arrays_of_every_type_come_from_the_host(
    dtype: str, bands: int, open_arrays: Callable[..., SplitData]
):
    random = np.random.default_rng(0)
    images = [(random.random((20, 24, bands)) * 200).astype(dtype) for _ in range(6)]
    data = replace(open_arrays(images), decoded_cache=None)
    ours, theirs = loaders(data)
    assert_same(list(ours), list(theirs), most=0)


def test_a_row_does_not_depend_on_the_batch_that_it_is_in(open_images: Callable[..., SplitData]):
    images = [("jpg", jpeg(20 + 7 * (number % 3), 30, seed=number)) for number in range(12)]
    images[3] = ("png", encode_cv2(".png", draw(50, 40)))
    images[7] = ("jpg", jpeg(25, 30)[:-2] + b"\xff\xd9")
    data = open_images(images)

    def rows(batch: int, share: Share) -> dict[int, torch.Tensor]:
        ours, _ = loaders(data, batch=batch, share=share)
        return {int(s): b.images[row] for b in ours for row, s in enumerate(b.samples)}

    alone = rows(12, Share())
    for batch in (1, 3, 5):
        assert all(torch.equal(image, alone[s]) for s, image in rows(batch, Share()).items())
    shared = rows(12, Share(0, 3)) | rows(12, Share(1, 3)) | rows(12, Share(2, 3, 1))
    assert alone.keys() == shared.keys()
    assert all(torch.equal(alone[sample], shared[sample]) for sample in alone)


@pytest.mark.parametrize("num_pixels", [1, 2000, 4000])
def test_a_batch_may_be_decoded_in_chunks(
    num_pixels: int, train: SplitData, monkeypatch: pytest.MonkeyPatch
):
    whole = list(loaders(train)[0])
    monkeypatch.setattr(room, "CHUNK_PIXELS", num_pixels)
    for one, other in zip(whole, loaders(train)[0], strict=True):
        assert torch.equal(one.images, other.images)


@given(areas=st.lists(st.integers(1, 50), max_size=12), num_pixels=st.integers(1, 100))
def test_chunks_are_all_in_order_and_as_large_as_may_be(areas: list[int], num_pixels: int):
    waiting = [(row, Jpeg(b"", 1, area, 3)) for row, area in enumerate(areas)]
    chunks = list(cut_chunks(waiting, num_pixels))
    assert [each for chunk in chunks for each in chunk] == waiting
    sums = [sum(jpeg.width for _, jpeg in chunk) for chunk in chunks]
    for chunk, area in zip(chunks, sums, strict=True):
        assert chunk and (area <= num_pixels or len(chunk) == 1)
    for area, following in zip(sums, chunks[1:], strict=False):
        assert area + following[0][1].width > num_pixels


def image_of(packed: str, sample: int) -> bytes:
    data = open_split(packed)
    row = data.index.rows[sample]
    path = Path(packed) / data.index.name(sample).partition(":")[0]
    return path.read_bytes()[int(row["offset"]) :][: int(row["length"])]


def spoil_tables(image: bytes) -> bytes:
    """Return an image whose markers are in order and which no decoder can decode."""
    at = image.index(b"\xff\xc4")  # Huffman tables
    (length,) = np.frombuffer(image[at + 2 : at + 4], ">u2").tolist()
    spoilt = image[: at + 4] + b"\x0f" * (length - 2) + image[at + 2 + length :]
    assert read_jpeg(spoilt) is not None and len(spoilt) == len(image)
    return spoilt


@pytest.mark.parametrize("kind", ["zeros", "half", "tables", "png"])
@pytest.mark.parametrize("num_workers", [1, 3])
def test_a_corrupt_sample_is_the_error_of_the_host(kind: str, num_workers: int, packed: str):
    image = image_of(packed, 7)
    content = {
        "zeros": b"",
        "half": image[: len(image) // 2],
        "tables": spoil_tables(image),
        "png": encode_cv2(".png", draw(4, 4)),
    }[kind]
    name = damage(packed, 7, content)
    ours, theirs = loaders(open_split(packed), num_workers=num_workers)
    with pytest.raises(CorruptSampleError) as ours_said:
        list(ours)
    with pytest.raises(CorruptSampleError) as theirs_said:
        list(theirs)
    assert str(ours_said.value) == str(theirs_said.value)
    assert str(ours_said.value).startswith(f"{name}: ") and "\n" not in str(ours_said.value)
    assert not load_threads()


@pytest.mark.parametrize("bad", [(0,), (2, 11), (17,), tuple(range(18))])
def test_corrupt_samples_are_skipped_as_by_the_host(bad: tuple[int, ...], packed: str):
    for number, sample in enumerate(bad):
        damage(packed, sample, spoil_tables(image_of(packed, sample)) if number % 2 else b"")
    data = open_split(packed)
    for epoch in (0, 1):
        ours, theirs = loaders(data, epoch=epoch, on_corrupt="skip")
        batches = list(ours)
        assert_same(batches, list(theirs))
        counts = total(batches)
        assert (counts.skipped, counts.delivered) == (len(bad), 18 - len(bad))
        assert sorted(ours.skipped) == sorted(theirs.skipped) and len(ours.skipped) == len(bad)


def test_what_the_device_alone_refuses_is_decoded_by_the_host(
    train: SplitData, caplog: pytest.LogCaptureFixture
):
    ours, theirs = loaders(train)
    refused = {7, 12}
    real = ours._decoder._decode_jpeg
    marks = {image_bytes(train, sample) for sample in refused}

    def refuse(images: list[torch.Tensor], **options: Any) -> list[torch.Tensor]:  # noqa: ANN401
        if any(image.numpy().tobytes() in marks for image in images):
            raise RuntimeError("Failed to decode batch: 8")
        return real(images, **options)  # type: ignore[no-any-return]

    ours._decoder._decode_jpeg = refuse
    assert_same(list(ours), list(theirs))
    assert len(caplog.records) == 1
    assert "cpu does not decode train-" in caplog.text


def test_a_picture_of_another_size_than_its_header_says_is_not_used(train: SplitData):
    ours, theirs = loaders(train)
    real = ours._decoder._decode_jpeg

    def cut_off(images: list[torch.Tensor], **options: Any) -> list[torch.Tensor]:  # noqa: ANN401
        found = real(images, **options)
        return [found[0][:, 1:], *found[1:]]

    ours._decoder._decode_jpeg = cut_off
    assert_same(list(ours), list(theirs))


def image_bytes(data: SplitData, sample: int) -> bytes:
    return image_of(str(data.store.url), sample)


@pytest.mark.parametrize("problem", ["CUDA out of memory. Tried", "CUDA error: unspecified"])
def test_a_failing_device_is_no_fault_of_an_image(problem: str, train: SplitData):
    ours, _ = loaders(train, on_corrupt="skip")

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError(problem)

    ours._decoder._decode_jpeg = fail
    with pytest.raises(RuntimeError, match=problem):
        list(ours)
    assert not load_threads()


def load_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("load-")]


@pytest.mark.parametrize("num_taken", [0, 1, 3])
def test_threads_are_gone_when_the_iteration_is_left(num_taken: int, train: SplitData):
    batches = iter(loaders(train, num_workers=3)[0])
    for _ in range(num_taken):
        next(batches)
    assert len(load_threads()) == (4 if num_taken else 0)
    batches.close()  # type: ignore[attr-defined]
    assert not load_threads()


def test_a_loader_can_be_iterated_again(train: SplitData):
    loader = loaders(train)[0]
    first, second = list(loader), list(loader)
    assert all(torch.equal(a.images, b.images) for a, b in zip(first, second, strict=True))


def test_a_device_that_cannot_decode_is_one_line():
    with pytest.raises(ConfigError) as caught:
        decoder(torch.device("meta"))
    assert str(caught.value) == (
        "data.decode: is device, but JPEGs cannot be decoded on meta: torchvision knows CUDA "
        "alone; pass data.decode=host"
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a CUDA device")
def test_without_cuda_it_is_one_line(capfd: pytest.CaptureFixture[str]):
    with pytest.raises(ConfigError) as caught:
        decoder(torch.device("cuda", 0))
    assert str(caught.value).startswith("data.decode: is device, but JPEGs cannot be decoded on ")
    assert str(caught.value).endswith("; pass data.decode=host")
    assert "\n" not in str(caught.value)
    capfd.readouterr()  # torch's stack


def test_a_decoder_that_gives_another_picture_is_not_used(monkeypatch: pytest.MonkeyPatch):
    import torchvision.io

    real = torchvision.io.decode_jpeg
    for spoil, said in (
        (lambda image: image.flip(0), "a picture is .* grey levels off"),
        (lambda image: image[:, 1:], "a picture has shape"),
    ):
        monkeypatch.setattr(
            torchvision.io, "decode_jpeg", lambda *a, _s=spoil, **b: [_s(i) for i in real(*a, **b)]
        )
        with pytest.raises(ConfigError, match=said):
            decoder()


def test_a_torchvision_without_a_decoder_is_one_line(monkeypatch: pytest.MonkeyPatch):
    import torchvision.io

    monkeypatch.delattr(torchvision.io, "decode_jpeg")
    with pytest.raises(ConfigError, match=r"^data\.decode: is device, but no torchvision that d"):
        decoder()


def test_kept_pixels_are_read_once_they_are_complete_and_never_made(
    packed: str, caplog: pytest.LogCaptureFixture
):
    caplog.set_level("INFO")
    config = DataConfig(url=packed, decode="device")
    before = DataSet(config).split("train", "")
    assert before.decoded_cache is not None and before.decoded_cache.file() is None
    assert choose_decoder(before, CPU) is not None
    assert "the device is a processor" in caplog.text

    kept = DataSet(config.model_copy(update={"decode": "host"})).split("train", "")
    order = GlobalOrder(kept.index.shard_samples, OrderRule(seed=3, epoch=0))
    plan = SamplingPlan(order, global_batch=4, tail="pad")
    list(BatchLoader(kept, plan, Share(), LoadRule(16, RANDOM_CROP)))
    assert kept.decoded_cache is not None and kept.decoded_cache.is_complete

    after = DataSet(config).split("train", "")
    assert choose_decoder(after, CPU) is None
    assert "data.decoded_cache are complete" in caplog.text
    # Evaluation decodes on the host, and keeps its pixels.
    assert (DataSet(config).split("val", "").decoded_cache).file() is not None  # type: ignore[union-attr]


def test_images_are_laid_out_one_behind_the_other():
    images = [torch.arange(3 * h * w, dtype=torch.uint8).view(3, h, w) for h, w in ((2, 3), (4, 1))]
    store = lay_out(images)
    assert store.width is None and store.heights.tolist() == [2, 4]
    for image, start in zip(images, store.starts.tolist(), strict=True):
        flat = image.permute(1, 2, 0).reshape(-1, 3)
        assert torch.equal(store.pixels[start : start + len(flat)], flat)
    assert lay_out(images[:1] * 2).width == 3


def on_gpu(test: Any) -> Any:  # noqa: ANN401
    for mark in GPU:
        test = mark(test)
    return test


@on_gpu
@pytest.mark.parametrize("sampling", ["444", "422", "420"])
def test_a_gpu_gives_the_picture_of_the_host(sampling: str, open_images: Callable[..., SplitData]):
    images = [("jpg", jpeg(60 + 3 * n, 80, seed=n, sampling=sampling)) for n in range(30)]
    images[4] = ("png", encode_cv2(".png", draw(50, 40)))
    images[9] = ("jpg", encode_cv2(".jpg", draw(44, 52), cv2.IMWRITE_JPEG_PROGRESSIVE, 1))
    ours, theirs = loaders(
        open_images(images), batch=10, device=torch.device("cuda", 0), pin_memory=True
    )
    batches = list(ours)
    assert all(batch.images.is_cuda for batch in batches)
    assert_same(batches, list(theirs), most=64, mean=3)


@on_gpu
def test_a_gpu_repeats_itself_bit_by_bit_while_others_use_it(open_images: Callable[..., SplitData]):
    data = open_images([("jpg", jpeg(90 + n % 7, 100, seed=n)) for n in range(60)])
    device = torch.device("cuda", 0)
    first = [batch.images.cpu() for batch in loaders(data, batch=6, device=device)[0]]
    load = torch.ones(2048, 2048, device=device)
    for _ in range(3):
        found = []
        for batch in loaders(data, batch=6, device=device, prefetch=3)[0]:
            for _ in range(20):  # the training step is behind
                load = (load @ load).clamp(max=1)
            found.append(batch.images.clone())
            del batch
        assert all(torch.equal(a, b.cpu()) for a, b in zip(first, found, strict=True))


@on_gpu
def test_handing_over_never_waits_for_a_gpu(train: SplitData):
    device = torch.device("cuda", 0)
    ours = decoder(device)
    with ours.work():
        images = torch.ones(1 << 20, device=device)
        for _ in range(200):
            images = images * 1.0
        done = ours.mark()
    torch.cuda.set_sync_debug_mode("error")
    try:
        ours.hand_over(images, done)
        total = images.sum()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert total == 1 << 20


@on_gpu
@pytest.mark.parametrize("kind", ["zeros", "half", "tables"])
def test_on_a_gpu_a_corrupt_sample_is_the_error_of_the_host(kind: str, packed: str):
    image = image_of(packed, 7)
    content = {"zeros": b"", "half": image[: len(image) // 2], "tables": spoil_tables(image)}[kind]
    damage(packed, 7, content)
    ours, theirs = loaders(open_split(packed), device=torch.device("cuda", 0))
    with pytest.raises(CorruptSampleError) as ours_said:
        list(ours)
    with pytest.raises(CorruptSampleError) as theirs_said:
        list(theirs)
    assert str(ours_said.value) == str(theirs_said.value)
