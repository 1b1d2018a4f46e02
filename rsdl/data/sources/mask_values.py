"""What the values, or colours, of mask files mean: a class each, or nothing."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import rasterio
from numpy.typing import NDArray

from rsdl.core.errors import ConfigError, CorruptSampleError, DataError
from rsdl.data.targets.mask import IGNORE, MAX_CLASSES
from rsdl.raster.class_raster import MAX_VALUE, parse_ignored, parse_values
from rsdl.raster.georef import apply

log = logging.getLogger(__name__)

Colour = tuple[int, int, int]
Values = NDArray[np.integer[Any]]  # [H, W]
# Published colours; those of ISPRS are Potsdam's and Vaihingen's.
PALETTES: dict[str, dict[Colour, str | None]] = {
    "isprs": {
        (255, 255, 255): "impervious", (0, 0, 255): "building", (0, 255, 255): "low_vegetation",
        (0, 255, 0): "tree", (255, 255, 0): "car", (255, 0, 0): "clutter", (0, 0, 0): None,
    },
    "deepglobe": {
        (0, 255, 255): "urban", (255, 255, 0): "agriculture", (255, 0, 255): "rangeland",
        (0, 255, 0): "forest", (0, 0, 255): "water", (255, 255, 255): "barren", (0, 0, 0): None,
    },
}  # fmt: skip
UNKNOWN = -(2**62)  # no value of a file
TABLE = 1 << 24  # values below it, all colours among them, are looked up in a table
HALF_PIXEL = 0.5
TWO_VALUED = ({0, IGNORE}, {0, 1})


@dataclass(frozen=True, slots=True)
class MaskValues:
    """The class of each value or colour.

    Attributes:
        classes: Class names, by class index.
        codes: Value -> class index; 255 stands for nothing. That of a colour is
            ``r << 16 | g << 8 | b``.
        is_colour: Whether masks are colour images.
        nearest: Whether an unknown colour counts as the nearest one.
    """

    classes: tuple[str, ...]
    codes: Mapping[int, int]
    is_colour: bool = False
    nearest: bool = False

    def translate(self, values: Values, where: str) -> NDArray[np.uint8]:
        """Return the mask of the values of a file, ``[H, W]``.

        Raises:
            CorruptSampleError: If a value is no class, and not to be ignored.
        """
        found = _distinct(values)
        codes = {UNKNOWN: IGNORE, **self.codes}
        unknown = [value for value in found.tolist() if value not in codes]
        if unknown and self.nearest:
            codes |= {value: codes[_nearest(value, self.codes)] for value in unknown}
        elif unknown:
            shown = show_colour(unknown[0]) if self.is_colour else str(unknown[0])
            raise CorruptSampleError(
                where,
                f"holds {shown}, which is no class ({', '.join(self.classes)})",
                "name it with --classes or --colors, or pass it to --ignore",
            )
        return _replace(values, found, np.array([codes[each] for each in found.tolist()], np.uint8))


class MaskFile(NamedTuple):
    """The content of a mask file.

    Attributes:
        values: A number for each pixel, ``[H, W]``; a colour becomes r << 16 | g << 8 | b.
        crs: Where it lies; ``None`` if it is not georeferenced.
        transform: From (column, row) to the CRS.
    """

    values: Values
    crs: rasterio.CRS | None
    transform: rasterio.Affine


def read_mask(path: Path, *, is_colour: bool) -> MaskFile:
    """Return the content of a mask file.

    A PNG with a palette holds the numbers of its colours. Pixels of the file's nodata, and NaN,
    become ``UNKNOWN``.

    Raises:
        CorruptSampleError: If it cannot be read, or has no whole numbers, or has other bands.
    """
    try:
        with rasterio.open(path) as source:
            if source.driver == "JPEG":
                problem = "is a JPEG, which changes the values of a mask"
                raise CorruptSampleError(str(path), problem, "use its PNG or TIFF")
            palette = source.colormap(1) if is_colour and source.count == 1 else None
            nothing, place = source.nodata, (source.crs, source.transform)
            bands = source.read()
    except (rasterio.errors.RasterioError, ValueError) as error:
        problem = f"cannot be read: {str(error).splitlines()[0]}"
        raise CorruptSampleError(str(path), problem, "replace it, or leave it out") from error
    if bands.dtype.kind == "c":
        raise CorruptSampleError(str(path), "holds complex numbers", "give a mask of whole numbers")
    if palette is not None:
        bands = _paint(bands[0], palette, path)
    elif not is_colour:
        bands = _mark_unknown(bands, nothing, path)
    if is_colour:
        if len(bands) < 3 or bands.dtype != np.uint8:
            problem = f"has {len(bands)} bands of {bands.dtype}, not the colours of --colors"
            raise CorruptSampleError(str(path), problem, "leave --colors out, or convert the mask")
        red, green, blue = (band.astype(np.int32) for band in bands[:3])
        return MaskFile(red << 16 | green << 8 | blue, *place)
    if any((band != bands[0]).any() for band in bands[1:3]):
        problem = "is a colour image: its bands differ"
        remedy = f"pass --colors FILE, or one of {', '.join(PALETTES)}"
        raise CorruptSampleError(str(path), problem, remedy)
    return MaskFile(bands[0] if bands.dtype == np.uint8 else bands[0].astype(np.int64), *place)


def _paint(
    numbers: NDArray[Any], palette: Mapping[int, Sequence[int]], path: Path
) -> NDArray[np.uint8]:
    """Return the colours of a palette's numbers, ``[3, H, W]``."""
    table = np.zeros((max(palette) + 1, 3), np.uint8)
    table[list(palette)] = [colour[:3] for colour in palette.values()]
    if numbers.max() >= len(table):
        problem = f"holds {numbers.max()}, for which its palette has no colour"
        raise CorruptSampleError(str(path), problem, "save it as a colour image")
    return np.moveaxis(table[numbers], 2, 0)


