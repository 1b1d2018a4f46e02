"""What is fuzzed: the readers, and the files that each starts from."""

import json
import struct
import tempfile
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rsdl.data.decode import DecodeRule, decode_image, decode_sample, image_size
from rsdl.data.index import open_index
from rsdl.data.kinds import sniff
from rsdl.data.manifest import parse_manifest
from rsdl.data.packing.index_shards import index_shards
from rsdl.data.sources.folder import FolderSource
from rsdl.data.sources.listing import ImageFile
from rsdl.data.tar import scan_tar, tar_bytes
from rsdl.raster.dataset_pool import DatasetPool
from rsdl.raster.rasterize import LabelRules, PolygonLabels
from rsdl.raster.read_tile import read_tile
from rsdl.raster.scenes import Scene, SceneRules, describe_scenes
from rsdl.storage.connect import connect
from tests.fuzz import seeds

HUGE = (0, 1, 0xFF, 0x7FFF, 0xFFFF, 100_000, 0x7FFFFFFF, 0xFFFFFFFF)
TOKENS = (b"null", b"1e999", b"-", b"NaN", b"[[", b"]", b"{}", b'""', b",", b"\\ud800", b"\xff")
STORED = ("jpg", "png", "tif", "npy")


class Target(NamedTuple):
    """One reader.

    Attributes:
        make: Returns valid files, which are damaged.
        read: The reader.
        fixed: Returns files that are read as they are, before any other.
    """

    make: Callable[[], list[bytes]]
    read: Callable[[bytes], object]
    fixed: Callable[[], list[bytes]] = list


@cache
def folder() -> Path:
    """Return a folder of this process."""
    return Path(tempfile.mkdtemp(prefix="rsdl-fuzz-"))


def _write(name: str, data: bytes) -> Path:
    path = folder() / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def _from_disk(read: Callable[[Path], object], name: str) -> Callable[[bytes], object]:
    return lambda data: read(_write(name, data))


def _image(extension: str) -> Callable[[bytes], object]:
    return lambda data: decode_image(data, extension, f"x.{extension}")


def _read_sample(data: bytes) -> object:
    """Decode as training does: small, and into memory that is there."""
    kind = sniff(data)
    if kind not in STORED:
        kind = "jpg"
    rule = DecodeRule(3, "uint8", shorter=8)
    image_size(data, kind, rule)
    return decode_sample(data, kind, rule, np.empty(1 << 20, np.uint8))


@cache
def _source() -> FolderSource:
    for name in ("a", "b"):
        _write(f"tree/{name}/good.png", seeds.encoded("png"))
    return FolderSource(folder() / "tree")


def _read_folder(data: bytes) -> object:
    """Read a file of a class folder; what passes the gate must be readable as a sample."""
    source = _source()
    path = f"a/x.{sniff(data) or 'jpg'}"
    _write(f"tree/{path}", data)
    sample = source.read(ImageFile(path, len(data), 0, "x", None))
    try:
        pixels = decode_sample(sample.image, sample.extension, DecodeRule(3, "uint8"))
        shown = sample.pixels[:, :, :3] if sample.pixels is not None else pixels
        assert (pixels == shown).all()
    except Exception as error:
        raise AssertionError(f"the gate lets pass what is not read: {error}") from error
    return sample


def _index_tar(data: bytes) -> object:
    root = _write("tars/train-0.tar", data).parent
    return index_shards(connect(str(root)), on_corrupt="skip", overwrite=True)


def _read_scene(data: bytes) -> object:
    scene = describe_scenes([_write("scene/x.tif", data)], SceneRules("auto", None, "auto", None))[
        0
    ]
    pool = DatasetPool()
    try:
        return read_tile(scene, 0, 0, 16, pool)
    finally:
        pool.close()


@cache
def _scene() -> Scene:
    path = _write("labelled.tif", seeds.tiff())
    return describe_scenes([path], SceneRules("auto", None, "auto", None))[0]


@cache
def _labels(suffix: str) -> dict[str, bytes]:
    return seeds.labels(suffix)


def _read_labels(changed: str, read: str, data: bytes) -> object:
    """Read labels of which one file is damaged, and paint them."""
    beside = _labels(read) if read == ".shp" else {}
    for suffix, whole in (beside | {changed: data}).items():
        path = _write(f"labels/x{suffix}", whole)
    path = path.with_suffix(read)
    return PolygonLabels(path, LabelRules(), [_scene()]).paint(0, 0, 0, 16)


