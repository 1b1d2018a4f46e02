"""Mean and standard deviation that the images of a network are normalised with.

Published weights expect the normalisation that they were trained with. Own statistics of the data
set shift every activation of the first layers, which fine-tuning then has to undo.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from rsdl.config.model import ModelConfig
from rsdl.core.bands import match_bands
from rsdl.core.errors import ConfigError
from rsdl.models.catalog import find_timm_name
from rsdl.models.published import timm_trained_on
from rsdl.models.sources import find_trained_on
from rsdl.storage.s3.endpoint import AWS, StorageConfig

FIELD = "data.normalize"


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
    how: str,
    config: ModelConfig,
    bands: Sequence[str],
    dtype: str,
    own: Normalization,
    storage: StorageConfig = AWS,
) -> Normalization:
    """Return the normalisation of a run.

    Args:
        how: ``auto``, ``weights`` or ``dataset``; see ``data.normalize``.
        config: The network and its weights.
        bands: Names of the data set's bands.
        dtype: Type of the stored pixels.
        own: The data set's normalisation.
        storage: Endpoint of the object store, if the weights are in a bucket.

    Raises:
        ConfigError: If it is to be the weights', and they saw other bands or pixels.
    """
    # What a checkpoint of rsdl was trained with, it does not say: the data set's, unless asked.
    known = config.weights != "none" and not config.weights.endswith(".ckpt")
    if how == "dataset" or (how == "auto" and not known):
        return own
    timm_name = find_timm_name(config.name)
    told = find_trained_on(config.weights, timm_name, storage)
    saw = told or timm_trained_on(timm_name)
    order = [index for index in match_bands(bands, saw.bands) if index is not None]
    fits = len(order) == len(bands) and dtype == saw.dtype
    if how == "auto" and (not fits or saw.pixels):
        return own
    if not fits:
        raise ConfigError(
            FIELD,
            f"is weights, which saw {saw.dtype} {', '.join(saw.bands)}, and the data set has "
            f"{dtype} {', '.join(bands)}",
            "set data.normalize=auto",
        )
    mean, std = (tuple(values[index] for index in order) for values in (saw.mean, saw.std))
    return Normalization(mean, std, f"the weights of {config.weights if told else timm_name}")
