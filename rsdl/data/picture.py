"""From an encoded image to what it shows: pixels, where they hold data, and what the bands mean.

This is the strict reading for the way into a data set; what is in a data set is read by
``decode.py``, as it lies there and fast. Nothing is guessed: a layout that may mean two things is
refused with the option that says which.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, MaskFlags

from rsdl.core.errors import CorruptSampleError, RsdlError
from rsdl.data.decode import SPACES, check_size, decode_image, jpeg_space, unreadable
from rsdl.data.gate import COLOURS, BandTable, is_mask, mark_value, unscale
from rsdl.data.headers import (
    UPRIGHT,
    Bytes,
    coded_size,
    jpeg_orientation,
    jpeg_precision,
    png_header,
    tiff_pages,
    webp_orientation,
)
from rsdl.data.resize import Pixels

Axes = Literal["HWC", "CHW", "PAGES"]
# A table of classes has few colours; a picture with a palette has been given nearly 256.
MAX_CLASS_COLOURS = 32
FEW_BANDS = 16


@dataclass(frozen=True, slots=True)
class PictureRules:
    """What the user says about images that the images do not say themselves.

    Attributes:
        axes: Order of the axes of ``.npy`` arrays, or ``PAGES``: the pages of a TIFF are its bands.
        nodata: Value that marks what holds no data, besides what the file says.
        alpha: What a band tagged as alpha is; ``auto``: a mask where it holds 0 and the highest
            value alone.
        bands: Bands wanted, in order; ``None`` takes all.
        unscale: Whether scale and offset are applied.
    """

    axes: Axes | None = None
    nodata: float | None = None
    alpha: Literal["auto", "mask", "band"] = "auto"
    bands: tuple[str, ...] | None = None
    unscale: bool = False


class Picture(NamedTuple):
    """What an encoded image shows.

    Attributes:
        pixels: ``[H, W, C]``.
        present: Where each band holds data, ``[H, W, C]``; ``None`` where nothing says otherwise.
        table: What the bands mean; ``None`` where the format cannot say.
        changed: Whether the pixels are others than a plain decoder gives.
        dark_zero: Whether nodata is 0 in integers; see ``gate.fill_missing``.
        profile: CRS and transform, where there are any.
    """

    pixels: Pixels
    present: NDArray[np.bool_] | None = None
    table: BandTable | None = None
    changed: bool = False
    dark_zero: bool = False
    profile: dict[str, Any] | None = None


PLAIN = PictureRules()


def read_picture(
    data: bytes, kind: str, where: str, rules: PictureRules = PLAIN, path: str | None = None
) -> Picture:
    """Read one encoded image.

    Args:
        data: The encoded image.
        kind: What it is: ``jpg``, ``png``, ``tif``, ``npy``, ``bmp``, ``webp`` or ``jp2``.
        where: Name of the file, for errors.
        rules: What the user says about it.
        path: The file, where others beside it may say more (``.msk``, ``.aux.xml``).

    Raises:
        CorruptSampleError: If it cannot be read, or may mean several things.
        ConfigError: If a band that is wanted is not there.
    """
    try:
        if (
            kind == "tif"
            and path is not None
            and any(map(os.path.exists, (f"{path}.msk", f"{path}.aux.xml")))
        ):
            picture = _read_beside(data, path, rules)
        else:
            picture = _READERS[kind](data, kind, where, rules)
    except RsdlError:
        raise
    except Exception as error:
        raise unreadable(error, data, kind, where) from error
    if rules.nodata is not None:
        marked = mark_value(picture.pixels, rules.nodata)
        if not marked.all():
            both = marked if picture.present is None else marked & picture.present
            picture = picture._replace(present=both)
    if rules.unscale and picture.table is not None:  # one that is not scaled becomes a float too
        pixels = unscale(picture.pixels, picture.table)
        picture = picture._replace(pixels=pixels, changed=True, dark_zero=False)
    return picture


def check_jpeg(data: bytes, where: str, space: str) -> None:
    """Refuse a JPEG that decoders show in other colours than were meant, or not at all.

    Args:
        data: The file.
        where: Its name, for errors.
        space: Colour space that its header says.
    """
    if space not in SPACES:
        problem = f"has {space} colours, made for print"
    elif (bits := jpeg_precision(data)) != 8:
        problem = f"has {bits} bits a sample, rsdl reads 8"
    else:
        return
    remedy = 'convert it, as with "magick IN -colorspace sRGB -depth 8 OUT"'
    raise CorruptSampleError(where, problem, remedy)


def upright(pixels: Pixels, orientation: int) -> Pixels:
    """Return an image ``[H, W, C]`` as Exif's orientation (1 to 8) says that it is seen."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def _read_jpeg(data: bytes, kind: str, where: str, rules: PictureRules) -> Picture:
    check_jpeg(data, where, jpeg_space(data, where))
    pixels = decode_image(data, "jpg", where)
    turned = jpeg_orientation(data)
    picture = Picture(
        pixels if turned == UPRIGHT else upright(pixels, turned), changed=turned != UPRIGHT
    )
    return _pick(picture, rules, where)


