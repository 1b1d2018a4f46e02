"""Cost of detection: a training step beside torchvision's FCOS, loading boxes, and scoring.

- A step (forward, assignment, losses, backward, SGD) of the dense head, aligned and oriented, and
  of torchvision's FCOS, on the same backbone, pyramid levels, images and boxes.
- Loading tiles with objects, and the same tiles with a class each, decoded in the first epoch.
- What NMS and the counts of AP take of a validation of images with many objects, beside the
  network.

    python -m benchmarks.trainer.detection [--model resnet50] [--image-size 512]
"""

import argparse
import tempfile
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import FCOS
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

from benchmarks.harness.imagery import draw_objects, pack_tiles
from benchmarks.harness.machine import describe_versions
from benchmarks.harness.measure import Row, Table, Target, build_result, interleave, run_benchmark
from rsdl.config.data import DataConfig
from rsdl.config.model import ModelConfig
from rsdl.config.task import DetectionConfig
from rsdl.data.datamodule import DataModule
from rsdl.data.dataset import DataSet
from rsdl.data.standalone import this_process
from rsdl.data.targets.base import Window
from rsdl.data.targets.objects import HULL, LABEL, ObjectList
from rsdl.models.detector import Detector
from rsdl.storage.s3.endpoint import AWS
from rsdl.tasks.detection import DetectionTask

ALIGNED, ORIENTED, FCOS_STEP = "rsdl dense, aligned", "rsdl dense, oriented", "torchvision FCOS"
NETWORK, SCORE = "the network", "NMS and counts of AP"
CLASSES, BOXES = "with a class", "with objects"
STEP_OVER_FCOS, BOXES_OVER_CLASSES, SCORING = 0.9, 0.97, 0.03
NUM_CLASSES, NUM_OBJECTS = 15, 40  # twice as many as the tiles of DOTA and xView hold on average
LOADED_SIDES = (1024, 512)  # of the tiles that the configs of dota, and of the others, load
KIND = ObjectList()


def draw_targets(rows: int, side: int) -> Tensor:
    """Return objects of any angle on images, ``[B, G, 11]``."""
    size, whole = (side, side), Window(0, 0, side, side)
    drawn = [draw_objects(size, NUM_CLASSES, row, NUM_OBJECTS) for row in range(rows)]
    return torch.from_numpy(KIND.collate([KIND.crop(each, whole, size, side) for each in drawn]))


def build_ours(options: argparse.Namespace, boxes: str) -> tuple[DetectionTask, Detector]:
    """Return the task and its network, with random weights."""
    config = DetectionConfig.model_validate({"name": "detection", "boxes": boxes})
    task = DetectionTask(config, [f"class_{number}" for number in range(NUM_CLASSES)], NUM_OBJECTS)
    network = task.build_network(
        ModelConfig(name=options.model, weights="none"), in_chans=3,
        image_size=options.image_size, storage=AWS, bands=("red", "green", "blue"),
    )  # fmt: skip
    return task, network.to(memory_format=torch.channels_last)  # type: ignore[return-value]


class Maps(nn.Module):
    """The backbone, pyramid and coarser maps of a detector, as torchvision's heads take them."""

    def __init__(self, detector: Detector, out_channels: int) -> None:
        super().__init__()
        self.detector, self.out_channels = detector, out_channels

    def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        """Return the maps by name, fine to coarse."""
        levels = self.detector.decoder.levels(self.detector.backbone(self.detector.pad(images)))
        return OrderedDict((str(number), each) for number, each in enumerate(levels))


class AsIs(nn.Module):
    """Instead of torchvision's transform: images have their size, and are normalised."""

    def forward(self, images: Tensor, targets: Any) -> tuple[ImageList, Any]:  # noqa: ANN401
        """Return the batch and its targets."""
        return ImageList(images, [tuple(images.shape[-2:])] * len(images)), targets


def build_fcos(options: argparse.Namespace) -> FCOS:
    """Return torchvision's FCOS on the same backbone and levels."""
    task, network = build_ours(options, "aligned")
    anchors = AnchorGenerator(((8,), (16,), (32,), (64,), (128,)), ((1.0,),) * 5)
    maps = Maps(network, task.config.head_width)
    del network.decoder.head  # its parameters would have no gradient
    model = FCOS(maps, num_classes=NUM_CLASSES, anchor_generator=anchors)
    model.transform = AsIs()
    return model.to(memory_format=torch.channels_last)


def step_of(network: nn.Module, loss: Callable[[], Tensor]) -> Callable[[], float]:
    """Return what runs a training step and returns steps per second."""
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-4)
    network.train()

    def run() -> float:
        begin = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        loss().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return 1 / (time.perf_counter() - begin)

    return run


