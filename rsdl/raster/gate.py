"""The gate that every sample passes on its way into a data set and into its statistics.

Each source reads pixels in its own way; what must hold for all of them is done here, so that no
path can miss it: what holds no data is filled and left out of the statistics, nothing that is not
finite passes, and a band means the same in every file.

What holds no data is filled with the mean of the image's own data, band by band. That is near the
neutral zero after normalisation, makes no outlier as -9999 would and no dark edge as 0 would; the
price is that a network sees a flat patch and cannot know that it is a hole.
"""

import logging
import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsdl.core.errors import ConfigError, CorruptSampleError, DataError

log = logging.getLogger(__name__)
# Part of what names a packed data set: raised whenever the gate gives other pixels than before.
GATE_VERSION = 3
# Colour interpretations that say what a band shows; "gray" and "undefined" say nothing.
COLOURS = ("red", "green", "blue", "nir", "swir", "coastal", "rededge", "pan", "alpha")


@dataclass(frozen=True, slots=True)
class BandTable:
    """What the bands of one file mean, as far as the file says; one entry a band.

    Attributes:
        names: Descriptions, ``None`` where there is none.
        colours: Colour interpretation where it says what a band shows, else ``None``.
        scales: What stored numbers are multiplied with to give ``units``.
        offsets: What is then added.
        units: Units of the scaled numbers, ``None`` where the file names none.
    """

    names: tuple[str | None, ...]
    colours: tuple[str | None, ...]
    scales: tuple[float, ...]
    offsets: tuple[float, ...]
    units: tuple[str | None, ...]

    @property
    def is_scaled(self) -> bool:
        """Whether any band is scaled or shifted."""
        return set(self.scales) != {1.0} or set(self.offsets) != {0.0}

    @property
    def scaling(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Scales and offsets."""
        return self.scales, self.offsets

    def pick(self, indexes: tuple[int, ...]) -> "BandTable":
        """Return the table of some bands, numbered from 1."""
        return BandTable(
            tuple(self.names[i - 1] for i in indexes),
            tuple(self.colours[i - 1] for i in indexes),
            tuple(self.scales[i - 1] for i in indexes),
            tuple(self.offsets[i - 1] for i in indexes),
            tuple(self.units[i - 1] for i in indexes),
        )

    def conflict(
        self, other: "BandTable", *, scaling: bool = True, names: bool = True
    ) -> str | None:
        """Return in which way this file contradicts another one, ``None`` where it does not.

        What only one of them says is no contradiction.

        Args:
            other: The table of the other file, of as many bands.
            scaling: Whether scale and offset must be equal too.
            names: Whether descriptions and colours must.
        """
        shown = (("band", self.names, other.names), ("band", self.colours, other.colours))
        units = ("the unit of band", self.units, other.units)
        for what, mine, theirs in (*(shown if names else ()), units):
            for number, (here, there) in enumerate(zip(mine, theirs, strict=True), start=1):
                if here is not None and there is not None and here != there:
                    return f'{what} {number} is "{here}" here and "{there}" in'
        if scaling and self.scaling != other.scaling:
            return f"has {_scaling(self)}, not {_scaling(other)} as"
        return None

    def fill(self, other: "BandTable") -> "BandTable":
        """Return this table with what only the other says."""
        return BandTable(
            tuple(a or b for a, b in zip(self.names, other.names, strict=True)),
            tuple(a or b for a, b in zip(self.colours, other.colours, strict=True)),
            self.scales,
            self.offsets,
            tuple(a or b for a, b in zip(self.units, other.units, strict=True)),
        )

    def find(self, wanted: tuple[str, ...], where: str) -> tuple[int, ...]:
        """Return the numbers, from 1, of the bands that a user names.

        Args:
            wanted: Descriptions, colours (``red``), numbers (``4``) or ``band_4``.
            where: The file, for errors.

        Raises:
            ConfigError: If there is no such band, or several.
        """
        return tuple(self._find_one(name, where) for name in wanted)

    def _find_one(self, wanted: str, where: str) -> int:
        key = wanted.casefold()
        for names in (self.names, self.colours):
            found = [i for i, name in enumerate(names, start=1) if (name or "").casefold() == key]
            if len(found) == 1:
                return found[0]
            if found:
                raise ConfigError(
                    "--bands", f'{where} has {len(found)} bands "{wanted}"', "name them by number"
                )
        number = key.removeprefix("band_")
        if number.isdecimal() and 1 <= int(number) <= len(self.names):
            return int(number)
        known = enumerate(zip(self.names, self.colours, strict=True), start=1)
        shown = ", ".join(name or colour or f"band_{i}" for i, (name, colour) in known)
        raise ConfigError("--bands", f'{where} has no band "{wanted}"', f"it has {shown}")


class BandAgreement:
    """What all files so far say of their bands; any number of threads may ask.

    Args:
        scaling: Whether scale and offset must be equal too.
        names: Whether descriptions and colours must.
    """

    def __init__(self, *, scaling: bool = True, names: bool = True) -> None:
        self._scaling, self._names = scaling, names
        self._table: BandTable | None = None
        self._first = ""
        self._warned = False
        self._lock = threading.Lock()

    def check(self, table: BandTable | None, where: str) -> None:
        """Refuse a file whose bands mean something else than those of a file before.

        Args:
            table: What the file says, of as many bands as the others; ``None`` says nothing.
            where: The file, for errors.

        Raises:
            DataError: If it contradicts another file; it is never just left out.
        """
        if table is None:
            return
        with self._lock:
            if self._table is None:
                self._table, self._first = table, where
                return
            if table == self._table:
                return
            conflict = table.conflict(self._table, scaling=self._scaling, names=self._names)
            if conflict is not None:
                raise DataError(
                    where,
                    f"{conflict} {self._first}",
                    "choose and order bands with --bands NAME,..., apply scales with --unscale, "
                    "or pack it apart",
                )
            if self._names and any(table.names) != any(self._table.names) and not self._warned:
                self._warned = True
                silent, other = (
                    (where, self._first) if any(self._table.names) else (self._first, where)
                )
                log.warning(
                    "%s does not describe its bands: they are taken to be those of %s",
                    silent,
                    other,
                )
            self._table = self._table.fill(table)


def _scaling(table: BandTable) -> str:
    scales, offsets = (
        ", ".join(f"{value:g}" for value in dict.fromkeys(values)) for values in table.scaling
    )
    return f"scale {scales} and offset {offsets}"


def mark_value(pixels: NDArray[Any], value: float) -> NDArray[np.bool_]:
    """Return where an image has data if ``value`` marks what has none.

    In whole numbers a value may also be a dark or a bright band: only a pixel that has it in all
    bands holds no data.

    Args:
        pixels: ``[H, W, C]``.
        value: What stands where no data is.

    Returns:
        ``[H, W, C]``.
    """
    marked = pixels == value
    if pixels.dtype.kind != "f":
        marked = np.broadcast_to(marked.all(axis=2, keepdims=True), pixels.shape)
    present: NDArray[np.bool_] = ~marked
    return present


def admit(
    pixels: NDArray[Any], present: NDArray[np.bool_] | None, where: str, *, dark_zero: bool = False
) -> NDArray[np.bool_] | None:
    """Fill in place what holds no data in an image, and return where there is data.

    Args:
        pixels: ``[H, W, C]``.
        present: Where each band has data, ``[H, W, C]``; ``None`` has it wherever it is finite.
        where: The file, for errors.
        dark_zero: Whether nodata is 0 in integers; see :func:`fill_missing`.

    Returns:
        Where there is data, ``[H, W]``; ``None`` if everywhere.

    Raises:
        CorruptSampleError: If no pixel holds data.
    """
    bands = np.moveaxis(pixels, 2, 0)
    here = None if present is None else np.moveaxis(present, 2, 0)
    valid = fill_missing(bands, here, dark_zero=dark_zero)
    if valid is not None and not valid.any():
        raise CorruptSampleError(where, "holds no data, only nodata", "remove the file")
    return valid


def fill_missing(
    pixels: NDArray[Any], present: NDArray[np.bool_] | None, *, dark_zero: bool
) -> NDArray[np.bool_] | None:
    """Fill in place what holds no data, and return where there is data.

    A pixel has data where all of its bands do. Only where nodata is 0 in integers one band is
    enough, because 0 is also what near infrared reads over water: there a lone 0 is kept as it is.

    Args:
        pixels: Pixels, ``[C, H, W]``; NaN and infinities are no data.
        present: Where each band has data, ``[C, H, W]``; ``None`` has it wherever it is finite.
        dark_zero: Whether nodata is 0 in integers.

    Returns:
        Where there is data, ``[H, W]``; ``None`` if everywhere.
    """
    if pixels.dtype.kind == "f":
        finite = np.isfinite(pixels)
        present = finite if present is None else present & finite
    if present is None or present.all():
        return None
    valid = np.asarray(present.any(axis=0) if dark_zero else present.all(axis=0))
    for band, here in zip(pixels, present, strict=True):
        missing = ~valid if dark_zero else ~here
        mean = band[~missing].mean(dtype=np.float64) if not missing.all() else 0.0
        band[missing] = mean if pixels.dtype.kind == "f" else np.rint(mean)
    return None if valid.all() else valid


def unscale(pixels: NDArray[Any], table: BandTable) -> NDArray[np.float32]:
    """Return stored numbers ``[H, W, C]`` in the units that a file's scales and offsets give."""
    scaled = pixels * np.array(table.scales) + np.array(table.offsets)
    return np.asarray(scaled, np.float32)


def is_mask(alpha: NDArray[Any]) -> bool:
    """Return whether a band that is tagged as alpha says where data is, and is no imagery.

    Some writers tag near infrared as alpha. A mask knows two values: 0 and the type's highest (1
    for fractions); anything else is imagery.
    """
    top = np.iinfo(alpha.dtype).max if alpha.dtype.kind in "ui" else 1
    return bool(((alpha == 0) | (alpha == top)).all())
