"""The LightningModule: one shared step for training, validation and test.

The training step never waits for the device: losses and counts are summed on the device, and a log
row reads the sums one step later.
"""

import math
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from rsdl.config.optim import OptimConfig
from rsdl.core.batch import Batch
from rsdl.core.errors import RsdlError
from rsdl.core.rng import key_of
from rsdl.data.augment import Augment
from rsdl.data.targets import KINDS
from rsdl.distributed.rank import world_size
from rsdl.tasks.base import Task, turned_views
from rsdl.train.async_scalars import AsyncScalars
from rsdl.train.optim import build_optimizer, build_schedule, is_fused, may_fuse
from rsdl.train.predictions import PredictionCollector


class TrainingModule(pl.LightningModule):
    """A network with its task, augmentation and optimizer.

    Args:
        network: Images ``[B, C, H, W]`` -> outputs.
        task: What is learnt.
        augment: Stored pixels -> network input.
        optim: Config of the optimizer and its schedule.
        seed: Seed of the run.
    """

    def __init__(
        self,
        network: nn.Module,
        task: Task,
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
        self.metrics = task.metrics()
        self.collector = PredictionCollector()
        self.steps_per_epoch = 1
        self.num_steps = 1
        self.tta = False
        self.replays = False  # whether the network runs as CUDA graphs
        self.normalized_by = "the data set"  # where the images' mean and deviation are from
        # Sums over the epoch so far, on the device: loss, rows. Not a buffer, since DDP broadcasts
        # rank 0's buffers to all ranks.
        self.train_sums = torch.zeros(2, dtype=torch.float64)

    def forward(self, images: Tensor) -> Tensor:
        """Return outputs of the averaged weights if an average is kept, else of the network's."""
        network = self.model if self.averaged is None else self.averaged.module
        return network(images)  # type: ignore[no-any-return]

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss over the valid rows.

        The loss is scaled so that the gradients of all ranks and micro-batches add up to the mean
        over the valid samples of the global batch.
        """
        self._seed_step(batch_idx)
        if self.replays and batch_idx % self._accumulate == 0:
            # Allow CUDA graphs to reuse memory: the previous step's gradients are no longer needed.
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        images, mix = self.augment(batch, training=True)
        outputs = self.model(images)
        targets = self.augment.turn_targets(batch, KINDS[self.task.facts.target])
        losses = self.task.loss(outputs, targets, training=True, mix=mix)
        counted = torch.where(batch.valid, losses, torch.zeros_like(losses)).sum()
        with torch.no_grad():
            self.train_sums += torch.stack((counted.double(), batch.valid.sum().double()))
        # Lightning divides by the accumulation steps and DDP by the ranks.
        return counted * (self.trainer.world_size * self._accumulate / batch.num_planned)

    def validation_step(self, batch: Batch, batch_idx: int) -> Any:  # noqa: ANN401
        """Add a batch to the metrics and return its prediction."""
        outputs, prediction = self.predict_batch(batch)
        losses = self.task.loss(outputs, batch.targets, training=False)
        self.metrics.update(prediction, batch.targets, batch.valid, losses)
        return prediction

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Add a batch to the metrics, and keep what the evaluation needs of each sample."""
        prediction = self.validation_step(batch, batch_idx)
        columns = self.task.columns(prediction, batch.targets)
        self.collector.add({"samples": batch.samples, **columns}, batch.valid)

    def predict_batch(self, batch: Batch) -> tuple[Any, Any]:
        """Return outputs and prediction; with ``tta``, merged over flips and rotations."""
        images, _ = self.augment(batch, training=False)
        if self.tta:
            return self.task.merge_views(self(view) for view in turned_views(images))
        outputs = self(images)
        return outputs, self.task.predict(outputs)

    def read_losses(self) -> AsyncScalars:
        """Return this epoch's sum of losses and number of rows so far, over all ranks.

        A collective that every rank must call. It does not wait for the device.
        """
        sums = self.train_sums
        if world_size() > 1:
            sums = sums.clone()
            torch.distributed.all_reduce(sums)
        return AsyncScalars(sums)

    def take_losses(self, reading: AsyncScalars, step: int) -> tuple[float, float]:
        """Return the sum of losses and the rows that were read after ``step`` optimizer steps.

        Raises:
            RsdlError: If the loss is not finite, since the weights are then lost.
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
        """Move the sums to the device, and look the averaged weights up there."""
        self.train_sums = self.train_sums.to(self.device)
        if self.averaged is not None:
            self.averaged.forget()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take no schedule from a checkpoint.

        A schedule is a function of config and step, and a run may have been made longer since.
        """
        checkpoint["lr_schedulers"] = []

    def on_train_start(self) -> None:
        """Set the learning rate of the next step, since a resumed optimizer has its own."""
        if self.global_step:
            schedule: Any = self.lr_schedulers()
            schedule.step_update(self.global_step)

    def on_fit_end(self) -> None:
        """Drop references to weights that are about to leave the device."""
        if self.averaged is not None:
            self.averaged.forget()

    def on_validation_start(self) -> None:
        """Free the last step's gradients, which the next step would discard anyway.

        An epoch ends with an optimizer step, so no gradients are being accumulated.
        """
        self.zero_grad(set_to_none=True)

    def on_validation_epoch_start(self) -> None:
        """Reset the metrics."""
        self.metrics.reset()

    def on_test_epoch_start(self) -> None:
        """Reset the metrics and drop the columns of an earlier evaluation."""
        self.metrics.reset()
        self.collector = PredictionCollector()

    def on_train_epoch_start(self) -> None:
        """Freeze or unfreeze the backbone, and set the modes of dropout and batch norm."""
        self._freeze(self.current_epoch < self.optim_config.freeze_epochs)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Drop the gradients of a frozen backbone; DDP computes them nevertheless."""
        if self.current_epoch < self.optim_config.freeze_epochs:
            for parameter in self._backbone():
                parameter.grad = None

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        """Update the weights, then their average."""
        super().optimizer_step(*args, **kwargs)
        if self.averaged is not None:
            self.averaged.update(self.model, step=self.global_step)

    def configure_optimizers(self) -> dict[str, Any]:  # type: ignore[override]
        """Return timm's optimizer and schedule."""
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
        """Clip the norm of the gradient on the device.

        Lightning refuses to clip for a fused optimizer, which may unscale fp16 gradients itself
        after the clipping. A fused optimizer never gets scaled gradients here; see
        :func:`may_fuse`.
        """
        if gradient_clip_val and is_fused(optimizer):
            weights = [weight for group in optimizer.param_groups for weight in group["params"]]
            nn.utils.clip_grad_norm_(weights, gradient_clip_val)
            return
        super().configure_gradient_clipping(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:  # noqa: ANN401
        """Set the learning rate of the next step."""
        scheduler.step_update(self.global_step)

    def learning_rates(self) -> dict[str, float | None]:
        """Return the head's learning rate as ``lr``, and the lowest and highest of all weights.

        ``lr`` is not that of the first group: with layer decay that is the lowest layer, whose rate
        is a small fraction of the head's.
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
        # DDP expects a gradient of every parameter; a single process skips computing them.
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
        return {id(parameter) for parameter in self.task.head(self.model).parameters()}

    def _seed_step(self, batch_idx: int) -> None:
        """Seed dropout by (seed, step) and the part of the global batch that is computed.

        A resume repeats it exactly, and the same part has the same masks whether a rank of its own
        computes it or a micro-batch of fewer ranks. One seed for all parts would give rows of
        different parts the same masks, whose noise would not average out over the global batch.
        """
        # As rsdl/data/plan.py divides a global batch.
        part = self.global_rank * self._accumulate + batch_idx % self._accumulate
        # The 0 stands where the rank stood: one process draws what it drew in earlier releases.
        key = key_of(self.seed, self.global_step, part, 0, "step")
        seed_generators(key & 0x7FFFFFFFFFFFFFFF, self.device)

    @property
    def _accumulate(self) -> int:
        return int(self.trainer.accumulate_grad_batches)


def seed_generators(seed: int, device: torch.device) -> None:
    """Seed the generators of the host and of one device, as ``torch.manual_seed`` would.

    ``torch.manual_seed`` checks every type of device, and formats a stack trace for those not in
    use: 0.3 ms a step.

    Args:
        seed: At least 0, below 2^63.
        device: Device of this process.
    """
    if device.type not in ("cpu", "cuda"):
        torch.manual_seed(seed)
        return
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)


def average_weights(network: nn.Module, decay: float | None) -> Any:  # noqa: ANN401 - timm's type
    """Return an exponential moving average of the weights, or ``None`` without a ``decay``."""
    if decay is None:
        return None
    from rsdl.train.ema import WeightEma

    return WeightEma(network, decay)
