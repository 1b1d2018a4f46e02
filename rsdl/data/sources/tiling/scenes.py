"""Scenes: finding them, naming them, and checking that they go together.

Nothing here reads a pixel: a folder of thousands of scenes is checked, and the odd one named, long
before hours of packing end.
"""

import glob
import hashlib
import os
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import rasterio
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.env import set_gdal_config

from rsdl.core.errors import DataError
from rsdl.data.manifest import Dtype
from rsdl.data.sources.tiling.handles import WARNINGS

# GDAL would take 5% of the machine's memory for its block cache, on a large node tens of GiB. The
# cache belongs to the process: an Env around each read would have threads undo each other's limit,
# and takes as long as the read.
GDAL_CACHE_BYTES = 256 << 20
SUFFIXES = (".tif", ".tiff")
FINGERPRINT_BYTES = 1 << 20
# A file that is one huge block must be read whole for a single tile.
MAX_BLOCK_BYTES = 256 << 20
REMEDIES = {
    "int16": '"gdal_translate -ot Float32" (or -ot UInt16 where nothing is negative)',
    "float64": '"gdal_translate -ot Float32"',
}


@dataclass(frozen=True, slots=True)
class Scene:
    """What is known of a scene without reading its pixels.

    Attributes:
        path: The file.
        name: Path relative to the folder that all scenes share.
        slug: Unique name for keys; letters, digits, ``_`` and ``-`` only.
        height: In pixels.
        width: In pixels.
        bands: Names of the stored bands.
        indexes: Their numbers in the file, from 1.
        alpha: Number of the band that says where there is data, if there is one.
        masked: Whether the file marks pixels without data.
        dark_zero: Whether nodata is 0 in integers, which is also what one dark band reads.
        dtype: Type of the pixels.
        crs: Coordinate reference system.
        transform: From (column, row) to the CRS.
    """

    path: Path
    name: str
    slug: str
    height: int
    width: int
    bands: tuple[str, ...]
    indexes: tuple[int, ...]
    alpha: int | None
    masked: bool
    dark_zero: bool
    dtype: Dtype
    crs: rasterio.CRS
    transform: rasterio.Affine


def find_rasters(
    paths: Sequence[str | Path], *, what: str = "scenes", leave_out: Path | None = None
) -> list[Path]:
    """Return the files that ``paths`` mean, each once, sorted.

    Args:
        paths: Files, folders (searched for ``.tif`` and ``.tiff`` all the way down) and globs.
        what: What they are, for errors.
        leave_out: A file or folder that is not taken (labels that lie among the scenes).

    Raises:
        DataError: If a path means no file.
    """
    found: dict[Path, Path] = {}
    for path in paths:
        matches = list(_expand(Path(path).expanduser()))
        if not matches:
            raise DataError(str(path), f"no {what} found", "give GeoTIFFs or a folder with some")
        found |= {match.resolve(): match for match in matches}
    if leave_out is not None:
        skip = leave_out.expanduser().resolve()
        found = {real: match for real, match in found.items() if not real.is_relative_to(skip)}
    if not found:
        raise DataError(str(paths[0]), f"no {what} found", "give GeoTIFFs or a folder with some")
    return sorted(found)


def _expand(path: Path) -> Iterable[Path]:
    if path.is_dir():
        return (
            file
            for file in path.rglob("*")
            if file.suffix.lower() in SUFFIXES and not file.name.startswith(".") and file.is_file()
        )
    if path.is_file():
        return (path,)
    matches = (Path(match) for match in glob.glob(str(path), recursive=True))
    return (file for match in matches for file in _expand(match))


def relative_names(paths: Sequence[Path]) -> list[str]:
    """Return each path relative to the folder that all share: the same on every machine."""
    folder = os.path.commonpath([path.parent for path in paths])
    return [path.relative_to(folder).as_posix() for path in paths]


def make_slugs(names: Sequence[str]) -> list[str]:
    """Return a unique name for each file without dots and slashes: its stem where that will do."""
    stems = [re.sub(r"[^A-Za-z0-9_-]", "_", Path(name).stem) for name in names]
    count = Counter(stems)
    slugs: dict[str, None] = {}
    for name, stem in zip(names, stems, strict=True):
        whole = re.sub(r"[^A-Za-z0-9_-]", "_", str(Path(name).with_suffix("")))
        slug = base = stem if count[stem] == 1 else whole
        number = 2
        while slug in slugs or (slug != stem and slug in count):
            slug = f"{base}-{number}"
            number += 1
        slugs[slug] = None
    return list(slugs)


def open_raster(path: Path, stack: ExitStack) -> Any:  # noqa: ANN401 - rasterio has no types
    """Open a raster for reading, within a bounded block cache; ``stack`` closes it.

    Raises:
        DataError: If GDAL cannot.
    """
    set_gdal_config("GDAL_CACHEMAX", GDAL_CACHE_BYTES)
    try:
        with WARNINGS, warnings.catch_warnings():
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
            return stack.enter_context(rasterio.open(path))
    except rasterio.errors.RasterioIOError as error:
        raise DataError(
            str(path), "is not a raster that GDAL reads, or is truncated", "replace or remove it"
        ) from error


