"""Find, name and check scenes, and verify that all agree in bands and type.

Only metadata is read, plus small windows of alpha bands: a folder of thousands of scenes is
checked, and an inconsistent scene reported, before hours of packing.
"""

import hashlib
import logging
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.env import set_gdal_config
from rasterio.windows import Window

from rsdl.core.errors import DataError
from rsdl.core.pixels import Dtype
from rsdl.raster.check_scene import check_scene
from rsdl.raster.dataset_pool import WARNINGS
from rsdl.raster.files import make_slugs, relative_names
from rsdl.raster.gate import BandAgreement, BandTable, is_mask
from rsdl.raster.read_raster import table_of
from rsdl.raster.remote import RasterFile, cause_of, explain, gdal_name, open_bytes, prepare_gdal

# By default GDAL uses 5% of the machine's memory for its block cache, tens of GiB on a large node.
# The cache is global to the process: with an Env around each read, threads would overwrite each
# other's limit, and an Env takes as long as the read.
GDAL_CACHE_BYTES = 256 << 20
FINGERPRINT_BYTES = 1 << 20
# Alpha is classified from 8 x 8 windows of this side before a scene is read.
ALPHA_WINDOWS, ALPHA_SIDE = 8, 64
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SceneRules:
    """The user's options for scenes; same fields as in ``GeotiffOptions``."""

    alpha: Literal["auto", "mask", "band"] = "auto"
    bands: tuple[str, ...] | None = None
    unscale: Literal["auto", "on", "off"] = "auto"
    nodata: float | None = None
    narrow: bool = False  # read float64 as float32, as published images are packed
    georeferenced: bool = True  # a scene must have a coordinate reference system


@dataclass(frozen=True, slots=True)
class Clip:
    """Where an area clips a scene, and which of its pixels lie in the area.

    Attributes:
        whole: The scene.
        corner: Row and column in the scene where the clipped scene begins.
        covers: For row, column, height and width of a window of the whole scene, which of its
            pixels lie in the area, ``[H, W]``, or one answer for all.
    """

    whole: "Scene"
    corner: tuple[int, int]
    covers: Callable[[int, int, int, int], NDArray[np.bool_] | bool]


@dataclass(frozen=True, slots=True)
class Scene:
    """Metadata of a scene, known without reading its pixels.

    Attributes:
        path: The file.
        name: Path relative to the common folder of all scenes.
        slug: Unique name for keys; letters, digits, ``_`` and ``-`` only.
        height: In pixels.
        width: In pixels.
        bands: Names of the stored bands.
        indexes: Numbers of the stored bands in the file, from 1.
        alpha: Number of the mask band, if there is one.
        table: Metadata of the stored bands.
        unscale: Whether scale and offset are applied.
        nodata: Nodata value, in addition to the file's own.
        masked: Whether the file marks pixels without data.
        dark_zero: Whether nodata is 0 in integers, a value that a dark band also has.
        dtype: Type of the pixels.
        crs: Coordinate reference system; ``None`` only if ``SceneRules`` let it have none.
        transform: From (column, row) to the CRS.
        scale: Stored pixels per pixel, down and across; other than 1 where it is resampled.
        clip: How it is clipped; ``None``: it is a whole scene.
    """

    path: RasterFile
    name: str
    slug: str
    height: int
    width: int
    bands: tuple[str, ...]
    indexes: tuple[int, ...]
    alpha: int | None
    table: BandTable
    unscale: bool
    nodata: float | None
    masked: bool
    dark_zero: bool
    dtype: Dtype
    crs: rasterio.CRS
    transform: rasterio.Affine
    scale: tuple[float, float] = (1, 1)
    clip: Clip | None = None

    def in_file(self, window: Window) -> Window:
        """Return a window of this scene in the stored pixels of its file."""
        row, col = window.row_off, window.col_off
        if self.clip is not None:
            row, col = row + self.clip.corner[0], col + self.clip.corner[1]
        down, across = self.scale
        return Window(col * across, row * down, window.width * across, window.height * down)


def open_raster(path: RasterFile, stack: ExitStack) -> Any:  # noqa: ANN401 - rasterio has no types
    """Open a raster for reading, with a bounded block cache; ``stack`` closes it.

    Raises:
        DataError: If GDAL cannot open it.
        StorageError: If its server is away or refuses.
    """
    set_gdal_config("GDAL_CACHEMAX", GDAL_CACHE_BYTES)
    prepare_gdal(path)
    try:
        with WARNINGS, warnings.catch_warnings():
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
            source = stack.enter_context(rasterio.open(gdal_name(path)))
            source.colorinterp  # noqa: B018 - GDAL reads the keys of the CRS here, and may complain
            return source
    except CPLE_BaseError as error:
        reason = explain(error, path)
        problem, remedy = f"cannot be read: {reason}", "replace or remove it"
        raise DataError(str(path), problem, remedy) from cause_of(error, path)
    except rasterio.errors.RasterioIOError as error:
        explain(error, path)
        raise DataError(
            str(path), "is not a raster that GDAL reads, or is truncated", "replace or remove it"
        ) from cause_of(error, path)


