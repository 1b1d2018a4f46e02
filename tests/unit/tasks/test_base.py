"""The module trains and tests whatever implements the protocol, here one label for each pixel."""

# ruff: noqa: ANN401 - outputs of any structure
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rsdl.config.data import AugmentConfig
from rsdl.config.optim import OptimConfig
from rsdl.config.task import TASKS, SegmentationConfig, TaskFacts
from rsdl.core.batch import Batch
from rsdl.core.errors import ConfigError
from rsdl.core.sample_counts import SampleCounts
from rsdl.data.augment import Augment
from rsdl.data.manifest import Manifest
from rsdl.data.targets import KINDS
from rsdl.tasks.base import CardFacts, turned_views
from rsdl.tasks.build import build_task
from rsdl.train.module import TrainingModule
from tests.unit.data.test_targets import Brightness

IGNORED = 255
CLASSES = 3


class DenseNetwork(nn.Module):
    """A pixel's bands to its classes, in a dict as segmentation networks of torchvision give."""

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Conv2d(3, CLASSES, 1)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"maps": self.out(images)}


@dataclass
class DenseValues:
    metrics: dict[str, float]


class DenseMetrics:
    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.right = self.counted = 0

    def update(self, prediction: Tensor, targets: Tensor, valid: Tensor, losses: Tensor) -> None:
        counts = (targets != IGNORED) & valid[:, None, None]
        self.right += int(((prediction.argmax(1) == targets) & counts).sum())
        self.counted += int(counts.sum())

    def values(self) -> DenseValues:
        return DenseValues({"accuracy": self.right / self.counted})


class DenseTask:
    facts = TaskFacts("mask", "accuracy", "accuracy", "pixel accuracy")

    def build_network(self, *args: Any, **kwargs: Any) -> nn.Module:
        return DenseNetwork()

    def head(self, network: nn.Module) -> nn.Module:
        return network.get_submodule("out")

    def loss(self, outputs: Any, targets: Tensor, *, training: bool, mix: Any = None) -> Tensor:
        each = F.cross_entropy(outputs["maps"], targets, ignore_index=IGNORED, reduction="none")
        return each.sum((1, 2)) / targets[0].numel()

    def predict(self, outputs: Any) -> Tensor:
        return outputs["maps"].softmax(1)

    def merge_views(self, views: Iterable[Any]) -> tuple[Any, Tensor]:
        total = 0
        for number, outputs in enumerate(views):
            maps = outputs["maps"]
            flips = ((), (2,), (3,), (2, 3))[number % 4]
            maps = maps.flip(flips) if flips else maps
            total = total + (maps.transpose(2, 3) if number >= 4 else maps)
        return {"maps": total / 8}, self.predict({"maps": total / 8})

    def columns(self, prediction: Tensor, targets: Tensor) -> dict[str, Tensor]:
        return {"wrong": ((prediction.argmax(1) != targets) & (targets != IGNORED)).sum((1, 2))}

    def metrics(self) -> DenseMetrics:
        return DenseMetrics()

    def describe(self, metrics: dict[str, Any]) -> str:
        return f"accuracy {metrics['accuracy']}"

    def evaluation(self, *args: Any, **kwargs: Any) -> Any:
        raise AssertionError("the module makes no evaluation")

    def labels(self, prediction: Tensor) -> list[Any]:
        raise AssertionError("the module names no class")

    def card(self) -> CardFacts:
        raise AssertionError("the module writes no card")


@pytest.fixture(autouse=True)
def mask(monkeypatch: pytest.MonkeyPatch) -> None:
    """Register a dense kind of target that turns with its image."""
    monkeypatch.setitem(KINDS, "mask", Brightness())


def make_module() -> TrainingModule:
    torch.manual_seed(0)
    task = DenseTask()
    augment = Augment(AugmentConfig(), [100.0] * 3, [50.0] * 3, "uint8")
    module = TrainingModule(task.build_network(), task, augment, OptimConfig(), seed=0)
    module.trainer = pl.Trainer(
        accelerator="cpu", devices=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    return module


def make_batch() -> Batch:
    targets = torch.randint(CLASSES, (4, 8, 8))
    targets[0, :4] = IGNORED
    valid = torch.tensor([True, True, True, False])
    return Batch(
        images=torch.randint(256, (4, 8, 8, 3), dtype=torch.uint8), targets=targets, valid=valid,
        samples=torch.tensor([7, 5, 6, 0]), uniforms=torch.rand(4, 12),
        windows=torch.zeros(4, 4, dtype=torch.int32), sizes=torch.zeros(4, 2, dtype=torch.int32),
        num_planned=3,
        counts=SampleCounts(),
    )  # fmt: skip


def test_a_dense_task_trains_and_is_collected_by_sample():
    module, batch = make_module(), make_batch()
    module.training_step(batch, 0).backward()
    assert module.model.out.weight.grad.abs().sum() > 0
    module.on_test_epoch_start()
    module.test_step(batch, 0)
    columns = module.collector.collect()
    assert columns["samples"].tolist() == [5, 6, 7]
    counted = 3 * 64 - 32
    accuracy = 1 - columns["wrong"].sum() / counted
    assert module.metrics.values().metrics["accuracy"] == pytest.approx(accuracy)


def test_views_of_a_dense_task_are_turned_back():
    module, batch = make_module(), make_batch()
    images, _ = module.augment(batch, training=False)
    assert len(list(turned_views(images))) == 8
    _, plain = module.predict_batch(batch)
    module.tta = True
    _, merged = module.predict_batch(batch)
    # The network sees one pixel at a time, so turning the image only turns the map.
    assert torch.allclose(merged, plain, atol=1e-5)


def test_a_task_and_a_data_set_of_another_kind_are_one_clear_line(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setitem(TASKS, "segmentation", DenseTask.facts)
    manifest = Manifest(
        dataset="d", classes=("a",), bands=("r",), dtype="uint8", mean=(0.0,), std=(1.0,),
        provenance={}, splits={},
    )  # fmt: skip
    config = SegmentationConfig(name="segmentation")
    with pytest.raises(ConfigError) as caught:
        build_task(config, manifest, url="./data/d")
    line = str(caught.value)
    assert caught.value.where == "task.name" and "\n" not in line
    assert '"mask"' in line and "data.url=./data/d" in line and "classification" in line
