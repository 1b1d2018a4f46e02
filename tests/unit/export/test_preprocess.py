"""Preprocessing in torch does what the loader does on the host."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rsdl.config.model import ModelConfig
from rsdl.config.task import ClassificationConfig
from rsdl.core.errors import DataError
from rsdl.export.model import channels_first
from rsdl.export.preprocess import Preprocess
from rsdl.records.model_spec import ModelSpec, parse_model_spec

SIDES = st.integers(1, 150)


def describe(bands: int = 3, **fields: object) -> ModelSpec:
    return ModelSpec(
        **{
            "run": "run", "task": ClassificationConfig(), "model": ModelConfig(name="test_resnet"),
            "timm_model": "test_resnet", "classes": ("a", "b"),
            "bands": tuple("abcdefghijkl"[:bands]), "dtype": "uint8",
            "mean": (100.0,) * bands, "std": (0.0, *[50.0] * (bands - 1)), "image_size": 32,
            "eval_crop": 1.0, "decode_size": None, "dataset": "ucm", "provenance": {},
        }
        | fields
    )  # fmt: skip


@settings(max_examples=60)
@given(
    height=SIDES, width=SIDES, bands=st.sampled_from([1, 3, 6]),
    size=st.sampled_from([(32, 32), (24, 40)]), crop=st.sampled_from([1.0, 0.875, 0.33, "whole"]),
    shorter=st.sampled_from([None, 48]), dtype=st.sampled_from(["uint8", "uint16", "float32"]),
)  # fmt: skip
def test_an_image_is_cropped_and_resized_as_by_the_loader(
    height: int, width: int, bands: int, size: tuple, crop: object, shorter: int | None, dtype: str
):
    spec = describe(bands, image_size=size, eval_crop=crop, decode_size=shorter, dtype=dtype)
    part = Preprocess(spec)
    random = np.random.default_rng(height * 151 + width)
    top = 1 if dtype == "float32" else np.iinfo(dtype).max
    image = (random.random((height, width, bands)) * top).astype(dtype)
    images = torch.from_numpy(image)[None].permute(0, 3, 1, 2)
    ours, loaders = part.fit(images)[0].permute(1, 2, 0).numpy(), part.fit_on_host(image)
    # Levels that differ; shrinking before the crop rounds once more.
    allowed = {"uint8": 0, "uint16": 1 if shorter is None else 2, "float32": 2e-5}[dtype]
    assert np.abs(ours - loaders.astype(np.float32)).max() <= allowed


def test_an_image_of_the_right_size_is_not_changed():
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    part = Preprocess(describe())
    images = torch.from_numpy(image)[None].permute(0, 3, 1, 2)
    assert np.array_equal(part.fit(images)[0].permute(1, 2, 0).numpy(), image)
    normal = part(images)
    assert torch.equal(normal[:, 0], images[:, 0] - 100.0)  # no spread: not divided
    assert torch.equal(normal[:, 1], (images[:, 1] - 100.0) * torch.tensor(1 / 50.0))


def test_bands_are_found_by_their_number_and_never_guessed():
    bands = ("red", "green", "blue")
    images = torch.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    assert torch.equal(channels_first(images, bands), images)
    assert torch.equal(channels_first(images.permute(0, 2, 3, 1), bands), images)
    for shape, words in (
        ((2, 3, 4, 3), "could both be the bands"),
        ((2, 4, 5, 6), "no axis of 3 bands"),
        ((3, 4, 5), "is no batch"),
        ((0, 3, 4, 5), "is no batch"),
    ):
        with pytest.raises(DataError, match=words):
            channels_first(torch.zeros(shape), bands)


def test_a_description_is_read_back_and_that_of_a_newer_release_is_refused():
    spec = describe(image_size=(32, 48), eval_crop="whole")
    assert parse_model_spec(spec.to_json(), "x") == spec
    newer = spec.to_json().replace(b'"format": 1', b'"format": 2')
    with pytest.raises(DataError, match="newer rsdl: format 2"):
        parse_model_spec(newer, "x")
    with pytest.raises(DataError, match="no description of a model"):
        parse_model_spec(b"{", "x")
    with pytest.raises(DataError, match="differ in length"):
        parse_model_spec(spec.to_json().replace(b"100.0,\n", b"", 1), "x")
