"""Read TIFF and JPEG 2000 strictly, for packing a dataset."""

from typing import Any

import numpy as np
import rasterio
from rasterio.enums import ColorInterp, MaskFlags

from rsdl.core.errors import CorruptSampleError
from rsdl.core.pixels import check_size
from rsdl.raster.gate import COLOURS, BandTable, is_mask
from rsdl.raster.headers import UPRIGHT, Bytes, tiff_pages
from rsdl.raster.picture import (
    MAX_CLASS_COLOURS,
    Picture,
    PictureRules,
    class_table_error,
    pick_bands,
)


def read_raster(data: bytes, kind: str, where: str, rules: PictureRules) -> Picture:
    """Read a TIFF or JPEG 2000."""
    pages = [page for page in tiff_pages(data) if page.is_picture] if kind == "tif" else []
    if kind == "tif":
        check_pages(data, where, stacked=rules.axes == "PAGES")
    with rasterio.MemoryFile(data) as memory:
        if rules.axes == "PAGES" and len(pages) > 1:
            return pick_bands(_stack_pages(memory.name, len(pages)), rules, where)
        with memory.open(driver="GTiff" if kind == "tif" else "JP2OpenJPEG") as source:
            return read_source(source, where, rules, changed=kind != "tif")


def read_beside(data: bytes, path: str, rules: PictureRules) -> Picture:
    """Read a TIFF by its path, so that GDAL finds its sidecar files."""
    check_pages(data, path)
    with rasterio.open(path) as source:
        return read_source(source, path, rules)


def check_pages(data: Bytes, where: str, *, stacked: bool = False) -> None:
    """Reject a TIFF whose first page is not its only picture, or that is not upright.

    Args:
        data: The file's bytes; only its directories are read.
        where: The file's name, for errors.
        stacked: Whether the pages are bands.

    Raises:
        CorruptSampleError: If the first page is a thumbnail or a mask, there are several pictures,
            or the orientation is not upright.
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
    """Read all pixels of an open raster; arguments and errors as in :func:`read_picture`."""
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
    # GDAL reports every alpha band as a mask; skip it where the band is imagery.
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
    """Return the band metadata of an open raster."""
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
        raise class_table_error(where, len(colours))
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


def _stack_pages(name: str, num_pages: int) -> Picture:
    pages = []
    for number in range(1, num_pages + 1):
        with rasterio.open(f"GTIFF_DIR:{number}:{name}") as source:
            pages.append(source.read())
    pixels = np.moveaxis(np.concatenate(pages), 0, 2)
    return Picture(np.ascontiguousarray(pixels), changed=True)
