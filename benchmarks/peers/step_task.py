"""What every contender for the training step is given.

All train the same network on the same images with the same loss, optimizer, rate and precision;
what differs is how each is written, which is what is measured.
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
WARM_STEPS = 5  # at the start of a turn: kernels are chosen, memory is found


@dataclass(frozen=True, slots=True)
class StepTask:
    """A network to train.

    Attributes:
        model: Its name in timm.
        image_size: Side of the images in pixels.
        batch_size: Images in a step.
        steps: Steps of a turn that count.
        device: What trains.
    """

    model: str
    image_size: int
    batch_size: int
    steps: int
    device: torch.device

    @property
    def num_steps(self) -> int:
        """Steps of a turn, those that do not count included."""
        return WARM_STEPS + self.steps

    @property
    def half(self) -> bool:
        """Whether to compute in bf16: on a GPU."""
        return self.device.type == "cuda"


class Clock(Protocol):
    """Is told of each step of a turn."""

    def tick(self) -> None:
        """Note that a step begins."""

    def stop(self) -> None:
        """Note that the last one has been launched."""


class Trainee(Protocol):
    """One contender with its network, which keeps from turn to turn what it has compiled."""

    def run(self, clock: Clock) -> None:
        """Take as many steps as the task has, and tell the clock."""

    def close(self) -> None:
        """Let go of everything."""


# Pixels as they are stored, [B, H, W, 3] uint8, and class indices, [B]; on the device.
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
    """Return a network of random weights, as ``timm.create_model`` gives it."""
    try:
        network: nn.Module = timm.create_model(model, num_classes=num_classes, img_size=image_size)
    except TypeError:  # it takes any size
        network = timm.create_model(model, num_classes=num_classes)
    return network
