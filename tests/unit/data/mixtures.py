"""Image files of many kinds, good and odd, and what each shows as Pillow and rasterio read it."""

import io
from collections.abc import Callable
from typing import Any, NamedTuple

import cv2
import numpy as np
import rasterio
from numpy.typing import NDArray
from PIL import Image, ImageOps
from rasterio.enums import ColorInterp

SIDE = 16
Random = np.random.Generator
Pixels = NDArray[Any]


class Shown(NamedTuple):
    """What a file shows: pixels ``[H, W, C]``, alpha ``[H, W]``, and where each band has data.

    Scale and offset are those of all bands; a kind of file that cannot hold any has ``None``. Grey
    may stand for colour in a photograph.
    """

    pixels: Pixels
    alpha: Pixels | None = None
    present: NDArray[np.bool_] | None = None
    dark_zero: bool = False
    exact: bool = True
    scaling: tuple[float, float] | None = None
    photograph: bool = False


def noise(rng: Random, *shape: int, dtype: str = "uint8") -> Pixels:
    """Return noise with a corner of 0 and a corner of 7, which options may call nodata."""
    pixels = rng.integers(1, 250, shape).astype(dtype)
    pixels[..., :3, :3] = 0
    pixels[..., 8:11, 8:11] = 7
    pixels[0, 4:6, 4:6] = 0  # one dark band
    return pixels


def _hwc(rng: Random, bands: int, dtype: str = "uint8") -> Pixels:
    return np.ascontiguousarray(np.moveaxis(noise(rng, bands, SIDE, SIDE - 2, dtype=dtype), 0, 2))


def _save(image: Image.Image, kind: str, **options: Any) -> bytes:  # noqa: ANN401
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def _pil(kind: str, mode: str, bands: int, **options: Any) -> Callable[[Random], bytes]:  # noqa: ANN401
    """Return what makes a file of one of Pillow's modes."""

    def make(rng: Random) -> bytes:
        pixels = _hwc(rng, bands)
        if mode in ("LA", "RGBA") and rng.random() < 0.7:  # hard alpha, else soft
            pixels[:, :, -1] = 255
            pixels[:4, :, -1] = 0
        if mode == "CMYK":
            return _save(Image.fromarray(pixels, "CMYK"), kind, **options)
        return _save(Image.fromarray(pixels.squeeze()).convert(mode), kind, **options)

    return make


def _turned(kind: str) -> Callable[[Random], bytes]:
    def make(rng: Random) -> bytes:
        exif = Image.Exif()
        exif[274] = int(rng.integers(1, 9))
        smooth = np.kron(rng.integers(0, 250, (3, 2, 3)), np.ones((8, 8, 1))).astype("u1")
        return _save(Image.fromarray(smooth), kind, exif=exif)

    return make


def _palette(colours: int) -> Callable[[Random], bytes]:
    def make(rng: Random) -> bytes:
        image = Image.fromarray(rng.integers(0, colours, (SIDE, SIDE)).astype("u1"), "P")
        image.putpalette(rng.integers(0, 255, colours * 3).astype("u1").tobytes())
        return _save(image, "PNG", **({"transparency": 3} if rng.random() < 0.5 else {}))

    return make


def _deep_png(bands: int) -> Callable[[Random], bytes]:
    return lambda rng: bytes(cv2.imencode(".png", _hwc(rng, bands, "uint16") * 99)[1])


def _tiff(bands: int, dtype: str, **options: Any) -> Callable[[Random], bytes]:  # noqa: ANN401
    """Return what makes a TIFF; of ``odd``: nan, mask, alpha, scaled or named."""
    odd = options.pop("odd", "")

    def make(rng: Random) -> bytes:
        pixels = noise(rng, bands, SIDE, SIDE, dtype=dtype)
        if odd == "nan":
            pixels[0, 2:5, 2:5], pixels[:, 9, 9] = np.nan, np.inf
        if odd == "alpha":
            pixels[-1] = np.where(rng.random((SIDE, SIDE)) < 0.3, 0, np.iinfo(dtype).max)
        form = {"height": SIDE, "width": SIDE, "count": bands, "dtype": dtype, **options}
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.MemoryFile() as memory:
            with memory.open(driver="GTiff", **form) as scene:
                scene.write(pixels)
                if odd == "mask":
                    scene.write_mask(rng.random((SIDE, SIDE)) < 0.7)
                if odd == "scaled":
                    scene.scales, scene.offsets = (0.5,) * bands, (1.0,) * bands
                if odd == "named":
                    scene.descriptions = tuple(f"b{band}" for band in range(bands, 0, -1))
            return bytes(memory.read())

    return make


