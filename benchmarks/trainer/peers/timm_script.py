"""timm's training script, with the options that its documentation recommends for speed.

Follows https://github.com/huggingface/pytorch-image-models/blob/main/train.py with
``--amp --amp-dtype bfloat16 --channels-last --opt adamw --weight-decay 0.05 --smoothing 0.1``, and
``--torchcompile`` where compiled. Its prefetcher normalises on the device; its workers crop and
flip on the host. Loss meters are updated at every step, a line is logged every 50.
"""

import logging
import time
from contextlib import suppress
from functools import partial
from typing import Any

import torch
from timm.loss.cross_entropy import LabelSmoothingCrossEntropy
from timm.optim._optim_factory import create_optimizer_v2
from timm.scheduler.scheduler_factory import create_scheduler_v2
from timm.utils.metrics import AverageMeter
from torch import Tensor

from benchmarks.trainer.step_task import (
    LEARNING_RATE,
    MEAN,
    SMOOTHING,
    STD,
    WEIGHT_DECAY,
    Batches,
    Clock,
    StepTask,
    create_network,
)

LOG_INTERVAL = 50
logger = logging.getLogger("train")


class TimmScript:
    """The objects that ``train.py`` builds, and its ``train_one_epoch``.

    Args:
        task: The task.
        batches: Stored pixels, and targets.
        compiled: Whether to use ``--torchcompile``.
    """

    def __init__(self, task: StepTask, batches: Batches, *, compiled: bool = False) -> None:
        self.device, self.num_steps = task.device, task.num_steps
        model = (
            create_network(task.model, task.image_size)
            .to(task.device)
            .to(memory_format=torch.channels_last)
        )
        self.optimizer = create_optimizer_v2(
            model, opt="adamw", lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY
        )
        self.amp_autocast = (
            partial(torch.autocast, device_type=task.device.type, dtype=torch.bfloat16)
            if task.half
            else suppress
        )
        self.model: Any = torch.compile(model, backend="inductor") if compiled else model
        criterion: Any = LabelSmoothingCrossEntropy
        self.loss_fn = criterion(smoothing=SMOOTHING)
        self.meter: Any = AverageMeter
        self.lr_scheduler, _ = create_scheduler_v2(
            self.optimizer, sched="cosine", num_epochs=300, updates_per_epoch=1000
        )
        # The output of its collate function, but in device memory: channels first.
        self.batches = [(images.permute(0, 3, 1, 2).contiguous(), y) for images, y in batches]
        shape = (1, 3, 1, 1)
        self.mean = torch.tensor([MEAN] * 3, device=task.device).view(shape)
        self.std = torch.tensor([STD] * 3, device=task.device).view(shape)
        self.num_updates = 0

    def run(self, clock: Clock) -> None:
        """Train as ``train_one_epoch`` does."""
        if self.device.type == "cuda":
            torch.backends.cuda.matmul.allow_tf32 = True
            torch.backends.cudnn.benchmark = True
        update_time_m, losses_m = self.meter(), self.meter()
        self.model.train()
        self.optimizer.zero_grad()
        update_start_time = time.time()
        for step in range(self.num_steps):
            clock.tick()
            images, target = self._fetch(step)
            images = images.contiguous(memory_format=torch.channels_last)
            with self.amp_autocast():
                loss = self.loss_fn(self.model(images), target)
            loss.backward()
            self.optimizer.step()
            losses_m.update(loss.item(), images.size(0))
            self.num_updates += 1
            self.optimizer.zero_grad()
            time_now = time.time()
            update_time_m.update(time_now - update_start_time)
            update_start_time = time_now
            if step % LOG_INTERVAL == 0:
                lr = [group["lr"] for group in self.optimizer.param_groups]
                logger.info(
                    "Loss: %.3g (%.3g) Time: %.3fs LR: %.3e",
                    losses_m.val, losses_m.avg, update_time_m.val, sum(lr) / len(lr),
                )  # fmt: skip
            self.lr_scheduler.step_update(num_updates=self.num_updates, metric=losses_m.avg)
        clock.stop()

    def close(self) -> None:
        """Release all resources."""
        self.__dict__.clear()

    def _fetch(self, step: int) -> tuple[Tensor, Tensor]:
        """Return a batch as its ``PrefetchLoader`` does."""
        images, target = self.batches[step % len(self.batches)]
        return images.to(torch.float32).sub_(self.mean).div_(self.std), target
