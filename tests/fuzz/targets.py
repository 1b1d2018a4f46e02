"""What is fuzzed: valid files to start from, and the reader that each goes through."""

import io
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import rasterio

from rsdl.data.decode import decode_image
from rsdl.data.index import Row, open_index, pack_rows, rows_to_bytes
from rsdl.data.manifest import File, Manifest, Shard, Split, parse_manifest
from rsdl.data.tar import scan_tar, tar_bytes

PIXELS = np.arange(16 * 16 * 3, dtype=np.uint8).reshape(16, 16, 3)
HUGE = (0, 1, 0xFF, 0x7FFF, 0xFFFF, 100_000, 0x7FFFFFFF, 0xFFFFFFFF)
INDEX = rows_to_bytes(pack_rows([Row(f"k{i}", "jpg", i * 512, 99, 0, 0, i % 2) for i in range(8)]))
SHARD = Shard(name="train-0.tar", bytes=10_240, sha256="0" * 64, samples=8)
SPLIT = Split(
    samples=8,
    shards=(SHARD,),
    index=File(name="train.npy", bytes=len(INDEX), sha256="0" * 64),
    class_counts=(4, 4),
)
MANIFEST = Manifest(
    dataset="drawn",
    classes=("a", "b"),
    bands=("red", "green", "blue"),
    dtype="uint8",
    mean=(1.0, 2.0, 3.0),
    std=(1.0, 2.0, 3.0),
    provenance={"rule": {"seed": 1}},
    splits={"train": SPLIT},
).to_json()


def _encoded(extension: str) -> bytes:
    return bytes(cv2.imencode(f".{extension}", PIXELS)[1])


def _npy() -> bytes:
    stream = io.BytesIO()
    np.save(stream, PIXELS)
    return stream.getvalue()


def _tiff() -> bytes:
    form = {"driver": "GTiff", "height": 16, "width": 16, "count": 3, "dtype": "uint8"}
    with rasterio.MemoryFile() as memory:
        with memory.open(**form) as scene:
            scene.write(PIXELS.transpose(2, 0, 1))
        return bytes(memory.read())


def _from_disk(read: Callable[[Path], object]) -> Callable[[bytes], object]:
    def read_bytes(data: bytes) -> object:
        with tempfile.NamedTemporaryFile() as file:
            file.write(data)
            file.flush()
            return read(Path(file.name))

    return read_bytes


def _image(extension: str) -> Callable[[bytes], object]:
    return lambda data: decode_image(data, extension, f"x.{extension}")


TARGETS: dict[str, tuple[Callable[[], bytes], Callable[[bytes], object]]] = {
    "jpg": (lambda: _encoded("jpg"), _image("jpg")),
    "png": (lambda: _encoded("png"), _image("png")),
    "tif": (_tiff, _image("tif")),
    "npy": (_npy, _image("npy")),
    "tar": (
        lambda: tar_bytes({"a.jpg": b"1" * 700, "a.cls": b"0", "b" * 120: b"2"}),
        _from_disk(lambda path: list(scan_tar(path, "x.tar"))),
    ),
    "manifest": (lambda: MANIFEST, lambda data: parse_manifest(data, "manifest.json")),
    "index": (lambda: INDEX, _from_disk(lambda path: open_index(path, SPLIT, "train.npy"))),
}


def mutate(data: bytes, rng: np.random.Generator) -> bytes:
    """Return ``data`` with one to four places changed, mostly near its start, or cut off."""
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 5))):
        reach = min(len(changed), 600) if rng.random() < 0.8 else len(changed)
        at, kind = int(rng.integers(max(reach, 1))), int(rng.integers(5))
        if kind == 0:
            changed[at : at + 1] = bytes([int(rng.integers(256))])
        elif kind == 1:
            order = "<" if rng.random() < 0.5 else ">"
            changed[at : at + 4] = struct.pack(f"{order}I", HUGE[int(rng.integers(len(HUGE)))])
        elif kind == 2:
            del changed[at : at + int(rng.integers(1, 16))]
        elif kind == 3:
            changed[at:at] = b"9" * int(rng.integers(1, 12))
        elif rng.random() < 0.2:
            del changed[at:]
    return bytes(changed)
