"""Small valid files to damage, made here, and files that promise far more than they hold."""

import io
import json
import struct
import tempfile
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyogrio
import rasterio
import shapely

from rsdl.data.index import Row, pack_rows, rows_to_bytes
from rsdl.data.manifest import File, Manifest, Shard, Split
from rsdl.data.tar import tar_bytes

PIXELS = np.arange(16 * 16 * 3, dtype=np.uint8).reshape(16, 16, 3)
SIDE = 100_000  # of what is promised
PLACE = rasterio.Affine(10, 0, 500_000, 0, -10, 5_000_000)
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
DEEP = b"[" * 100_000


def encoded(extension: str) -> bytes:
    """Return a JPEG, PNG or BMP."""
    return bytes(cv2.imencode(f".{extension}", PIXELS)[1])


def npy() -> bytes:
    """Return an array."""
    stream = io.BytesIO()
    np.save(stream, PIXELS)
    return stream.getvalue()


def tiff(**options: Any) -> bytes:  # noqa: ANN401
    """Return a GeoTIFF, by options one of GDAL's."""
    form = {"driver": "GTiff", "height": 16, "width": 16, "count": 3, "dtype": "uint8"}
    with rasterio.MemoryFile() as memory:
        with memory.open(**form, crs="EPSG:32633", transform=PLACE, **options) as scene:
            scene.write(PIXELS.transpose(2, 0, 1))
        return bytes(memory.read())


def tiffs() -> list[bytes]:
    """Return GeoTIFFs of several layouts."""
    return [
        tiff(),
        tiff(compress="lzw", predictor=2, nodata=7),
        tiff(compress="deflate", tiled=True, blockxsize=16, blockysize=16),
        tiff(compress="jpeg", photometric="YCBCR"),
    ]


def shard() -> bytes:
    """Return a tar of four samples in two classes."""
    members = {}
    for number, kind in enumerate(["jpg", "png", "jpg", "png"]):
        members[f"s{number}.{kind}"] = encoded(kind)
        members[f"s{number}.cls"] = b"%d" % (number % 2)
        members[f"s{number}.json"] = json.dumps({"class": f"c{number % 2}"}).encode()
    return tar_bytes(members)


def labels(suffix: str) -> dict[str, bytes]:
    """Return polygons as a vector file, with the files beside it, by suffix."""
    boxes = [shapely.box(500_000 + 40 * i, 4_999_900, 500_060 + 40 * i, 5_000_000) for i in (0, 1)]
    more = shapely.MultiPolygon([shapely.Point(500_080, 4_999_950).buffer(30, 2), boxes[0]])
    kind = "Unknown" if suffix == ".geojson" else "MultiPolygon"
    shapes = np.array([shapely.MultiPolygon([box]) for box in boxes] + [more])
    with tempfile.TemporaryDirectory() as folder:
        pyogrio.raw.write(
            Path(folder) / f"x{suffix}",
            shapely.to_wkb(shapes),
            [np.array(["a", "b", "c"], object)],
            fields=["class"],
            geometry_type=kind,
            crs="EPSG:32633",
        )
        return {file.suffix: file.read_bytes() for file in Path(folder).iterdir()}


def png_bomb() -> bytes:
    """Return a PNG that promises 100,000 x 100,000 pixels, its checksum right."""
    data = encoded("png")
    header = b"IHDR" + struct.pack(">II", SIDE, SIDE) + data[24:29]
    return data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:]


def jpeg_bomb() -> bytes:
    """Return a JPEG that promises the most that one can: 65,500 x 65,500 pixels."""
    data = bytearray(encoded("jpg"))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", 65_500, 65_500)
    return bytes(data)


def tiff_bomb() -> bytes:
    """Return a sparse TIFF of 100,000 x 100,000 pixels, which is valid and nearly empty."""
    form = {"driver": "GTiff", "height": SIDE, "width": SIDE, "count": 3, "dtype": "uint8"}
    with rasterio.MemoryFile() as memory:
        tiles = {"tiled": True, "blockxsize": 16_384, "blockysize": 16_384, "sparse_ok": True}
        memory.open(**form, **tiles, crs="EPSG:32633", transform=PLACE).close()
        return bytes(memory.read())


def npy_bomb(*shape: int) -> bytes:
    """Return the header of a large array and little behind it."""
    stream = io.BytesIO()
    header = {"descr": "|u1", "fortran_order": False, "shape": shape or (SIDE, SIDE, 3)}
    np.lib.format.write_array_header_1_0(stream, header)
    return stream.getvalue() + bytes(64)


def bmp_bomb() -> bytes:
    """Return a BMP that promises 100,000 x 100,000 pixels."""
    data = encoded("bmp")
    return data[:18] + struct.pack("<ii", SIDE, SIDE) + data[26:]


def tar_bomb() -> bytes:
    """Return a tar whose first member is a long name of 8 GB."""
    header = bytearray(tar_bytes({"a.jpg": b"1"})[:512])
    header[124:136] = b"77777777777\0"
    header[156:157] = b"L"
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + bytes(2048)


def deep_tar() -> bytes:
    """Return a tar whose JSON is nested deeper than Python goes."""
    page = {"s0.json": DEEP, "s1.json": b'{"label": ' + b"9" * 5000 + b"}"}
    return tar_bytes({"s0.png": encoded("png"), "s1.png": encoded("png"), **page})


def geojson_bombs() -> list[bytes]:
    """Return GeoJSON that is nested too deep, and with numbers that are too long."""
    feature = b'{"type":"Feature","properties":{"class":"a"},"geometry":{"type":"Polygon",'
    page = b'{"type":"FeatureCollection","features":['
    rings = b'"coordinates":[[[0,0],[1e999,0],[1,1],[0,0]]]}}'
    return [
        page + DEEP,
        page + feature + b'"coordinates":' + DEEP,
        page + feature + rings + b"]}",
        page + feature + rings.replace(b"1e999", b"9" * 5000) + b"]}",
        b"\n".join([feature + rings, DEEP, feature + b'"coordinates":' + DEEP]),
        b"\n".join([feature + rings] * 2).replace(b"[0,0]", b"[%s]" % DEEP),
    ]
