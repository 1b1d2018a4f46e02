"""Optimizer and learning rate schedule."""

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class OptimConfig(BaseModel):
    """How weights are updated."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field("adamw", description="adamw, sgd, lamb or any other of timm's optimizers.")
    lr: float = Field(1e-3, gt=0, description="Peak learning rate.")
    base_lr: float | None = Field(
        None,
        gt=0,
        description="Peak learning rate for batches of 256, where lr is not given: scaled to "
        "data.batch_size by its square root for adaptive optimizers, in proportion for others.",
    )
    weight_decay: float = Field(0.05, ge=0, description="Not applied to biases and norms.")
    momentum: float = Field(0.9, ge=0, lt=1, description="For optimizers that have one.")
    layer_decay: float | None = Field(
        None, gt=0, le=1, description="Factor on the rate from each layer to the one below."
    )
    schedule: Literal["cosine", "step", "constant"] = Field(
        "cosine", description="How the rate falls after warm-up."
    )
    warmup_epochs: float = Field(3.0, ge=0, description="Epochs of linear warm-up from lr / 100.")
    min_lr: float = Field(1e-6, ge=0, description="Where the cosine ends.")
    decay_epochs: float = Field(
        30.0, gt=0, description="Epochs between falls of the step schedule."
    )
    decay_rate: float = Field(0.1, gt=0, lt=1, description="Factor of each fall.")
    clip_grad: float | None = Field(None, gt=0, description="Largest norm of the gradient.")
    ema_decay: float | None = Field(
        None, gt=0, lt=1, description="Evaluate a moving average of the weights; null: do not."
    )
    freeze_epochs: int = Field(0, ge=0, description="Epochs in which only the head is trained.")


def scale_lr(base_lr: float, optimizer: str, batch_size: int) -> float:
    """Return the learning rate of a global batch, given that of a batch of 256.

    Adaptive optimizers normalise gradients, whose noise falls with the root of the batch; the rule
    and its names are those of timm's ``train.py`` (``lr_base``, ``lr_base_scale``).
    """
    ratio = batch_size / 256
    adaptive = any(name in optimizer.lower() for name in ("ada", "lamb"))
    return base_lr * (math.sqrt(ratio) if adaptive else ratio)
