"""Fill a mirror of pretrained weights; see ``rsdl/models/mirror.py``."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import timm
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from rsdl.core.errors import ConfigError, UnreachableError
from rsdl.models.catalog import find_timm_name
from rsdl.models.hub import Progress, hub_addresses, open_address
from rsdl.models.mirror import CARD, MODEL_CARD, TENSORS, WeightsCard, file_sha256, read_card
from rsdl.models.published import TrainedOn, timm_trained_on
from rsdl.models.remote_sensing import WEIGHTS
from rsdl.models.tensors import read_tensors
from rsdl.storage.store import Store

NOT_FOUND = 404


@dataclass(frozen=True, slots=True)
class Published:
    """Weights that can be fetched.

    Attributes:
        name: Name in the mirror.
        architecture: Name of the model in timm, without a tag.
        addresses: Where the file may be; the first that exists is taken.
        trained_on: The images that they were trained on.
        license: SPDX identifier, or ``not stated``.
        paper: URL, if known.
        pretrained_cfg: timm's config of the weights.
    """

    name: str
    architecture: str
    addresses: tuple[str, ...]
    trained_on: TrainedOn
    license: str
    paper: str = ""
    pretrained_cfg: dict[str, Any] = field(default_factory=dict)

    @property
    def source(self) -> str:
        """Where they are, without the file's name on the hub, which may be one of several."""
        first = self.addresses[0]
        return first if len(self.addresses) == 1 else first.rpartition("/")[0]


def find_published(name: str) -> Published:
    """Return the published weights of one of the nine, a timm model or a remote-sensing name.

    Raises:
        ConfigError: If there are none.
    """
    if name in WEIGHTS:
        row = WEIGHTS[name]
        return Published(
            name, row.architecture, (row.address,), row.trained_on, row.license, row.paper
        )
    timm_name = find_timm_name(name)
    config = timm.get_pretrained_cfg(timm_name)
    if config is None or not config.has_weights or config.custom_load:
        raise ConfigError(
            name,
            f"timm has no pretrained weights of {timm_name} that can be mirrored",
            "leave it out, or name another",
        )
    return Published(
        timm_name,
        timm_name.partition(".")[0],
        hub_addresses(config) if config.hf_hub_id else (str(config.url),),
        timm_trained_on(timm_name),
        config.license or "not stated",
        pretrained_cfg=json.loads(json.dumps(asdict(config))),
    )


def find_whole(store: Store, name: str) -> WeightsCard | None:
    """Return what a mirror has under a name, if the tensors are there in their size."""
    card = read_card(store, name)
    if card is None or store.size(name + TENSORS) != card.num_bytes:
        return None
    return card


def fetch(found: Published, store: Store, progress: Progress | None = None) -> WeightsCard:
    """Copy published weights to a mirror, replacing what is there.

    Raises:
        ConfigError: If they are gone or damaged.
        UnreachableError: If their server cannot be reached.
        StorageError: If the mirror cannot be written.
    """
    try:
        path = _open_first(found.addresses, progress)
    except (ConfigError, UnreachableError) as error:
        remedy = "run the same command again where the hub answers; what is there stays"
        raise type(error)(found.name, error.problem, remedy) from error
    with store.create(found.name + TENSORS) as part:
        _write_tensors(path, part, found.source)
        sha256, num_bytes = file_sha256(part), part.stat().st_size
    card = WeightsCard(
        name=found.name,
        architecture=found.architecture,
        source=found.source,
        license=found.license,
        paper=found.paper,
        num_bytes=num_bytes,
        sha256=sha256,
        **asdict(found.trained_on),
        pretrained_cfg=found.pretrained_cfg,
    )
    for text in _model_card(found.addresses[0]):
        store.write(found.name + MODEL_CARD, text)
    store.write(found.name + CARD, card.to_json())
    return card


def _open_first(addresses: tuple[str, ...], progress: Progress | None) -> Path:
    """Return a local copy of the first file that exists."""
    for address in addresses[:-1]:
        try:
            return open_address(address, progress)
        except ConfigError as error:
            if not _is_missing(error):
                raise
    return open_address(addresses[-1], progress)


def _is_missing(error: ConfigError) -> bool:
    return isinstance(error.__cause__, HTTPError) and error.__cause__.code == NOT_FOUND


def _model_card(address: str) -> Iterator[bytes]:
    """Yield the hub's model card, which tells licence and citation, if there is one."""
    if not address.startswith("hub:"):
        return
    try:
        yield open_address(address.rpartition("/")[0] + "/README.md").read_bytes()
    except ConfigError as error:
        if not _is_missing(error):
            raise


def _write_tensors(path: Path, part: Path, source: str) -> None:
    """Write the tensors of a file as safetensors: a copy where they are that already."""
    if path.suffix != TENSORS:
        # Contiguous copies: safetensors refuses tensors that share memory.
        tensors = {k: v.contiguous().clone() for k, v in read_tensors(path, source).items()}
        save_file(tensors, part)
        return
    shutil.copyfile(path, part)
    try:
        with safe_open(part, "pt"):  # checks the header against the file's size
            pass
    except SafetensorError as error:
        problem = f"its copy {path} is damaged or no safetensors"
        raise ConfigError(source, problem, "remove the copy and fetch it again") from error
