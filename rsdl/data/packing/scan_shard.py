"""Scan one WebDataset tar: index rows, and the classes and bands of its samples."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import get_args

import numpy as np

from rsdl.core.errors import CorruptSampleError, DataError
from rsdl.core.pixels import Dtype, Pixels
from rsdl.data.decode import jpeg_space
from rsdl.data.index import Row, Rows, pack_rows
from rsdl.data.kinds import check_kind
from rsdl.data.manifest import Shard
from rsdl.data.packing.class_numbers import Named, note_name
from rsdl.data.packing.duplicates import Sketches, sketch
from rsdl.data.packing.statistics import BandStatistics, RunningStatistics
from rsdl.data.read_picture import check_jpeg, read_picture
from rsdl.data.tar import Member, hash_file, scan_tar
from rsdl.data.targets import KINDS
from rsdl.data.targets.base import Target, TargetKind
from rsdl.data.webdataset import find_image, group_members
from rsdl.raster.gate import BandAgreement, admit
from rsdl.raster.headers import UPRIGHT, jpeg_header
from rsdl.storage.connect import join
from rsdl.storage.store import Store

NUM_PROBED = 16
Layout = tuple[int, str]
RGB: Layout = (3, "uint8")
GREY: Layout = (1, "uint8")


@dataclass(frozen=True, slots=True)
class ScannedShard:
    """The scan result of one WebDataset tar."""

    shard: Shard
    rows: Rows
    counts: Counter[int]
    names: dict[int, Named]
    statistics: BandStatistics
    skipped: tuple[str, ...]
    sketches: Sketches
    left_out: Counter[str]


def probe_layout(store: Store, names: Sequence[str]) -> Layout:
    """Return bands and dtype of the images, from the first ones of each tar.

    Grey JPEGs are common among colour ones, so the first image that is not grey determines it.
    """
    layout: Layout | None = None
    first_error: CorruptSampleError | None = None
    for name in names:
        path, where = store.local(name), join(store.url, name)
        samples = group_members(scan_tar(path, where), where)
        for key, members in islice(samples.items(), NUM_PROBED):
            try:
                image, kind = find_image(members, f"{where}:{key}")
                found = _layout(_decode(_content(path, image), kind, f"{where}:{key}"))
            except CorruptSampleError as error:
                first_error = first_error or error
                continue
            if found != GREY:
                return found
            layout = found
    if layout is None:
        raise first_error or DataError(
            store.url, "holds no samples", "name the folder of the shards"
        )
    return layout


@dataclass(frozen=True, slots=True)
class Taken:
    """Rules for the images to accept.

    Attributes:
        layout: Bands and dtype that each must have.
        agreement: Checks that all images agree in their bands.
        on_corrupt: ``error`` stops at an image that cannot be used, ``skip`` leaves it out.
        target: Kind of target that each must have.
        named: Whether the user has named the classes; the samples' names are then ignored.
    """

    layout: Layout
    agreement: BandAgreement
    on_corrupt: str = "error"
    target: TargetKind = KINDS["class_index"]
    named: bool = False


def scan_shard(store: Store, name: str, taken: Taken, *, measure: bool) -> ScannedShard:
    """Return the index rows of one tar.

    Args:
        store: The store of the tar.
        name: The tar's name.
        taken: Rules for the images to accept.
        measure: Whether to compute statistics, which needs every pixel.
    """
    path, where = store.local(name), join(store.url, name)
    rows: list[Row] = []
    counts: Counter[int] = Counter()
    sketches: list[int] = []
    skipped: list[str] = []
    left_out: Counter[str] = Counter()
    names: dict[int, Named] = {}
    statistics = RunningStatistics(taken.layout[0])
    with path.open("rb") as stream:

        def content(member: Member) -> bytes:
            stream.seek(member.offset)
            return stream.read(member.length)

        for key, members in group_members(scan_tar(path, where, left_out), where, left_out).items():
            place = f"{where}:{key}"
            try:
                image, kind = find_image(members, place)
                target, class_name = taken.target.find(members, content, place)
                data = content(image)
                pixels = _admit(data, kind, place, taken, measure=measure or not rows)
            except CorruptSampleError as error:
                if taken.on_corrupt == "error":
                    error.remedy = f"{error.remedy or 'mend it'}, or pass --on-corrupt skip"
                    raise
                skipped.append(str(error))
                continue
            if class_name is not None and not taken.named:
                note_name(names, taken.target.label(target), class_name, place)
            counts.update(taken.target.count(target))
            if measure and pixels is not None:
                statistics.add(pixels)
            rows.append(_row(key, kind, image, members, (taken.target, target)))
            sketches.append(sketch(data))
            read = (taken.target.member, "json")
            unread = (x for x, member in members.items() if x not in read and member is not image)
            left_out.update(f"members .{extension}" for extension in unread)
    if not rows:
        raise DataError(where, "holds no sample", "remove it or write it again")
    size = path.stat().st_size
    shard = Shard(name=name, bytes=size, sha256=hash_file(path), samples=len(rows))
    return ScannedShard(
        shard,
        pack_rows(rows),
        counts,
        names,
        statistics.total(),
        tuple(skipped),
        np.array(sketches, np.uint64),
        left_out,
    )


def _admit(data: bytes, kind: str, place: str, taken: Taken, *, measure: bool) -> Pixels | None:
    """Check an image and return its pixels, or ``None`` for a JPEG that needs no decoding.

    Raises:
        CorruptSampleError: If it cannot be decoded, or would have to be changed.
    """
    if kind == "jpg" and not measure and jpeg_header(data).orientation == UPRIGHT:
        check_kind(data, kind, place)
        check_jpeg(data, place, jpeg_space(data, place))
        return None
    return _decode(data, kind, place, taken.layout, taken.agreement)


def _decode(
    data: bytes,
    kind: str,
    place: str,
    layout: Layout | None = None,
    agreement: BandAgreement | None = None,
) -> Pixels:
    check_kind(data, kind, place)
    picture = read_picture(data, kind, place)
    valid = admit(picture.pixels, picture.present, place, dark_zero=picture.dark_zero)
    # Every reader expands palettes; any other change to the plain pixels cannot be stored here.
    if picture.changed or valid is not None:
        raise CorruptSampleError(
            place,
            "is turned, has transparency or holds pixels without data, and shards stay as they are",
            "write it upright and filled",
        )
    pixels = picture.pixels
    if layout == RGB and pixels.shape[2] == 1 and kind in ("jpg", "png"):
        pixels = np.repeat(pixels, 3, axis=2)
    found = _layout(pixels)
    if found[1] not in get_args(Dtype) or (layout is not None and found != layout):
        wanted = f", expected {layout[0]} of {layout[1]}" if layout else ""
        raise DataError(
            place,
            f"has {found[0]} bands of {found[1]}{wanted}",
            "keep one kind of uint8, uint16 or float32",
        )
    if agreement is not None:
        agreement.check(picture.table, place)
    return pixels


def _layout(pixels: Pixels) -> Layout:
    return pixels.shape[2], str(pixels.dtype)


def _content(path: Path, member: Member) -> bytes:
    with path.open("rb") as stream:
        stream.seek(member.offset)
        return stream.read(member.length)


def _row(
    key: str,
    kind: str,
    image: Member,
    members: dict[str, Member],
    found: tuple[TargetKind, Target],
) -> Row:
    target, meta = found[0], members.get("json")
    row = Row(
        key=key,
        extension=kind,
        offset=image.offset,
        length=image.length,
        meta_offset=meta.offset if meta else 0,
        meta_length=meta.length if meta else 0,
        label=target.label(found[1]),
    )
    if target.in_index:
        return row
    own = members[target.member]
    return row._replace(target_offset=own.offset, target_length=own.length)
