"""What a source hands to the packer: samples, already planned into shards.

A source knows one data set or one layout. It lists its items for every split, in an order that is a
function of its options alone, and reads one item at a time; the packer does the rest (tars, index,
checksums, statistics, resuming). Items must be cheap: a billion of them may be listed.
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
    """One image with its label, as it goes into a shard.

    Attributes:
        key: Name of the sample, unique in the data set; no dot, no slash.
        extension: One of ``EXTENSIONS``; what ``image`` holds.
        image: The encoded image, as it came wherever possible.
        label: Class index.
        meta: What the ``json`` member says: class name, source file, and for georeferenced imagery
            ``crs``, ``transform`` (six numbers, as in rasterio's Affine) and ``bounds``.
        pixels: The decoded image, ``[H, W, C]``, perhaps with bands behind the data set's that mean
            nothing, and until the same thread reads the next item; ``None`` where the source was
            told not to decode every image. Statistics are those of the others.
        valid: Which pixels hold data, ``[H, W]`` bool; ``None`` where all do.
    """

    key: str
    extension: str
    image: bytes
    label: int
    meta: dict[str, Any]
    pixels: NDArray[Any] | None
    valid: NDArray[np.bool_] | None = None


@dataclass(frozen=True, slots=True)
class ShardPlan:
    """Items that go into one shard, in order.

    Attributes:
        split: Its split.
        items: What is read for it.
        stamp: Changes when a file that the items are read from is written to, though its size may
            stay. It decides whether a shard is packed again, and goes into no byte of the result.
    """

    split: str
    items: Sequence[Any]
    stamp: str = ""


class Source(Protocol):
    """A data set or a layout that can be packed.

    Attributes:
        dataset: Short name for the manifest.
        classes: Class names; a label is an index into them.
        bands: Band names, in stored order.
        dtype: Type of the stored pixels.
        provenance: What the manifest says about the origin. With ``options`` of the same run it
            names the result: equal provenance gives equal bytes.
        left_out: Files that were passed over before reading, by reason.
    """

    dataset: str
    classes: tuple[str, ...]
    bands: tuple[str, ...]
    dtype: Dtype
    provenance: dict[str, Any]
    left_out: dict[str, int]

    def shards(self, shard_bytes: int) -> list[ShardPlan]:
        """Deal the items of all splits into shards of about ``shard_bytes`` each."""
        ...

    def read(self, item: Any) -> Sample | str:  # noqa: ANN401 - each source has its own items
        """Read one item, or return why it is left out. Called from several threads.

        Raises:
            CorruptSampleError: If the item cannot be read or decoded; it names the file.
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
