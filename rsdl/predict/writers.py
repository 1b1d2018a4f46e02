"""Write a map as a Cloud Optimized GeoTIFF: rows as they come, into a file that appears whole.

GDAL's COG driver copies a finished raster, so rows go to an uncompressed scratch file first, which
needs a byte a pixel and band. It lies beside the part file of the store, under a longer name, and
is removed with it, also after a killed process.
"""

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
import torch
from numpy.typing import NDArray
from pyogrio.errors import DataLayerError, DataSourceError
from rasterio._err import CPLE_BaseError
from rasterio.errors import RasterioError
from rasterio.windows import Window

from rsdl.core.errors import FullDiskError, StorageError
from rsdl.data.targets.mask import IGNORE, class_colours
from rsdl.predict.windows import Floats
from rsdl.raster.dataset_pool import WARNINGS
from rsdl.raster.scenes import Scene

# A probability as a byte: 255 is nodata.
LEVELS = 254
WriteBytes = Callable[[int, NDArray[np.uint8]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """What a map holds beside its pixels.

    Attributes:
        bands: Description of each band.
        tags: Metadata.
        colours: Colour of each value, ``[K, 3]``, of a map of classes.
        scale: Factor from stored numbers to what they mean.
        overviews: How overviews are resampled.
    """

    bands: tuple[str, ...]
    tags: dict[str, str] = field(default_factory=dict)
    colours: NDArray[np.uint8] | None = None
    scale: float = 1.0
    overviews: str = "MODE"


def class_layer(classes: tuple[str, ...], tags: dict[str, str]) -> Layer:
    """Return the layer of a map of classes: a band, with colours and names."""
    names = {f"CLASS_{number}": name for number, name in enumerate(classes)}
    return Layer(bands=("class",), tags=tags | names, colours=class_colours(len(classes)))


def probability_layer(classes: tuple[str, ...], tags: dict[str, str]) -> Layer:
    """Return the layer of probabilities: a band a class, in steps of 1/254."""
    meaning = {"PROBABILITY": f"value / {LEVELS}"}
    return Layer(bands=classes, tags=tags | meaning, scale=1 / LEVELS, overviews="AVERAGE")


def to_classes(shares: Floats, valid: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return the most probable class of each pixel, ``[1, R, W]``; 255 without data."""
    best = (
        torch.from_numpy(shares).max(0).indices.numpy()
    )  # NumPy's argmax takes four times as long
    return np.where(valid, best, IGNORE).astype(np.uint8)[None]


def to_levels(shares: Floats, valid: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return probabilities ``[K, R, W]`` in steps of 1/254; 255 without data."""
    levels = np.rint(shares * LEVELS).clip(0, LEVELS)
    return np.where(valid, levels, IGNORE).astype(np.uint8)


def check_room(folder: Path, scene: Scene, layers: Sequence[Layer]) -> None:
    """Check that the scratch files of all layers of a map fit on a folder's disk together.

    Raises:
        FullDiskError: If they do not.
    """
    size = scene.height * scene.width * sum(len(layer.bands) for layer in layers)
    if (free := shutil.disk_usage(folder).free) < size:
        problem = f"needs {size >> 20} MiB for scratch files, {free >> 20} MiB are free"
        raise FullDiskError(str(folder), problem, "free some space, or predict to another")


@contextmanager
def write_cog(part: Path, scene: Scene, layer: Layer) -> Iterator[WriteBytes]:
    """Yield what writes rows ``[K, R, W]`` at a top row; ``part`` is the COG once the block ends.

    Args:
        part: Where to write, as ``Store.create`` yields it.
        scene: Its grid is the map's.
        layer: What the map holds.

    Raises:
        StorageError: If GDAL cannot write.
    """
    scratch = part.with_name(f"{part.name}.rows")
    try:
        with translated(part), _create(scratch, scene, layer) as raster:

            def write(top: int, rows: NDArray[np.uint8]) -> None:
                with translated(part):
                    raster.write(rows, window=Window(0, top, rows.shape[2], rows.shape[1]))

            yield write
        with translated(part):
            rasterio.shutil.copy(
                scratch, part, driver="COG", COMPRESS="DEFLATE", PREDICTOR="NO",
                OVERVIEW_RESAMPLING=layer.overviews, BIGTIFF="IF_SAFER",
            )  # fmt: skip
    finally:
        scratch.unlink(missing_ok=True)


@contextmanager
def translated(part: Path) -> Iterator[None]:
    """Raise errors of GDAL as those of a store."""
    try:
        yield
    except (RasterioError, CPLE_BaseError, DataSourceError, DataLayerError) as error:
        reason = str(error.__cause__ or error).splitlines()[0]
        problem, remedy = f"GDAL cannot write the map: {reason}", "see that the disk has room"
        raise StorageError(str(part.parent), problem, remedy) from error


def _create(scratch: Path, scene: Scene, layer: Layer) -> Any:  # noqa: ANN401 - rasterio has no types
    with WARNINGS:
        raster = rasterio.open(
            scratch, "w", driver="GTiff", dtype="uint8", nodata=IGNORE, count=len(layer.bands),
            width=scene.width, height=scene.height, crs=scene.crs, transform=scene.transform,
            interleave="band", bigtiff="IF_SAFER",
        )  # fmt: skip
    raster.descriptions = layer.bands
    raster.update_tags(**layer.tags)
    if layer.scale != 1:
        raster.scales = (layer.scale,) * len(layer.bands)
    if layer.colours is not None:
        colours = {number: (*rgb, 255) for number, rgb in enumerate(layer.colours.tolist())}
        raster.write_colormap(1, colours | {IGNORE: (0, 0, 0, 0)})
    return raster
