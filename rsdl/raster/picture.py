"""The content of an encoded image, and the user's options that complete its metadata."""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rsdl.core.errors import CorruptSampleError
from rsdl.core.pixels import Pixels
from rsdl.raster.gate import BandTable

Axes = Literal["HWC", "CHW", "PAGES"]
# A class map has few colours; a picture quantized to a palette has nearly 256.
MAX_CLASS_COLOURS = 32


@dataclass(frozen=True, slots=True)
class PictureRules:
    """The user's options for images, for metadata that the files lack.

    Attributes:
        axes: Order of the axes of ``.npy`` arrays, or ``PAGES``: the pages of a TIFF are its bands.
        nodata: Nodata value, in addition to the file's own.
        alpha: Role of a band tagged as alpha; ``auto``: a mask if it holds only 0 and the highest
            value.
        bands: Bands to read, in order; ``None`` reads all.
        unscale: Whether scale and offset are applied.
        narrow: Whether float64 is read as float32; otherwise it is refused.
    """

    axes: Axes | None = None
    nodata: float | None = None
    alpha: Literal["auto", "mask", "band"] = "auto"
    bands: tuple[str, ...] | None = None
    unscale: bool = False
    narrow: bool = False


class Picture(NamedTuple):
    """The decoded content of an image.

    Attributes:
        pixels: ``[H, W, C]``.
        present: Where each band has data, ``[H, W, C]``; ``None`` if no pixel is marked as nodata.
        table: Metadata of the bands; ``None`` if the format has none.
        changed: Whether the pixels differ from the output of a plain decoder.
        dark_zero: Whether nodata is 0 in integers; see ``gate.fill_missing``.
        profile: CRS and transform, if any.
    """

    pixels: Pixels
    present: NDArray[np.bool_] | None = None
    table: BandTable | None = None
    changed: bool = False
    dark_zero: bool = False
    profile: dict[str, Any] | None = None


PLAIN = PictureRules()


def class_table_error(where: str, num_colours: int) -> CorruptSampleError:
    """Return the error for a file whose palette looks like that of a class map."""
    return CorruptSampleError(
        where,
        f"has a palette of {num_colours} colours, as a map of classes has and no picture",
        'give the imagery, or expand it with "gdal_translate -expand rgb" if it is one',
    )


def pick_bands(picture: Picture, rules: PictureRules, where: str) -> Picture:
    """Return the requested bands of an image whose format does not name bands."""
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
