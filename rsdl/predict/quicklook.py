"""A quick look at a map: the scene, the map and a legend in one PNG of at most 1,024 px a side."""

import unicodedata
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from rsdl.data.preview import encode_png
from rsdl.data.targets.mask import IGNORE
from rsdl.predict.detect import Detections
from rsdl.predict.legend import LegendEntry
from rsdl.predict.pictures import (
    Grid,
    Picture,
    draw_boxes,
    paint,
    read_classes,
    read_picture,
    scene_grid,
    show_seen,
    to_grid,
)
from rsdl.raster.scenes import Scene

SIDE = 1024
GAP = 12
LINE, SWATCH = 22, 14
COLUMN = 240  # of the legend
MAX_LINES = 8
FONT, FONT_SCALE = cv2.FONT_HERSHEY_SIMPLEX, 0.45
PAGE, INK, FRAME, NO_DATA = 255, (30, 30, 30), (150, 150, 150), 216


def draw_quicklook(path: Path, scene: Scene, legend: Sequence[LegendEntry]) -> bytes:
    """Return the PNG of a map.

    Args:
        path: The map.
        scene: What it shows.
        legend: All of its classes, those of most pixels first.
    """
    high = _height_over(legend)
    # Room of a picture, with gaps: the two side by side, or one below the other.
    beside = high - 2 * GAP, (SIDE - 3 * GAP) // 2
    below = (high - 3 * GAP) // 2, SIDE - 2 * GAP
    room = max((beside, below), key=lambda each: _fill(each, scene))
    grid = _grid_in(room, scene)
    classes = read_classes(path, scene, grid)
    known = classes != IGNORE
    panels = [
        np.where(known[..., None], picture, NO_DATA).astype(np.uint8)
        for picture in (read_picture(scene, grid, known), paint(classes, len(legend)))
    ]
    shown = _join([_enlarge(panel, min(room)) for panel in panels], vertical=room == below)
    return _finish(shown, legend, has_nodata=not known.all())


def draw_object_quicklook(found: Detections, scene: Scene, legend: Sequence[LegendEntry]) -> bytes:
    """Return the PNG of the objects of a scene: their boxes over it, and the legend."""
    room = _height_over(legend) - 2 * GAP, SIDE - 2 * GAP
    grid = _grid_in(room, scene)
    known = show_seen(found.seen, found.step, scene, grid)
    picture = np.where(known[..., None], read_picture(scene, grid, known), NO_DATA)
    panel = _enlarge(np.ascontiguousarray(picture, np.uint8), min(room))
    corners = to_grid(found.corners, scene, grid) * (len(panel) // grid.height)
    draw_boxes(panel, corners, found.labels, len(legend))
    return _finish(_join([panel], vertical=False), legend, has_nodata=not known.all())


def _height_over(legend: Sequence[LegendEntry]) -> int:
    return SIDE - (min(len(legend), MAX_LINES) + 1) * LINE - GAP


def _fill(room: tuple[int, int], scene: Scene) -> float:
    """Return how large a scene's pixels can be in a room of a height and a width."""
    return min(room[0] / scene.height, room[1] / scene.width)


def _grid_in(room: tuple[int, int], scene: Scene) -> Grid:
    return scene_grid(
        scene, max(1, int(min(1, _fill(room, scene)) * max(scene.height, scene.width)))
    )


def _finish(shown: Picture, legend: Sequence[LegendEntry], *, has_nodata: bool) -> bytes:
    lower = _draw_legend(legend, shown.shape[1], has_nodata=has_nodata)
    wide = max(shown.shape[1], lower.shape[1])
    return encode_png(np.concatenate([_pad(shown, wide), _pad(lower, wide)]))


def _enlarge(panel: Picture, side: int) -> Picture:
    """Return a small picture by whole factors larger, so that its pixels stay squares."""
    factor = max(1, side // 2 // max(panel.shape[:2]))
    return panel.repeat(factor, axis=0).repeat(factor, axis=1)


def _join(panels: list[Picture], *, vertical: bool) -> Picture:
    """Return pictures one below the other, or side by side, with gaps around them."""
    framed = [np.pad(panel, ((GAP, 0), (GAP, 0), (0, 0)), constant_values=PAGE) for panel in panels]
    both = np.concatenate(framed, axis=0 if vertical else 1)
    return np.pad(both, ((0, GAP), (0, GAP), (0, 0)), constant_values=PAGE)


def _pad(picture: Picture, width: int) -> Picture:
    missing = ((0, 0), (0, width - picture.shape[1]), (0, 0))
    return np.pad(picture, missing, constant_values=PAGE)


def _draw_legend(legend: Sequence[LegendEntry], width: int, *, has_nodata: bool) -> Picture:
    """Return the classes in columns, as many as there is room for."""
    columns = max(1, (width - GAP) // COLUMN)
    shown = list(legend[: columns * MAX_LINES])
    lines = [(f"{entry.number} {entry.name}", entry.amount, entry.colour) for entry in shown]
    rows = max(1, -(-len(lines) // columns))
    drawn = np.full((rows * LINE + LINE, max(width, GAP + columns * COLUMN), 3), PAGE, np.uint8)
    for place, (name, percent, colour) in enumerate(lines):
        left, top = GAP + place // rows * COLUMN, place % rows * LINE
        cv2.rectangle(drawn, (left, top), (left + SWATCH, top + SWATCH), colour, cv2.FILLED)
        cv2.rectangle(drawn, (left, top), (left + SWATCH, top + SWATCH), FRAME)
        _write(drawn, f"{_fit(name, COLUMN - 100)}  {percent}", left + SWATCH + 8, top)
    notes = [f"{len(legend) - len(shown)} more classes"] if len(legend) > len(shown) else []
    if has_nodata:
        notes.append("grey: no data")
    _write(drawn, "; ".join(notes), GAP, rows * LINE)
    return drawn


def _write(picture: Picture, text: str, left: int, top: int) -> None:
    place = left, top + SWATCH - 2
    cv2.putText(picture, text, place, FONT, FONT_SCALE, INK, 1, cv2.LINE_AA)


def _fit(text: str, width: int) -> str:
    """Return text that OpenCV can draw, at most ``width`` pixels wide; it draws ASCII alone."""
    plain = unicodedata.normalize("NFKD", text)
    plain = "".join(letter for letter in plain if not unicodedata.combining(letter))
    plain = plain.encode("ascii", "replace").decode()
    shorter = plain
    while cv2.getTextSize(shorter, FONT, FONT_SCALE, 1)[0][0] > width:
        plain = plain[:-1]
        shorter = f"{plain}~"
    return shorter