def _mark_unknown(bands: NDArray[Any], nothing: float | None, path: Path) -> NDArray[Any]:
    """Return whole numbers, with ``UNKNOWN`` for nodata and NaN."""
    is_float = bands.dtype.kind == "f"
    if not is_float and nothing is None:
        return bands
    unknown = np.isnan(bands) if is_float else np.zeros(bands.shape, bool)
    if nothing is not None:
        unknown |= bands == nothing
    known = bands[~unknown]
    if is_float and not ((known == np.rint(known)) & (np.abs(known) < MAX_VALUE)).all():
        problem = "holds fractions or infinity"
        raise CorruptSampleError(str(path), problem, "give a mask of whole numbers")
    return np.where(unknown, UNKNOWN, np.where(unknown, 0, bands).astype(np.int64))


def check_place(mask: MaskFile, where: str, profile: Mapping[str, Any]) -> None:
    """Check that a mask with georeferencing lies where its image does, to half a pixel.

    Args:
        mask: The mask, of its image's size.
        where: Its file, for errors.
        profile: ``crs`` and ``transform`` of the image.

    Raises:
        CorruptSampleError: If it lies elsewhere.
    """
    if mask.crs is None:
        return
    height, width = mask.values.shape
    corners = np.array([(0, 0), (width, 0), (0, height)], float)
    moved = apply(~profile["transform"], apply(mask.transform, corners))
    if mask.crs != profile["crs"] or np.abs(moved - corners).max() > HALF_PIXEL:
        remedy = "warp it to the image's grid, or remove its georeferencing"
        raise CorruptSampleError(where, "lies elsewhere than its image", remedy)


def find_values(
    masks: Iterable[Path], classes: Sequence[str] | None, ignore: Sequence[str]
) -> MaskValues:
    """Return the classes of masks of numbers.

    Args:
        masks: The files; read only if ``classes`` is not given.
        classes: All ``VALUE=NAME``, or all plain names for the values 0, 1, 2 ...; ``None`` takes
            the values that occur: ``background`` and ``foreground`` if there are but 0 and 1, or 0
            and 255, else ``class_<value>``, and 255 is nothing.
        ignore: Values that are nothing.
    """
    nothing = dict.fromkeys(parse_ignored(ignore), IGNORE)
    if classes is not None and not any("=" in entry for entry in classes):
        named = dict(enumerate(classes))
    elif classes is not None:
        named = parse_values(classes)
    else:
        named = _survey(masks, {UNKNOWN, *nothing})
    if both := set(nothing) & set(named):
        raise ConfigError("--ignore", f"{min(both)} is among the classes, too", "name it once")
    if IGNORE not in named:
        nothing[IGNORE] = IGNORE
    return _values(named, nothing)