def _vector(changed: str, read: str | None = None, **fixed: Callable[[], list[bytes]]) -> Target:
    reader = partial(_read_labels, changed, read or changed)
    return Target(lambda: [_labels(read or changed)[changed]], reader, **fixed)


def _lines() -> list[bytes]:
    page = json.loads(_labels(".geojson")[".geojson"])
    return [b"\n".join(json.dumps(feature).encode() for feature in page["features"])]


def _encoded_images() -> list[bytes]:
    return [*map(seeds.encoded, ("jpg", "png")), *seeds.tiffs(), seeds.npy()]


def _bombs() -> list[bytes]:
    images = [seeds.png_bomb(), seeds.jpeg_bomb(), seeds.tiff_bomb(), seeds.bmp_bomb()]
    return [*images, seeds.npy_bomb(), seeds.npy_bomb(0, 5), seeds.npy_bomb(1 << 40, 1 << 40, 3)]


TARGETS: dict[str, Target] = {
    "jpg": Target(lambda: [seeds.encoded("jpg")], _image("jpg"), _bombs),
    "png": Target(lambda: [seeds.encoded("png")], _image("png"), _bombs),
    "tif": Target(seeds.tiffs, _image("tif"), _bombs),
    "npy": Target(lambda: [seeds.npy()], _image("npy"), _bombs),
    "sample": Target(_encoded_images, _read_sample, _bombs),
    "folder": Target(lambda: [*_encoded_images(), seeds.encoded("bmp")], _read_folder, _bombs),
    "scene": Target(seeds.tiffs, _read_scene, lambda: [seeds.tiff_bomb()]),
    "tar": Target(
        lambda: [tar_bytes({"a.jpg": b"1" * 700, "a.cls": b"0", "b" * 120: b"2"})],
        _from_disk(lambda path: list(scan_tar(path, "x.tar")), "x.tar"),
        lambda: [seeds.tar_bomb()],
    ),
    "shards": Target(
        lambda: [seeds.shard()],
        _index_tar,
        lambda: [
            seeds.tar_bomb(),
            seeds.deep_tar(),
            *(tar_bytes({"a.png": bomb, "a.cls": b"0"}) for bomb in _bombs()),
        ],
    ),
    "manifest": Target(
        lambda: [seeds.MANIFEST],
        lambda data: parse_manifest(data, "manifest.json"),
        lambda: [seeds.DEEP, b'{"a":' + seeds.DEEP],
    ),
    "index": Target(
        lambda: [seeds.INDEX],
        _from_disk(lambda path: open_index(path, seeds.SPLIT, "train.npy"), "train.npy"),
        lambda: [seeds.npy_bomb()],
    ),
    "geojson": _vector(".geojson", fixed=seeds.geojson_bombs),
    "geojsonl": Target(
        _lines, partial(_read_labels, ".geojsonl", ".geojsonl"), seeds.geojson_bombs
    ),
    "gpkg": _vector(".gpkg"),
    "fgb": _vector(".fgb"),
    "shp": _vector(".shp", ".shp"),
    "dbf": _vector(".dbf", ".shp"),
    "prj": _vector(".prj", ".shp"),
}


def mutate(data: bytes, rng: np.random.Generator) -> bytes:
    """Return ``data`` with one to four places changed, mostly near its start, or cut off."""
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 5))):
        reach = min(len(changed), 600) if rng.random() < 0.6 else len(changed)
        at, kind = int(rng.integers(max(reach, 1))), int(rng.integers(7))
        if kind == 0:
            changed[at : at + 1] = bytes([int(rng.integers(256))])
        elif kind == 1:
            order = "<" if rng.random() < 0.5 else ">"
            changed[at : at + 4] = struct.pack(f"{order}I", HUGE[int(rng.integers(len(HUGE)))])
        elif kind == 2:
            del changed[at : at + int(rng.integers(1, 16))]
        elif kind == 3:
            changed[at:at] = b"9" * int(rng.integers(1, 12))
        elif kind == 4:
            end = at + int(rng.integers(4))
            changed[at:end] = TOKENS[int(rng.integers(len(TOKENS)))]
        elif kind == 5:
            start = int(rng.integers(max(len(changed), 1)))
            changed[at:at] = changed[start : start + int(rng.integers(64))]
        elif rng.random() < 0.2:
            del changed[at:]
    return bytes(changed)