def _read_coded(data: bytes, kind: str, where: str, rules: PictureRules) -> Picture:
    """Read a PNG, BMP or WebP."""
    if kind == "png":
        pixels, header = decode_image(data, "png", where), png_header(data)
        if header.palette is not None and len(set(header.palette)) <= MAX_CLASS_COLOURS:
            raise _class_table(where, len(set(header.palette)))
        turned, grey = header.orientation, header.colour in (0, 4)
        if header.colour == 0 and header.transparent:
            raise CorruptSampleError(
                where,
                "marks one grey value as transparent",
                "pass it as --nodata and save the file without it",
            )
    else:
        turned, grey = webp_orientation(data) if kind == "webp" else UPRIGHT, False
        check_size(*coded_size(data, kind), 4)
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        if decoded is None:
            raise ValueError("damaged")
        pixels = decoded.reshape(*decoded.shape[:2], -1)
        if pixels.shape[2] >= 3:
            pixels = np.ascontiguousarray(pixels[:, :, [2, 1, 0, 3][: pixels.shape[2]]])
    changed = kind != "png"
    if turned != UPRIGHT:
        pixels, changed = upright(pixels, turned), True
    if pixels.shape[2] != 4:
        return _pick(Picture(pixels, changed=changed), rules, where)
    if grey:  # the decoder has made three equal bands of one
        pixels = np.ascontiguousarray(pixels[:, :, [0, 3]])
    # The format itself says that its last band is alpha.
    if rules.alpha == "band" or (
        rules.alpha == "auto" and not grey and not is_mask(pixels[:, :, -1])
    ):
        return _pick(Picture(pixels, changed=changed), rules, where)
    opaque = pixels[:, :, -1:] > 0
    pixels = np.ascontiguousarray(pixels[:, :, :-1])
    present = None if opaque.all() else np.broadcast_to(opaque, pixels.shape)
    return _pick(Picture(pixels, present, changed=True), rules, where)


def _read_npy(data: bytes, kind: str, where: str, rules: PictureRules) -> Picture:
    pixels = decode_image(data, "npy", where)
    if not pixels.flags.writeable:  # a view of the file: what holds no data is filled in place
        pixels = pixels.copy()
    if rules.axes == "CHW":
        return _pick(
            Picture(np.ascontiguousarray(np.moveaxis(pixels, 0, 2)), changed=True), rules, where
        )
    first, _, last = pixels.shape
    # Bands last are few, and fewer than rows: anything else may mean two things.
    few = last <= FEW_BANDS and 4 * first > last
    if rules.axes is None and first < last and not few:
        raise CorruptSampleError(
            where,
            f"has shape {pixels.shape}, which looks like bands first",
            "pass --axes CHW, or --axes HWC where the last axis really is that of the bands",
        )
    return _pick(Picture(pixels), rules, where)


