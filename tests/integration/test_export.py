"""``rsdl export``: what others read computes what the run does."""

import json
import os
import zipfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import timm
import torch
import yaml

import rsdl as api
from rsdl.commands.export import export
from rsdl.config.model import NINE, ModelConfig
from rsdl.config.task import ClassificationConfig
from rsdl.core.errors import ConfigError, RsdlError
from rsdl.export.formats import FORMATS, check_parity
from rsdl.export.load import build
from rsdl.export.model import TrainedModel
from rsdl.models.catalog import ARCHITECTURES, build_model
from rsdl.records.model_spec import ModelSpec

if TYPE_CHECKING:
    from tests.integration.conftest import Find, Rsdl, Write

Require = Callable[[str, bool], None]

pytestmark = pytest.mark.slow

# An image smaller than the network's, wide and high ones, and one of its size.
SIZES = ((21, 40), (50, 171), (130, 64), (33, 33))


def test_a_run_is_exported_for_timm_torch_and_onnx(
    rsdl: "Rsdl", write_config: "Write", run_at: "Find", tmp_path: Path, require: Require,
    capsys: pytest.CaptureFixture[str],
):  # fmt: skip
    assert rsdl("train", write_config("run", trainer__max_epochs=2)).returncode == 0
    run, images = str(run_at("run").folder), drawn(3)
    model = api.load(run)

    out = tmp_path / "weights"
    assert export(run, to="safetensors", out=str(out), licence="CC-BY-4.0") == 0
    assert "9 of 9 classes are those of rsdl evaluate" in capsys.readouterr().out
    assert names(out) == [
        "README.md", "config.json", "labels.json", "model.json", "model.safetensors",
    ]  # fmt: skip
    again = api.load(str(out))
    assert torch.equal(again.predict(images).probabilities, model.predict(images).probabilities)
    labels = json.loads((out / "labels.json").read_text())
    assert again.classes == model.classes == tuple(labels.values())
    network = timm.create_model(f"local-dir:{out}", pretrained=True).eval()
    assert network.pretrained_cfg["input_size"] == (3, 32, 32)
    _, front, card = (out / "README.md").read_text().split("---\n", 2)
    front = yaml.safe_load(front)
    assert (front["license"], front["pipeline_tag"]) == ("cc-by-4.0", "image-classification")
    report = json.loads((run_at("run").folder / "report.json").read_text())
    assert f"| oa | {report['metrics']['oa']:.4f} |" in card and "CC-BY-4.0" in card
    assert "| name | support | precision | recall | f1 |" in card and "| harbor | 3 | " in card

    out = tmp_path / "graph"
    assert export(run, to="torch", out=str(out)) == 0
    graph = torch.export.load(out / "model.pt2").module()
    for image in images:
        batch = torch.from_numpy(image).permute(2, 0, 1)[None].expand(3, -1, -1, -1)
        with torch.no_grad():
            assert torch.allclose(graph(batch), model(batch), atol=1e-5)

    # Wrong places are refused before any work; nothing is overwritten but an export.
    with pytest.raises(ConfigError, match="holds something else"):
        export(run, to="torch", out=run)
    last = f"{run}/checkpoints/last.ckpt"
    assert export(last, to="torch", out=str(out), samples=1) == 0
    assert "These weights were not evaluated" in (out / "README.md").read_text()

    require("onnx", has_onnx())
    out = tmp_path / "onnx"
    assert export(run, to="onnx", out=str(out), tolerance=0.0) == 1
    assert not out.exists() and "--tolerance: 0 is exceeded" in capsys.readouterr().out
    assert export(run, to="onnx", out=str(out)) == 0
    assert names(out) == ["README.md", "labels.json", "model.json", "model.onnx"]


@pytest.mark.parametrize(("dtype", "crop"), [("uint8", 1.0), ("uint16", "whole"), ("float32", 0.7)])
def test_a_graph_crops_and_resizes_images_of_any_size(
    dtype: str, crop: object, tmp_path: Path, require: Require
):
    require("onnx", has_onnx())
    model = untrained("test_vit", image_size=(32, 48), eval_crop=crop, dtype=dtype)
    images = [image.astype(dtype) for image in drawn(3)]
    for to in ("torch", "onnx"):
        FORMATS[to].write(model, tmp_path)
        parity = check_parity(FORMATS[to].open(model, tmp_path), model, images)
        assert parity.difference < 1e-5 and parity.same_classes == len(SIZES)