def measure_steps(options: argparse.Namespace) -> Table:
    """Return the table of training steps."""
    rows, side = options.batch_size, options.image_size
    images = torch.randn(rows, 3, side, side).contiguous(memory_format=torch.channels_last)
    targets = draw_targets(rows, side)
    runs: dict[str, Callable[[], float]] = {}
    for name, boxes in ((ALIGNED, "aligned"), (ORIENTED, "oriented")):
        task, network = build_ours(options, boxes)

        def loss(task: DetectionTask = task, network: nn.Module = network) -> Tensor:
            return task.loss(network(images), targets, training=True).sum()

        runs[name] = step_of(network, loss)
    fcos = build_fcos(options)
    theirs = [
        {"boxes": each[each[:, LABEL] >= 0][:, HULL],
         "labels": each[each[:, LABEL] >= 0][:, LABEL].long()}
        for each in targets
    ]  # fmt: skip
    runs[FCOS_STEP] = step_of(fcos, lambda: sum(fcos(images, theirs).values()))
    values = interleave(runs, rounds=options.rounds)
    title = f"{rows} images of {side} px with {NUM_OBJECTS} objects, {options.model}"
    table = Table(title, "steps/s", FCOS_STEP, [Row(name, values[name]) for name in runs])
    targets_ = [
        Target(f"step of {name} over {FCOS_STEP}", 1 / ratio.median, STEP_OVER_FCOS, at_least=False)
        for name in (ALIGNED, ORIENTED)
        if (ratio := table.ratio(name)) is not None
    ]
    return replace(table, targets=targets_)


def measure_loading(options: argparse.Namespace, work: Path, side: int) -> Table:
    """Return the table of loading tiles of ``side`` px."""
    runs: dict[str, Callable[[], float]] = {}
    counts = {"train": 200 if options.quick else 1000, "val": 64}
    for name, target in ((CLASSES, "class_index"), (BOXES, "objects")):
        url = pack_tiles(work, side, counts, target=target)
        config = DataConfig.model_validate(
            {"url": url, "image_size": side, "batch_size": 16,
             "decoded_cache": "off", "cache": "none", "crop_ratio": (1, 1), "num_workers": 2}
        )  # fmt: skip

        def run(config: DataConfig = config) -> float:
            images = 0
            module = DataModule(DataSet(config, AWS), seed=0)
            loader = module.open_train_loader(0, this_process("cpu"), is_last=True)
            begin = time.perf_counter()
            for batch in loader:
                images += len(batch)
            return float(images / (time.perf_counter() - begin))

        runs[name] = run
    values = interleave(runs, rounds=options.rounds)
    rows = [Row(name, values[name]) for name in runs]
    title = f"Loading JPEGs of {side} px with {NUM_OBJECTS} objects, 2 threads"
    table = Table(title, "images/s", CLASSES, rows)
    ratio = table.ratio(BOXES)
    assert ratio is not None
    return replace(
        table, targets=[Target(f"{BOXES} over {CLASSES}", ratio.median, BOXES_OVER_CLASSES)]
    )


def measure_scoring(options: argparse.Namespace) -> Table:
    """Return the table of a validation: NMS and AP beside the network.

    The network has random weights, so detections near the truth are added to its outputs, as many
    as a trained one keeps.
    """
    rows, side = options.batch_size, options.image_size
    task, network = build_ours(options, "oriented")
    network.eval()
    images = torch.randn(rows, 3, side, side).contiguous(memory_format=torch.channels_last)
    targets = draw_targets(rows, side)
    metrics, losses = task.metrics(), torch.zeros(rows)
    valid = torch.ones(rows, dtype=torch.bool)
    random = torch.Generator().manual_seed(0)

    @torch.inference_mode()
    def compute() -> tuple[Tensor, Tensor]:
        outputs: tuple[Tensor, Tensor] = network(images)
        return outputs

    logits, boxes = (each.clone() for each in compute())
    for row in range(rows):
        near = targets[row, :NUM_OBJECTS].repeat(8, 1)
        cells = torch.randperm(boxes.shape[1], generator=random)[: len(near)]
        shaken = near[:, :5] + torch.randn(len(near), 5, generator=random) * 0.05 * near[:, 2:3]
        boxes[row, cells] = shaken.clamp(min=1)
        logits[row, cells, near[:, LABEL].long()] = torch.randn(len(near), generator=random)

    def timed(work: Callable[[], object]) -> Callable[[], float]:
        def run() -> float:
            begin = time.perf_counter()
            work()
            return float(rows / (time.perf_counter() - begin))

        return run

    def score() -> None:
        metrics.update(task.predict((logits, boxes)), targets, valid, losses)

    values = interleave({NETWORK: timed(compute), SCORE: timed(score)}, rounds=options.rounds)
    rows_ = [Row(name, values[name]) for name in values]
    title = f"Validation of {side} px with {NUM_OBJECTS} oriented objects, {options.model}"
    table = Table(title, "images/s", NETWORK, rows_)
    ratio = table.ratio(SCORE)
    assert ratio is not None
    share = Target(f"{SCORE} over the network", 1 / ratio.median, SCORING, at_least=False)
    return replace(table, targets=[share])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's own options."""
    add = parser.add_argument
    add("--model", default="resnet50", help="backbone (%(default)s)")
    add("--image-size", type=int, default=512, help="px (%(default)s)")
    add("--batch-size", type=int, default=2, help="images of a step (%(default)s)")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure; return the result."""
    torch.manual_seed(0)
    tables = [measure_steps(options), measure_scoring(options)]
    with tempfile.TemporaryDirectory() as temporary:
        tables += [measure_loading(options, Path(temporary), side) for side in LOADED_SIDES]
    versions = describe_versions(("rsdl-train", "torch", "torchvision", "timm"))
    title = f"Detection: {options.model}, {options.image_size} px"
    return build_result("detection", title, tables, options=vars(options), versions=versions)


def main() -> None:
    """Run the benchmark."""
    run_benchmark(__doc__, add_arguments, run)


if __name__ == "__main__":
    main()
