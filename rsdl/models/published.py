"""What published weights were trained on: bands, pixels, normalisation."""

from dataclasses import dataclass

import timm

from rsdl.core.bands import RGB_BANDS

TOP = 255.0  # timm's mean and std are of pixels in [0, 1]


@dataclass(frozen=True, slots=True)
class TrainedOn:
    """The images that weights were trained on.

    Attributes:
        bands: Names of the bands, in the order of the first layer's filters.
        dtype: Type of the stored pixels.
        mean: Mean of each band that was subtracted, in stored units.
        std: What each band was divided by, in stored units.
        pixels: What is unusual about the pixels, which keeps ``data.normalize=auto`` from applying
            mean and std to other images of the same dtype; empty if nothing is.
    """

    bands: tuple[str, ...]
    dtype: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    pixels: str = ""


def timm_trained_on(timm_name: str) -> TrainedOn:
    """Return what timm's weights of a model were trained on."""
    config = timm.get_pretrained_cfg(timm_name)
    assert config is not None, timm_name
    return rgb_trained_on(config.mean, config.std)


def rgb_trained_on(mean: tuple[float, ...], std: tuple[float, ...]) -> TrainedOn:
    """Return 8-bit red, green and blue with a mean and deviation of pixels in [0, 1]."""
    return TrainedOn(
        RGB_BANDS,
        "uint8",
        tuple(TOP * value for value in mean),
        tuple(TOP * value for value in std),
    )
