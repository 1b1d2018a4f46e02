"""A loaded network takes windows of a scene and shows the ground as evaluation does."""

from typing import Any

import numpy as np
import pytest
import torch

from rsdl.config.model import ModelConfig
from rsdl.config.task import ClassificationConfig, DetectionConfig, SegmentationConfig
from rsdl.export.load import build
from rsdl.export.model import TrainedModel
from rsdl.records.model_spec import ModelSpec
from rsdl.tasks.build import BUILDERS


def make_model(task: str, **fields: Any) -> TrainedModel:  # noqa: ANN401 - of ModelSpec
    config = {
        "classification": ClassificationConfig(),
        "segmentation": SegmentationConfig(name="segmentation"),
        "detection": DetectionConfig(
            name="detection",
            boxes="oriented",
            levels=(3, 5),
            head_width=32,
            head_depth=1,
            score_threshold=0.001,
            max_detections=20,
        ),
    }[task]
    spec = ModelSpec.model_validate(
        {
            "run": "r", "task": config, "model": ModelConfig(name="test_resnet", weights="none"),
            "timm_model": "test_resnet", "classes": ("a", "b", "c"), "bands": ("r", "g"),
            "dtype": "uint8", "mean": (100.0, 120.0), "std": (60.0, 50.0), "image_size": 64,
            "eval_crop": 1.0, "decode_size": None, "dataset": "d", "provenance": {},
        }
        | fields
    )  # fmt: skip
    torch.manual_seed(0)
    built = BUILDERS[task](spec.task, spec.classes, None)
    network = built.build_network(
        spec.model, in_chans=2, image_size=spec.image_size, storage=None, bands=spec.bands
    )
    return build(spec, network.state_dict(), "memory")


def draw(side: int, count: int = 2, dtype: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 2)).astype(dtype)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_windows_of_the_networks_size_give_its_probabilities(dtype: str):
    model, windows = make_model("segmentation", dtype=dtype), draw(64, dtype=np.dtype(dtype).type)
    images = torch.from_numpy(windows.astype(np.float32)).permute(0, 3, 1, 2)
    with torch.inference_mode():
        expected = model(images).softmax(1).numpy()
    found = model.predict_windows(windows)
    assert found.shape == (2, 3, 64, 64)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_probabilities_of_a_resized_window_are_of_the_windows_size_and_add_up_to_one():
    model = make_model("segmentation")
    found = model.predict_windows(draw(96))
    assert found.shape == (2, 3, 96, 96)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-5)


def test_a_dense_network_is_shown_windows_of_the_box_that_evaluation_crops():
    assert make_model("segmentation").window_size(128) == (128, 128)
    assert make_model("segmentation", eval_crop=0.875).window_size(128) == (112, 112)
    assert make_model("segmentation", image_size=(32, 64)).window_size(128) == (64, 128)
    assert make_model("classification", eval_crop=0.875).window_size(128) == (128, 128)


def test_a_tile_gets_the_probabilities_of_the_loaded_network():
    model, windows = make_model("classification", eval_crop=0.875), draw(80)
    found = model.predict_windows(windows)
    assert found.shape == (2, 3, 1, 1)
    expected = model.predict(list(windows)).probabilities.numpy()
    np.testing.assert_allclose(found[:, :, 0, 0], expected, atol=1e-6)


@pytest.mark.parametrize("task", ["classification", "segmentation"])
def test_averaged_over_turned_views_a_flipped_window_gives_the_flipped_result(task: str):
    model, windows = make_model(task), draw(64)
    straight = model.predict_windows(windows, tta=True)
    flipped = model.predict_windows(np.ascontiguousarray(windows[:, :, ::-1]), tta=True)
    np.testing.assert_allclose(flipped[..., ::-1], straight, atol=1e-5)
    assert np.abs(model.predict_windows(windows) - straight).max() > 1e-4


def test_objects_of_a_window_are_in_its_pixels_whatever_the_network_sees():
    model, windows = make_model("detection"), draw(64)
    # Each pixel doubled: averaged back to what it was.
    large = windows.repeat(2, axis=1).repeat(2, axis=2)
    found = model.predict(torch.from_numpy(windows))
    assert found.detections is not None
    for seen, small, doubled in zip(
        found.detections.numpy(), model.detect_windows(windows), model.detect_windows(large),
        strict=True,
    ):  # fmt: skip
        assert len(small) > 0
        np.testing.assert_allclose(small, seen[seen[:, 6] >= 0], rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(doubled[:, :4], 2 * small[:, :4], rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(doubled[:, 4:], small[:, 4:], rtol=1e-3, atol=1e-3)


def test_an_image_says_class_and_score_of_its_objects():
    model = make_model("detection")
    found = model.predict(draw(64)[0])
    name, score = found.labels[0][0]
    assert name in model.classes
    assert found.probabilities[0, 0].item() == pytest.approx(score)
    assert model.window_size(128) == (128, 128)
    assert model.finds_objects
    assert not model.is_dense
