"""A data set of very many small samples, written at the speed of the disk.

Every sample is a 16 x 16 PNG and its class. All members have the same size, so a whole shard is one
array of records that NumPy fills: a million samples take seconds, not minutes. The result is an
ordinary data set: standard tar shards, an index, a manifest.
"""

import hashlib
import struct
import tarfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsdl.data.index import join_rows, record_type
from rsdl.data.manifest import MANIFEST, Manifest, Shard
from rsdl.data.packing.assemble import write_split
from rsdl.data.sample import EXTENSIONS
from rsdl.data.tar import BLOCK
from rsdl.storage.connect import connect
from rsdl.storage.store import Store

SIDE_PX = 16
NUM_CLASSES = 10
NUM_IMAGES = 256
KEY_DIGITS = 8
SHARD_SAMPLES = 10_000
# Offset of the checksum in a tar header, and the number of its octal digits.
CHECKSUM, CHECKSUM_DIGITS = 148, 6


def write_tiny_dataset(folder: Path, samples: int, seed: int = 0) -> str:
    """Write ``samples`` training samples and a few for validation, unless they exist already.

    Returns:
        URL of the data set.
    """
    store = connect(str(folder))
    if store.size(MANIFEST) is not None:
        return str(folder)
    images = draw_images(np.random.default_rng(seed))
    splits = {}
    for split, count in (("train", samples), ("val", min(samples, 256))):
        shards, rows = [], []
        for number, first in enumerate(range(0, count, SHARD_SAMPLES)):
            name = f"{split}-{number:06d}.tar"
            numbers = np.arange(first, min(first + SHARD_SAMPLES, count))
            shard, part = write_shard(store, name, numbers, images)
            shards.append(shard)
            rows.append(part)
        table = join_rows(rows)
        counts = tuple(np.bincount(table["label"], minlength=NUM_CLASSES).tolist())
        splits[split] = write_split(store, split, shards, table, counts)
    manifest = Manifest(
        dataset="tiny",
        classes=tuple(f"class{number}" for number in range(NUM_CLASSES)),
        bands=("red", "green", "blue"),
        dtype="uint8",
        mean=(127.5,) * 3,
        std=(73.9,) * 3,
        provenance={"source": "generated noise", "seed": seed},
        splits=splits,
    )
    store.write(MANIFEST, manifest.to_json())
    return str(folder)


def draw_images(random: np.random.Generator) -> NDArray[np.uint8]:
    """Return PNGs of noise, all of one length, ``[NUM_IMAGES, L]``."""
    files = [
        encode_png(random.integers(256, size=(SIDE_PX, SIDE_PX, 3), dtype=np.uint8))
        for _ in range(NUM_IMAGES)
    ]
    return np.array([np.frombuffer(file, np.uint8) for file in files])


def encode_png(pixels: NDArray[np.uint8]) -> bytes:
    """Return an RGB image as an uncompressed PNG, whose length depends only on the image size."""
    height, width, _ = pixels.shape
    lines = b"".join(b"\0" + line.tobytes() for line in pixels)
    parts = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(lines, 0)),
        (b"IEND", b""),
    ]
    chunks = [
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def write_shard(
    store: Store, name: str, numbers: NDArray[np.int64], images: NDArray[np.uint8]
) -> tuple[Shard, NDArray[Any]]:
    """Write the samples with these numbers to one tar; return its shard entry and index rows."""
    labels = numbers % NUM_CLASSES
    picture = member_blocks("png", numbers, images[numbers % len(images)])
    label = member_blocks("cls", numbers, (labels + ord("0")).astype(np.uint8)[:, None])
    records = np.concatenate([picture, label], axis=1)
    content = records.tobytes() + bytes(2 * BLOCK)
    store.write(name, content)
    rows = np.zeros(len(numbers), record_type(KEY_DIGITS))
    rows["key"] = [f"{number:0{KEY_DIGITS}}".encode() for number in numbers.tolist()]
    rows["extension"] = EXTENSIONS.index("png")
    rows["offset"] = np.arange(len(numbers)) * records.shape[1] + BLOCK
    rows["length"] = images.shape[1]
    rows["label"] = labels
    digest = hashlib.sha256(content).hexdigest()
    return Shard(name=name, bytes=len(content), sha256=digest, samples=len(numbers)), rows


def member_blocks(
    extension: str, numbers: NDArray[np.int64], contents: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """Return one tar member per number: header and content, in whole blocks.

    Args:
        extension: What follows the key in the member's name.
        numbers: Numbers of the samples, ``[N]``; the keys are their digits.
        contents: Contents of the members, ``[N, L]``.
    """
    info = tarfile.TarInfo("0" * KEY_DIGITS + "." + extension)
    info.size, info.mode = contents.shape[1], 0o644
    header = np.frombuffer(info.tobuf(tarfile.USTAR_FORMAT), np.uint8)
    blocks = np.zeros((len(numbers), BLOCK - (-contents.shape[1] // BLOCK) * BLOCK), np.uint8)
    blocks[:, :BLOCK] = header
    digits = to_digits(numbers, 10, KEY_DIGITS)
    blocks[:, :KEY_DIGITS] = digits + ord("0")
    # Headers differ only in the digits of the name, and the checksum is a sum over bytes.
    before = int(header[CHECKSUM : CHECKSUM + CHECKSUM_DIGITS].tobytes(), 8)
    sums = to_digits(before + digits.sum(axis=1), 8, CHECKSUM_DIGITS)
    blocks[:, CHECKSUM : CHECKSUM + CHECKSUM_DIGITS] = sums + ord("0")
    blocks[:, BLOCK : BLOCK + contents.shape[1]] = contents
    return blocks


def to_digits(numbers: NDArray[Any], base: int, count: int) -> NDArray[np.int64]:
    """Return the digits of numbers, highest first, ``[N]`` -> ``[N, count]``."""
    powers = base ** np.arange(count - 1, -1, -1, dtype=np.int64)
    return numbers[:, None] // powers % base
