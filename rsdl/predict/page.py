"""A map over its scene as one HTML page that asks no network for anything.

Leaflet 1.9.4 lies in ``leaflet/`` as its npm package has it, but for line ends. Scene and classes
are warped to Web Mercator, in which Leaflet lays pictures; a scene that cannot lie there, as at a
pole, is shown in its own pixels.
"""

import base64
import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path

import cv2
import numpy as np
from jinja2 import Environment

from rsdl import __version__
from rsdl.core.html import open_templates, read_source, render_page
from rsdl.data.targets.mask import IGNORE
from rsdl.predict.features import FewFeatures
from rsdl.predict.legend import LegendEntry
from rsdl.predict.pictures import (
    Picture,
    paint,
    read_classes,
    read_picture,
    scene_grid,
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
    web = web_grid(scene, SIDE)
    grid = web.grid if web else scene_grid(scene, SIDE)
    classes = read_classes(path, scene, grid)
    known = classes != IGNORE
    alpha = np.where(known, 255, 0).astype(np.uint8)
    if web:
        south, west, north, east = web.bounds
    else:
        south, west, north, east = -scene.height, 0, 0, scene.width
    shown = None if polygons is None or web is None else polygons.collection()
    notes = []
    if polygons is not None and polygons.are_many:
        notes.append("The polygons are too many for this page: open their file.")
    if not web:
        notes.append("The scene cannot lie in Web Mercator: shown in its own pixels.")
    page = {
        "on_earth": web is not None,
        "bounds": [[south, west], [north, east]],
        "scene": {
            "uri": _uri(read_picture(scene, grid, known), alpha, "webp"),
            "alt": f"The scene {scene.name}",
        },
        "classes": {
            "uri": _uri(paint(classes, len(legend)), alpha, "png"),
            "alt": f"Classes of {scene.name}: "
            + ", ".join(f"{entry.name} {entry.percent}" for entry in legend if entry.share),
        },
        "colours": {entry.number: "rgb({}, {}, {})".format(*entry.colour) for entry in legend},
        "polygons": shown,
    }
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
        notes=notes, page=page,
    ).encode()  # fmt: skip


def _uri(picture: Picture, alpha: Picture, kind: str) -> str:
    """Return a picture with its transparency as a ``data:`` URI."""
    pixels = np.dstack([picture[:, :, ::-1], alpha])
    options = [cv2.IMWRITE_WEBP_QUALITY, WEBP_QUALITY] if kind == "webp" else []
    done, data = cv2.imencode(f".{kind}", pixels, options)
    assert done
    return f"data:image/{kind};base64,{base64.b64encode(data.tobytes()).decode()}"


@cache
def _environment() -> Environment:
    environment = open_templates("rsdl.predict")
    environment.globals["version"] = __version__
    return environment
