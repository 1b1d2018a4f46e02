"""What the values, or colours, of mask files mean: a class each, or nothing."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from rsdl.core.errors import ConfigError, CorruptSampleError, DataError
from rsdl.data.sources.mask_file import UNKNOWN, Values, read_mask
from rsdl.data.sources.mask_palettes import PALETTES, Colour
from rsdl.data.targets.mask import IGNORE, MAX_CLASSES
from rsdl.raster.class_raster import parse_ignored, parse_values

log = logging.getLogger(__name__)

TABLE = 1 << 24  # values below it, all colours among them, are looked up in a table
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
