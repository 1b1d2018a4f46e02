"""Validate and fill the pixels of every sample before it is packed and counted in statistics.

Each source reads pixels in its own way; this module enforces the rules common to all of them, so
that no code path skips them: pixels without data are filled and left out of the statistics, all
values are finite, and a band means the same in every file.

Pixels without data are filled with the mean of the image's valid pixels, band by band. The mean is
near zero after normalisation, makes no outlier as -9999 would and no dark edge as 0 would; the
trade-off is that a network sees a flat patch and cannot know that data is missing.
"""

import logging
import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsdl.core.errors import ConfigError, CorruptSampleError, DataError
from rsdl.core.pixels import Dtype

log = logging.getLogger(__name__)
# Part of a packed dataset's name: increase it whenever this module's pixel output changes.
GATE_VERSION = 3
# Colour interpretations that identify a band; "gray" and "undefined" do not.
COLOURS = ("red", "green", "blue", "nir", "swir", "coastal", "rededge", "pan", "alpha")


@dataclass(frozen=True, slots=True)
class BandTable:
    """Metadata of the bands of one file, one entry for each band.

    Attributes:
        names: Descriptions, ``None`` where there is none.
        colours: Colour interpretation if it identifies the band, else ``None``.
        scales: Factors from stored numbers to ``units``.
        offsets: Values added after scaling.
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
        """Return the table of the selected bands, numbered from 1."""
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
        """Return how this file contradicts another one, or ``None`` if it does not.

        Metadata that only one of them has is no contradiction.

        Args:
            other: The other file's table, with the same number of bands.
            scaling: Whether scale and offset must be equal too.
            names: Whether descriptions and colours must be equal.
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
        """Return this table with missing metadata taken from the other."""
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
            ConfigError: If no band or several bands match.
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
    """Check that all files agree in their bands; thread-safe.

    Args:
        scaling: Whether scale and offset must be equal too.
        names: Whether descriptions and colours must be equal.
    """

    def __init__(self, *, scaling: bool = True, names: bool = True) -> None:
        self._scaling, self._names = scaling, names
        self._table: BandTable | None = None
        self._first = ""
        self._warned = False
        self._lock = threading.Lock()

    def check(self, table: BandTable | None, where: str) -> None:
        """Reject a file whose band metadata contradicts that of an earlier file.

        Args:
            table: The file's bands, as many as in the others; ``None`` if the format has no table.
            where: The file, for errors.

        Raises:
            DataError: If it contradicts another file; such a file is never silently skipped.
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


def check_nodata(value: float | None, dtype: Dtype) -> None:
    """Check that pixels can hold the value that a user calls nodata.

    The nodata of a file is not checked: many files of bytes say -9999, which marks nothing.

    Args:
        value: The nodata value; ``None`` if there is none.
        dtype: Type of the pixels.

    Raises:
        ConfigError: If no pixel can hold it.
    """
    if value is None or dtype == "float32":
        return
    most = np.iinfo(dtype).max
    if not (0 <= value <= most and float(value).is_integer()):
        problem = f"is {value:g}, which no pixel of {dtype} can hold"
        raise ConfigError("--nodata", problem, f"name a whole number of 0 to {most}")


def mark_value(pixels: NDArray[Any], value: float) -> NDArray[np.bool_]:
    """Return where an image has data, given the ``value`` that marks nodata.

    In integers the value can also be a valid dark or bright measurement in one band, so only a
    pixel with the value in all bands is nodata.

    Args:
        pixels: ``[H, W, C]``.
        value: The nodata value.

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
    """Fill the nodata pixels of an image in place, and return where there is data.

    Args:
        pixels: ``[H, W, C]``.
        present: Where each band has data, ``[H, W, C]``; ``None``: wherever it is finite.
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
    """Fill nodata pixels in place, and return where there is data.

    A pixel has data if all of its bands do. The exception is a nodata value of 0 in integers, where
    one band suffices: near infrared also reads 0 over water, so a 0 in some bands only is kept.

    Args:
        pixels: Pixels, ``[C, H, W]``; NaN and infinities are nodata.
        present: Where each band has data, ``[C, H, W]``; ``None``: wherever it is finite.
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
    """Return stored numbers ``[H, W, C]`` with a file's scales and offsets applied."""
    scaled = pixels * np.array(table.scales) + np.array(table.offsets)
    return np.asarray(scaled, np.float32)


def is_mask(alpha: NDArray[Any]) -> bool:
    """Return whether a band tagged as alpha is a data mask and not imagery.

    Some writers tag near infrared as alpha. A mask has two values: 0 and the type's highest (1 for
    floating point); a band with any other value is imagery.
    """
    top = np.iinfo(alpha.dtype).max if alpha.dtype.kind in "ui" else 1
    return bool(((alpha == 0) | (alpha == top)).all())
