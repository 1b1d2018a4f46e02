"""Load weights from a file into a network, or fail with one line that says why they do not fit.

timm loads its own files well. But once it drops a head, it loads the weights that fit and silently
skips the rest, so that weights of the wrong network would train from scratch. This module checks
every tensor.
"""

import inspect
import logging
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from torch import nn

from rsdl.core.bands import RGB_BANDS
from rsdl.core.errors import ConfigError
from rsdl.models.first_layer import adapt_first_layers
from rsdl.models.prefixes import Stripped, strip_prefix
from rsdl.models.sources import WeightsSource
from rsdl.models.tensors import Tensors, read_tensors
from rsdl.models.torchvision_swin import from_torchvision

FIELD = "model.weights"
logger = logging.getLogger("rsdl")

# timm passes its converters (older names, other patch and window sizes) only to its own factory.
# These are their names in timm's model files.
CONVERTERS = ("checkpoint_filter_fn", "_filter_fn", "_filter_torchvision_pretrained")


def load_weights(model: nn.Module, source: WeightsSource, bands: Sequence[str] = ()) -> None:
    """Load a file into a classifier built by timm, in place.

    Position embeddings and relative position tables are resized to another image size. The first
    layer is adapted to other bands, and a head for other classes keeps its random initialization;
    both are logged. A prefix (``module.encoder_q.``) that has to be removed to make the tensors
    fit, and the decoder of a masked autoencoder, are logged too.

    Args:
        model: The network, as built by timm.
        source: A ``.pth``, ``.pt``, ``.bin``, ``.safetensors`` or Lightning ``.ckpt`` file;
            averaged (EMA) weights are preferred if a checkpoint has them.
        bands: Names of the data set's bands; each gets the filters of the same band of the file.
            A file that does not tell its bands has red, green and blue if it has three. A
            checkpoint of rsdl for as many bands is taken to have the data set's order.

    Raises:
        ConfigError: If the file cannot be read, holds anything but tensors, or does not fit.
    """
    own, label = model.state_dict(), source.label
    stripped = strip_prefix(
        read_tensors(source.open(), label),
        lambda tensors: _is_whole(_convert(tensors, model), model),
    )
    tensors = _drop_decoder(_convert(stripped.tensors, model), own, label)
    known = source.trained_on.bands if source.trained_on else RGB_BANDS
    adapt_first_layers(tensors, own, _names(model, "first_conv"), label, known, bands)
    new = _drop_head(tensors, own, _names(model, "classifier"), label)
    _check_fit(tensors, own, new, f"{label}: ", _architecture(model))
    model.load_state_dict(tensors, strict=False)
    if stripped.prefix:
        _tell(stripped, sum(not _is_counter(name) for name in tensors), label)


def _is_whole(tensors: Tensors, model: nn.Module) -> bool:
    """Return whether all weights but the head's have matching shapes, for any number of bands."""
    heads = tuple(f"{layer}." for layer in _names(model, "classifier"))
    first = {f"{layer}.weight" for layer in _names(model, "first_conv")}
    return all(
        name in tensors and (name in first or tensors[name].shape == tensor.shape)
        for name, tensor in model.state_dict().items()
        if not _is_counter(name) and not name.startswith(heads)
    )


def _tell(stripped: Stripped, loaded: int, source: str) -> None:
    left = stripped.left_out
    rest = f'; left out: "{left[0]}"{_and_more(list(left))}' if left else ""
    logger.info(
        '%s: %s: prefix "%s" taken off, %d weights loaded%s',
        FIELD, source, stripped.prefix, loaded, rest,
    )  # fmt: skip


@contextmanager
def quiet_resizing() -> Iterator[None]:
    """Suppress PyTorch's warnings about timm's resizing of relative position tables.

    timm indexes by lists, which PyTorch warns about; tests compare the result with the table.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module=r"timm\.layers\.interpolate")
        yield


def _convert(tensors: Tensors, model: nn.Module) -> Tensors:
    """Convert old names and other sizes with timm's converter for this family of models."""
    tensors = from_torchvision(tensors, model)
    module = sys.modules[type(model).__module__]
    converters: Iterable[Callable[..., Tensors] | None] = (
        getattr(module, name, None) for name in CONVERTERS
    )
    convert = next((found for found in converters if found is not None), None)
    if convert is None:
        return tensors
    takes_model = len(inspect.signature(convert).parameters) > 1
    try:
        with quiet_resizing():
            return convert(dict(tensors), model) if takes_model else convert(dict(tensors))
    except Exception as error:  # tensors of another network make converters fail in many ways
        logger.debug("timm's converter refused the file: %s", error)
        return tensors  # _check_fit reports the tensors that do not fit


