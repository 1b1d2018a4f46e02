"""The interface between sources and the packer: samples, planned into shards.

A source implements one dataset or one layout. It lists its items for every split, in an order that
depends on its options alone, and reads one item at a time; the packer does the rest (tars, index,
checksums, statistics, resuming). Items must be small: a source may list a billion of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from rsdl.core.pixels import Dtype

SPLITS = ("train", "val", "test")
EXTENSIONS = ("jpg", "png", "tif", "npy")


class Sample(NamedTuple):
    """One image with its target, as stored in a shard.

    Attributes:
        key: Name of the sample, unique in the dataset; no dot, no slash.
        extension: Format of ``image``, one of ``EXTENSIONS``.
        image: The encoded image, unchanged if possible.
        target: What the network should answer, of the source's kind of target.
        meta: Content of the ``json`` member: class name, source file, and for georeferenced imagery
            ``crs``, ``transform`` (six numbers, as in rasterio's Affine) and ``bounds``.
        pixels: The decoded image, ``[H, W, C]``, possibly with unused bands after the dataset's;
            valid until the same thread reads the next item. ``None`` if the source does not decode
            every image; statistics then use the other images.
        valid: Which pixels have data, ``[H, W]`` bool; ``None`` if all do.
        group: Name of what must not straddle train and validation, such as the scene of a tile;
            ``None`` if each sample stands alone. All samples of a source have one, or none.
    """

    key: str
    extension: str
    image: bytes
    target: Any
    meta: dict[str, Any]
    pixels: NDArray[Any] | None
    valid: NDArray[np.bool_] | None = None
    group: str | None = None


@dataclass(frozen=True, slots=True)
class ShardPlan:
    """Items that go into one shard, in order.

    Attributes:
        split: The shard's split.
        items: The items to read.
        stamp: Changes when a source file of the items is modified, even with the same size. It
            determines whether a shard is packed again, and is not part of the result.
    """

    split: str
    items: Sequence[Any]
    stamp: str = ""


class Source(Protocol):
    """A dataset or a layout that can be packed.

    Attributes:
        dataset: Short name for the manifest.
        target: Kind of target, a name of ``rsdl/data/targets``.
        classes: Class names; targets hold indices into them.
        bands: Band names, in stored order.
        dtype: Type of the stored pixels.
        provenance: The manifest's entries about the origin. With the packing options it identifies
            the result: equal provenance gives equal bytes.
        left_out: Number of files skipped before reading, by reason.
    """

    dataset: str
    target: str
    classes: tuple[str, ...]
    bands: tuple[str, ...]
    dtype: Dtype
    provenance: dict[str, Any]
    left_out: dict[str, int]

    def shards(self, shard_bytes: int) -> list[ShardPlan]:
        """Return plans that divide the items of all splits into shards of about ``shard_bytes``."""
        ...

    def read(self, item: Any) -> Sample | str:  # noqa: ANN401 - each source has its own items
        """Return the sample of an item, or the reason to leave it out; must be thread-safe.

        Raises:
            CorruptSampleError: If the item cannot be read or decoded; the error names the file.
        """
        ...


def shard_names(plans: list[ShardPlan]) -> list[str]:
    """Return a name for each shard: its split and a number."""
    counts: dict[str, int] = dict.fromkeys(SPLITS, 0)
    names = []
    for plan in plans:
        number = counts.setdefault(plan.split, 0)
        counts[plan.split] += 1
        names.append(f"{plan.split}-{number:06d}.tar")
    return names
