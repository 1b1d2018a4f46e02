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
from rsdl.models.prefixes import Stripped, strip_prefix
from rsdl.models.tensors import Tensors, read_tensors
from rsdl.storage.s3.endpoint import AWS, StorageConfig

FIELD = "model.weights"

logger = logging.getLogger("rsdl")

# timm hands its converters (older names, other patch and window sizes) to its factory only; these
# are what its model files call them.
CONVERTERS = ("checkpoint_filter_fn", "_filter_fn", "_filter_torchvision_pretrained")


def load_weights(model: nn.Module, source: str, storage: StorageConfig = AWS) -> None:
    """Load a file into a classifier built by timm, in place.

    Position embeddings and relative position tables are resized to another image size. The first
    layer is adapted to another number of bands, and a head for other classes is left at random;
    both are logged. So is a prefix (``module.encoder_q.``) that is taken off because all fits then.

    Args:
        model: The network, as timm built it.
        source: Path or URL of a ``.pth``, ``.pt``, ``.bin``, ``.safetensors`` or Lightning
            ``.ckpt`` file; averaged (EMA) weights are preferred where a checkpoint has them.
        storage: Where the service is, if it lies in a bucket.

    Raises:
        ConfigError: If the file cannot be read, holds anything but tensors, or does not fit.
    """
    own = model.state_dict()
    stripped = strip_prefix(
        read_tensors(source, storage), lambda tensors: _is_whole(_convert(tensors, model), model)
    )
    tensors = _convert(stripped.tensors, model)
    _adapt_bands(tensors, own, _names(model, "first_conv"), source)
    new = _drop_head(tensors, own, _names(model, "classifier"), source)
    _check_fit(tensors, own, new, f"{source}: ", _architecture(model))
    model.load_state_dict(tensors, strict=False)
    if stripped.prefix:
        _tell(stripped, sum(not _is_counter(name) for name in tensors), source)


def _is_whole(tensors: Tensors, model: nn.Module) -> bool:
    """Return whether all weights but the head's are there in their shapes, whatever the bands."""
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
        names = [name for name in tensors if name.startswith(f"{layer}.")]
        for name in names:  # self-supervised training puts layers of its own in the head's place
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
    """Refuse tensors that are missing, left over or of another shape, in one line."""
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
    # BatchNorm's step counter came later than many published files, and training does not need it.
    return name.endswith("num_batches_tracked")


def _and_more(names: list[str]) -> str:
    return f" (and {len(names) - 1} more)" if len(names) > 1 else ""