def test_a_graph_computes_the_pixels_of_the_loader(tmp_path: Path, require: Require):
    require("onnx", has_onnx())
    model = untrained("test_resnet", image_size=(32, 48), mean=(0.0,) * 3, std=(1.0,) * 3)
    model.network = torch.nn.Identity()
    FORMATS["onnx"].write(model, tmp_path)
    run = FORMATS["onnx"].open(model, tmp_path)
    random = np.random.default_rng(2)
    # Enlarged, shrunk by less than the half, averaged over 2 x 2 pixels and over more.
    sizes = [(64, 96), *random.integers(1, 100, (20, 2)), *random.integers(100, 400, (20, 2))]
    for size in sizes:
        images = random.integers(0, 256, (2, *size, 3), np.uint8)
        loaded = np.stack([model.preprocess.fit_on_host(image) for image in images])
        (computed,) = run(np.moveaxis(images, 3, 1))
        assert np.array_equal(computed, np.moveaxis(loaded, 3, 1))


def test_a_graph_names_no_file_of_the_machine_that_exported_it(tmp_path: Path, require: Require):
    require("onnx", has_onnx())
    for to in ("torch", "onnx"):
        FORMATS[to].write(untrained("test_vit"), tmp_path)
    with zipfile.ZipFile(tmp_path / "model.pt2") as archive:
        written = [archive.read(name) for name in archive.namelist()]
    for data in (*written, (tmp_path / "model.onnx").read_bytes()):
        assert b"rsdl/export" not in data and b"timm/models" not in data


def test_other_weights_are_seen(tmp_path: Path):
    model, other = untrained("test_resnet"), untrained("test_resnet")
    FORMATS["torch"].write(other, tmp_path)
    run = FORMATS["torch"].open(model, tmp_path)
    assert check_parity(run, model, drawn(3)).difference > 1e-3
    with torch.no_grad():
        next(other.network.parameters()).fill_(torch.nan)
    FORMATS["torch"].write(other, tmp_path)
    run = FORMATS["torch"].open(model, tmp_path)
    assert check_parity(run, model, drawn(3)).difference == np.inf


def test_a_graph_that_would_need_the_images_shrunk_is_refused(tmp_path: Path):
    model = untrained("test_resnet", decode_size=40)
    with pytest.raises(RsdlError, match=r"cannot shrink images to data\.decode_size=40"):
        FORMATS["torch"].write(model, tmp_path)
    FORMATS["safetensors"].write(model, tmp_path)
    run = FORMATS["safetensors"].open(model, tmp_path)
    assert check_parity(run, model, drawn(3)).difference < 1e-5


@pytest.mark.parametrize("name", NINE)
def test_the_nine_run_in_onnx_runtime(name: str, tmp_path: Path, require: Require):
    require("patience", "RSDL_TEST_PATIENCE" in os.environ)
    require("onnx", has_onnx())
    model = untrained(name, image_size=224)
    FORMATS["onnx"].write(model, tmp_path)
    run = FORMATS["onnx"].open(model, tmp_path)
    parity = check_parity(run, model, drawn(3))
    batch = np.random.default_rng(3).integers(0, 256, (3, 3, 190, 240), np.uint8)
    batch //= np.array([1, 2, 4], np.uint8)[:, None, None, None]
    with torch.no_grad():
        logits = model(torch.from_numpy(batch)).numpy()
    # Networks of random weights hardly tell images apart: differences are compared with theirs.
    allowed = 1e-3 * min(logits.std(0).max(), 1)
    (computed,) = run(batch)
    assert np.abs(computed - logits).max() < allowed
    assert parity.difference < allowed and parity.same_classes == parity.samples == len(SIZES)


def has_onnx() -> bool:
    return all(find_spec(name) for name in ("onnx", "onnxruntime", "onnxscript"))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def drawn(bands: int) -> list[np.ndarray]:
    random = np.random.default_rng(1)
    return [random.integers(0, 256, (*size, bands), np.uint8) for size in SIZES]


def untrained(name: str, **fields: object) -> TrainedModel:
    """Return a network of random weights as a run's."""
    spec = ModelSpec(
        **{
            "run": "run", "task": ClassificationConfig(), "model": ModelConfig(name=name),
            "timm_model": ARCHITECTURES[name].timm_name if name in ARCHITECTURES else name,
            "classes": ("field", "harbor", "roofs"), "bands": ("red", "green", "blue"),
            "dtype": "uint8", "mean": (110.0, 120.0, 130.0), "std": (60.0, 50.0, 40.0),
            "image_size": 32, "eval_crop": 1.0, "decode_size": None, "dataset": "drawn",
            "provenance": {},
        }
        | fields
    )  # fmt: skip
    network = build_model(spec.model, num_classes=3, in_chans=3, image_size=spec.image_size)
    return build(spec, network.state_dict(), "drawn")