def _npy(bands: int, dtype: str, *, fortran: bool = False) -> Callable[[Random], bytes]:
    def make(rng: Random) -> bytes:
        pixels = _hwc(rng, bands, dtype)
        if pixels.dtype.kind == "f":
            pixels[3:5, 3:5, 0], pixels[9, 9] = np.nan, -np.inf
        if fortran:
            pixels = np.asfortranarray(pixels)
        stream = io.BytesIO()
        np.save(stream, pixels[:, :, 0] if bands == 1 else pixels)
        return stream.getvalue()

    return make


def _cut(rng: Random) -> bytes:
    data = _pil("JPEG", "RGB", 3)(rng)
    return data[: len(data) // 2]


RGB = {"photometric": "RGB"}
# What lies in the folder as an image and may be taken.
GOOD: dict[str, tuple[str, Callable[[Random], bytes]]] = {
    "jpeg": ("jpg", _pil("JPEG", "RGB", 3, quality=95)),
    "grey jpeg": ("jpeg", _pil("JPEG", "L", 1)),
    "progressive jpeg": ("JPG", _pil("JPEG", "RGB", 3, progressive=True)),
    "cmyk jpeg": ("jpg", _pil("JPEG", "CMYK", 4)),
    "turned jpeg": ("jpg", _turned("JPEG")),
    "png": ("png", _pil("PNG", "RGB", 3)),
    "turned png": ("png", _turned("PNG")),
    "grey png": ("png", _pil("PNG", "L", 1)),
    "1-bit png": ("png", _pil("PNG", "1", 1)),
    "rgba png": ("png", _pil("PNG", "RGBA", 4)),
    "la png": ("png", _pil("PNG", "LA", 2)),
    "palette png": ("png", _palette(200)),
    "class png": ("png", _palette(5)),
    "16-bit grey png": ("png", _deep_png(1)),
    "16-bit rgb png": ("png", _deep_png(3)),
    "bmp": ("bmp", _pil("BMP", "RGB", 3)),
    "grey bmp": ("bmp", _pil("BMP", "L", 1)),
    "1-bit bmp": ("bmp", _pil("BMP", "1", 1)),
    "rgba bmp": ("bmp", _pil("BMP", "RGBA", 4)),
    "webp": ("webp", _pil("WEBP", "RGB", 3, lossless=True)),
    "rgba webp": ("webp", _pil("WEBP", "RGBA", 4, lossless=True, exact=True)),
    "tiff": ("tif", _tiff(3, "uint8", **RGB)),
    "planar tiff": ("tiff", _tiff(3, "uint8", interleave="band", tiled=True, **RGB)),
    "tiff nodata 0": ("tif", _tiff(3, "uint8", nodata=0, **RGB)),
    "tiff nodata 7": ("tif", _tiff(3, "uint8", nodata=7, **RGB)),
    "tiff mask": ("tif", _tiff(3, "uint8", odd="mask", **RGB)),
    "tiff alpha": ("tif", _tiff(4, "uint8", odd="alpha", **RGB)),
    "tiff soft alpha": ("tif", _tiff(4, "uint8", **RGB)),
    "tiff nodata alpha": ("tif", _tiff(4, "uint8", odd="alpha", nodata=7, **RGB)),
    "tiff 4 bands": ("tif", _tiff(4, "uint8", photometric="MINISBLACK", alpha="NO")),
    "tiff named": ("tif", _tiff(3, "uint8", odd="named", **RGB)),
    "tiff uint16": ("tif", _tiff(3, "uint16", nodata=0)),
    "tiff scaled": ("tif", _tiff(3, "uint16", odd="scaled", nodata=7)),
    "tiff float": ("tif", _tiff(3, "float32")),
    "tiff nan": ("tif", _tiff(3, "float32", odd="nan")),
    "tiff nan nodata": ("tif", _tiff(3, "float32", odd="nan", nodata=7)),
    "tiff float scaled": ("tif", _tiff(3, "float32", odd="scaled", nodata=0)),
    "tiff int16": ("tif", _tiff(3, "int16", nodata=-9999)),
    "tiff float64": ("tif", _tiff(3, "float64")),
    "tiff inverted": ("tif", _tiff(1, "uint8", photometric="MINISWHITE")),
    "grey tiff": ("tif", _tiff(1, "uint8")),
    "npy": ("npy", _npy(3, "uint8")),
    "2-d npy": ("npy", _npy(1, "uint8")),
    "npy big-endian": ("npy", _npy(3, ">u2")),
    "npy nan": ("npy", _npy(3, "float32")),
    "npy float fortran": ("npy", _npy(3, "<f4", fortran=True)),
    "npy complex": ("npy", _npy(3, "complex64")),
}  # fmt: skip
# What is named as an image and must never be taken.
BAD: dict[str, tuple[str, Callable[[Random], bytes]]] = {
    "truncated": ("jpg", _cut),
    "cut png": ("png", lambda rng: GOOD["png"][1](rng)[:-40]),
    "cut tiff": ("tif", lambda rng: GOOD["tiff"][1](rng)[:400]),
    "cut npy": ("npy", lambda rng: GOOD["npy"][1](rng)[:-9]),
    "cut bmp": ("bmp", lambda rng: GOOD["bmp"][1](rng)[:20]),
    "empty": ("png", lambda rng: b""),
    "wrong suffix": ("jpg", GOOD["png"][1]),
    "gif": ("png", _pil("GIF", "L", 1)),
    "text": ("jpg", lambda rng: b"see the readme"),
    "only nodata": ("tif", lambda rng: _tiff(3, "uint8", nodata=7)(rng)[:0] or _flat(7)),
    "only nan": ("tif", lambda rng: _flat(np.nan, "float32")),
}
# Files that are passed over and counted, by their names.
LITTER = (".hidden.jpg", "Thumbs.db", "notes.txt", "nosuffix", ".deep/x.jpg", "@eaDir/x.jpg")


def _flat(value: float, dtype: str = "uint8") -> bytes:
    form = {"height": SIDE, "width": SIDE, "count": 3, "dtype": dtype, "nodata": value}
    with rasterio.MemoryFile() as memory:
        with memory.open(driver="GTiff", **form) as scene:
            scene.write(np.full((3, SIDE, SIDE), value, dtype))
        return bytes(memory.read())


def show(data: bytes, kind: str) -> Shown:
    """Return what a good file shows, by Pillow and rasterio; NumPy reads its own."""
    suffix = GOOD[kind][0]
    if suffix == "npy":
        pixels = np.load(io.BytesIO(data))
        return Shown(pixels.reshape(*pixels.shape[:2], -1))
    if suffix in ("tif", "tiff") or "16-bit" in kind:
        return _show_raster(data)
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    if image.mode == "P":
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    if image.mode == "1":
        image = image.convert("L")
    pixels = np.asarray(image)
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    exact = image.format != "JPEG" and "jpeg" not in kind
    if image.mode in ("LA", "RGBA"):
        return Shown(pixels[:, :, :-1], pixels[:, :, -1], exact=exact, photograph=True)
    return Shown(pixels, exact=exact, photograph=True)


def _show_raster(data: bytes) -> Shown:
    with rasterio.MemoryFile(data) as memory, memory.open() as scene:
        pixels, flags = np.moveaxis(scene.read(), 0, 2), scene.mask_flag_enums
        nodata, alpha = scene.nodata, None
        present = np.ones(pixels.shape, bool)
        if nodata is not None:
            present &= pixels != nodata
        elif any(flag.name == "per_dataset" for flag in flags[0]) and len(flags[0]) == 1:
            present &= scene.dataset_mask()[:, :, None] > 0
        scaling = (scene.scales[0], scene.offsets[0]) if scene.driver == "GTiff" else None
        if scene.colorinterp[-1] == ColorInterp.alpha:
            alpha, pixels, present = pixels[:, :, -1], pixels[:, :, :-1], present[:, :, :-1]
    dark_zero = nodata == 0 and pixels.dtype.kind != "f"
    return Shown(pixels, alpha, present, dark_zero, scaling=scaling)
