"""How images with objects are cut and split."""

from collections.abc import Mapping
from dataclasses import dataclass

from rsdl.core.errors import ConfigError
from rsdl.data.sources.folder import FRACTIONS
from rsdl.data.sources.mask_folder import check_tile
from rsdl.data.sources.object_tiles import VisibleRules
from rsdl.data.sources.split_files import SplitFile
from rsdl.data.sources.splits import check_fractions
from rsdl.raster.picture import PLAIN, PictureRules

VISIBLE = VisibleRules()
EMPTY_SHARE = 0.1  # of the tiles for training


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectOptions:
    """How images with objects are cut and split.

    Attributes:
        tile: Side of the tiles that images are cut into, in pixels; ``None`` keeps them whole.
        overlap: Pixels two neighbouring tiles share.
        visible: What becomes of objects that are cut.
        empty: Share of the samples without objects that the train split keeps; ``None``: all whole
            images, and ``EMPTY_SHARE`` of the tiles. Val and test keep all, since a detector is
            judged by its false alarms as well.
        fractions: Shares of train, val and test, used if there are no split folders.
        seed: Seed of the split, of the order and of the samples without objects.
        group_by: See :func:`rsdl.data.sources.splits.assign_splits`.
        lists: Lists of the images of each split, instead of a draw by ``fractions``.
        name: Name of the dataset; ``None`` takes the folder's.
        bands: Band names, which every image must then have; ``None`` reads them from the images.
        rules: The user's options for the images.
    """

    tile: int | None = 1024
    overlap: int = 200
    visible: VisibleRules = VISIBLE
    empty: float | None = None
    fractions: tuple[float, float, float] = FRACTIONS
    seed: int = 0
    group_by: str | None = None
    lists: Mapping[str, SplitFile] | None = None
    name: str | None = None
    bands: tuple[str, ...] | None = None
    rules: PictureRules = PLAIN

    @property
    def empty_share(self) -> float:
        """The share of samples without objects that the train split keeps."""
        if self.empty is not None:
            return self.empty
        return 1.0 if self.tile is None else EMPTY_SHARE

    def check(self) -> None:
        """Raise a ``ConfigError`` if an option is out of its range."""
        check_fractions(self.fractions)
        check_tile(self.tile)
        if self.tile is not None and not 0 <= self.overlap < self.tile:
            remedy = f"use 0 to {self.tile - 1}, below --tile"
            raise ConfigError("--overlap", f"is {self.overlap} px", remedy)
        if not 0 <= self.visible.drop <= self.visible.keep <= 1:
            drop, keep = self.visible.drop, self.visible.keep
            problem = f"is {drop:g}, and --keep {keep:g}"
            raise ConfigError("--drop", problem, "use 0 <= drop <= keep <= 1")
        if not 0 <= self.empty_share <= 1:
            raise ConfigError("--empty", f"is {self.empty:g}", "use a share from 0 to 1")