def _read_raster(data: bytes, kind: str, where: str, rules: PictureRules) -> Picture:
    """Read a TIFF or JPEG 2000."""
    pages = [page for page in tiff_pages(data) if page.is_picture] if kind == "tif" else []
    if kind == "tif":
        check_pages(data, where, stacked=rules.axes == "PAGES")
    with rasterio.MemoryFile(data) as memory:
        if rules.axes == "PAGES" and len(pages) > 1:
            return _pick(_stack_pages(memory.name, len(pages)), rules, where)
        with memory.open(driver="GTiff" if kind == "tif" else "JP2OpenJPEG") as source:
            return read_source(source, where, rules, changed=kind != "tif")


def _read_beside(data: bytes, path: str, rules: PictureRules) -> Picture:
    """Read a TIFF together with what lies beside it, which only its path tells."""
    check_pages(data, path)
    with rasterio.open(path) as source:
        return read_source(source, path, rules)


def check_pages(data: Bytes, where: str, *, stacked: bool = False) -> None:
    """Refuse a TIFF whose first page is not all that it shows, or that is turned.

    Args:
        data: The file, or a map of it.
        where: Its name, for errors.
        stacked: Whether pages are meant to be bands.

    Raises:
        CorruptSampleError: If the first page is none or a thumbnail, or there are several.
    """
    pages = tiff_pages(data)
    pictures = [page for page in pages if page.is_picture]
    if pages and not pages[0].is_picture:
        raise CorruptSampleError(
            where,
            f"has a preview of {pages[0].height} x {pages[0].width} px as its first page",
            'save the picture alone, as with "tiffcp FILE,1 NEW"',
        )
    sizes = {(page.height, page.width) for page in pictures}
    if len(pictures) > 1 and not (stacked and len(sizes) == 1):
        if len(sizes) == 1:
            remedy = (
                "if each is a band, pass --axes PAGES to pack folder, or join them with "
                '"gdalbuildvrt -separate all.vrt GTIFF_DIR:1:FILE GTIFF_DIR:2:FILE ..."'
            )
        else:
            remedy = 'save the picture alone, as with "tiffcp FILE,0 NEW"'
        raise CorruptSampleError(
            where, f"has {len(pictures)} pages and shows only the first", remedy
        )
    if pictures and pictures[0].orientation not in (0, UPRIGHT):
        raise CorruptSampleError(
            where,
            f"is stored turned (orientation {pictures[0].orientation})",
            'turn the pixels themselves, as with "magick FILE -auto-orient NEW"',
        )


def read_source(source: Any, where: str, rules: PictureRules, *, changed: bool = False) -> Picture:  # noqa: ANN401 - rasterio has no types
    """Read an opened raster whole; arguments and errors as of :func:`read_picture`."""
    table = table_of(source)
    interpretation = list(source.colorinterp)
    if interpretation == [ColorInterp.palette]:
        return _expand_palette(source, where)
    indexes = tuple(source.indexes)
    masks = [i for i in indexes if interpretation[i - 1] == ColorInterp.alpha][-1:]
    if len(indexes) == 1 or rules.alpha == "band":
        masks = []
    check_size(source.height, source.width, np.dtype(source.dtypes[0]).itemsize)
    opaque = source.read(masks[0]) if masks else None
    if opaque is not None and rules.alpha == "auto" and not is_mask(opaque):
        masks, opaque = [], None
    if rules.bands is not None:
        indexes, changed = table.find(rules.bands, where), True
    elif masks:
        indexes, changed = tuple(i for i in indexes if i not in masks), True
    check_size(source.height, source.width, len(indexes) * np.dtype(source.dtypes[0]).itemsize)
    pixels = source.read(list(indexes))
    present = None
    flags = [set(source.mask_flag_enums[i - 1]) for i in indexes]
    # Alpha that is imagery is no mask, though GDAL takes it for one.
    if any(
        flag - {MaskFlags.all_valid, MaskFlags.per_dataset, MaskFlags.alpha} for flag in flags
    ) or any(MaskFlags.per_dataset in flag and MaskFlags.alpha not in flag for flag in flags):
        present = source.read_masks(list(indexes)) > 0
    if opaque is not None:
        shown = np.broadcast_to(opaque > 0, pixels.shape)
        present = shown if present is None else present & shown
    dark_zero = pixels.dtype.kind != "f" and all(source.nodatavals[i - 1] == 0 for i in indexes)
    return Picture(
        np.ascontiguousarray(np.moveaxis(pixels, 0, 2)),
        None if present is None else np.moveaxis(present, 0, 2),
        table.pick(indexes),
        changed,
        dark_zero,
        _place_of(source),
    )


