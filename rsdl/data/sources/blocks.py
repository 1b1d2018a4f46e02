"""Draw splits by blocks of ground, so that images beside each other are mostly in one split.

Images that overlap or touch are alike, and a score on one that lies between images of train is too
high (Roberts et al. 2017). Published tiles whose authors publish no split, and which tell where
they lie, are drawn by square blocks of an equal-area grid.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio

from rsdl.core.errors import ConfigError, CorruptSampleError
from rsdl.data.sources.listing import ImageFile
from rsdl.data.sources.splits import Fractions, check_fractions, split_groups
from rsdl.raster.georef import apply, project

GRID = rasterio.CRS.from_epsg(6933)  # EASE-Grid 2.0, in metres


@dataclass(frozen=True, slots=True)
class BlockDraw:
    """A draw of blocks.

    Attributes:
        side_m: Side of a block in metres.
        fractions: Shares of train, val and test.
        seed: Seed of the draw.
    """

    side_m: float
    fractions: Fractions
    seed: int

    def draw(self, files: Sequence[ImageFile]) -> tuple[tuple[ImageFile, ...], dict[str, Any]]:
        """Return images with the split of their group each, and the provenance of the split.

        Raises:
            ConfigError: If there are fewer blocks than splits.
        """
        check_fractions(self.fractions)
        counts = {name: {0: num} for name, num in Counter(str(f.group) for f in files).items()}
        if len(counts) < (shares := sum(fraction > 0 for fraction in self.fractions)):
            problem = f"asks for {shares} splits, and the images lie in {len(counts)} block"
            plural = "s" if len(counts) > 1 else ""
            raise ConfigError(
                "--split",
                f"{problem}{plural} of {self.side_m:g} m, which are not divided",
                "name fewer splits, such as 1,0,0, or lists with --split-files",
            )
        splits = split_groups(counts, self.fractions, self.seed)
        return tuple(file._replace(split=splits[str(file.group)]) for file in files), {
            "split_rule": f"blocks of {self.side_m:g} m",
            "fractions": list(self.fractions),
            "blocks": len(counts),
        }


def find_blocks(paths: Iterable[Path], side_m: float) -> list[str]:
    """Return the name of the block that the centre of each image lies in.

    Raises:
        CorruptSampleError: If an image cannot be read or is not georeferenced.
    """
    return [_block(path, side_m) for path in paths]


def _block(path: Path, side_m: float) -> str:
    try:
        with rasterio.open(path) as source:
            crs, middle = source.crs, np.array([[source.width / 2, source.height / 2]])
            centre = apply(source.transform, middle)
    except rasterio.errors.RasterioError as error:
        raise CorruptSampleError(str(path), f"cannot be read: {error}", "replace it") from error
    place = None if crs is None else project(centre, crs, GRID)
    if place is None:
        problem = "has no georeferencing, by which splits are drawn"
        raise CorruptSampleError(str(path), problem, "give it as published")
    east, north = np.floor(place[0] / side_m).astype(int).tolist()
    return f"block {east} {north}"
