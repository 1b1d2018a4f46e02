"""The task of every trainer for the training step.

All train the same network on the same images with the same loss, optimizer, learning rate and
precision; only their implementations differ, and that difference is measured.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import timm
import torch
from torch import Tensor, nn

NUM_CLASSES = 10
LEARNING_RATE, WEIGHT_DECAY, SMOOTHING = 1e-3, 0.05, 0.1
MEAN, STD = 127.5, 74.0  # of every band, in stored units
WARM_STEPS = 5  # at the start of a turn, for autotuning and allocation


@dataclass(frozen=True, slots=True)
class StepTask:
    """A network to train.

    Attributes:
        model: Its name in timm.
        image_size: Side of the images in pixels.
        batch_size: Images in a step.
        steps: Steps of a turn that count.
        device: Device to train on.
    """

    model: str
    image_size: int
    batch_size: int
    steps: int
    device: torch.device

    @property
    def num_steps(self) -> int:
        """Number of steps of a turn, including warm-up."""
        return WARM_STEPS + self.steps

    @property
    def half(self) -> bool:
        """Whether to compute in bf16, as on a GPU."""
        return self.device.type == "cuda"


class Clock(Protocol):
    """Gets notified of each step of a turn."""

    def tick(self) -> None:
        """Record the start of a step."""

    def stop(self) -> None:
        """Record that the last step was launched."""


class StepTrainer(Protocol):
    """One trainer with its network, which keeps its compiled code across turns."""

    def run(self, clock: Clock) -> None:
        """Run the task's number of steps, and notify the clock."""

    def close(self) -> None:
        """Release all resources."""


# Stored pixels, [B, H, W, 3] uint8, and class indices, [B]; on the device.
Batches = Sequence[tuple[Tensor, Tensor]]


def draw_batches(task: StepTask, count: int = 2) -> Batches:
    """Return batches of random pixels and targets."""
    random = torch.Generator().manual_seed(0)
    size, side = task.batch_size, task.image_size
    return [
        (
            torch.randint(256, (size, side, side, 3), generator=random, dtype=torch.uint8).to(
                task.device
            ),
            torch.randint(NUM_CLASSES, (size,), generator=random).to(task.device),
        )
        for _ in range(count)
    ]


def create_network(model: str, image_size: int, num_classes: int = NUM_CLASSES) -> nn.Module:
    """Return a network of random weights from ``timm.create_model``."""
    try:
        network: nn.Module = timm.create_model(model, num_classes=num_classes, img_size=image_size)
    except TypeError:  # the model has no img_size argument: it takes any size
        network = timm.create_model(model, num_classes=num_classes)
    return network
