"""How scenes are cut, labelled and split into a data set: the options of ``pack geotiff``."""

from dataclasses import dataclass
from typing import Literal

from rsdl.config.task import TaskName
from rsdl.core.errors import ConfigError
from rsdl.data.sample import SPLITS

CHOICES = {
    "alpha": ("auto", "mask", "band"),
    "unscale": ("auto", "on", "off"),
    "split_by": ("auto", "scene", "block"),
    "tile_format": ("npy", "tif"),
    "task": ("classification", "segmentation", "detection"),
}
# Fields of later releases: where they say nothing, provenance is that of earlier ones.
ADDED = {
    "task": "classification", "all_touched": False, "background": None, "keep": 0.7, "drop": 0.3,
    "empty": 0.1,
}  # fmt: skip
# Fields that mean something to one task alone, and what they are for.
OF_TASK = {
    "segmentation": ("masks", ("all_touched", "background")),
    "detection": ("objects", ("keep", "drop", "empty")),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class GeotiffOptions:
    """How scenes are cut, labelled and split.

    Attributes:
        scenes: Files, folders (searched recursively) and globs.
        labels: A vector file of polygons, a class raster, or a folder of class rasters.
        name: Name of the dataset.
        tile: Side of a tile in pixels.
        overlap: Pixels two neighbours share, below ``tile``.
        label_field: Property of a polygon that names its class.
        label_layer: Layer of a vector file that has several.
        classes: Class names in order; for rasters also ``VALUE=NAME``. ``None`` takes all classes
            that occur.
        ignore: Values of a class raster, or classes of polygons, to treat as unlabelled.
        min_cover: Least share of a tile's pixels with data that its class must cover, 0 to 1.
        max_nodata: Largest share of nodata pixels of a kept tile, 0 to 1.
        alpha: ``mask`` treats a band tagged as alpha as the mask, ``band`` as imagery (by default
            GDAL tags the fourth band of 8-bit files as alpha, near infrared included); ``auto``: a
            mask if it holds only 0 and the highest value.
        bands: Bands to use, in order: descriptions, colours or numbers; ``None`` takes all.
        unscale: Whether scale and offset of the files are applied, which gives float32; ``auto``:
            if they differ.
        nodata: Nodata value, in addition to the files' own.
        split_by: ``scene``, ``block``, or ``auto``: by scene if at least 5 groups of scenes are
            apart.
        fractions: Shares of train, val and test.
        seed: Seed of the split.
        block: Side of a block of ground in tiles.
        gap: Tiles between splits, at least 1.
        tile_format: ``npy``, or ``tif``: deflated GeoTIFF with CRS and transform, smaller, slower.
        task: ``classification`` gives a tile its main class, ``segmentation`` each pixel its own,
            ``detection`` takes each polygon as the outline of one object.
        all_touched: Segmentation: label every pixel that a polygon touches, not only those whose
            centre it covers.
        background: Segmentation: name of the class of pixels without a label, which comes first;
            ``None`` ignores these pixels, and leaves tiles without a label out.
        keep: Detection: objects are learnt of which a tile shows at least this share.
        drop: Detection: objects of which it shows less are background; between, they are ignored.
        empty: Detection: share of the tiles without an object that is kept.

    Raises:
        ConfigError: If a value is out of its range.
    """

    scenes: tuple[str, ...]
    labels: str
    name: str = "scenes"
    tile: int = 256
    overlap: int = 0
    label_field: str = "class"
    label_layer: str | None = None
    classes: tuple[str, ...] | None = None
    ignore: tuple[str, ...] = ()
    min_cover: float = 0.5
    max_nodata: float = 0.5
    alpha: Literal["auto", "mask", "band"] = "auto"
    bands: tuple[str, ...] | None = None
    unscale: Literal["auto", "on", "off"] = "auto"
    nodata: float | None = None
    split_by: Literal["auto", "scene", "block"] = "auto"
    fractions: tuple[float, float, float] = (0.7, 0.15, 0.15)
    seed: int = 0
    block: int = 8
    gap: int = 1
    tile_format: Literal["npy", "tif"] = "npy"
    task: TaskName = "classification"
    all_touched: bool = False
    background: str | None = None
    keep: float = 0.7
    drop: float = 0.3
    empty: float = 0.1

    def __post_init__(self) -> None:
        """Check every value."""
        _check_ranges(self)
        _check_choices(self)
        fair = len(self.fractions) == len(SPLITS) and min(self.fractions) >= 0
        if not fair or abs(sum(self.fractions) - 1) > 1e-6 or not self.fractions[0]:
            raise ConfigError(
                "fractions", f"are {self.fractions}", "give train, val and test, in all 1"
            )
        for task, (what, fields) in OF_TASK.items():
            for field in fields:
                if self.task != task and getattr(self, field) != ADDED[field]:
                    raise ConfigError(field, f"is for {what}", f"pass --task {task}, too")
        if self.drop > self.keep:
            problem = f"is {self.drop}, above keep, {self.keep}"
            raise ConfigError("drop", problem, "objects are dropped below it and kept from keep")
        if self.background is not None and self.ignore:
            problem = "does not go with ignore, whose pixels count for nothing"
            raise ConfigError("background", problem, "leave one out")
        if not self.scenes:
            raise ConfigError("scenes", "none given", "give files, folders or globs")
        if self.classes is not None and len(set(self.classes)) != len(self.classes):
            raise ConfigError("classes", "a name comes twice", "name each once")


def _check_ranges(options: GeotiffOptions) -> None:
    for field in ("tile", "block", "gap"):
        if (number := getattr(options, field)) < 1:
            raise ConfigError(field, f"is {number}", "use 1 or more")
    for field in ("min_cover", "max_nodata", "keep", "drop", "empty"):
        if not 0 <= (share := getattr(options, field)) <= 1:
            raise ConfigError(field, f"is {share}", "use a share from 0 to 1")
    if not 0 <= options.overlap < options.tile:
        raise ConfigError("overlap", f"is {options.overlap}", f"use 0 to {options.tile - 1}")


def _check_choices(options: GeotiffOptions) -> None:
    for field, known in CHOICES.items():
        if (choice := getattr(options, field)) not in known:
            raise ConfigError(field, f'is "{choice}"', f"use {' or '.join(known)}")
