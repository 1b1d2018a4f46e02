"""Georeferenced scenes, cut into labelled tiles that keep their CRS, transform and bounds.

Tiles and their splits are determined from sizes, footprints and label bounds, before pixels are
read. Pixels and labels are read by window, tile by tile in scene order, so memory does not grow
with the scene; training shuffles within windows of shards. Whether a tile is mostly nodata or
unlabelled is only known once it is read, so shards are somewhat smaller than planned.
"""

from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsdl.config.task import TASKS
from rsdl.core.errors import ConfigError, DataError
from rsdl.data.manifest import INDEX_COLUMNS
from rsdl.data.packing.encode import encode_npy, encode_tif
from rsdl.data.sample import SPLITS, Sample, ShardPlan
from rsdl.data.sources.geotiff_options import ADDED, GeotiffOptions
from rsdl.data.sources.object_tiles import VisibleRules, has_object, keeps_empty
from rsdl.data.sources.painted_tiles import UNLABELLED, PaintedTiles, TileLabels
from rsdl.data.sources.scene_objects import SceneObjects
from rsdl.data.targets import KINDS
from rsdl.raster.dataset_pool import DatasetPool
from rsdl.raster.files import find_rasters, relative_names
from rsdl.raster.gate import check_nodata
from rsdl.raster.georef import bounds_of, shift
from rsdl.raster.grouped_split import GROUPED_RULE
from rsdl.raster.labels import check_inside, open_labels
from rsdl.raster.rasterize import LabelRules
from rsdl.raster.read_tile import read_tile
from rsdl.raster.scenes import SceneRules, describe_scenes, fingerprint, fingerprint_ends
from rsdl.raster.spatial_split import SplitRule, name_places, split_tiles
from rsdl.raster.tiles import Tile, Tiles, corners_hit
from rsdl.raster.vectors import SUFFIXES

# Why tiles are left out.
NODATA = "tiles mostly without data"
EMPTY = "train tiles without an object (--empty)"
BETWEEN = "tiles between splits (--gap)"
# Tar overhead of one sample: headers, padding, label and metadata.
TAR_BYTES = 4096


