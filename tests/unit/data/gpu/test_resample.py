from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rsdl.core.image_size import ImageSize, height_width
from rsdl.core.rng import key_of, uniforms
from rsdl.data.crop import CropRule, crop_boxes
from rsdl.data.gpu import resample as room
from rsdl.data.gpu.resample import PackedPixels, resample
from rsdl.data.resize import resize_into

TOPS = {"uint8": 255, "uint16": 65535, "float32": 1.0}
# Grey levels; of float32, a share of the range.
TOLERANCES = {"uint8": 1, "uint16": 1, "float32": 1e-5}

Images = Sequence[np.ndarray]


def noise(sizes: Sequence[tuple[int, int]], bands: int, dtype: str, seed: int = 0) -> Images:
    random = np.random.default_rng(seed)
    if dtype == "float32":
        return [random.random((*size, bands), np.float32) for size in sizes]
    return [
        random.integers(0, int(TOPS[dtype]) + 1, (*size, bands)).astype(dtype) for size in sizes
    ]


def keep(images: Images, device: str = "cpu") -> PackedPixels:
    """Lay images out as a store does, the first one last: places are not to be guessed."""
    order = [*range(1, len(images)), 0]
    flat = np.concatenate([images[number].reshape(-1, images[0].shape[2]) for number in order])
    sizes = np.array([image.shape[:2] for image in images])
    counts = sizes.prod(axis=1)
    starts = np.empty(len(images), np.int64)
    starts[order] = np.cumsum(counts[order]) - counts[order]
    bits = flat.view(np.int16) if flat.dtype == np.uint16 else flat
    return PackedPixels(
        pixels=torch.from_numpy(bits).to(device),
        starts=torch.from_numpy(starts).to(device),
        heights=sizes[:, 0].copy(),
        widths=sizes[:, 1].copy(),
        device_widths=torch.from_numpy(sizes[:, 1].copy()).to(device),
        width=int(sizes[0, 1]) if (sizes == sizes[0]).all() else None,
    )


def on_device(images: Images, boxes: np.ndarray, size: int, device: str = "cpu") -> np.ndarray:
    made = resample(keep(images, device), np.arange(len(images)), boxes, size).cpu()
    return made.numpy().view(images[0].dtype)


def on_host(images: Images, boxes: np.ndarray, size: ImageSize) -> np.ndarray:
    out = np.empty((len(images), *height_width(size), images[0].shape[2]), images[0].dtype)
    for row, image, (top, left, height, width) in zip(out, images, boxes.tolist(), strict=True):
        resize_into(image[top : top + height, left : left + width], row)
    return out


def gap(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return np.abs(left.astype(np.float64) - right.astype(np.float64))


@st.composite
def cases(draw: st.DrawFn) -> tuple[Images, np.ndarray, ImageSize]:
    """Draw images with a box in each, and a size."""
    num = draw(st.integers(1, 4))
    sides = st.tuples(st.integers(1, 70), st.integers(1, 70))
    same = draw(st.booleans())
    sizes = [draw(sides)] * num if same else [draw(sides) for _ in range(num)]
    dtype, bands = draw(st.sampled_from(list(TOPS))), draw(st.integers(1, 13))
    images = noise(sizes, bands, dtype, draw(st.integers(0, 99)))
    boxes = []
    for height, width in sizes:
        h, w = draw(st.integers(1, height)), draw(st.integers(1, width))
        boxes.append((draw(st.integers(0, height - h)), draw(st.integers(0, width - w)), h, w))
    return (
        images,
        np.array(boxes),
        draw(st.integers(1, 48) | st.tuples(st.integers(1, 48), st.integers(1, 48))),
    )


@settings(deadline=None)
@given(case=cases())
def test_any_box_is_resized_as_on_the_host(case: tuple[Images, np.ndarray, int]):
    images, boxes, size = case
    found, expected = on_device(images, boxes, size), on_host(images, boxes, size)
    assert found.dtype == expected.dtype and found.shape == expected.shape
    assert gap(found, expected).max() <= TOLERANCES[str(found.dtype)]


def test_a_row_depends_on_its_own_image_alone(monkeypatch: pytest.MonkeyPatch):
    sizes = [(40, 40), (64, 20), (9, 70), (100, 100), (33, 50)] * 3
    images = noise(sizes, 3, "float32")
    store = keep(images)
    rule = CropRule(random=True, scale=(0.1, 1.0))
    numbers = uniforms(key_of("boxes"), np.arange(len(images)), rule.num_uniforms)
    boxes = crop_boxes(rule, store.heights, store.widths, numbers)
    whole = resample(store, np.arange(len(images)), boxes, 24)

    alone = [resample(store, np.array([n]), boxes[[n]], 24) for n in range(len(images))]
    assert torch.equal(torch.cat(alone), whole)
    for chunk_bytes in (1, 40000):
        monkeypatch.setattr(room, "CPU_CHUNK_BYTES", chunk_bytes)
        assert torch.equal(resample(store, np.arange(len(images)), boxes, 24), whole)


def test_images_of_one_size_are_what_they_are_among_others():
    images = noise([(40, 50)] * 6, 3, "float32")
    boxes = np.array([(number, 2 * number, 30, 37) for number in range(6)])
    among = resample(keep([*images, *noise([(7, 9)], 3, "float32")]), np.arange(6), boxes, 24)
    assert np.array_equal(on_device(images, boxes, 24), among.numpy())


def test_neither_matrix_precision_nor_autocast_changes_a_bit():
    images = noise([(80, 80)] * 3, 3, "float32")
    boxes = np.array([(1, 2, 70, 60), (0, 0, 80, 80), (40, 40, 10, 12)])
    expected = on_device(images, boxes, 24)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert np.array_equal(on_device(images, boxes, 24), expected)
    finally:
        torch.set_float32_matmul_precision(before)


def test_pixels_outside_of_the_box_have_no_say():
    (image,) = noise([(40, 40)], 1, "float32")
    hidden = np.full_like(image, np.nan)
    hidden[8:31, 5:34] = image[8:31, 5:34]
    for size in (8, 23, 29, 64):
        boxes = np.array([(8, 5, 23, 29)])
        found = on_device([hidden], boxes, size)
        assert np.array_equal(found, on_device([image], boxes, size))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", list(TOPS))
@pytest.mark.parametrize("same", [True, False])
def test_a_gpu_gives_the_processors_bits_without_waiting(dtype: str, same: bool):
    sizes = [(90, 80)] * 5 if same else [(90, 80), (20, 30), (64, 64), (31, 200), (5, 5)]
    images = noise(sizes, 4, dtype)
    boxes = np.array([(1, 2, height - 2, width - 3) for height, width in sizes])
    store = keep(images, "cuda")
    torch.cuda.set_sync_debug_mode("error")
    try:
        made = resample(store, np.arange(5), boxes, 32)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert np.array_equal(made.cpu().numpy().view(dtype), on_device(images, boxes, 32))