def table_of(source: Any) -> BandTable:  # noqa: ANN401 - rasterio has no types
    """Return what the bands of an opened raster mean, as far as it says."""
    colours = (found.name.lower() for found in source.colorinterp)
    return BandTable(
        tuple(text or None for text in source.descriptions),
        tuple(colour if colour in COLOURS[:-1] else None for colour in colours),
        tuple(source.scales),
        tuple(source.offsets),
        tuple(text or None for text in source.units),
    )


def _expand_palette(source: Any, where: str) -> Picture:  # noqa: ANN401 - rasterio has no types
    palette = source.colormap(1)
    colours = {tuple(colour[:3]) for colour in palette.values()}
    if len(colours) <= MAX_CLASS_COLOURS:
        raise _class_table(where, len(colours))
    check_size(source.height, source.width, 4)
    table = np.zeros((256, 4), np.uint8)
    for value, colour in palette.items():
        table[value] = colour
    shown = table[source.read(1)]
    present = (shown[:, :, 3:] > 0) & (source.read_masks(1)[:, :, None] > 0)
    pixels = np.ascontiguousarray(shown[:, :, :3])
    return Picture(
        pixels,
        None if present.all() else np.broadcast_to(present, pixels.shape),
        changed=True,
        profile=_place_of(source),
    )


def _place_of(source: Any) -> dict[str, Any]:  # noqa: ANN401 - rasterio has no types
    return {} if source.crs is None else {"crs": source.crs, "transform": source.transform}


def _class_table(where: str, num_colours: int) -> CorruptSampleError:
    return CorruptSampleError(
        where,
        f"has a palette of {num_colours} colours, as a map of classes has and no picture",
        'give the imagery, or expand it with "gdal_translate -expand rgb" if it is one',
    )


def _stack_pages(name: str, num_pages: int) -> Picture:
    pages = []
    for number in range(1, num_pages + 1):
        with rasterio.open(f"GTIFF_DIR:{number}:{name}") as source:
            pages.append(source.read())
    pixels = np.moveaxis(np.concatenate(pages), 0, 2)
    return Picture(np.ascontiguousarray(pixels), changed=True)


def _pick(picture: Picture, rules: PictureRules, where: str) -> Picture:
    """Return the bands that are wanted of an image whose format does not name them."""
    if rules.bands is None:
        return picture
    count = picture.pixels.shape[2]
    colours = ("red", "green", "blue")[:count] if count in (3, 4) else ()
    nothing = (None,) * count
    named = (*colours, *nothing)[:count]
    table = BandTable(nothing, named, (1.0,) * count, (0.0,) * count, nothing)
    places = [i - 1 for i in table.find(rules.bands, where)]
    present = picture.present
    return picture._replace(
        pixels=np.ascontiguousarray(picture.pixels[:, :, places]),
        present=None if present is None else present[:, :, places],
        changed=picture.changed or places != list(range(count)),
    )


_READERS: dict[str, Callable[[bytes, str, str, PictureRules], Picture]] = {
    "jpg": _read_jpeg,
    "png": _read_coded,
    "bmp": _read_coded,
    "webp": _read_coded,
    "npy": _read_npy,
    "tif": _read_raster,
    "jp2": _read_raster,
}
