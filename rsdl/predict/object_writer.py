"""The files of a scene's objects: GeoJSON, a GeoPackage or CSV, and by option pictures.

They appear together once the last of them is whole, as those of other maps.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from rsdl.core.errors import DataError
from rsdl.predict.detect import Detections, Detector, MergeRule, detect_scene
from rsdl.predict.features import FewFeatures, Ground, write_features
from rsdl.predict.legend import count_objects
from rsdl.predict.object_table import columns_of, polygons_of, to_csv
from rsdl.predict.outputs import CSV, PAGE, POLYGONS, QUICKLOOK, check_geojson
from rsdl.predict.page import draw_object_page
from rsdl.predict.quicklook import draw_object_quicklook
from rsdl.predict.scene import Progress, WindowRule
from rsdl.raster.scenes import Scene
from rsdl.records.prediction import Prediction
from rsdl.storage.store import Store


class ObjectWriter:
    """Finds the objects of scenes and writes their files.

    Args:
        store: Where they go.
        settings: What they are made with; it says which files there are.
        rule: How scenes are cut.
        merge: How detections are merged.
    """

    def __init__(
        self, store: Store, settings: Prediction, rule: WindowRule, merge: MergeRule
    ) -> None:
        self._store, self._settings, self._rule, self._merge = store, settings, rule, merge

    def name(self, scene: Scene) -> str:
        """Return the name of the file with a scene's objects."""
        return f"{scene.slug}{self._suffix(scene)}"

    def check(self, scenes: Sequence[Scene]) -> None:
        """Check that the objects of scenes can be placed.

        Raises:
            DataError: If the CRS of one has no place on Earth, GeoJSON would hold a pole, or a
                format of maps was chosen for a scene without a CRS.
        """
        for scene in scenes:
            if scene.crs is not None:
                Ground(scene, boxes=True)
                if self._suffix(scene) == POLYGONS["geojson"]:
                    check_geojson(scene)
            elif self._settings.polygons is not None:
                problem = "has no coordinate reference system: its objects are written as CSV"
                raise DataError(str(scene.path), problem, "leave out --vectorize, or set its CRS")

    def write(
        self, scene: Scene, detector: Detector, *, batch_size: int, progress: Progress
    ) -> str:
        """Find the objects of a scene and write its files, and return what is to be said of them.

        Args:
            scene: The scene.
            detector: Finds objects in windows.
            batch_size: Windows computed at once.
            progress: Called with the share that is done.

        Raises:
            CorruptSampleError: If the scene cannot be read somewhere.
            StorageError: If a file cannot be written.
        """
        settings = self._settings
        wanted = {QUICKLOOK: settings.quicklook, PAGE: settings.page}
        suffixes = [self._suffix(scene), *(suffix for suffix, is_on in wanted.items() if is_on)]
        with ExitStack() as files:
            parts = {
                suffix: files.enter_context(self._store.create(f"{scene.slug}{suffix}"))
                for suffix in suffixes
            }
            found = detect_scene(
                scene, detector, self._rule, self._merge, batch_size=batch_size, progress=progress
            )
            few = self._write_table(parts[self._suffix(scene)], scene, found)
            legend = count_objects(found.labels, settings.classes)
            if settings.quicklook:
                parts[QUICKLOOK].write_bytes(draw_object_quicklook(found, scene, legend))
            if settings.page:
                page = draw_object_page(found, scene, legend, run=settings.run, polygons=few)
                parts[PAGE].write_bytes(page)
        said = f"{len(found.labels):,} objects"
        if found.num_cut:
            said += f", {found.num_cut:,} of them cut by windows (raise --overlap)"
        return said

    def _suffix(self, scene: Scene) -> str:
        return CSV if scene.crs is None else POLYGONS[self._settings.polygons or "geojson"]

    def _write_table(self, part: Path, scene: Scene, found: Detections) -> FewFeatures | None:
        classes, oriented = self._settings.classes, self._merge.oriented
        few = FewFeatures() if self._settings.page else None
        kind = self._settings.polygons or "geojson"
        columns = {"class": found.labels} | columns_of(found, scene, oriented=oriented)
        if scene.crs is None:
            part.write_bytes(to_csv(found, columns, classes))
            if few is not None:
                names = {"name": np.array(classes, object)[found.labels]}
                few.add(polygons_of(found), columns | names, None)
            return few
        with write_features(part, scene, classes, kind, boxes=True, few=few) as write:
            write(polygons_of(found), columns)
        return few
