"""Mean and standard deviation that the images of a network are normalised with.

Published weights expect the normalisation that they were trained with. Own statistics of the data
set shift every activation of the first layers, which fine-tuning then has to undo.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import timm

from rsdl.config.model import ModelConfig
from rsdl.core.bands import find_rgb
from rsdl.core.errors import ConfigError
from rsdl.models.catalog import find_timm_name

FIELD = "data.normalize"
TOP = 255.0  # timm's values are of pixels in [0, 1]


@dataclass(frozen=True, slots=True)
class Normalization:
    """Mean and standard deviation of each band, in stored units.

    Attributes:
        mean: Mean of each band.
        std: Standard deviation of each band.
        source: Where they are from, for users.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    source: str


def choose_normalization(
    how: str, config: ModelConfig, bands: Sequence[str], dtype: str, own: Normalization
) -> Normalization:
    """Return the normalisation of a run.

    Args:
        how: ``auto``, ``weights`` or ``dataset``; see ``data.normalize``.
        config: The network and its weights.
        bands: Names of the data set's bands.
        dtype: Type of the stored pixels.
        own: The data set's normalisation.

    Raises:
        ConfigError: If it is to be the weights', and the bands are not 8-bit red, green and blue.
    """
    # What a checkpoint of rsdl was trained with, it does not say: the data set's, unless asked.
    known = config.weights != "none" and not config.weights.endswith(".ckpt")
    if how == "dataset" or (how == "auto" and not known):
        return own
    order = find_rgb(bands)
    if order is None or len(bands) != 3 or dtype != "uint8":
        if how == "auto":
            return own
        raise ConfigError(
            FIELD,
            f"is weights, which saw 8-bit red, green and blue, and the data set has "
            f"{dtype} {', '.join(bands)}",
            "set data.normalize=auto",
        )
    timm_name = find_timm_name(config.name)
    cfg = timm.get_pretrained_cfg(timm_name)
    assert cfg is not None, timm_name
    # [red, green, blue] -> the data set's order
    values = [
        tuple(TOP * three[order.index(band)] for band in range(3)) for three in (cfg.mean, cfg.std)
    ]
    return Normalization(values[0], values[1], f"the weights of {timm_name}")
