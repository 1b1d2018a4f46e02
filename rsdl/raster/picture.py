"""What an encoded image shows, and what a user says about it that it does not say itself."""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rsdl.core.errors import CorruptSampleError
from rsdl.core.pixels import Pixels
from rsdl.raster.gate import BandTable

Axes = Literal["HWC", "CHW", "PAGES"]
# A table of classes has few colours; a picture with a palette has been given nearly 256.
MAX_CLASS_COLOURS = 32


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


def class_table_error(where: str, num_colours: int) -> CorruptSampleError:
    """Return what to say of a file whose palette is that of a map of classes."""
    return CorruptSampleError(
        where,
        f"has a palette of {num_colours} colours, as a map of classes has and no picture",
        'give the imagery, or expand it with "gdal_translate -expand rgb" if it is one',
    )


def pick_bands(picture: Picture, rules: PictureRules, where: str) -> Picture:
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
