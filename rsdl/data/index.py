"""The index: one row per sample, so that reading a sample is one ``pread`` or one ranged GET.

An index is one ``.npy`` file of fixed-size records for each split, in the order of the manifest's
shards. It is memory-mapped and not loaded, and a range of rows is a range of bytes. The trade-off
against a compressed table: it is larger on disk (about 60 bytes per sample), but needs no parsing.

Three kinds of columns are there only where a data set needs them: where the target's member lies,
how much of each class that target holds, and the group that a sample belongs to, such as the scene
that a tile was cut from. Indexes of older releases have no groups and no counts.
"""

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rsdl.core.errors import DataError
from rsdl.core.rng import key_of
from rsdl.core.versions import unknown_names
from rsdl.data.manifest import Split
from rsdl.data.npy import MOST_HEADER_BYTES, read_npy_header
from rsdl.data.sample import EXTENSIONS

Rows = NDArray[np.void]


class Row(NamedTuple):
    """Position of one sample in its shard.

    Attributes:
        key: Name of the sample.
        extension: Image format, one of ``EXTENSIONS``.
        offset: First byte of the image within the shard.
        length: Bytes of the image.
        meta_offset: First byte of the ``json`` member.
        meta_length: Bytes of the ``json`` member; 0 if there is none.
        label: Class index; -1 if the target is not one class.
        target_offset: First byte of the target's member, if the index does not hold the target.
        target_length: Bytes of that member.
        group: :func:`group_key` of what must not straddle train and validation, if it is known.
        class_counts: How much of each class the target holds, such as pixels, if it is known.
    """

    key: str
    extension: str
    offset: int
    length: int
    meta_offset: int
    meta_length: int
    label: int
    target_offset: int | None = None
    target_length: int | None = None
    group: int | None = None
    class_counts: tuple[int, ...] | None = None


def pack_rows(rows: Sequence[Row]) -> Rows:
    """Return the rows as records; keys get the width of the longest.

    All rows must tell where the target's member lies, or none, and likewise their group and counts.
    """
    width = max((len(row.key.encode()) for row in rows), default=1)
    members = any(row.target_offset is not None for row in rows)
    groups = any(row.group is not None for row in rows)
    classes = max((len(row.class_counts or ()) for row in rows), default=0)
    records = [
        (
            row.key.encode(),
            EXTENSIONS.index(row.extension),
            row.offset,
            row.length,
            row.meta_offset,
            row.meta_length,
            row.label,
            *((row.target_offset, row.target_length) if members else ()),
            *((row.group,) if groups else ()),
            *((row.class_counts,) if classes else ()),
        )
        for row in rows
    ]
    kind = record_type(width, members=members, groups=groups, classes=classes)
    return np.array(records, dtype=kind)


def group_key(name: str) -> int:
    """Return the 64 bits that stand for a group in an index, equal on every machine."""
    return key_of("group", name) % (1 << 64)


def record_type(
    key_bytes: int, *, members: bool = False, groups: bool = False, classes: int = 0
) -> np.dtype[Any]:
    """Return the dtype of one record.

    Args:
        key_bytes: Bytes of the longest key.
        members: Whether it tells where the target's member lies.
        groups: Whether it tells the sample's group.
        classes: Classes of which it tells how much the target holds; 0 if it does not tell.
    """
    target = [("target_offset", "<u8"), ("target_length", "<u4")] if members else []
    return np.dtype(
        [
            ("key", f"S{key_bytes}"),
            ("extension", "u1"),
            ("offset", "<u8"),
            ("length", "<u4"),
            ("meta_offset", "<u8"),
            ("meta_length", "<u4"),
            ("label", "<i4"),
            *target,
            *([("group", "<u8")] if groups else []),
            *([("class_counts", "<u4", (classes,))] if classes else []),
        ]
    )


def join_rows(parts: Sequence[Rows]) -> Rows:
    """Return the rows of several shards as one table, with keys of equal width."""
    width = max((part.dtype["key"].itemsize for part in parts), default=1)
    members, groups = (
        any(column in (part.dtype.names or ()) for part in parts)
        for column in ("target_offset", "group")
    )
    classes = max((_num_counted(part.dtype) for part in parts), default=0)
    kind = record_type(width, members=members, groups=groups, classes=classes)
    return np.concatenate([part.astype(kind) for part in parts])


def rows_to_bytes(rows: Rows) -> bytes:
    """Return the table as an ``.npy`` file."""
    stream = io.BytesIO()
    np.save(stream, rows, allow_pickle=False)
    return stream.getvalue()


