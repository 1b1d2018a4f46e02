"""A map over its scene as one HTML page that asks no network for anything.

Leaflet 1.9.4 lies in ``leaflet/`` as its npm package has it, but for line ends. Scene and classes
are warped to Web Mercator, in which Leaflet lays pictures; a scene that cannot lie there, as at a
pole, is shown in its own pixels.
"""

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jinja2 import Environment
from numpy.typing import NDArray

from rsdl import __version__
from rsdl.core.html import open_templates, read_source, render_page
from rsdl.data.targets.mask import IGNORE
from rsdl.predict.detect import Detections
from rsdl.predict.features import FewFeatures
from rsdl.predict.legend import LegendEntry
from rsdl.predict.pictures import (
    Picture,
    draw_boxes,
    paint,
    read_classes,
    read_picture,
    scene_grid,
    show_seen,
    to_grid,
    web_grid,
)
from rsdl.raster.scenes import Scene

SIDE = 2048
WEBP_QUALITY = 85


def draw_page(
    path: Path,
    scene: Scene,
    legend: Sequence[LegendEntry],
    *,
    run: str,
    polygons: FewFeatures | None = None,
) -> bytes:
    """Return the page of a map.

    Args:
        path: The map.
        scene: What it shows.
        legend: All of its classes, those of most pixels first.
        run: Name of the run that made it.
        polygons: The map's polygons, shown if they are few.
    """
    view = View(scene)
    classes = read_classes(path, scene, view.grid)
    known = classes != IGNORE
    shown = None if polygons is None or not view.on_earth else polygons.collection()
    notes = []
    if polygons is not None and polygons.are_many:
        notes.append("The polygons are too many for this page: open their file.")
    layer = Layer("classes", "share of pixels", 70, paint(classes, len(legend)), known, shown)
    return view.render(layer, known, legend, run=run, notes=notes)


def draw_object_page(
    found: Detections,
    scene: Scene,
    legend: Sequence[LegendEntry],
    *,
    run: str,
    polygons: FewFeatures | None = None,
) -> bytes:
    """Return the page of the objects of a scene: their outlines, or a picture of many.

    Args:
        found: The objects.
        scene: Where they are.
        legend: All classes, those of most objects first.
        run: Name of the run that found them.
        polygons: Their boxes, shown if they are few.
    """
    view = View(scene)
    known = show_seen(found.seen, found.step, scene, view.grid)
    fits = view.on_earth or scene.crs is None
    shown = polygons.collection() if polygons is not None and fits else None
    picture, alpha, notes = None, known, []
    if shown is None and len(found.labels):
        canvas = np.zeros((view.grid.height, view.grid.width, 4), np.uint8)
        corners = to_grid(found.corners, scene, view.grid)
        draw_boxes(canvas, corners, found.labels, len(legend))
        picture, alpha = canvas[..., :3], canvas[..., 3] > 0
        if polygons is not None and polygons.are_many:
            notes.append("The objects are too many to be asked here: open their file.")
    layer = Layer("objects", "number of objects", 100, picture, alpha, shown)
    return view.render(layer, known, legend, run=run, notes=notes)


@dataclass(frozen=True, slots=True)
class Layer:
    """What a page shows over a scene.

    Attributes:
        name: What it is, in the plural.
        by: What the legend counts.
        opacity: In percent, at first.
        picture: It on the page's grid, ``[H, W, 3]``, if it is shown as a picture.
        alpha: Where the picture is not transparent, ``[H, W]``.
        polygons: It as GeoJSON, if it is shown as polygons.
    """

    name: str
    by: str
    opacity: int
    picture: Picture | None
    alpha: NDArray[np.bool_]
    polygons: dict[str, Any] | None


class View:
    """The page of a scene.

    Args:
        scene: The scene.

    Attributes:
        grid: That of its pictures.
        on_earth: Whether it lies in Web Mercator, and not in the scene's own pixels.
    """

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        web = web_grid(scene, SIDE)
        self.on_earth = web is not None
        self.grid = web.grid if web else scene_grid(scene, SIDE)
        self._bounds = web.bounds if web else (-scene.height, 0, 0, scene.width)

    def render(
        self,
        layer: Layer,
        known: NDArray[np.bool_],
        legend: Sequence[LegendEntry],
        *,
        run: str,
        notes: Sequence[str],
    ) -> bytes:
        """Return the page of a layer over the scene, which has data where it is ``known``."""
        scene, (south, west, north, east) = self._scene, self._bounds
        if not self.on_earth and scene.crs is not None:
            notes = [*notes, "The scene cannot lie in Web Mercator: shown in its own pixels."]
        title = layer.name.capitalize()
        said = ", ".join(f"{entry.name} {entry.amount}" for entry in legend if entry.share)
        picture = layer.picture
        page = {
            "on_earth": self.on_earth,
            "bounds": [[south, west], [north, east]],
            "scene": {
                "uri": _uri(read_picture(scene, self.grid, known), known, "webp"),
                "alt": f"The scene {scene.name}",
            },
            "layer": title,
            layer.name: None if picture is None else {
                "uri": _uri(picture, layer.alpha, "png"), "alt": f"{title} of {scene.name}: {said}",
            },
            "colours": {entry.number: "rgb({}, {}, {})".format(*entry.colour) for entry in legend},
            "polygons": layer.polygons,
        }  # fmt: skip
        environment, leaflet = _environment(), files("rsdl.predict") / "leaflet"
        # Pictures of controls that are not used; a page without network could not fetch them.
        style = re.sub(r"url\(images/[^)]*\)", "none", (leaflet / "leaflet.css").read_text("utf-8"))
        script = (leaflet / "leaflet.js").read_text("utf-8").partition("//# sourceMappingURL=")[0]
        licence = (leaflet / "LICENSE").read_text("utf-8")
        return render_page(
            environment, "map.html.jinja",
            style=style + read_source(environment, "map.css"),
            script=f"/*\n{licence}*/\n{script}\n{read_source(environment, 'map.js')}",
            scene=scene.name, run=run, height=scene.height, width=scene.width, legend=legend,
            layer=layer.name, by=layer.by, opacity=layer.opacity, notes=notes, page=page,
        ).encode()  # fmt: skip


def _uri(picture: Picture, shown: NDArray[np.bool_], kind: str) -> str:
    """Return a picture that is transparent where it is not shown as a ``data:`` URI."""
    pixels = np.dstack([picture[:, :, ::-1], np.where(shown, 255, 0).astype(np.uint8)])
    options = [cv2.IMWRITE_WEBP_QUALITY, WEBP_QUALITY] if kind == "webp" else []
    done, data = cv2.imencode(f".{kind}", pixels, options)
    assert done
    return f"data:image/{kind};base64,{base64.b64encode(data.tobytes()).decode()}"


@cache
def _environment() -> Environment:
    environment = open_templates("rsdl.predict")
    environment.globals["version"] = __version__
    return environment
