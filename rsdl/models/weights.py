"""Weights from a file into a network, or one line that says why they do not fit.

timm loads its own files well, but once a head is dropped it loads "what fits" and passes over the
rest: weights of the wrong network then train from scratch in silence. So every tensor is accounted
for here.
"""

import inspect
import logging
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from rsdl.core.errors import ConfigError
from rsdl.models.tensors import Tensors, read_tensors
from rsdl.storage.endpoint import AWS, StorageConfig

FIELD = "model.weights"

logger = logging.getLogger("rsdl")

# timm hands its converters (older names, other patch and window sizes) to its factory only; these
# are what its model files call them.
CONVERTERS = ("checkpoint_filter_fn", "_filter_fn", "_filter_torchvision_pretrained")


def load_weights(model: nn.Module, source: str, storage: StorageConfig = AWS) -> None:
    """Load a file into a classifier built by timm, in place.

    Position embeddings and relative position tables are resized to another image size. The first
    layer is adapted to another number of bands, and a head for other classes is left at random;
    both are logged.

    Args:
        model: The network, as timm built it.
        source: Path or URL of a ``.pth``, ``.pt``, ``.bin``, ``.safetensors`` or Lightning
            ``.ckpt`` file; averaged (EMA) weights are preferred where a checkpoint has them.
        storage: Where the service is, if it lies in a bucket.

    Raises:
        ConfigError: If the file cannot be read, holds anything but tensors, or does not fit.
    """
    tensors = _convert(read_tensors(source, storage), model)
    own = model.state_dict()
    _adapt_bands(tensors, own, _names(model, "first_conv"), source)
    new = _drop_head(tensors, own, _names(model, "classifier"), source)
    _check_fit(tensors, own, new, f"{source}: ", _architecture(model))
    model.load_state_dict(tensors, strict=False)


@contextmanager
def quiet_resizing() -> Iterator[None]:
    """Keep back what PyTorch says of timm's code that resizes relative position tables.

    It indexes by lists, which PyTorch warns of; the tests hold its result against the table.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module=r"timm\.layers\.interpolate")
        yield


def _convert(tensors: Tensors, model: nn.Module) -> Tensors:
    """Bring names and sizes up to date with timm's converter for this family."""
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
    except Exception as error:  # converters trip in many ways over tensors of another network
        logger.debug("timm's converter refused the file: %s", error)
        return tensors  # the account of every tensor will say what is wrong


def _names(model: nn.Module, part: str) -> tuple[str, ...]:
    """Return the module names that timm notes for ``first_conv`` or ``classifier``."""
    names: object = getattr(model, "pretrained_cfg", {}).get(part) or ()
    return (names,) if isinstance(names, str) else tuple(map(str, names))  # type: ignore[call-overload]


def _architecture(model: nn.Module) -> str:
    return str(getattr(model, "pretrained_cfg", {}).get("architecture") or type(model).__name__)


def _adapt_bands(tensors: Tensors, own: Tensors, layers: tuple[str, ...], source: str) -> None:
    for name in (f"{layer}.weight" for layer in layers):
        if name not in tensors or name not in own or tensors[name].ndim != 4:
            continue
        found, wanted = tensors[name].shape[1], own[name].shape[1]
        if found != wanted:
            tensors[name] = adapt_bands(tensors[name], wanted)
            logger.info(
                "%s: %s: first layer adapted from %d to %d bands", FIELD, source, found, wanted
            )


def adapt_bands(weight: Tensor, in_chans: int) -> Tensor:
    """Return first-layer weights for another number of bands.

    Bands are repeated or left out in order and scaled to keep the sum's size; a single band gets
    the sum of all (the rule of timm's ``adapt_input_conv``, from any number of bands).

    Args:
        weight: ``[D, C, h, w]``.
        in_chans: Bands wanted, at least 1.

    Returns:
        ``[D, in_chans, h, w]``.
    """
    bands = weight.shape[1]
    if in_chans == 1:
        return weight.sum(dim=1, keepdim=True)
    order = torch.arange(in_chans) % bands
    return weight[:, order] * (bands / in_chans)


def _drop_head(
    tensors: Tensors, own: Tensors, layers: tuple[str, ...], source: str
) -> frozenset[str]:
    """Take a head that is missing or for other classes out; return the names that stay random."""
    new: set[str] = set()
    for layer in layers:
        weight = f"{layer}.weight"
        found = tensors.get(weight)
        if weight in own and found is not None and found.shape[0] == own[weight].shape[0]:
            continue
        names = {weight, f"{layer}.bias"}
        for name in names:
            tensors.pop(name, None)
        if weight not in own:  # a network without a head
            continue
        new |= names & own.keys()
        has = "no head" if found is None else f"a head for {found.shape[0]} classes"
        logger.info(
            "%s: %s has %s; the new one for %d starts at random",
            FIELD, source, has, own[weight].shape[0],
        )  # fmt: skip
    return frozenset(new)


def _check_fit(
    tensors: Tensors, own: Tensors, new: frozenset[str], where: str, architecture: str
) -> None:
    """Refuse tensors that are missing, left over or of another shape, in one line."""
    missing = [k for k in own if k not in tensors and k not in new and not _is_counter(k)]
    extra = [k for k in tensors if k not in own and not _is_counter(k)]
    other = [k for k in own if k in tensors and tensors[k].shape != own[k].shape]
    fitting = len(own) - len(missing) - len(other) - len(new)
    if not missing and not extra and not other:
        return
    if fitting * 2 < len(own):
        problem = f"{where}only {fitting} of the {len(own)} tensors of {architecture} are in it"
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
    # BatchNorm's step counter came later than many published files, and training does not need it.
    return name.endswith("num_batches_tracked")


def _and_more(names: list[str]) -> str:
    return f" (and {len(names) - 1} more)" if len(names) > 1 else ""
