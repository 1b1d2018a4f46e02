"""Augmentation and normalisation, batched on the training device in one pass.

No random numbers are drawn here: every parameter is a function of the sample's own numbers, so the
result does not depend on the number of devices or workers or on a resume. There is no ``if`` on a
tensor, which would synchronize with the device; choices are made with ``torch.where``.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from pydantic import Field
from torch import Tensor, nn

from rsdl.config.data import AugmentConfig
from rsdl.core.bands import divisors
from rsdl.core.batch import Batch
from rsdl.core.errors import ConfigError
from rsdl.data.colour import blend, grey, shift_hue
from rsdl.data.dihedral import dihedral, draw_dihedral
from rsdl.data.mixing import beta_quantiles, cut_box, interpolate
from rsdl.data.rotation import draw_angles, rotate
from rsdl.data.targets.base import Dihedral, TargetKind

Share = Field(ge=0, le=1)

# Columns of Batch.uniforms; the first three are those of the symmetries, the last is the angle's.
BRIGHTNESS, CONTRAST, SATURATION, HUE = range(3, 7)
MIX_CHOICE, MIX_WEIGHT, CUT_X, CUT_Y = range(7, 11)


@dataclass(frozen=True, slots=True)
class Mix:
    """The pairs and weights of a mix, so that the task can mix targets in the same way.

    Attributes:
        partner: Row of the partner, ``[B]``.
        weight: Share of a row's own image, ``[B]``; the rest is the partner's.
    """

    partner: Tensor
    weight: Tensor


class Augment(nn.Module):
    """Augment and normalise stored pixels into the network's input.

    Args:
        config: Augmentation settings for training.
        mean: Mean of each band in stored units, ``[C]``.
        std: Standard deviation of each band, ``[C]``; 0 is treated as 1.
        dtype: Type of the stored pixels, which gives the range of colours; float32 has no known
            range, so its colours are not jittered.
    """

    mean: Tensor
    scale: Tensor

    def __init__(
        self, config: AugmentConfig, mean: Sequence[float], std: Sequence[float], dtype: str
    ) -> None:
        super().__init__()
        self.config = config
        self.num_bands = len(mean)
        self.top = {"uint8": 255.0, "uint16": 65535.0, "float32": None}[dtype]
        scale = 1.0 / divisors(std)
        # Not in the checkpoint: they are in the manifest, and a run is bound to its manifest.
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32), persistent=False)
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float32), persistent=False)
        for name, alpha in (("mixup", config.mixup), ("cutmix", config.cutmix)):
            table = beta_quantiles(alpha) if alpha > 0 else torch.zeros(0)
            self.register_buffer(f"{name}_quantiles", table, persistent=False)

    def forward(self, batch: Batch, *, training: bool) -> tuple[Tensor, Mix | None]:
        """Return normalised images and, if images were mixed, the mix.

        Args:
            batch: Images ``[B, H, W, C]`` as stored.
            training: Whether to augment; otherwise only normalise.

        Returns:
            Images ``[B, C, H, W]`` float32 in channels-last memory, and the mix or ``None``.
        """
        # [B, H, W, C] -> [B, C, H, W], a view
        if not training:
            return self.normalize(batch.images.permute(0, 3, 1, 2)), None
        config, numbers = self.config, batch.uniforms
        turned = dihedral(batch.images, numbers, flip=config.flip, rotate90=config.rotate90)
        images = turned.permute(0, 3, 1, 2)
        if config.jitters and self.num_bands == 3 and self.top is not None:
            colours = images.to(torch.float32) / self.top
            images = jitter_colours(colours, numbers, config) * self.top
        normal = self.normalize(images)
        if config.rotate:  # after normalisation, so that what comes in from outside is the mean
            normal = rotate(normal, draw_angles(numbers, config.rotate))
        return self.mix(normal, batch) if config.mixes else (normal, None)

    def turn_targets(self, batch: Batch, kind: TargetKind) -> Tensor:
        """Return a training batch's targets, flipped and rotated as :meth:`forward` does images."""
        config, numbers, targets = self.config, batch.uniforms, batch.targets
        if kind.in_index:
            return targets  # a class stays what it is, and a step need not draw for it
        height, width = batch.images.shape[1:3]
        if config.flip or config.rotate90:
            drawn = draw_dihedral(numbers, flip=config.flip, rotate90=config.rotate90)
            targets = kind.turn(targets, Dihedral(*drawn), (height, width))
        if config.rotate:
            targets = kind.rotate(targets, draw_angles(numbers, config.rotate), (height, width))
        return targets

    def normalize(self, images: Tensor) -> Tensor:
        """Return ``(images - mean) / std`` by band, ``[B, C, H, W]`` float32."""
        # [B, C, H, W] -> [B, H, W, C], the memory order
        pixels = images.permute(0, 2, 3, 1)
        shape = pixels.shape
        mean, scale = self.mean, self.scale
        if pixels.device.type == "cpu" and pixels.is_contiguous():
            # On the CPU, loops run over the last axis: make it a whole row and not a few bands.
            pixels = pixels.flatten(2)
            mean, scale = mean.repeat(shape[2]), scale.repeat(shape[2])
        if pixels.dtype == torch.float32:  # the caller's tensor: not modified in place
            normal = (pixels - mean).mul_(scale)
        else:
            normal = pixels.to(torch.float32).sub_(mean).mul_(scale)
        return normal.view(shape).permute(0, 3, 1, 2)

    def mix(self, images: Tensor, batch: Batch) -> tuple[Tensor, Mix]:
        """Mix rows 2j and 2j + 1 with each other by mixup or CutMix.

        Neighbours in the global order stay on one rank if its part is even, so the partner is a
        function of the plan. Padding and corrupt rows are not mixed in.

        Raises:
            ConfigError: If the number of rows is odd.

        Sources: Zhang et al. 2018 (mixup), Yun et al. 2019 (CutMix).
        """
        size, _, height, width = images.shape
        if size % 2:
            raise ConfigError(
                "data.batch_size",
                f"gives each device {size} images at a time, mixup and cutmix need pairs",
                "choose one that gives an even number, or set augment.mixup and .cutmix to 0",
            )
        rows = torch.arange(size, device=images.device)
        partner, leader = rows ^ 1, rows & ~1
        numbers = batch.uniforms[leader]  # a pair shares its numbers
        use_cut = self._choose_cut(numbers[:, MIX_CHOICE])
        up, cut = self._weight("mixup", numbers), self._weight("cutmix", numbers)
        box = cut_box(cut, numbers[:, CUT_X], numbers[:, CUT_Y], height, width)
        inside = box & use_cut[:, None, None]
        area = inside.sum((1, 2)) / (height * width)
        both = batch.valid & batch.valid[partner]
        weight = torch.where(use_cut, 1 - area, up)
        weight = torch.where(both, weight, torch.ones_like(weight))
        own = torch.where(use_cut[:, None, None], (~inside).float(), weight[:, None, None])
        own = torch.where(both[:, None, None], own, torch.ones_like(own))[:, None]
        return images * own + images[partner] * (1 - own), Mix(partner, weight)

    def _choose_cut(self, choice: Tensor) -> Tensor:
        if self.config.mixup > 0 and self.config.cutmix > 0:
            return choice < 0.5
        return torch.full_like(choice, self.config.cutmix > 0, dtype=torch.bool)

    def _weight(self, name: str, numbers: Tensor) -> Tensor:
        table: Tensor = getattr(self, f"{name}_quantiles")
        if not len(table):
            return torch.ones_like(numbers[:, MIX_WEIGHT])
        return interpolate(table, numbers[:, MIX_WEIGHT])


def jitter_colours(images: Tensor, numbers: Tensor, config: AugmentConfig) -> Tensor:
    """Change brightness, contrast, saturation and hue, in this order, each as in torchvision.

    Args:
        images: ``[B, 3, H, W]`` in ``[0, 1]``.
        numbers: ``[B, K]`` in ``[0, 1)``.
        config: Strengths; 0 skips a step.
    """

    def factor(column: int, strength: float) -> Tensor:
        return (1 + strength * (2 * numbers[:, column] - 1))[:, None, None, None]

    if config.brightness:
        images = (images * factor(BRIGHTNESS, config.brightness)).clamp(0, 1)
    if config.contrast:
        middle = grey(images).mean((2, 3), keepdim=True)
        images = blend(images, middle, factor(CONTRAST, config.contrast))
    if config.saturation:
        images = blend(images, grey(images), factor(SATURATION, config.saturation))
    if config.hue:
        images = shift_hue(images, config.hue * (2 * numbers[:, HUE] - 1))
    return images
