"""Drawn scenes as a batch, and a detector that learns them by heart."""

import numpy as np
import torch
from torch import Tensor, nn

from rsdl.data.targets.base import Window
from rsdl.data.targets.objects import ObjectList
from rsdl.tasks.detection import DetectionTask
from tests.drawn_objects import draw_scene


def targets_of(*seeds: int, side: int = 64, count: int = 4) -> Tensor:
    """Return the objects of drawn scenes as a batch's targets."""
    kind, whole = ObjectList(), Window(0, 0, side, side)
    rows = [
        kind.crop(draw_scene(seed, side, count)[1], whole, (side, side), side) for seed in seeds
    ]
    return torch.from_numpy(kind.collate(rows))


def learn_by_heart(
    task: DetectionTask, network: nn.Module, side: int, *, steps: int, rate: float, clip: float
) -> float:
    """Return the AP50 of a network on eight drawn scenes after steps that see them all."""
    scenes = [draw_scene(seed, side, 4)[0] for seed in range(8)]
    images = (torch.from_numpy(np.stack(scenes)).permute(0, 3, 1, 2).float() - 110) / 50
    targets = targets_of(*range(8), side=side)
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    network.train()
    for _ in range(steps):
        optimizer.zero_grad()
        task.loss(network(images), targets, training=True).mean().backward()
        nn.utils.clip_grad_norm_(network.parameters(), clip)
        optimizer.step()
        schedule.step()
    metrics = task.metrics()
    with torch.inference_mode():
        found = task.predict(network.eval()(images))
    metrics.update(found, targets, torch.ones(8, dtype=torch.bool), torch.zeros(8))
    return metrics.values().metrics["ap50"]
