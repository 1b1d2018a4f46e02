"""A mirror of pretrained weights: a folder or prefix that ``rsdl models fetch`` fills.

``NAME.safetensors`` holds the tensors, ``NAME.json`` what they are, and ``NAME.md`` the hub's model
card, where it has one. The JSON is written last: weights without it are not there. It has the
SHA-256 of the tensors, which is checked whenever they are read.
"""

import hashlib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, JsonValue, model_validator

from rsdl.core.errors import ChangedError
from rsdl.core.pixels import Dtype
from rsdl.core.versions import parse_document
from rsdl.models.published import TrainedOn
from rsdl.storage.connect import join
from rsdl.storage.store import Store

FORMAT = 1
TENSORS = ".safetensors"
CARD = ".json"
MODEL_CARD = ".md"


class WeightsCard(BaseModel):
    """What the weights of a mirror are: ``NAME.json``.

    Attributes:
        name: Name in the mirror: of a timm model, or of ``rsdl/models/remote_sensing.py``.
        architecture: Name of the model in timm, without a tag.
        source: Where they were fetched.
        license: SPDX identifier; ``not stated`` where the authors name none.
        paper: URL, if known.
        num_bytes: Size of the tensors' file.
        sha256: SHA-256 of the tensors' file.
        bands: Names of the bands, in the order of the first layer's filters.
        dtype: Type of the pixels that they were trained on.
        mean: Mean of each band that was subtracted, in stored units.
        std: What each band was divided by, in stored units.
        pixels: See :class:`rsdl.models.published.TrainedOn`.
        pretrained_cfg: timm's config of the weights; empty for others'.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["rsdl weights"] = "rsdl weights"
    format: Literal[1] = 1
    name: str
    architecture: str
    source: str
    license: str
    paper: str = ""
    num_bytes: int
    sha256: str
    bands: tuple[str, ...]
    dtype: Dtype
    mean: tuple[float, ...]
    std: tuple[float, ...]
    pixels: str = ""
    pretrained_cfg: dict[str, JsonValue] = {}

    @model_validator(mode="after")
    def _lengths_agree(self) -> "WeightsCard":
        if not len(self.mean) == len(self.std) == len(self.bands):
            raise ValueError("mean, std and bands differ in length")
        return self

    @property
    def trained_on(self) -> TrainedOn:
        """The images that the weights were trained on."""
        return TrainedOn(self.bands, self.dtype, self.mean, self.std, self.pixels)

    def to_json(self) -> bytes:
        """Return the stored bytes."""
        return (self.model_dump_json(indent=2) + "\n").encode()


def read_card(store: Store, name: str) -> WeightsCard | None:
    """Return what a mirror has under a name; ``None`` where it has no such weights.

    A JSON file of others beside weights (``kind`` tells) is no card.

    Raises:
        DataError: If this release cannot read the card.
    """
    if store.size(name + CARD) is None:
        return None
    data, where = store.read(name + CARD), join(store.url, name + CARD)
    if b'"rsdl weights"' not in data:
        return None
    return parse_document(
        WeightsCard,
        data,
        where,
        reads=FORMAT,
        what="is no description of weights: ",
        whole="JSON",
        remedy=f"fetch it again: rsdl models fetch {name} --out {store.url} --overwrite",
    )


def read_weights(store: Store, card: WeightsCard) -> Path:
    """Return a local path of a mirror's tensors, which are those of the card.

    Raises:
        ChangedError: If they are not.
    """
    path = store.local(card.name + TENSORS)
    if file_sha256(path) != card.sha256:
        raise ChangedError(
            join(store.url, card.name + TENSORS),
            f"is not what {card.name}{CARD} describes (SHA-256)",
            f"fetch it again: rsdl models fetch {card.name} --out {store.url} --overwrite",
        )
    return path


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