class GeotiffSource:
    """Labelled scenes as a source of tiles.

    Args:
        options: How scenes are cut, labelled and split.

    Raises:
        DataError: If there are no scenes, they are inconsistent, or the labels overlap none.
        ConfigError: If an option does not fit the scenes.
    """

    def __init__(self, options: GeotiffOptions) -> None:
        self._options = options
        self._pool = DatasetPool()
        labels_path = Path(options.labels).expanduser()
        paths = find_rasters(options.scenes, leave_out=labels_path)
        rules = SceneRules(options.alpha, options.bands, options.unscale, options.nodata)
        self.scenes = describe_scenes(paths, rules)
        check_nodata(options.nodata, self.scenes[0].dtype)
        self._check_sizes()
        wanted = LabelRules(
            options.label_field,
            options.label_layer,
            options.classes,
            options.ignore,
            options.all_touched,
            options.background,
        )
        self._labels = self._open_labels(labels_path, wanted)
        self.left_out = self._labels.left_out
        self.dataset = options.name
        self.target = TASKS[options.task].target
        self.classes = self._labels.classes
        self.bands = self.scenes[0].bands
        self.dtype = self.scenes[0].dtype
        self._crs = [scene.crs.to_string() for scene in self.scenes]
        self._corners = [
            corners_hit(
                np.array([[0, 0, scene.height, scene.width]], np.float64)
                if self._labels.whole
                else self._labels.boxes(number),
                scene.height,
                scene.width,
                tile=options.tile,
                overlap=options.overlap,
            )
            for number, scene in enumerate(self.scenes)
        ]
        # Only the two ends of a scene are hashed: its mtime detects a change between them.
        self._stamp = " ".join(str(path.stat().st_mtime_ns) for path in paths)
        self.provenance: dict[str, Any] = {
            "source": "geotiff",
            "split_rule": GROUPED_RULE,
            INDEX_COLUMNS: ["group", *(() if KINDS[self.target].in_index else ("class_counts",))],
            "scenes": [
                {"name": s.name, "height": s.height, "width": s.width, **fingerprint_ends(s.path)}
                for s in self.scenes
            ],
            "labels": [
                {"name": name, **fingerprint(file)}
                for name, file in zip(
                    relative_names(self._labels.files), self._labels.files, strict=True
                )
            ],
            "options": {
                key: list(value) if isinstance(value, tuple) else value
                for key, value in asdict(options).items()
                if key not in ("scenes", "labels") and (key, value) not in ADDED.items()
            },
        }

    def shards(self, shard_bytes: int) -> list[ShardPlan]:
        """Return plans for the tiles that labels may overlap, split by split, in scene order.

        Raises:
            ConfigError: If a requested split gets no tile.
        """
        parts: list[list[NDArray[np.int32]]] = [[] for _ in SPLITS]
        options = self._options
        rule = SplitRule(
            options.split_by, options.fractions, options.seed, options.block, options.gap
        )
        strata = [
            self._labels.strata(number, corners) for number, corners in enumerate(self._corners)
        ]
        parted = split_tiles(self.scenes, self._corners, strata, options.tile, rule)
        lost = sum(map(len, self._corners))
        for number, splits, corners in parted:
            lost -= len(corners)
            scene = np.full((len(corners), 1), number, np.int32)
            rows = np.concatenate([scene, corners], axis=1)
            for split, part in enumerate(parts):
                part.append(rows[splits == split])
        self.left_out = self._labels.left_out | ({BETWEEN: lost} if lost else {})
        if options.task == "detection":
            tiles = np.concatenate(parts[0])
            parts[0] = [tiles[[self._is_learnt(Tile(*row)) for row in tiles.tolist()]]]
            if less := len(tiles) - len(parts[0][0]):
                self.left_out[EMPTY] = less
        pixels = options.tile**2 * len(self.bands) * np.dtype(self.dtype).itemsize
        each = max(1, shard_bytes // (pixels + TAR_BYTES))
        plans = []
        for name, fraction, part in zip(SPLITS, options.fractions, parts, strict=True):
            rows = np.concatenate(part)
            if fraction and not len(rows):
                raise ConfigError(
                    "block",
                    f"no tile is left for {name} between blocks of {options.block} tiles "
                    f"that keep {options.gap} apart",
                    "use a smaller tile, a larger block, another seed or more scenes",
                )
            shares = np.array_split(rows, -(-len(rows) // each)) if len(rows) else []
            plans += [ShardPlan(name, Tiles(share), self._stamp) for share in shares]
        return plans

    def read(self, item: Tile) -> Sample | str:
        """Return one tile, or the reason to leave it out: unlabelled, nodata or mixed classes."""
        scene, tile = self.scenes[item.scene], self._options.tile
        found = self._labels.find(item)
        if found is None:
            return UNLABELLED
        judged = self._options.alpha == "auto"
        pixels, valid = read_tile(scene, item.row, item.col, tile, self._pool, judged=judged)
        if valid is not None and 1 - valid.mean() > self._options.max_nodata:
            return NODATA
        target = self._labels.target(found, valid)
        if isinstance(target, str):
            return target
        named = {"class": self.classes[target]} if self.target == "class_index" else {}
        place = shift(scene.transform, item.row, item.col)
        tif = self._options.tile_format == "tif"
        image = (
            encode_tif(pixels, scene.bands, {"crs": scene.crs, "transform": place})
            if tif
            else encode_npy(pixels)
        )
        return Sample(
            key=self._key(item),
            extension=self._options.tile_format,
            image=image,
            target=target,
            meta={
                **named,
                "source": scene.name,
                "row": item.row,
                "col": item.col,
                "crs": self._crs[item.scene],
                "transform": [place.a, place.b, place.c, place.d, place.e, place.f],
                "bounds": list(bounds_of(place, tile, tile)),
            },
            pixels=pixels,
            valid=valid,
            group=self._places[item.scene],
        )

    def _key(self, item: Tile) -> str:
        return f"{self.scenes[item.scene].slug}_r{item.row:05d}_c{item.col:05d}"

    def _is_learnt(self, item: Tile) -> bool:
        """Return whether a tile for training has an object, or is one of the empty ones kept."""
        share, seed = self._options.empty, self._options.seed
        return has_object(self._labels.find(item)) or keeps_empty(share, seed, self._key(item))

    def _open_labels(self, path: Path, wanted: LabelRules) -> TileLabels:
        options = self._options
        if options.task != "detection":
            return PaintedTiles(open_labels(path, wanted, self.scenes, self._pool), options)
        if path.suffix.lower() not in SUFFIXES:
            remedy = f"give polygons, one for each object ({', '.join(SUFFIXES)})"
            raise DataError(str(path), "is no vector file, and objects have outlines", remedy)
        visible = VisibleRules(options.keep, options.drop)
        objects = SceneObjects(path, wanted, self.scenes, options.tile, visible)
        check_inside(objects, path, self.scenes)
        return objects

    @cached_property
    def _places(self) -> dict[int, str]:
        """The place of each scene with tiles: scenes that overlap or touch share one."""
        return name_places(self.scenes, self._corners)

    def _check_sizes(self) -> None:
        for scene in self.scenes:
            if min(scene.height, scene.width) < self._options.tile:
                raise ConfigError(
                    "tile",
                    f"is {self._options.tile} pixels, but {scene.path} is only "
                    f"{scene.height} x {scene.width}",
                    f"use {min(scene.height, scene.width)} or less, or leave that scene out",
                )