def describe_scenes(paths: Sequence[RasterFile], rules: SceneRules) -> tuple[Scene, ...]:
    """Return the metadata of the scenes at ``paths``, checked to agree in bands and type.

    Args:
        paths: The files.
        rules: The user's options for the scenes.

    Raises:
        DataError: If one is not a raster, is not georeferenced, or differs from the rest.
        ConfigError: If a requested band is missing.
    """
    names = relative_names(paths)
    alpha = rules.alpha if rules.alpha != "auto" else _judge_alpha(paths)
    scenes = tuple(
        _describe(path, name, slug, replace(rules, alpha=alpha))
        for path, name, slug in zip(paths, names, make_slugs(names), strict=True)
    )
    agreement = BandAgreement(scaling=False, names=rules.bands is None)
    usual = Counter((len(scene.bands), scene.dtype) for scene in scenes).most_common(1)[0][0]
    for scene in scenes:
        if (len(scene.bands), scene.dtype) != usual:
            raise DataError(
                str(scene.path),
                f"has {len(scene.bands)} bands of {scene.dtype}, "
                f"the other scenes {usual[0]} of {usual[1]}",
                "leave it out, or convert it",
            )
        if set(scene.bands) == set(scenes[0].bands) and scene.bands != scenes[0].bands:
            raise DataError(
                str(scene.path),
                f"has its bands in another order than {scenes[0].path}",
                'name them with --bands NAME,..., or reorder them with "gdal_translate -b"',
            )
        agreement.check(scene.table, str(scene.path))
    return _agree_on_scale(scenes, rules)


def _judge_alpha(paths: Sequence[RasterFile]) -> Literal["mask", "band"]:
    """Return whether bands tagged as alpha are masks, or imagery if any of them looks like it.

    Windows spread over each scene are read; every tile is checked again when it is read, as a mask
    holds only 0 and the highest value.
    """
    for path in paths:
        with ExitStack() as stack:
            source = open_raster(path, stack)
            tagged = [i for i in source.indexes if source.colorinterp[i - 1] == ColorInterp.alpha]
            if not tagged or source.count == 1:
                continue
            steps = np.arange(ALPHA_WINDOWS) / ALPHA_WINDOWS
            for top, left in product(steps * source.height, steps * source.width):
                window = Window(int(left), int(top), ALPHA_SIDE, ALPHA_SIDE)
                if not is_mask(source.read(tagged[-1], window=window)):
                    log.warning(
                        "%s: band %d is tagged as alpha but holds more than 0 and the highest "
                        "value: taken as imagery; --alpha mask takes it for a mask",
                        path,
                        tagged[-1],
                    )
                    return "band"
    return "mask"


def _agree_on_scale(scenes: tuple[Scene, ...], rules: SceneRules) -> tuple[Scene, ...]:
    """Return the scenes with scale and offset applied to all or to none of them."""
    first = scenes[0]
    odd = next((s for s in scenes if s.table.scaling != first.table.scaling), None)
    if rules.unscale == "off" and odd is not None:
        conflict = odd.table.conflict(first.table, names=False)
        raise DataError(str(odd.path), f"{conflict} {first.path}", "pass --unscale on")
    if rules.unscale == "on" or (rules.unscale == "auto" and odd is not None):
        if odd is not None:
            log.warning(
                "%s has another scale or offset than %s: both are applied to all scenes",
                odd.path,
                first.path,
            )
        return tuple(replace(scene, unscale=True, dtype="float32") for scene in scenes)
    if first.table.is_scaled:
        log.warning(
            "all scenes have the same scale and offset: stored numbers are kept; --unscale on "
            "applies them"
        )
    return scenes


def _describe(path: RasterFile, name: str, slug: str, rules: SceneRules) -> Scene:
    with ExitStack() as stack:
        source = open_raster(path, stack)
        dtype = check_scene(path, source, narrow=rules.narrow, georeferenced=rules.georeferenced)
        table = table_of(source)
        tagged = [i for i in source.indexes if source.colorinterp[i - 1] == ColorInterp.alpha]
        masks = tagged[-1:] if rules.alpha == "mask" and source.count > 1 else []
        indexes = tuple(i for i in source.indexes if i not in masks)
        if rules.bands is not None:
            indexes = table.find(rules.bands, str(path))
        table = table.pick(indexes)
        flags = [set(source.mask_flag_enums[i - 1]) for i in indexes]
        marks = [flag - {MaskFlags.all_valid, MaskFlags.per_dataset} for flag in flags]
        if rules.alpha == "band":
            marks = [mark - {MaskFlags.alpha} for mark in marks]
        unique = all(table.names) and len(set(table.names)) == len(table.names)
        described = tuple(text for text in table.names if text) if unique else rules.bands
        shared = [MaskFlags.per_dataset in flag and MaskFlags.alpha not in flag for flag in flags]
        return Scene(
            path=path,
            name=name,
            slug=slug,
            height=source.height,
            width=source.width,
            bands=described or tuple(f"band_{n + 1}" for n in range(len(indexes))),
            indexes=indexes,
            alpha=masks[0] if masks else None,
            table=table,
            unscale=False,
            nodata=rules.nodata,
            masked=any(marks) or any(shared),
            dark_zero=dtype != "float32" and all(source.nodatavals[i - 1] == 0 for i in indexes),
            dtype=dtype,
            crs=source.crs,
            transform=source.transform,
        )


def fingerprint(path: Path) -> dict[str, Any]:
    """Return size and SHA-256 of a whole local file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"bytes": path.stat().st_size, "sha256": digest}


def fingerprint_ends(file: RasterFile) -> dict[str, Any]:
    """Return size and SHA-256 of the two ends of a file, which may be huge or far away.

    The same file has the same fingerprint wherever it lies.

    Raises:
        StorageError: If a remote file cannot be read.
    """
    with open_bytes(file) as data:
        digest = hashlib.sha256(data[:FINGERPRINT_BYTES])
        digest.update(data[max(0, len(data) - FINGERPRINT_BYTES) :])
        return {"bytes": len(data), "sha256_of_ends": digest.hexdigest()}
