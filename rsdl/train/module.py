"""The LightningModule: one shared step for training, validation and test.

Nothing in the training step waits for the device: losses and counts are added up there, and what a
log row needs of them is read a step later.
"""

import math
from collections.abc import Iterator
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from rsdl.config.optim import OptimConfig
from rsdl.core.batch import Batch
from rsdl.core.errors import RsdlError
from rsdl.core.rng import key_of
from rsdl.data.augment import Augment
from rsdl.distributed.rank import world_size
from rsdl.tasks.classification import ClassificationMetrics, ClassificationTask
from rsdl.train.async_scalars import AsyncScalars
from rsdl.train.optim import build_optimizer, build_schedule, is_fused, may_fuse
from rsdl.train.seeding import seed_generators


class TrainingModule(pl.LightningModule):
    """A network, its task and how it is fitted.

    Args:
        network: Images ``[B, C, H, W]`` -> outputs.
        task: Loss and metrics.
        augment: Stored pixels -> what the network sees.
        optim: How weights are updated.
        seed: Seed of the run.
    """

    def __init__(
        self,
        network: nn.Module,
        task: ClassificationTask,
        augment: Augment,
        optim: OptimConfig,
        seed: int,
    ) -> None:
        super().__init__()
        self.model = network
        self.task = task
        self.augment = augment
        self.optim_config = optim
        self.seed = seed
        self.averaged = average_weights(network, optim.ema_decay)
        self.metrics: ClassificationMetrics = task.metrics()
        self.steps_per_epoch = 1
        self.num_steps = 1
        self.tta = False
        self.replays = False  # whether CUDA graphs stand for the network
        # Sums over the epoch so far, on the device: loss, rows. Not a buffer: DDP would overwrite
        # each rank's by the first one's.
        self.train_sums = torch.zeros(2, dtype=torch.float64)

    def forward(self, images: Tensor) -> Tensor:
        """Return the outputs of the weights that count: the average, where one is kept."""
        network = self.model if self.averaged is None else self.averaged.module
        return network(images)  # type: ignore[no-any-return]

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss over the rows that count.

        It is scaled so that the gradients of all ranks and micro-batches add up to the mean over
        the samples of the global batch that count.
        """
        self._seed_step(batch_idx)
        if self.replays and batch_idx % self._accumulate == 0:
            # What graphs have left in their memory is done with: gradients of the step before.
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        images, mix = self.augment(batch, training=True)
        outputs = self.model(images)
        partner, weight = (mix.partner, mix.weight) if mix is not None else (None, None)
        losses = self.task.loss(outputs, batch.targets, smooth=True, partner=partner, weight=weight)
        counted = torch.where(batch.valid, losses, torch.zeros_like(losses)).sum()
        with torch.no_grad():
            self.train_sums += torch.stack((counted.double(), batch.valid.sum().double()))
        # Lightning divides by the accumulation steps and DDP by the ranks.
        return counted * (self.trainer.world_size * self._accumulate / batch.num_planned)

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Add a batch to the metrics and return what became of each row."""
        outputs, probabilities = self.predict_batch(batch)
        losses = self.task.loss(outputs, batch.targets, smooth=False)
        self.metrics.update(probabilities, batch.targets, batch.valid, losses)
        outcome = self.task.outcome(probabilities)
        return {
            "samples": batch.samples,
            "targets": batch.targets,
            "valid": batch.valid,
            "predicted": outcome.predicted,
            "confidence": outcome.confidence,
            "runner_up": outcome.runner_up,
            "runner_up_probability": outcome.runner_up_probability,
        }

    test_step = validation_step

    def predict_batch(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return outputs and probabilities, averaged over the 8 symmetries under ``tta``."""
        images, _ = self.augment(batch, training=False)
        if not self.tta:
            outputs = self(images)
            return outputs, self.task.probabilities(outputs)
        each = [self.task.probabilities(self(view)) for view in turned_views(images)]
        probabilities = torch.stack(each).mean(0)
        return probabilities.clamp_min(1e-12).log(), probabilities

    def read_losses(self) -> AsyncScalars:
        """Return the sum of losses of this epoch so far, and its rows, over all ranks.

        Every rank must ask; none waits for the device.
        """
        sums = self.train_sums
        if world_size() > 1:
            sums = sums.clone()
            torch.distributed.all_reduce(sums)
        return AsyncScalars(sums)

    def take_losses(self, reading: AsyncScalars, step: int) -> tuple[float, float]:
        """Return what was read after ``step`` optimizer steps.

        Raises:
            RsdlError: If a loss was not a number, so that the weights are lost.
        """
        loss, rows = reading.take()
        if not math.isfinite(loss):
            raise RsdlError(
                "optim.lr",
                f"the training loss is {loss} at step {step}",
                "use a lower optim.lr, optim.clip_grad=1, or trainer.precision=fp32",
            )
        return loss, rows

    def on_fit_start(self) -> None:
        """Count on the device, and average the weights that lie there."""
        self.train_sums = self.train_sums.to(self.device)
        if self.averaged is not None:
            self.averaged.forget()

    def on_fit_end(self) -> None:
        """Keep no weights on a device that they are going to leave."""
        if self.averaged is not None:
            self.averaged.forget()

    def on_validation_start(self) -> None:
        """Let go of the last step's gradients, which the next would throw away itself.

        An epoch ends with an optimizer step, so nothing is being accumulated.
        """
        self.zero_grad(set_to_none=True)

    def on_validation_epoch_start(self) -> None:
        """Begin counting anew."""
        self.metrics.reset()

    on_test_epoch_start = on_validation_epoch_start

    def on_train_epoch_start(self) -> None:
        """Freeze or thaw the backbone, and put dropout's and batch norm's mode right."""
        self._freeze(self.current_epoch < self.optim_config.freeze_epochs)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Leave a frozen backbone alone, whatever gradients other ranks need of it."""
        if self.current_epoch < self.optim_config.freeze_epochs:
            for parameter in self._backbone():
                parameter.grad = None

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        """Update the weights, then their average."""
        super().optimizer_step(*args, **kwargs)
        if self.averaged is not None:
            self.averaged.update(self.model, step=self.global_step)

    def configure_optimizers(self) -> dict[str, Any]:  # type: ignore[override]
        """Return the optimizer and its schedule, both timm's."""
        fused = may_fuse(self.model, self.trainer.precision)
        optimizer = build_optimizer(self.optim_config, self.model, fused=fused)
        schedule = build_schedule(
            self.optim_config,
            optimizer,
            steps_per_epoch=self.steps_per_epoch,
            num_steps=self.num_steps,
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the norm of the gradient, on the device.

        Lightning refuses to where the optimizer is fused: one that is may divide fp16's gradients
        by their scale itself, after they were clipped. Ours are never scaled where it is.
        """
        if gradient_clip_val and is_fused(optimizer):
            weights = [weight for group in optimizer.param_groups for weight in group["params"]]
            nn.utils.clip_grad_norm_(weights, gradient_clip_val)
            return
        super().configure_gradient_clipping(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:  # noqa: ANN401
        """Set the rate of the step to come."""
        scheduler.step_update(self.global_step)

    def learning_rates(self) -> dict[str, float | None]:
        """Return the rate of the head as ``lr``, and the range over all weights.

        With layer decay the first group is the lowest layer, whose rate is a small part of the
        head's.
        """
        groups = self.trainer.optimizers[0].param_groups
        head = self._head()
        rates = [float(group["lr"]) for group in groups]
        of_head = [
            rate
            for rate, group in zip(rates, groups, strict=True)
            if any(id(weight) in head for weight in group["params"])
        ]
        return {"lr": max(of_head or rates), "lr_min": min(rates), "lr_max": max(rates)}

    def _freeze(self, frozen: bool) -> None:
        if not self.optim_config.freeze_epochs:
            return
        # DDP counts on a gradient from every parameter that it was told of; alone, save the work.
        if self.trainer.world_size == 1:
            for parameter in self._backbone():
                parameter.requires_grad_(not frozen)
        self.model.train()
        if frozen:
            for module in self.model.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()

    def _backbone(self) -> list[nn.Parameter]:
        head = self._head()
        return [parameter for parameter in self.model.parameters() if id(parameter) not in head]

    def _head(self) -> set[int]:
        return {id(parameter) for parameter in self.model.get_classifier().parameters()}  # type: ignore[operator]

    def _seed_step(self, batch_idx: int) -> None:
        """Make dropout a function of (seed, step, rank), so that a resume repeats it exactly."""
        micro = batch_idx % self._accumulate
        key = key_of(self.seed, self.global_step, micro, self.global_rank, "step")
        seed_generators(key & 0x7FFFFFFFFFFFFFFF, self.device)

    @property
    def _accumulate(self) -> int:
        return int(self.trainer.accumulate_grad_batches)


def turned_views(images: Tensor) -> Iterator[Tensor]:
    """Yield the 8 symmetries of square images ``[B, C, H, W]``; one at a time is in memory."""
    for turned in (images, images.transpose(2, 3)):
        yield turned
        yield turned.flip(2)
        yield turned.flip(3)
        yield turned.flip(2, 3)


def average_weights(network: nn.Module, decay: float | None) -> Any:  # noqa: ANN401 - timm's type
    """Return an exponential moving average of a network's weights, or ``None``."""
    if decay is None:
        return None
    from rsdl.train.ema import WeightEma

    return WeightEma(network, decay)
