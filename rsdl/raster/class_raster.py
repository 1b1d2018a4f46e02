"""Labels from rasters that hold a class number for each pixel, in any CRS and resolution.

A tile's labels are read by window through a warped view in the scene's own grid, nearest neighbour,
so a label map of a whole country costs no more than one of a tile. The raster's nodata is no label.
``classes`` decides about the other values:

- ``VALUE=NAME``: exactly these values are classes (0 too if named; several may share a name).
- Plain names: they stand for the values 1, 2, 3 ...
- Not given: every value but 0 that occurs is ``class_<value>``; 255 in 8 bits is no label.

Floating-point rasters must hold whole numbers; NaN is no label.
"""

import logging
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.vrt import WarpedVRT
from rasterio.warp import Resampling
from rasterio.windows import Window

from rsdl.core.errors import ConfigError, CorruptSampleError, DataError
from rsdl.raster.cover import LabelMap, boxes_meet, pixel_boxes
from rsdl.raster.dataset_pool import DatasetPool
from rsdl.raster.files import find_rasters
from rsdl.raster.georef import apply, bounding_box, outline, project
from rsdl.raster.rasterize import LabelRules
from rsdl.raster.scenes import Scene, open_raster

Floats = NDArray[np.float64]
MAX_CLASSES = 1000
MAX_VALUE = 2**53  # float64 represents every integer up to here
IGNORED_BYTE = 255
log = logging.getLogger(__name__)


class RasterLabels:
    """Class rasters; where several cover a pixel, the first by name that has a label wins.

    Args:
        path: A raster, or a folder of them.
        rules: Classes as ``VALUE=NAME`` or names, ``None`` for the values that occur; and the
            values to ignore.
        scenes: The scenes to label.
        pool: Pool of open files for each thread.

    Raises:
        DataError: If a raster is missing, has no CRS, several bands or no whole numbers.
        ConfigError: If ``classes`` cannot be read or names the nodata value.
    """

    def __init__(
        self, path: Path, rules: LabelRules, scenes: Sequence[Scene], pool: DatasetPool
    ) -> None:
        _refuse_vector_rules(rules)
        classes = rules.classes
        self.left_out: dict[str, int] = {}
        self.files = tuple(find_rasters([path], what="class rasters"))
        self._scenes, self._pool = scenes, pool
        named = parse_values(classes) if classes is not None else None
        outlines: list[Floats] = []
        crs: list[rasterio.CRS] = []
        nodata: set[int] = set()
        for file in self.files:
            with ExitStack() as stack:
                source = open_raster(file, stack)
                _check(file, source)
                outlines.append(apply(source.transform, outline(source.height, source.width)))
                crs.append(source.crs)
                value = source.nodata
                nodata |= {int(value)} if value is not None and np.isfinite(value) else set()
        ignored = parse_ignored(rules.ignore)
        if named is None:
            values = _survey(self.files, ignored)
            named = {value: f"class_{value}" for value in values}
        if both := ignored & set(named):
            raise ConfigError(
                "ignore", f"value {min(both)} is among the classes, too", "name it once"
            )
        if lost := nodata & set(named):
            raise ConfigError(
                "classes",
                f"value {min(lost)} is the nodata of a class raster and never a label",
                'unset it with "gdal_edit.py -unsetnodata FILE", or leave it out of the classes',
            )
        self.classes = tuple(dict.fromkeys(named.values()))
        self._values = np.array(sorted(named), np.int64)
        codes = [self.classes.index(named[value]) + 1 for value in sorted(named)]
        self._codes = np.array(codes, np.int32)
        self._extent = bounding_box(outlines[0]), crs[0]
        self._boxes = [_place(outlines, crs, scene) for scene in scenes]

    @property
    def extent(self) -> tuple[Floats, rasterio.CRS]:
        """Bounding box of the first raster, and its CRS."""
        return self._extent

    def boxes(self, scene: int) -> Floats:
        """Return the boxes of the rasters that meet a scene, in pixels, ``[N, 4]``."""
        _, boxes = self._boxes[scene]
        return boxes

    def paint(self, scene: int, row: int, col: int, tile: int) -> LabelMap:
        """Return class index + 1 for each pixel of a tile ``[tile, tile]``; 0 has no label."""
        numbers, boxes = self._boxes[scene]
        painted = np.zeros((tile, tile), np.int32)
        for number in numbers[boxes_meet(boxes, row, col, row + tile, col + tile)].tolist():
            codes = self._read(scene, number, Window(col, row, tile, tile))
            np.copyto(painted, codes, where=painted == 0)
            if painted.all():
                break
        return painted

    def sample(self, scene: int, pixels: NDArray[np.integer]) -> LabelMap:
        """Return class index + 1 of pixels (row, column) ``[N, 2]``, 0 where it is unknown."""
        found = np.zeros(len(pixels), np.int32)
        for place, (row, col) in enumerate(pixels.tolist()):
            with suppress(CorruptSampleError):
                found[place] = self.paint(scene, row, col, 1)[0, 0]
        return found

    def _read(self, scene: int, number: int, window: Window) -> LabelMap:
        file = self.files[number]

        def open_view(stack: ExitStack) -> Any:  # noqa: ANN401 - rasterio has no types
            return _open_view(file, self._scenes[scene], stack)

        try:
            view = self._pool.get((file, scene), open_view)
            values, known = _whole(
                view.read(1, window=window), view.read_masks(1, window=window) > 0, file
            )
        except rasterio.errors.RasterioError as error:
            reason = str(error.__cause__ or error).splitlines()[0]
            raise CorruptSampleError(
                str(file), f"cannot be read: {reason}", "replace it, or leave it out"
            ) from error
        places = np.minimum(np.searchsorted(self._values, values), len(self._values) - 1)
        codes: LabelMap = self._codes[places] * (known & (self._values[places] == values))
        return codes


