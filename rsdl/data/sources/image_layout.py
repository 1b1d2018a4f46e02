"""What the images of a folder have in common: type, bands, and the rules to read them by."""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import rasterio
from numpy.typing import NDArray

from rsdl.core.errors import CorruptSampleError, DataError
from rsdl.core.pixels import Dtype
from rsdl.data.read_picture import read_picture
from rsdl.data.sources.encoded import read_image
from rsdl.data.sources.listing import ImageFile
from rsdl.raster.gate import BandAgreement, admit, check_nodata
from rsdl.raster.picture import PLAIN, Picture, PictureRules

RGB = ("red", "green", "blue")

log = logging.getLogger(__name__)

Found = tuple[Dtype, tuple[str, ...], PictureRules]


@dataclass(frozen=True, slots=True)
class Layout:
    """What every image of a data set has in common.

    Attributes:
        dtype: Type of the pixels.
        bands: Band names.
        rules: The user's options for the images.
    """

    dtype: Dtype
    bands: tuple[str, ...]
    rules: PictureRules
    agreement: BandAgreement

    @property
    def is_colour(self) -> bool:
        """Whether grey JPEGs and PNGs are taken, which lose nothing as three bands.

        They are common in colour datasets. A grey dataset converts nothing, because a colour image
        would lose its colour.
        """
        return self.dtype == "uint8" and len(self.bands) == 3

    def read(self, data: bytes, kind: str, where: str) -> tuple[Picture, NDArray[np.bool_] | None]:
        """Return an encoded image with nodata filled, and where it has data, ``[H, W]``.

        Args:
            data: The encoded image.
            kind: Its format; see :func:`rsdl.data.read_picture.read_picture`.
            where: Path of the file.

        Raises:
            CorruptSampleError: If it cannot be read, has only nodata, or does not :meth:`fit`.
            DataError: See :meth:`fit`.
        """
        picture = self.fit(read_picture(data, kind, where, self.rules, where), kind, where)
        return picture, admit(picture.pixels, picture.present, where, dark_zero=picture.dark_zero)

    def fit(self, picture: Picture, kind: str, where: str) -> Picture:
        """Return an image with the bands of the dataset, repeating a grey band; reject others.

        Raises:
            CorruptSampleError: If it has another type or number of bands.
            DataError: If its last band may be a mask, or its bands mean something else.
        """
        if self.is_colour and picture.pixels.shape[2] == 1 and kind not in ("tif", "npy"):
            picture = picture._replace(
                pixels=np.repeat(picture.pixels, 3, axis=2),
                present=None if picture.present is None else np.repeat(picture.present, 3, axis=2),
            )
        pixels = picture.pixels
        if self.rules.alpha == "auto" and pixels.shape[2] == len(self.bands) + 1 and kind != "npy":
            raise DataError(
                where,
                f"has {_bands(pixels.shape[2])}, the data set {len(self.bands)} and perhaps a mask",
                "pass --alpha band if the last one is imagery, or --alpha mask",
            )
        if pixels.shape[2] != len(self.bands) or pixels.dtype.name != self.dtype:
            raise CorruptSampleError(
                where,
                f"has {_bands(pixels.shape[2])} of {pixels.dtype.name}, "
                f"the data set has {_bands(len(self.bands))} of {self.dtype}",
                "convert or remove the file, or choose with --bands or --alpha",
            )
        self.agreement.check(picture.table, where)
        return picture


def probe_layout(
    root: Path, files: Sequence[ImageFile], wanted: tuple[str, ...] | None, rules: PictureRules
) -> Layout:
    """Return what the images of a folder have in common, from the first that decodes.

    Raises:
        ConfigError: If no pixel can hold the nodata value of ``rules``.
        DataError: If no image can be decoded.
    """
    dtype, bands, settled = _probe(root, files, wanted, rules)
    check_nodata(rules.nodata, dtype)
    agreement = BandAgreement(scaling=not settled.unscale, names=settled.bands is None)
    return Layout(dtype, bands, settled, agreement)


