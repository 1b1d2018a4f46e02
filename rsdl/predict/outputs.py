"""The files of a scene's map: the map itself, and by option probabilities, polygons and pictures.

They appear together once the last of them is whole. All are made from the map or from its rows, so
that nothing is predicted twice.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from rsdl import __version__
from rsdl.core.errors import ConfigError, DataError
from rsdl.predict import writers
from rsdl.predict.features import FewFeatures, Format, Ground, write_features
from rsdl.predict.legend import PixelCounts
from rsdl.predict.page import draw_page
from rsdl.predict.polygons import trace_polygons
from rsdl.predict.quicklook import draw_quicklook
from rsdl.predict.scene import (
    Network,
    Progress,
    WindowRule,
    WriteRows,
    predict_scene,
    whole_of,
)
from rsdl.predict.tiles import TileCollector
from rsdl.predict.windows import Floats
from rsdl.raster.georef import holds_pole
from rsdl.raster.scenes import Scene, open_raster
from rsdl.records.prediction import Prediction
from rsdl.storage.store import Store

# What the names of a scene's files end with.
MAP, PROBABILITIES, QUICKLOOK, PAGE = ".tif", "_probabilities.tif", "_quicklook.png", ".html"
POLYGONS: dict[Format, str] = {"gpkg": ".gpkg", "geojson": ".geojson"}
CSV = ".csv"  # of objects in pixels
SUFFIXES = (MAP, PROBABILITIES, QUICKLOOK, PAGE, CSV, *POLYGONS.values())
SIMPLIFY_PX = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputOptions:
    """What is written of each scene beside its map.

    Attributes:
        probabilities: Whether to write the probabilities of all classes.
        polygons: Format of the polygons, if they are written.
        simplify_px: Tolerance of polygons in pixels; ``None`` is ``SIMPLIFY_PX``.
        min_area_m2: Smaller polygons are left out; ``None`` is 0.
        score: Objects of a lower score are left out; ``None``: as the task says.
        quicklook: Whether to write a PNG of scene, map and legend.
        page: Whether to write an HTML page with the map over the scene.
    """

    probabilities: bool = False
    polygons: Format | None = None
    simplify_px: float | None = None
    min_area_m2: float | None = None
    score: float | None = None
    quicklook: bool = False
    page: bool = False

    def check_objects(self) -> None:
        """Check that what is wanted can be had of a network that finds objects.

        Raises:
            ConfigError: If an option is for other maps.
        """
        options = {
            "--probabilities": self.probabilities or None,
            "--simplify": self.simplify_px,
            "--min-area": self.min_area_m2,
        }
        for option, value in options.items():
            if value is not None:
                problem = "is for maps of pixels; here each object is a box with a score"
                raise ConfigError(option, problem, "leave it out, or choose by --score")

    def polygon_rules(self, *, is_dense: bool) -> tuple[float | None, float | None]:
        """Return ``simplify_px`` and ``min_area_m2`` of a map; ``None`` where there is no choice.

        Args:
            is_dense: Whether a pixel has a class, and not a tile.

        Raises:
            ConfigError: If one is no number, or given where it means nothing.
        """
        if self.score is not None:
            raise ConfigError("--score", "is for objects; here a pixel has a class", "leave it out")
        given = {"--simplify": self.simplify_px, "--min-area": self.min_area_m2}
        for option, value in given.items():
            if value is not None and not 0 <= value < math.inf:
                raise ConfigError(option, f"is {value}", "use a number of 0 or more")
        if self.polygons is not None and is_dense:
            simplify = SIMPLIFY_PX if self.simplify_px is None else self.simplify_px
            return simplify, self.min_area_m2 or 0.0
        for option, value in given.items():
            if value is not None and self.polygons is None:
                raise ConfigError(option, "is for polygons", "add --vectorize gpkg or geojson")
            if value is not None:
                problem = "is for maps of pixels; here each tile is a rectangle"
                raise ConfigError(option, problem, "leave it out")
        return None, None


def check_geojson(scene: Scene) -> None:
    """Check that a scene can be written as GeoJSON.

    Raises:
        DataError: If it holds a pole.
    """
    if holds_pole(scene):
        problem = "holds a pole, around which GeoJSON's degrees have no polygon"
        raise DataError(str(scene.path), problem, "use --vectorize gpkg")


class MapWriter:
    """Writes the files of maps.

    Args:
        store: Where they go.
        settings: What the maps are made with; it says which files there are.
        rule: How scenes are cut.
        is_dense: Whether a pixel has a class, and not a tile.
    """

    def __init__(
        self, store: Store, settings: Prediction, rule: WindowRule, *, is_dense: bool
    ) -> None:
        self._store, self._settings, self._rule = store, settings, rule
        self._is_dense = is_dense
        tags = {
            "RSDL_VERSION": __version__,
            "RSDL_RUN": settings.run,
            "RSDL_WEIGHTS": settings.weights,
        }
        self._layers = {MAP: writers.class_layer(settings.classes, tags)}
        if settings.probabilities:
            self._layers[PROBABILITIES] = writers.probability_layer(settings.classes, tags)

    @property
    def suffixes(self) -> list[str]:
        """What the names of the files of each scene end with."""
        settings, names = self._settings, list(self._layers)
        if settings.polygons is not None:
            names.append(POLYGONS[settings.polygons])
        if settings.quicklook:
            names.append(QUICKLOOK)
        if settings.page:
            names.append(PAGE)
        return names

    def check(self, scenes: Sequence[Scene]) -> None:
        """Check that polygons of scenes can be measured and written, if there are to be some.

        Raises:
            DataError: If the CRS of one has no place on Earth, or GeoJSON would hold a pole.
        """
        if self._settings.polygons is None:
            return
        for scene in scenes:
            Ground(scene)
            if self._settings.polygons == "geojson":
                check_geojson(scene)

    def name(self, scene: Scene) -> str:
        """Return the name of a scene's map."""
        return f"{scene.slug}{MAP}"

    def write(self, scene: Scene, network: Network, *, batch_size: int, progress: Progress) -> str:
        """Predict a scene and write its files, and return what is to be said of them: nothing.

        Args:
            scene: The scene.
            network: Returns probabilities of windows.
            batch_size: Windows computed at once.
            progress: Called with the share that is done.

        Raises:
            CorruptSampleError: If the scene cannot be read somewhere.
            StorageError: If a file cannot be written.
        """
        with self._open(scene) as write:
            predict_scene(
                scene,
                network,
                self._rule,
                write,
                num_classes=len(self._settings.classes),
                batch_size=batch_size,
                progress=progress,
            )
        return ""

    @contextmanager
    def _open(self, scene: Scene) -> Iterator[WriteRows]:
        """Yield what writes rows of a map; the files appear once all is written.

        Raises:
            DataError: If there are to be polygons, and the scene's CRS has no place on Earth.
            StorageError: If a file cannot be written.
        """
        settings, counts = self._settings, PixelCounts()
        tiles = None
        if settings.polygons is not None and not self._is_dense:
            size, corner = (scene.height, scene.width), whole_of(scene)[1:]
            tiles = TileCollector(*self._rule.lay(scene), size, corner=corner)
        with ExitStack() as files:
            parts = {
                suffix: files.enter_context(self._store.create(f"{scene.slug}{suffix}"))
                for suffix in self.suffixes
            }
            writers.check_room(parts[MAP].parent, scene, list(self._layers.values()))
            with self._open_layers(scene, parts) as write_layers:

                def write(top: int, shares: Floats, valid: NDArray[np.bool_]) -> None:
                    counts.add(write_layers(top, shares, valid))
                    if tiles is not None:
                        tiles.add(top, shares, valid)

                yield write
            few = self._write_polygons(scene, parts, tiles)
            self._draw(scene, parts, counts, few)

    @contextmanager
    def _open_layers(
        self, scene: Scene, parts: dict[str, Path]
    ) -> Iterator[Callable[[int, Floats, NDArray[np.bool_]], NDArray[np.uint8]]]:
        """Yield what writes rows to the rasters and returns their classes."""
        with ExitStack() as stack:
            opened = {
                suffix: stack.enter_context(writers.write_cog(parts[suffix], scene, layer))
                for suffix, layer in self._layers.items()
            }

            def write(top: int, shares: Floats, valid: NDArray[np.bool_]) -> NDArray[np.uint8]:
                classes = writers.to_classes(shares, valid)
                opened[MAP](top, classes)
                if PROBABILITIES in opened:
                    opened[PROBABILITIES](top, writers.to_levels(shares, valid))
                return classes

            yield write

    def _write_polygons(
        self, scene: Scene, parts: dict[str, Path], tiles: TileCollector | None
    ) -> FewFeatures | None:
        settings, few = self._settings, FewFeatures() if self._settings.page else None
        if (kind := settings.polygons) is None:
            return None
        with ExitStack() as stack:
            write = stack.enter_context(
                write_features(
                    parts[POLYGONS[kind]], scene, settings.classes, kind,
                    min_area_m2=settings.min_area_m2 or 0.0, few=few,
                )
            )  # fmt: skip
            if tiles is not None:
                found = tiles.table()
                columns = {"class": found.classes, "probability": found.probabilities}
                write(found.shapes, columns)
                return few
            raster = open_raster(parts[MAP], stack)

            def read(top: int, count: int) -> NDArray[np.uint8]:
                rows: NDArray[np.uint8] = raster.read(1, window=Window(0, top, scene.width, count))
                return rows

            tolerance = settings.simplify_px or 0.0
            for traced in trace_polygons(read, scene.height, scene.width, simplify_px=tolerance):
                write(traced.shapes, {"class": traced.classes})
        return few

    def _draw(
        self, scene: Scene, parts: dict[str, Path], counts: PixelCounts, few: FewFeatures | None
    ) -> None:
        settings, legend = self._settings, counts.legend(self._settings.classes)
        if settings.quicklook:
            parts[QUICKLOOK].write_bytes(draw_quicklook(parts[MAP], scene, legend))
        if settings.page:
            page = draw_page(parts[MAP], scene, legend, run=settings.run, polygons=few)
            parts[PAGE].write_bytes(page)
