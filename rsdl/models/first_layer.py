"""Adapt the filters of a network's first layer to the bands of a data set."""

import logging
from collections.abc import Sequence

from torch import Tensor

from rsdl.core.bands import match_bands

FIELD = "model.weights"

logger = logging.getLogger("rsdl")


def adapt_first_layers(
    tensors: dict[str, Tensor],
    own: dict[str, Tensor],
    layers: Sequence[str],
    label: str,
    known: Sequence[str],
    bands: Sequence[str],
) -> None:
    """Adapt first layers to other bands, in place, and log how.

    Args:
        tensors: The file's tensors by name.
        own: The network's tensors by name.
        layers: Names of the first layers, ``[D, C, h, w]``.
        label: What the file is, for users.
        known: Names of the file's bands, if it has as many.
        bands: Names of the data set's bands; may be empty.
    """
    for name in (f"{layer}.weight" for layer in layers):
        if name not in tensors or name not in own or tensors[name].ndim != 4:
            continue
        found, wanted = tensors[name].shape[1], own[name].shape[1]
        matches: Sequence[int | None] = [None] * wanted
        if found == len(known) and len(bands) == wanted > 1:
            matches = match_bands(bands, known)
        named = [band for band, match in zip(bands, matches, strict=False) if match is not None]
        others = [band for band in bands if band not in named]
        if found == wanted and (list(matches) == list(range(found)) or label.endswith(".ckpt")):
            continue
        if found == wanted and not named:
            if bands and found == len(known):
                text = "%s: %s: bands %s taken for %s: in order, no name is the same"
                logger.info(text, FIELD, label, ", ".join(bands), ", ".join(known))
            continue
        tensors[name] = adapt_bands(tensors[name], matches)
        how = f"by name: {', '.join(named)}" if named else "in order"
        filled = f"; in order: {', '.join(others)}" if named and others else ""
        logger.info(
            "%s: %s: first layer adapted from %d to %d bands, %s%s",
            FIELD, label, found, wanted, how, filled,
        )  # fmt: skip


def adapt_bands(weight: Tensor, matches: Sequence[int | None]) -> Tensor:
    """Return first-layer weights for other bands.

    A new band gets the filters of the band that it matches. The others get filters in order,
    repeated if need be; all are scaled to keep the magnitude of their sum, and a single band gets
    the sum of all. This is the rule of timm's ``adapt_input_conv``, for any number of input bands.

    Args:
        weight: ``[D, C, h, w]``.
        matches: For each new band, at least one, the band of ``weight`` that it is, or ``None``.

    Returns:
        ``[D, len(matches), h, w]``.
    """
    bands = weight.shape[1]
    if len(matches) == 1:
        return weight.sum(dim=1, keepdim=True)
    order = [band % bands if match is None else match for band, match in enumerate(matches)]
    return weight[:, order] * (bands / len(matches))