def _probe(
    root: Path, files: Sequence[ImageFile], wanted: tuple[str, ...] | None, rules: PictureRules
) -> Found:
    """Return type, bands and rules from the first image that decodes.

    A grey JPEG or PNG does not represent the others, so one image of each class is tried until one
    is not grey.
    """
    first_error: CorruptSampleError | None = None
    grey: Found | None = None
    asked: set[int] = set()
    for file in files:
        if file.label in asked:
            continue
        try:
            found = _describe(str(root / file.path), file.size, wanted, rules)
        except CorruptSampleError as error:
            first_error = first_error or error
            continue
        asked.add(file.label)
        if len(found[1]) > 1 or file.path.lower().endswith((".tif", ".tiff", ".npy", ".jp2")):
            return found
        grey = grey or found
    if grey is None:
        raise DataError(str(root), f"no image can be decoded; the first: {first_error}")
    return grey


def _describe(where: str, size: int, wanted: tuple[str, ...] | None, rules: PictureRules) -> Found:
    data, kind = read_image(where, size)
    picture = read_picture(data, kind, where, rules, where)
    dtype, count = picture.pixels.dtype.name, picture.pixels.shape[2]
    if count == 1 and kind in ("jpg", "png") and wanted is not None and len(wanted) == 3:
        count = 3
    if dtype not in get_args(Dtype):
        raise DataError(
            where,
            f"has type {dtype}; rsdl reads {', '.join(get_args(Dtype))}",
            "convert the images",
        )
    if wanted is not None and len(wanted) != count:
        raise DataError(
            where,
            f"has {_bands(count)}, expected {len(wanted)}: {', '.join(wanted)}",
            "use its data",
        )
    table = picture.table
    if wanted is None and table is not None:
        described = tuple(text for text in table.names if text)
        wanted = described if len(set(described)) == count else None
    if wanted is None and rules.bands is not None:
        wanted = rules.bands
    if wanted is None and count == 3 and dtype == "uint8":
        wanted = RGB
    names = wanted or tuple(f"band_{number}" for number in range(1, count + 1))
    kept: Dtype = next(known for known in get_args(Dtype) if known == dtype)
    return kept, names, _settle_alpha(data, kind, where, rules, count)


def _settle_alpha(
    data: bytes, kind: str, where: str, rules: PictureRules, count: int
) -> PictureRules:
    """Return rules that treat alpha as imagery if the first image's alpha band is imagery."""
    if rules.alpha != "auto" or kind in ("jpg", "npy") or rules.bands is not None:
        return rules
    masked = read_picture(data, kind, where, replace(rules, alpha="mask"))
    if masked.pixels.shape[2] == count:
        return rules
    log.warning(
        "%s: band %d is tagged as alpha but holds more than 0 and the highest value: taken as "
        "imagery; --alpha mask takes it for a mask",
        where,
        count,
    )
    return replace(rules, alpha="band")


def describe_rules(rules: PictureRules) -> dict[str, Any]:
    """Return the user's non-default options for images, for the provenance."""
    said = {name: value for name, value in asdict(rules).items() if value != getattr(PLAIN, name)}
    if rules.bands is not None:
        said["bands"] = list(rules.bands)
    return {"rules": said} if said else {}


def georeference(picture: Picture) -> dict[str, Any]:
    """Return the metadata of a georeferenced image: CRS, transform and bounds."""
    if not picture.profile:
        return {}
    height, width = picture.pixels.shape[:2]
    transform = picture.profile["transform"]
    return {
        "crs": picture.profile["crs"].to_string(),
        "transform": list(transform)[:6],
        "bounds": list(rasterio.transform.array_bounds(height, width, transform)),
    }


def _bands(count: int) -> str:
    return f"{count} band{'s' if count != 1 else ''}"
