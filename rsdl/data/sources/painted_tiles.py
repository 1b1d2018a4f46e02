"""Labels that cover pixels, as targets of tiles: one class, or one for each pixel."""

from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from rsdl.core.errors import ConfigError
from rsdl.data.sources.geotiff_options import GeotiffOptions
from rsdl.data.targets.mask import IGNORE, MAX_CLASSES
from rsdl.raster.cover import LabelMap
from rsdl.raster.georef import Floats
from rsdl.raster.rasterize import Labels, majority
from rsdl.raster.tiles import Tile

# Why tiles are left out.
UNLABELLED = "tiles without a label"
MIXED = "tiles of which no class covers enough (--min-cover)"


class TileLabels(Protocol):
    """Labels of scenes, as targets of tiles.

    Attributes:
        classes: Class names.
        files: The label files.
        left_out: Reason -> number of features that label nothing.
        whole: Whether tiles without a label are of use.
    """

    classes: tuple[str, ...]
    files: tuple[Path, ...]
    left_out: dict[str, int]
    whole: bool

    def boxes(self, scene: int) -> Floats:
        """Return the boxes (top, left, bottom, right) in pixels that hold all labels of a scene."""
        ...

    def strata(self, scene: int, corners: NDArray[np.int32]) -> NDArray[np.int32]:
        """Return a class for each tile by which tiles are split, from 0 for none, ``[N]``."""
        ...

    def find(self, item: Tile) -> Any:  # noqa: ANN401 - each kind has its own
        """Return the labels of a tile, ``None`` if it has none and is of no use."""
        ...

    def target(self, found: Any, valid: NDArray[np.bool_] | None) -> Any:  # noqa: ANN401
        """Return a tile's target, or the reason to leave it out.

        Args:
            found: From :meth:`find`.
            valid: Where the tile has data, ``[H, W]``; ``None`` means everywhere.
        """
        ...


class PaintedTiles:
    """Class rasters or polygons that cover pixels, for classification and segmentation.

    Args:
        labels: The labels.
        options: How scenes are cut and labelled.

    Raises:
        ConfigError: If masks cannot hold the classes, or the background is one of the labels'.
    """

    def __init__(self, labels: Labels, options: GeotiffOptions) -> None:
        self._labels, self._options = labels, options
        self.files, self.left_out = labels.files, labels.left_out
        self.whole = options.background is not None
        ground = () if options.background is None else (options.background,)
        self.classes = (*ground, *labels.classes)
        self._check_classes()

    def boxes(self, scene: int) -> Floats:
        """Return the boxes (top, left, bottom, right) in pixels that hold all labels of a scene."""
        return self._labels.boxes(scene)

    def strata(self, scene: int, corners: NDArray[np.int32]) -> NDArray[np.int32]:
        """Return the label at the centre of each tile, ``[N]``."""
        return self._labels.sample(scene, corners + self._options.tile // 2)

    def find(self, item: Tile) -> LabelMap | int | None:
        """Return class index + 1 for each pixel, or for all; ``None`` without a label."""
        painted = self._labels.paint(item.scene, item.row, item.col, self._options.tile)
        there = painted if isinstance(painted, int) else painted.any()
        return painted if self.whole or there else None

    def target(
        self, found: LabelMap | int, valid: NDArray[np.bool_] | None
    ) -> NDArray[np.uint8] | int | str:
        """Return a mask or a class index, or the reason to leave the tile out."""
        if self._options.task == "segmentation":
            shape = self._options.tile, self._options.tile
            mask = to_mask(found, valid, shape, has_background=self.whole)
            return UNLABELLED if (mask == IGNORE).all() else mask
        chosen = majority(found, valid, len(self.classes), self._options.min_cover)
        return MIXED if chosen is None else chosen

    def _check_classes(self) -> None:
        if self._options.task != "segmentation":
            return
        if self._options.background in self._labels.classes:
            name = self._options.background
            raise ConfigError("background", f'"{name}" is a class of the labels', "name another")
        if len(self.classes) > MAX_CLASSES:
            problem = f"{len(self.classes)} are too many: a mask holds {MAX_CLASSES}"
            raise ConfigError("classes", problem, "name fewer with --classes")


def to_mask(
    painted: LabelMap | int,
    valid: NDArray[np.bool_] | None,
    shape: tuple[int, ...],
    *,
    has_background: bool,
) -> NDArray[np.uint8]:
    """Return the mask of a tile, ``[H, W]``: class indices, 255 without data or label.

    Args:
        painted: Class index + 1, 0 where there is no label, ``[H, W]``, or one for all pixels.
        valid: Where the tile has data, ``[H, W]``; ``None`` means everywhere.
        shape: Height and width of the tile.
        has_background: Whether pixels without a label are class 0, and the labels' come after.
    """
    classes = np.broadcast_to(painted, shape)
    mask = classes if has_background else np.where(classes > 0, classes - 1, IGNORE)
    return (mask if valid is None else np.where(valid, mask, IGNORE)).astype(np.uint8)
