"""``model.weights`` -> a file, and what its tensors were trained on."""

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from pathlib import Path

from rsdl.core.errors import ConfigError, FullDiskError, StorageError, UnreachableError
from rsdl.models.hub import download, open_address
from rsdl.models.mirror import TENSORS, WeightsCard, read_card, read_weights
from rsdl.models.published import TrainedOn
from rsdl.models.remote_sensing import WEIGHTS, names_for
from rsdl.storage.connect import connect
from rsdl.storage.s3.endpoint import StorageConfig
from rsdl.storage.store import Store

FIELD = "model.weights"
REMEDY = (
    'use "pretrained", "none", a name of "rsdl models", the path or URL of a file, or a mirror '
    "by rsdl models fetch"
)


@dataclass(frozen=True, slots=True)
class WeightsSource:
    """A weight file that was found.

    Attributes:
        label: What it is, for users.
        open: Return a local path of it.
        architecture: timm's name of the network that it is for, if known.
        trained_on: The images that it was trained on, if known.
    """

    label: str
    open: Callable[[], Path]
    architecture: str | None = None
    trained_on: TrainedOn | None = None


def find_source(weights: str, timm_name: str, storage: StorageConfig) -> WeightsSource:
    """Return the weight file that ``model.weights`` names.

    Args:
        weights: A name in ``remote_sensing.py``, a URL, a file, or a mirror.
        timm_name: The network; a mirror has its weights under this name.
        storage: How ``s3://`` is reached.

    Raises:
        ConfigError: If there is none, or it is for another network.
        UnreachableError: If its store does not answer.
    """
    try:
        found = _find(weights, timm_name, storage)
    except (UnreachableError, FullDiskError):
        raise
    except StorageError as error:
        raise ConfigError(FIELD, f"{error.where}: {error.problem}", REMEDY) from error
    if found is None:
        near = get_close_matches(weights, WEIGHTS, n=1)
        raise ConfigError(
            FIELD,
            f"{weights}: no such file, and no mirror with {timm_name}{TENSORS}",
            f"{f'write {near[0]}, or ' if near else ''}{REMEDY} {timm_name} --out URL",
        )
    _check_architecture(found, timm_name.partition(".")[0])
    return found


def find_trained_on(weights: str, timm_name: str, storage: StorageConfig) -> TrainedOn | None:
    """Return what the weights were trained on; ``None`` where nothing but the network tells."""
    if weights == "pretrained":
        return None
    found = _find(weights, timm_name, storage)
    return found.trained_on if found else None


def _find(weights: str, timm_name: str, storage: StorageConfig) -> WeightsSource | None:
    if weights in WEIGHTS:
        row = WEIGHTS[weights]
        return WeightsSource(
            weights, partial(open_address, row.address), row.architecture, row.trained_on
        )
    if weights.startswith(("http://", "https://")):
        return WeightsSource(weights, partial(download, weights))
    folder, slash, file = weights.rpartition("/")
    store = connect(folder or slash or ".", storage=storage)
    if file not in ("", ".", "..") and store.size(file) is not None:
        stem = file.removesuffix(TENSORS)
        card = read_card(store, stem) if stem != file else None
        if card is not None:
            return _of_mirror(weights, store, card)
        return WeightsSource(weights, partial(store.local, file))
    mirror = connect(weights, storage=storage)
    card = read_card(mirror, timm_name)
    return None if card is None else _of_mirror(weights, mirror, card)


def _of_mirror(weights: str, store: Store, card: WeightsCard) -> WeightsSource:
    return WeightsSource(
        weights, partial(read_weights, store, card), card.architecture, card.trained_on
    )


def _check_architecture(found: WeightsSource, architecture: str) -> None:
    if found.architecture in (None, architecture):
        return
    known = names_for(architecture)
    others = f"there are {', '.join(known)}" if known else "there are no others than pretrained"
    raise ConfigError(
        FIELD,
        f"{found.label} is for {found.architecture}, and the network is {architecture}",
        f"set model.name={found.architecture}; for {architecture} {others}",
    )