class Index:
    """The rows of one split and the shard of each.

    Args:
        rows: Records of all samples, ``[N]``; may be a memory map.
        shard_samples: Samples in each shard, in order, ``[S]``.
        shard_names: Names of the shards, ``[S]``.
        shard_sha256s: SHA-256 of each shard, ``[S]``; ``None`` if unknown.

    Attributes:
        origin: Number of each sample in the index that this is a part of, ``[N]``; ``None`` if it
            is whole.
    """

    def __init__(
        self,
        rows: Rows,
        shard_samples: NDArray[np.int64],
        shard_names: Sequence[str],
        shard_sha256s: Sequence[str] | None = None,
    ) -> None:
        self.rows = rows
        self.shard_samples = shard_samples
        self.shard_names = tuple(shard_names)
        self.shard_sha256s = None if shard_sha256s is None else tuple(shard_sha256s)
        self.origin: NDArray[np.int64] | None = None
        self._ends = np.cumsum(shard_samples)

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.rows)

    @property
    def labels(self) -> NDArray[np.int32]:
        """Class index of every sample, ``[N]``; read from the memory map at each access."""
        return np.asarray(self.rows["label"])

    @property
    def groups(self) -> NDArray[np.uint64] | None:
        """Group of every sample, ``[N]``; ``None`` if the index does not tell."""
        return self.rows["group"] if "group" in (self.rows.dtype.names or ()) else None

    @property
    def class_counts(self) -> NDArray[np.uint32] | None:
        """How much of each class every target holds, ``[N, C]``; ``None`` if it does not tell."""
        return self.rows["class_counts"] if _num_counted(self.rows.dtype) else None

    def take(self, kept: NDArray[np.bool_]) -> "Index":
        """Return the index of the samples that are kept, ``[N]``, in memory.

        Shards and their order stay; one without a sample that is kept is empty.
        """
        sizes = np.bincount(self.shards_of(np.flatnonzero(kept)), minlength=len(self.shard_names))
        part = Index(self.rows[kept], sizes, self.shard_names, self.shard_sha256s)
        part.origin = np.flatnonzero(kept)
        return part

    def numbers(self, samples: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the numbers of samples in the index that this is a part of."""
        return samples if self.origin is None else self.origin[samples]

    def keys(self, samples: NDArray[np.int64]) -> list[str]:
        """Return the names of samples."""
        return [key.decode(errors="replace") for key in self.rows["key"][samples]]

    def shards_of(self, samples: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the shard number of each sample."""
        return np.searchsorted(self._ends, samples, side="right")

    def checked_rows(
        self, samples: NDArray[np.int64], *, num_classes: int | None, url: str
    ) -> Rows:
        """Return the rows of samples after checking them, vectorized.

        Args:
            samples: Sample numbers, ``[B]``.
            num_classes: Labels must be below this number; ``None`` if rows have none.
            url: Name of the dataset for errors.

        Raises:
            DataError: If a row has a label out of range or an unknown image format.
        """
        rows = self.rows[samples]
        labels, kinds = rows["label"], rows["extension"]
        wrong = kinds >= len(EXTENSIONS)
        if num_classes is not None:
            wrong |= (labels < 0) | (labels >= num_classes)
        if not wrong.any():
            return rows
        place = int(np.argmax(wrong))
        where = self.name(int(samples[place]))
        if kinds[place] >= len(EXTENSIONS):
            raise DataError(
                where,
                "the index does not say what kind of image it is",
                f'run "rsdl data verify {url}", then pack or index again',
            )
        assert num_classes is not None, "only labels are left to be wrong"
        raise DataError(
            where,
            f"label {labels[place]} is out of range, the data set has {num_classes} classes "
            f"(0 to {num_classes - 1})",
            'mend the labels, then run "rsdl data index" or pack again',
        )

    def name(self, sample: int) -> str:
        """Return ``shard:key`` for messages."""
        shard = int(self.shards_of(np.array([sample]))[0])
        return f"{self.shard_names[shard]}:{self.rows['key'][sample].decode(errors='replace')}"


def open_index(path: Path, split: Split, where: str) -> Index:
    """Memory-map the index of a split.

    Args:
        path: The ``.npy`` file.
        split: The split's manifest entry.
        where: Name of the file for errors.

    Raises:
        DataError: If it is not an index, or disagrees with the manifest.
    """
    try:
        with path.open("rb") as file:
            header = read_npy_header(file.read(MOST_HEADER_BYTES))
        rows = np.memmap(path, header.dtype, "r", header.offset, header.shape)
    except (ValueError, OSError) as error:
        raise DataError(where, "is not a readable index", "pack or index the data again") from error
    remedy = 'run "rsdl data verify", then pack or index the data again'
    if unknown := _unknown_columns(rows.dtype):
        raise unknown_names(where, "column", unknown)
    if rows.ndim != 1 or not _is_record(rows.dtype):
        raise DataError(where, "is not an index of samples", remedy)
    if len(rows) != split.samples:
        problem = f"does not fit the manifest: {len(rows)} rows for {split.samples} samples"
        raise DataError(where, problem, remedy)
    if (counted := _num_counted(rows.dtype)) not in (0, len(split.class_counts)):
        problem = f"counts {counted} classes, the manifest has {len(split.class_counts)}"
        raise DataError(where, problem, remedy)
    sizes = np.array([shard.samples for shard in split.shards], dtype=np.int64)
    shards = split.shards
    return Index(rows, sizes, [s.name for s in shards], [s.sha256 for s in shards])


def _unknown_columns(dtype: np.dtype[Any]) -> list[str]:
    """Return the columns that a newer release has added; empty if this is not an index."""
    known = record_type(1, members=True, groups=True, classes=1).names or ()
    given = dtype.names or ()
    least = record_type(1).names or ()
    return [name for name in given if name not in known] if {*least} <= {*given} else []


def _is_record(dtype: np.dtype[Any]) -> bool:
    names = dtype.names or ()
    return "key" in names and dtype == record_type(
        dtype["key"].itemsize,
        members="target_offset" in names,
        groups="group" in names,
        classes=_num_counted(dtype),
    )


def _num_counted(dtype: np.dtype[Any]) -> int:
    """Return the number of classes of which rows tell how much their targets hold, or 0."""
    counted = "class_counts" in (dtype.names or ())
    return math.prod(dtype["class_counts"].shape) if counted else 0