def parse_values(classes: Sequence[str]) -> dict[int, str]:
    """Return the class names by raster value, in the order of ``classes``.

    Args:
        classes: All ``VALUE=NAME``, or all plain names for the values 1, 2, 3 ...

    Raises:
        ConfigError: If both forms are mixed, or a value is not a number or occurs twice.
    """
    if not any("=" in entry for entry in classes):
        return {value: name for value, name in enumerate(classes, start=1)}
    named: dict[int, str] = {}
    for entry in classes:
        value, equals, name = (part.strip() for part in entry.partition("="))
        if not equals or not name or not value.lstrip("-").isdecimal() or int(value) in named:
            raise ConfigError("classes", f'cannot read "{entry}"', "write each once as VALUE=NAME")
        named[int(value)] = name
    return named


def parse_ignored(values: Sequence[str]) -> set[int]:
    """Return the raster values to ignore.

    Raises:
        ConfigError: If one is not a whole number.
    """
    for text in values:
        if not text.strip().lstrip("-").isdecimal():
            raise ConfigError("ignore", f'"{text}" is no value of a raster', "use whole numbers")
    return {int(text) for text in values}


def _refuse_vector_rules(rules: LabelRules) -> None:
    if rules.layer is not None:
        raise ConfigError("label_layer", "a class raster has no layers", "leave it out")
    if rules.all_touched:
        raise ConfigError("all_touched", "is for polygons, not a class raster", "leave it out")
    if rules.background is not None:
        problem = "is for polygons: a class raster says itself where nothing is known"
        raise ConfigError("background", problem, "name its value with --classes, as 0=ground")


def _whole(
    values: NDArray[Any], known: NDArray[np.bool_], file: Path
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return values as integers, and which of them are known.

    Raises:
        DataError: If one is not a whole number.
    """
    if values.dtype.kind == "f":
        known = known & ~np.isnan(values)
        values = np.where(known, values, 0)
        odd = values[(values != np.rint(values)) | (np.abs(values) > MAX_VALUE)]
        if odd.size:
            problem = f"holds {odd.flat[0]:g}; labels are whole numbers"
            raise DataError(str(file), problem, "give a class raster, or round its values")
    return values.astype(np.int64), known


def _open_view(file: Path, scene: Scene, stack: ExitStack) -> Any:  # noqa: ANN401
    source = open_raster(file, stack)
    return stack.enter_context(
        WarpedVRT(
            source,
            crs=scene.crs,
            transform=scene.transform,
            width=scene.width,
            height=scene.height,
            resampling=Resampling.nearest,
            # Without a nodata value, only an alpha band tells the value 0 from outside the raster.
            add_alpha=source.nodata is None,
        )
    )


def _place(
    outlines: Sequence[Floats], crs: Sequence[rasterio.CRS], scene: Scene
) -> tuple[NDArray[np.int64], Floats]:
    numbers, boxes = [], []
    for number, (points, source) in enumerate(zip(outlines, crs, strict=True)):
        moved = project(points, source, scene.crs)
        if moved is None:  # cannot be projected to the scene's CRS, so it is far away
            continue
        box = pixel_boxes(bounding_box(moved)[None], scene)
        if boxes_meet(box, 0, 0, scene.height, scene.width)[0]:
            numbers.append(number)
            boxes.append(box[0])
    return np.array(numbers, np.int64), np.array(boxes).reshape(-1, 4)


def _check(file: Path, source: Any) -> None:  # noqa: ANN401 - rasterio has no types
    if source.crs is None:
        raise DataError(
            str(file),
            "has no coordinate reference system",
            'set it with "gdal_edit.py -a_srs EPSG:CODE FILE"',
        )
    if source.count != 1 or np.dtype(source.dtypes[0]).kind not in "uif":
        raise DataError(
            str(file),
            f"has {source.count} bands of {source.dtypes[0]}; labels are one band of whole numbers",
            "give a class raster, or polygons as .geojson",
        )


def _survey(files: Sequence[Path], ignored: set[int]) -> list[int]:
    """Return the values that occur and can be labels, sorted.

    Raises:
        DataError: If there are none, or more than ``MAX_CLASSES``.
    """
    values: set[int] = set()
    bytes_only = True
    for file in files:
        with ExitStack() as stack:
            source = open_raster(file, stack)
            bytes_only &= source.dtypes[0] == "uint8"
            try:
                for _, window in source.block_windows(1):
                    known = source.read_masks(1, window=window) > 0
                    found, known = _whole(source.read(1, window=window), known, file)
                    values.update(np.unique(found[known]).tolist())
            except rasterio.errors.RasterioError as error:
                reason = str(error.__cause__ or error).splitlines()[0]
                raise DataError(str(file), f"cannot be read: {reason}", "replace it") from error
        if len(values) > MAX_CLASSES:
            raise DataError(
                str(file),
                f"has more than {MAX_CLASSES} different values",
                "give a class raster, or name the values with --classes VALUE=NAME",
            )
    if bytes_only and IGNORED_BYTE in values - ignored:
        log.warning(
            "%s: %d is taken for no label; name it with --classes to have it as a class",
            files[0], IGNORED_BYTE,
        )  # fmt: skip
        values.discard(IGNORED_BYTE)
    if 0 in values - ignored:
        log.warning("%s: 0 is taken for no label; name it with --classes 0=NAME,...", files[0])
    values -= ignored | {0}
    if not values:
        raise DataError(str(files[0]), "has no label: all is 0 or nodata", "give another raster")
    return sorted(values)
