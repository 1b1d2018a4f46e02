"""Read samples by the rows of an index: row -> bytes -> pixels, target and metadata.

The loader, the resident split, the decoded cache, previews, reports and ``rsdl data verify`` read
samples through this module. Packing does not: it reads members of tars that have no rows yet, and
by stricter rules.
"""

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rsdl.core.errors import CorruptSampleError, DataError
from rsdl.core.pixels import Pixels
from rsdl.data.decode import DecodeRule, decode_sample, image_size
from rsdl.data.index import Index, Rows
from rsdl.data.reader import ShardReader
from rsdl.data.sample import EXTENSIONS
from rsdl.data.targets.base import Target, TargetKind

Int64s = NDArray[np.int64]

# Opening a shard is expensive if it must be fetched first: few shards, several images of each.
PROBED_SHARDS = 4


class Stored(NamedTuple):
    """Where the image of a sample lies.

    Attributes:
        sample: Number of the sample.
        shard: Number of its shard.
        offset: First byte of the image within the shard.
        length: Bytes of the image.
        extension: Its format, one of ``EXTENSIONS``.
    """

    sample: int
    shard: int
    offset: int
    length: int
    extension: str


class SampleReader:
    """Reads the samples of one split. Not thread-safe: use one per thread.

    Args:
        shards: Reader of the split's shards.
        index: The split's index.
        rule: How images are decoded.

    Attributes:
        shards: Reader of the split's shards.
        index: The split's index.
    """

    def __init__(self, shards: ShardReader, index: Index, rule: DecodeRule) -> None:
        self.shards = shards
        self.index = index
        self._rule = rule

    def locate(self, sample: int) -> Stored:
        """Return where the image of a sample lies.

        Raises:
            IndexError: If the row has an unknown image format.
        """
        samples = np.array([sample])
        return next(self.locate_all(samples, self.index.rows[samples]))

    def locate_all(self, samples: Int64s, rows: Rows) -> Iterator[Stored]:
        """Yield where the images of samples lie.

        Args:
            samples: Sample numbers, ``[N]``.
            rows: Their rows, ``[N]``, with known image formats.
        """
        columns = (
            samples.tolist(),
            self.index.shards_of(samples).tolist(),
            rows["offset"].tolist(),
            rows["length"].tolist(),
            (EXTENSIONS[number] for number in rows["extension"].tolist()),
        )
        return map(Stored._make, zip(*columns, strict=True))

    def read(self, stored: Stored) -> bytes:
        """Return the encoded image.

        Raises:
            CorruptSampleError: If its shard ends before.
            StorageError: If its shard cannot be read.
        """
        return self.shards.read(stored.shard, stored.offset, stored.length)

    def decode(self, data: bytes, extension: str, buffer: Pixels | None = None) -> Pixels:
        """Return the pixels of an encoded image, ``[H, W, C]``.

        Args:
            data: The encoded image.
            extension: Its format.
            buffer: Memory that may be used for the pixels, ``[N]`` uint8; it may be too small.

        Raises:
            CorruptSampleError: If it does not decode to what the data set holds.
        """
        return decode_sample(data, extension, self._rule, buffer)

    def pixels(self, stored: Stored) -> Pixels:
        """Return the pixels of a sample, ``[H, W, C]``.

        Raises:
            CorruptSampleError: If it cannot be read or decoded; names the sample.
            StorageError: If its shard cannot be read.
        """
        try:
            return self.decode(self.read(stored), stored.extension)
        except Exception as error:
            self.name_error(error, stored.sample)
            raise

    def target(self, sample: int, kind: TargetKind) -> Target:
        """Return the target of a sample.

        Raises:
            CorruptSampleError: If it cannot be read or decoded; names the sample.
            StorageError: If its shard cannot be read.
        """
        if kind.in_index:
            return int(self.index.rows["label"][sample])
        try:
            return kind.decode(self._member(sample, "target"), "")
        except Exception as error:
            self.name_error(error, sample)
            raise

    def meta(self, sample: int) -> dict[str, Any]:
        """Return the ``json`` member of a sample; empty if it has none that can be read.

        Raises:
            StorageError: If its shard cannot be read.
        """
        if not self.index.rows["meta_length"][sample]:
            return {}
        try:
            page = json.loads(self._member(sample, "meta"))
        except (ValueError, DataError):
            return {}
        return page if isinstance(page, dict) else {}

    def size(self, stored: Stored) -> tuple[int, int]:
        """Return height and width of a sample's pixels, from the header if possible.

        Raises:
            CorruptSampleError: If it cannot be read.
            StorageError: If its shard cannot be read.
        """
        return image_size(self.read(stored), stored.extension, self._rule)

    def name_error(self, error: Exception, sample: int) -> None:
        """Name a sample in the error that it has caused, in a note if it is not corrupt."""
        if isinstance(error, CorruptSampleError):
            error.where = self.index.name(sample)
        else:
            error.add_note(f"while reading {self.index.name(sample)}")

    def close(self) -> None:
        """Close every shard."""
        self.shards.close()

    def _member(self, sample: int, name: str) -> bytes:
        """Return the content of another member than the image: ``target`` or ``meta``."""
        row = self.index.rows[sample]
        shard = int(self.index.shards_of(np.array([sample]))[0])
        return self.shards.read(shard, int(row[f"{name}_offset"]), int(row[f"{name}_length"]))


def probe_sizes(reader: SampleReader, per_shard: int) -> list[tuple[int, int]]:
    """Return heights and widths of a few images, evenly spread over a few shards.

    Images that cannot be read are left out; the loader reports them.

    Args:
        reader: Reader of the split.
        per_shard: Images of each shard, at most.
    """
    counts = reader.index.shard_samples
    ends, shards = np.cumsum(counts), np.flatnonzero(counts)
    sizes: list[tuple[int, int]] = []
    for place in _spread(len(shards), PROBED_SHARDS):
        count, end = int(counts[shards[place]]), int(ends[shards[place]])
        for number in _spread(count, per_shard):
            with suppress(CorruptSampleError, IndexError):
                sizes.append(reader.size(reader.locate(end - count + number)))
    return sizes


def _spread(count: int, most: int) -> list[int]:
    """Return at most ``most`` evenly spaced numbers below ``count``, with first and last."""
    return sorted({round(place) for place in np.linspace(0, count - 1, min(count, most)).tolist()})
