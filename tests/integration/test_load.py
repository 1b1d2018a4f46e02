"""``rsdl.load``: a trained network in Python, equal to what evaluation has measured."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

import rsdl as api
from rsdl.config.data import DataConfig
from rsdl.core.errors import DataError
from rsdl.data.dataset import DataSet

if TYPE_CHECKING:
    from rsdl.export.model import TrainedModel
    from tests.integration.conftest import Find, Rsdl, Write


def test_importing_rsdl_imports_no_torch():
    told = "import rsdl, sys; sys.exit('torch' in sys.modules or 'load' not in dir(rsdl))"
    assert subprocess.run([sys.executable, "-c", told], check=False).returncode == 0
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        api.nothing  # noqa: B018


@pytest.mark.slow
def test_a_loaded_network_predicts_what_evaluation_measured(
    rsdl: "Rsdl", write_config: "Write", run_at: "Find", packed: str, tmp_path: Path
):
    config = write_config(
        "run", optim__ema_decay=0.5, trainer__max_epochs=2, data__eval_crop=0.8, optim__lr=5e-4
    )
    assert rsdl("train", config).returncode == 0
    run = run_at("run")
    report = json.loads((run.folder / "report.json").read_text())
    data = DataSet(DataConfig(url=packed)).split("test", "data.test_split")
    reader = data.open_reader()
    images = [reader.pixels(reader.locate(sample)) for sample in range(len(data.index))]
    labels = torch.from_numpy(data.index.labels.astype(np.int64))

    def loss(model: "TrainedModel") -> float:
        probabilities = model.predict(images, batch_size=4).probabilities
        return torch.nn.functional.nll_loss(probabilities.double().log(), labels).item()

    model = api.load(str(run.folder))
    assert model.classes == data.manifest.classes and model.bands == data.manifest.bands
    assert not model.training
    assert loss(model) == pytest.approx(report["metrics"]["loss"], abs=1e-6)
    found = model.predict(images)
    right = sum(
        model.classes[label] == name for label, name in zip(labels, found.labels, strict=True)
    )
    assert right / len(labels) == pytest.approx(report["metrics"]["oa"])

    # Both layouts, one image, and raw pixels on the device: one grey level is all that differs.
    batch = torch.from_numpy(np.stack(images))
    with torch.inference_mode():
        logits = model(batch)
        assert torch.equal(logits, model(batch.permute(0, 3, 1, 2)))
    assert (logits.softmax(1) - found.probabilities).abs().max() < 0.02
    alone = model.predict(np.moveaxis(images[0], 2, 0))
    assert torch.allclose(alone.probabilities[0], found.probabilities[0], atol=1e-6)

    # A checkpoint by name: its average is loaded, and not the trained weights.
    kept, loaded = run.load("last")["state_dict"], api.load(f"{run.folder}/checkpoints/last.ckpt")
    for name, weight in loaded.network.named_parameters():
        assert torch.equal(weight, kept[f"averaged.module.{name}"])
        assert weight.ndim == 1 or not torch.equal(weight, kept[f"model.{name}"])

    # The data set is not needed, but by a run of an older release.
    moved = shutil.move(packed, tmp_path / "moved")
    assert loss(api.load(str(run.folder))) == loss(model)
    (run.folder / "model.json").unlink()
    with pytest.raises(DataError, match=r"kept no model\.json"):
        api.load(str(run.folder))
    assert loss(api.load(str(run.folder), data_url=str(moved))) == loss(model)
