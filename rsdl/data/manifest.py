"""The manifest: the JSON file at a dataset's root that all other files are checked against.

``manifest.json`` is written last and a dataset without it does not exist, so if it exists, every
shard and index that it names is complete.

Format 2 names the kind of target that the data set has; format 1 named a task, and was always of
class indices. Both are read.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    PrivateAttr,
    ValidationError,
    field_validator,
    model_validator,
)

from rsdl.core.errors import DataError, DeniedError
from rsdl.core.pixels import Dtype
from rsdl.core.versions import document_error
from rsdl.data.targets import KINDS
from rsdl.storage.connect import join
from rsdl.storage.store import Store

MANIFEST = "manifest.json"
FORMAT = 2

# The provenance's name for columns that the index has in addition.
INDEX_COLUMNS = "index_columns"

# Provenance that differs between draws of one split, or between releases.
OF_A_DRAW = (
    "seed", "pack_digest", "rsdl_version", "num_skipped", "skipped", "duplicates", INDEX_COLUMNS,
)  # fmt: skip


class _Page(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class File(_Page):
    """One file of the dataset: name relative to the root, size and SHA-256."""

    name: str
    bytes: int = Field(ge=0)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class Shard(File):
    """One tar of samples."""

    samples: int = Field(ge=1)


class Split(_Page):
    """One split: its shards in order, its index, and how much of each class its targets hold.

    Rows of the index are in the order of ``shards``; sample ``i`` of the split is row ``i``.
    """

    samples: int = Field(ge=0)
    shards: tuple[Shard, ...]
    index: File
    class_counts: tuple[int, ...]

    @model_validator(mode="after")
    def _counts_agree(self) -> "Split":
        if sum(shard.samples for shard in self.shards) != self.samples:
            raise ValueError("the shards' samples do not add up to the split's")
        return self


class Manifest(_Page):
    """A dataset: its classes and bands, its files and its provenance.

    Attributes:
        target: Kind of target, a name of ``rsdl/data/targets``.
        mean: Mean of each band over the train split, in stored units, without nodata, ``[C]``.
        std: Standard deviation of the same pixels, ``[C]``.
        provenance: Source, checksum, split rule and seed, rsdl version.
    """

    format: Literal[2] = 2
    dataset: str
    target: str = "class_index"
    classes: tuple[str, ...] = Field(min_length=1)
    bands: tuple[str, ...] = Field(min_length=1)
    dtype: Dtype
    mean: tuple[float, ...]
    std: tuple[float, ...]
    provenance: dict[str, JsonValue]
    splits: dict[str, Split]

    _digest: str = PrivateAttr("")

    def model_post_init(self, context: object) -> None:
        """Set the digest of a new manifest to that of its stored bytes."""
        self._digest = hashlib.sha256(self.to_json()).hexdigest()

    def model_copy(
        self, *, update: Mapping[str, Any] | None = None, deep: bool = False
    ) -> "Manifest":
        """Return a copy with its own digest, which differs if a field does."""
        copied = super().model_copy(update=update, deep=deep)
        copied.model_post_init(None)
        return copied

    @model_validator(mode="before")
    @classmethod
    def _read_format_1(cls, page: Any) -> Any:  # noqa: ANN401 - whatever the file holds
        if not isinstance(page, dict) or page.get("format") != 1 or "target" in page:
            return page
        if page.get("task", "classification") != "classification":
            return page
        rest = {key: value for key, value in page.items() if key not in ("format", "task")}
        return rest | {"format": 2, "target": "class_index"}

    @field_validator("target")
    @classmethod
    def _is_known(cls, target: str) -> str:
        if target not in KINDS:
            raise ValueError(f"{target!r} is no kind of target that this release reads")
        return target

    @model_validator(mode="after")
    def _lengths_agree(self) -> "Manifest":
        if not len(self.mean) == len(self.std) == len(self.bands):
            raise ValueError("mean, std and bands differ in length")
        if any(len(split.class_counts) != len(self.classes) for split in self.splits.values()):
            raise ValueError("class_counts and classes differ in length")
        return self

    def to_json(self) -> bytes:
        """Return the stored bytes: indented JSON with a final newline, deterministic."""
        return (self.model_dump_json(indent=2) + "\n").encode()

    @property
    def digest(self) -> str:
        """SHA-256 of the stored bytes: identifies the dataset, whichever release reads it."""
        return self._digest

    @property
    def split_draw(self) -> str:
        """Digest of the images and the rule of a drawn split, equal for every seed of the draw.

        Empty if the split was not drawn by shares from listed images.
        """
        facts = self.provenance
        if "listing_sha256" not in facts or "fractions" not in facts:
            return ""
        drawn = {key: value for key, value in facts.items() if key not in OF_A_DRAW}
        return hashlib.sha256(json.dumps(drawn, sort_keys=True).encode()).hexdigest()

    @property
    def is_cut_from_scenes(self) -> bool:
        """Whether several samples are of one scene, whether or not the index tells which."""
        return self.provenance.get("source") == "geotiff" or "group_by" in self.provenance

    def split(self, name: str, *, where: str = "split") -> Split:
        """Return a split by name.

        Raises:
            DataError: If there is no such split, or it has no samples.
        """
        split = self.splits.get(name)
        if split is None or not split.samples:
            known = ", ".join(key for key, value in self.splits.items() if value.samples)
            raise DataError(
                where, f'data set "{self.dataset}" has no split "{name}"', f"use {known}"
            )
        return split


def load_manifest(store: Store, *, where: str = "URL") -> Manifest:
    """Read the manifest of the dataset at a store's root.

    Args:
        store: The store whose root is the dataset.
        where: Config field or argument for errors.

    Raises:
        DataError: If it does not exist, or this release cannot read it.
        DeniedError: If reading is denied; without permission to list, the store does not tell
            whether it exists.
    """
    try:
        size = store.size(MANIFEST)
    except DeniedError as error:
        problem = f"{error.problem}: there is no manifest, or you may not read it"
        raise DeniedError(error.where, problem, f"check {where}, or {error.remedy}") from error
    if size is None:
        raise DataError(
            where,
            f"no manifest at {store.url}",
            f'make one with "rsdl data prepare NAME --out {store.url}", "rsdl data pack folder SRC '
            f'--out {store.url}", or "rsdl data index {store.url}" where foreign shards lie',
        )
    return parse_manifest(store.read(MANIFEST), join(store.url, MANIFEST))


def parse_manifest(data: bytes, where: str) -> Manifest:
    """Parse the manifest in ``data``; ``where`` is its name for errors."""
    try:
        manifest = Manifest.model_validate_json(data)
    except ValidationError as error:
        what = f"not a manifest of format {FORMAT}: "
        raise document_error(
            error, where, reads=FORMAT, what=what, whole="JSON", remedy="pack again"
        ) from error
    manifest._digest = hashlib.sha256(data).hexdigest()
    return manifest
