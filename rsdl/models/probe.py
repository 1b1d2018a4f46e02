"""Test a network without its weights: accepted image sizes, and cost.

Tests run on torch's meta device, where tensors have a shape but no data: nothing is downloaded or
allocated, and a forward pass takes a fraction of a second. The few networks that need values while
they are built are tested on the CPU instead.
"""

import copy
from dataclasses import dataclass
from itertools import chain

import timm
import torch
from timm.layers.patch_embed import PatchEmbed
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.flop_counter import FlopCounterMode

from rsdl.core.image_size import ImageSize, height_width
from rsdl.models.sizes import size_error


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of a network.

    Attributes:
        parameters: Trainable parameters.
        flops: Floating point operations of one forward pass of one image; a multiply-accumulate
            counts as two.
    """

    parameters: int
    flops: int


def measure_cost(model: nn.Module, *, in_chans: int, image_size: ImageSize) -> Cost:
    """Return the numbers of parameters and operations of a network, measured on its own device.

    Args:
        model: The network; it is set to evaluation mode, and its parameters need no gradient.
        in_chans: Bands of the input.
        image_size: Size of the input in pixels.
    """
    parameters = list(model.parameters())
    # The counter follows gradients, and fails at a part of a parameter that is not computed.
    model.requires_grad_(False)
    images = torch.empty(1, in_chans, *height_width(image_size), device=parameters[0].device)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(images)
    return Cost(sum(p.numel() for p in parameters), counter.get_total_flops())


class _OneValueError(Exception):
    """A batch normalisation got a single value per channel."""


def find_starved_norm(model: nn.Module, *, in_chans: int, image_size: ImageSize) -> str | None:
    """Return the first batch normalisation that gets one value per channel from one image.

    PyTorch refuses to train on it, since a single value has no variance.

    Args:
        model: The network; it is not changed.
        in_chans: Bands of the input.
        image_size: Size of the input in pixels.

    Returns:
        The module's name, or ``None`` if every one gets more values.
    """
    norms = [name for name, part in model.named_modules() if isinstance(part, _BatchNorm)]
    if not norms:
        return None
    trial = copy.deepcopy(model).to("meta").train()
    for name in norms:

        def refuse(part: nn.Module, inputs: tuple[Tensor, ...], name: str = name) -> None:
            if part.training and inputs[0].numel() == inputs[0].shape[1]:
                raise _OneValueError(name)

        trial.get_submodule(name).register_forward_pre_hook(refuse)
    images = torch.zeros(1, in_chans, *height_width(image_size), device="meta")
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            trial(images)
    except _OneValueError as found:
        return str(found)
    except Exception:
        return None
    return None


def published_size(timm_name: str) -> int:
    """Return the side in pixels of the images that timm's weights were trained on."""
    config = timm.get_pretrained_cfg(timm_name)
    assert config is not None, timm_name
    return int(config.input_size[-1])


def check_image_size(timm_name: str, *, in_chans: int, image_size: ImageSize) -> None:
    """Check that a timm model runs on an image size without losing pixels.

    Raises:
        ConfigError: If not; the message has timm's reason and the published size.
    """
    reason = _failure(timm_name, in_chans, image_size)
    if reason is None:
        return
    raise size_error(
        image_size, f"{timm_name} does not take this size ({reason})", [published_size(timm_name)]
    )


def _failure(timm_name: str, in_chans: int, image_size: ImageSize) -> str | None:
    """Return why one forward pass at this size fails, or ``None``."""
    reason = _try(timm_name, in_chans, image_size, "meta")
    if reason and "meta" in reason:  # the failure is of the meta device, not of the size
        reason = _try(timm_name, in_chans, image_size, "cpu")
    return reason


def _try(timm_name: str, in_chans: int, image_size: ImageSize, device: str) -> str | None:
    # Fork the random state: a test must not change the result of training.
    with torch.random.fork_rng(devices=[]), torch.device(device), torch.no_grad():
        try:
            try:
                model = timm.create_model(timm_name, in_chans=in_chans, img_size=image_size)
            except TypeError:  # no fixed input size
                model = timm.create_model(timm_name, in_chans=in_chans)
            lost = _lost_pixels(model, image_size)
            if lost:
                return f"{lost} pixels at the border would be lost"
            model.eval()(torch.zeros(1, in_chans, *height_width(image_size)))
        except Exception as error:  # networks raise any kind of exception
            return str(error) or type(error).__name__
    return None


def _lost_pixels(model: nn.Module, image_size: ImageSize) -> int:
    patches = (m for m in chain([model], model.children()) if isinstance(m, PatchEmbed))
    return max(
        (
            side % step
            for part in patches
            if not part.dynamic_img_pad
            for side, step in zip(height_width(image_size), part.patch_size, strict=True)
        ),
        default=0,
    )