def find_colours(colours: str, ignore: Sequence[str]) -> MaskValues:
    """Return the classes of masks of colours.

    Args:
        colours: Name of a palette, or a file with a line ``R G B NAME`` for each class.
        ignore: Names that are nothing.
    """
    table = PALETTES[colours] if colours in PALETTES else _read_colours(Path(colours))
    for name in ignore:
        if name not in table.values():
            known = ", ".join(str(each) for each in table.values() if each)
            raise ConfigError("--ignore", f'no colour is named "{name}"', f"use {known}")
    named = {_pack(key): name for key, name in table.items() if name and name not in ignore}
    rest = [_pack(key) for key, name in table.items() if not name or name in ignore]
    values = _values(named, dict.fromkeys(rest, IGNORE))
    return MaskValues(values.classes, values.codes, is_colour=True)


def show_colour(value: int) -> str:
    """Return a packed colour for people."""
    return f"the colour {_unpack(value)}"


def _values(named: Mapping[int, str], nothing: Mapping[int, int]) -> MaskValues:
    names = tuple(dict.fromkeys(named.values()))
    if len(names) > MAX_CLASSES:
        raise ConfigError("--classes", f"{len(names)} are too many: a mask holds {MAX_CLASSES}")
    codes = {value: names.index(name) for value, name in named.items()}
    return MaskValues(names, {**nothing, **codes})


def _survey(masks: Iterable[Path], ignored: set[int]) -> dict[int, str]:
    values: set[int] = set()
    for path in masks:
        values.update(_distinct(read_mask(path, is_colour=False).values).tolist())
        if len(values) > MAX_CLASSES + 1:
            problem = f"has more than {MAX_CLASSES} different values"
            raise DataError(str(path), problem, "is it a mask? name the classes with --classes")
    if values - ignored in TWO_VALUED:
        low, high = sorted(values - ignored)
        return {low: "background", high: "foreground"}
    if not values - ignored - {IGNORE}:
        raise DataError("MASKS", "have no label: all is 255 or ignored", "name the right folder")
    if IGNORE in values - ignored:
        log.warning(
            "masks: 255 is taken for no label; name it with --classes to have it as a class"
        )
    return {value: f"class_{value}" for value in sorted(values - ignored - {IGNORE})}


def _read_colours(path: Path) -> dict[Colour, str | None]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        known = ", ".join(PALETTES)
        raise ConfigError("--colors", f"cannot read {path}: {error}", f"or use {known}") from error
    table: dict[Colour, str | None] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        *numbers, name = line.replace(",", " ").split(maxsplit=3)
        if len(numbers) != 3 or not all(part.isdecimal() and int(part) < 256 for part in numbers):
            raise ConfigError(
                "--colors", f'{path}:{number}: cannot read "{line}"', "write R G B NAME"
            )
        red, green, blue = map(int, numbers)
        if (red, green, blue) in table:
            raise ConfigError(
                "--colors", f"{path}:{number}: this colour comes twice", "name it once"
            )
        table[red, green, blue] = name
    return table


def _distinct(values: Values) -> Values:
    """Return the values that occur, sorted."""
    if values.dtype == np.uint8:
        return np.flatnonzero(cv2.calcHist([values], [0], None, [256], [0, 256]))
    if values.min() < 0 or values.max() >= TABLE:
        return np.unique(values)
    # A table is 10 times as fast as sorting the 36 million pixels of a tile of Potsdam.
    occurs = np.zeros(int(values.max()) + 1, np.bool_)
    occurs[values] = True
    return np.flatnonzero(occurs)


def _replace(values: Values, found: Values, by: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return values with each of those that occur, ``found``, replaced."""
    if found[0] < 0 or found[-1] >= TABLE:
        return by[np.searchsorted(found, values)]
    table = np.zeros(max(256, int(found[-1]) + 1), np.uint8)
    table[found] = by
    return cv2.LUT(values, table) if values.dtype == np.uint8 else table[values]  # type: ignore[return-value]


def _nearest(colour: int, known: Iterable[int]) -> int:
    """Return the known colour with the least distance in red, green and blue."""
    parts = _unpack(colour)
    return min(
        known,
        key=lambda each: sum((a - b) ** 2 for a, b in zip(parts, _unpack(each), strict=True)),
    )


def _unpack(value: int) -> Colour:
    return value >> 16, value >> 8 & 255, value & 255


def _pack(colour: Colour) -> int:
    return colour[0] << 16 | colour[1] << 8 | colour[2]