def _names(model: nn.Module, part: str) -> tuple[str, ...]:
    """Return the module names of timm's ``first_conv`` or ``classifier`` entry."""
    names: object = getattr(model, "pretrained_cfg", {}).get(part) or ()
    return (names,) if isinstance(names, str) else tuple(map(str, names))  # type: ignore[call-overload]


def _architecture(model: nn.Module) -> str:
    return str(getattr(model, "pretrained_cfg", {}).get("architecture") or type(model).__name__)


def load_rgb(model: nn.Module, published: nn.Module, bands: Sequence[str]) -> None:
    """Copy the weights of a network for red, green and blue into one for other bands, in place.

    Args:
        model: The network for the data set's bands.
        published: The same network for three bands, with its published weights.
        bands: Names of the data set's bands.
    """
    tensors = published.state_dict()
    layers = _names(model, "first_conv")
    adapt_first_layers(tensors, model.state_dict(), layers, "pretrained", RGB_BANDS, bands)
    model.load_state_dict(tensors)


# Parts of a masked autoencoder (He et al. 2022) that reconstruct pixels.
DECODER = ("decoder_", "decoder.", "mask_token")


def _drop_decoder(tensors: Tensors, own: Tensors, label: str) -> Tensors:
    """Return the tensors without the decoder of a masked autoencoder, which no classifier has."""
    left = [name for name in tensors if name.startswith(DECODER) and name not in own]
    if left:
        logger.info('%s: %s: left out: "%s"%s', FIELD, label, left[0], _and_more(left))
    return {name: tensor for name, tensor in tensors.items() if name not in left}


def _drop_head(
    tensors: Tensors, own: Tensors, layers: tuple[str, ...], source: str
) -> frozenset[str]:
    """Remove a head that does not fit from ``tensors``; return the weights that stay random."""
    new: set[str] = set()
    for layer in layers:
        weight = f"{layer}.weight"
        found = tensors.get(weight)
        if weight in own and found is not None and found.shape[0] == own[weight].shape[0]:
            continue
        names = [name for name in tensors if name.startswith(f"{layer}.")]
        for name in names:  # self-supervised training replaces the head by its own layers
            del tensors[name]
        if weight not in own:  # a network without a head
            continue
        new |= {weight, f"{layer}.bias"} & own.keys()
        has = f"a head for {found.shape[0]} classes" if found is not None else "no head"
        if found is None and names:
            has = f'another head ("{names[0]}"{_and_more(names)})'
        logger.info(
            "%s: %s has %s; the new one for %d starts at random",
            FIELD, source, has, own[weight].shape[0],
        )  # fmt: skip
    return frozenset(new)


def _check_fit(
    tensors: Tensors, own: Tensors, new: frozenset[str], where: str, architecture: str
) -> None:
    """Raise a one-line error if tensors are missing, left over or of another shape."""
    missing = [k for k in own if k not in tensors and k not in new and not _is_counter(k)]
    extra = [k for k in tensors if k not in own and not _is_counter(k)]
    other = [k for k in own if k in tensors and tensors[k].shape != own[k].shape]
    weights = [k for k in own if not _is_counter(k)]
    fitting = sum(k in tensors and tensors[k].shape == own[k].shape for k in weights)
    if not missing and not extra and not other:
        return
    if fitting * 2 < len(weights):
        problem = f"{where}only {fitting} of the {len(weights)} weights of {architecture} are in it"
    elif other:
        shapes = [list(side[other[0]].shape) for side in (tensors, own)]
        problem = (
            f'{where}"{other[0]}"{_and_more(other)} is {shapes[0]} in the file and {shapes[1]} '
            f"in {architecture}"
        )
    elif missing:
        problem = f'{where}"{missing[0]}"{_and_more(missing)} of {architecture} is not in it'
    else:
        problem = f'{where}"{extra[0]}"{_and_more(extra)} is no part of {architecture}'
    raise ConfigError(
        FIELD, problem, "use weights of this very model, or set model.name to the file's"
    )


def _is_counter(name: str) -> bool:
    # BatchNorm's step counter is newer than many published files, and training does not need it.
    return name.endswith("num_batches_tracked")


def _and_more(names: list[str]) -> str:
    return f" (and {len(names) - 1} more)" if len(names) > 1 else ""