def describe_scenes(paths: Sequence[Path], *, alpha: str) -> tuple[Scene, ...]:
    """Return what is known of the scenes at ``paths``, which all agree in bands and type.

    Args:
        paths: The files.
        alpha: ``mask`` takes a band that is tagged as alpha for the mask, ``band`` for imagery.

    Raises:
        DataError: If one is not a raster, is not georeferenced, or differs from the rest.
    """
    names = relative_names(paths)
    scenes = tuple(
        _describe(path, name, slug, alpha)
        for path, name, slug in zip(paths, names, make_slugs(names), strict=True)
    )
    usual = Counter((len(scene.bands), scene.dtype) for scene in scenes).most_common(1)[0][0]
    for scene in scenes:
        if (len(scene.bands), scene.dtype) != usual:
            raise DataError(
                str(scene.path),
                f"has {len(scene.bands)} bands of {scene.dtype}, "
                f"the other scenes {usual[0]} of {usual[1]}",
                "pack it apart, or convert it",
            )
        if set(scene.bands) == set(scenes[0].bands) and scene.bands != scenes[0].bands:
            raise DataError(
                str(scene.path),
                f"has its bands in another order than {scenes[0].path}",
                'reorder them with "gdal_translate -b"',
            )
    return scenes


def _describe(path: Path, name: str, slug: str, alpha: str) -> Scene:
    with ExitStack() as stack:
        source = open_raster(path, stack)
        dtype = _check(path, source)
        tagged = [i for i in source.indexes if source.colorinterp[i - 1] == ColorInterp.alpha]
        masks = tagged[-1:] if alpha == "mask" and source.count > 1 else []
        indexes = tuple(i for i in source.indexes if i not in masks)
        flags = [set(source.mask_flag_enums[i - 1]) for i in indexes]
        marks = [flag - {MaskFlags.all_valid, MaskFlags.per_dataset} for flag in flags]
        if alpha == "band":
            marks = [mark - {MaskFlags.alpha} for mark in marks]
        described = [source.descriptions[i - 1] for i in indexes]
        unique = all(described) and len(set(described)) == len(described)
        shared = [MaskFlags.per_dataset in flag and MaskFlags.alpha not in flag for flag in flags]
        return Scene(
            path=path,
            name=name,
            slug=slug,
            height=source.height,
            width=source.width,
            bands=tuple(described if unique else (f"band_{n + 1}" for n in range(len(indexes)))),
            indexes=indexes,
            alpha=masks[0] if masks else None,
            masked=any(marks) or any(shared),
            dark_zero=dtype != "float32" and all(source.nodatavals[i - 1] == 0 for i in indexes),
            dtype=dtype,
            crs=source.crs,
            transform=source.transform,
        )


def _check(path: Path, source: Any) -> Dtype:  # noqa: ANN401 - rasterio has no types
    if source.crs is None:
        raise DataError(
            str(path),
            "has no coordinate reference system",
            'set it with "gdal_edit.py -a_srs EPSG:CODE FILE", or pack its tiles as a folder',
        )
    if source.transform.is_identity or source.transform.is_degenerate:
        raise DataError(
            str(path),
            "has a CRS but no transform",
            'set it with "gdal_edit.py -a_ullr LEFT TOP RIGHT BOTTOM FILE"',
        )
    for dtype in source.dtypes:
        if dtype not in get_args(Dtype):
            how = REMEDIES.get(dtype, '"gdal_translate -ot UInt16" or "-ot Float32"')
            raise DataError(
                str(path),
                f"has pixels of {dtype}, rsdl packs {', '.join(get_args(Dtype))}",
                f"convert it with {how}",
            )
    height, width = source.block_shapes[0]
    size = height * width * source.count * np.dtype(source.dtypes[0]).itemsize
    if size > MAX_BLOCK_BYTES:
        raise DataError(
            str(path),
            f"is stored in blocks of {height} x {width} pixels, {size >> 20} MiB each",
            'rewrite it with "gdal_translate -co TILED=YES"',
        )
    known: Dtype = source.dtypes[0]
    return known


def fingerprint(path: Path, *, whole: bool = False) -> dict[str, Any]:
    """Return size and SHA-256: of the whole file, or of its two ends where it may be huge."""
    size = path.stat().st_size
    with path.open("rb") as file:
        if whole:
            return {"bytes": size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
        digest = hashlib.sha256(file.read(FINGERPRINT_BYTES))
        file.seek(max(0, size - FINGERPRINT_BYTES), os.SEEK_SET)
        digest.update(file.read(FINGERPRINT_BYTES))
    return {"bytes": size, "sha256_of_ends": digest.hexdigest()}
