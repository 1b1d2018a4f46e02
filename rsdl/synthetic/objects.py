"""Ships, planes and vehicles: where they stand in a scene, and how each is painted.

An object fills its rectangle from end to end, so that the corners in the labels are those of what
can be seen. Like the ground, it is an albedo and a height; the scene's sun gives it a shadow.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from rsdl.synthetic.palette import CARS, CLOTHS
from rsdl.synthetic.relief import Colour, Field, Mask, lay, mix

# Free ground around an object, metres.
CLEARANCE_M = 0.7
TRIES = 12  # for each object that a parcel is to have
HULLS: tuple[Colour, ...] = (
    (0.86, 0.86, 0.85), (0.70, 0.72, 0.74), (0.55, 0.16, 0.13), (0.15, 0.24, 0.42),
    (0.24, 0.30, 0.27), (0.60, 0.47, 0.32),
)  # fmt: skip
SKINS: tuple[Colour, ...] = (
    (0.90, 0.91, 0.92), (0.82, 0.83, 0.85), (0.62, 0.65, 0.68), (0.42, 0.46, 0.44),
)  # fmt: skip
# None is grey as asphalt is.
LOADS: tuple[Colour, ...] = (*SKINS[:2], *HULLS[2:4], HULLS[5])
GLASS: Colour = (0.10, 0.12, 0.15)


@dataclass(frozen=True, slots=True)
class Standing:
    """An object in a scene.

    Attributes:
        label: Its class.
        x: Of its centre, in pixels.
        y: Of its centre, in pixels.
        length: In pixels.
        width: In pixels.
        angle: From the x axis, towards the y axis, to its bow or nose, in radians.
    """

    label: str
    x: float
    y: float
    length: float
    width: float
    angle: float

    def corners(self, margin: float = 0.0) -> NDArray[np.float64]:
        """Return the corners with a margin in pixels, from the bow's left around, ``[4, 2]``."""
        half = np.array([[1, -1], [1, 1], [-1, 1], [-1, -1]]) / 2
        along, across = (half * (self.length + 2 * margin, self.width + 2 * margin)).T
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        return np.stack(
            [self.x + along * cos - across * sin, self.y + along * sin + across * cos], axis=-1
        )


@dataclass(frozen=True, slots=True)
class Body:
    """The pixels around an object, in metres from its centre.

    Attributes:
        along: Towards its bow or nose, ``[h, w]``.
        across: To its right, ``[h, w]``.
        length: Of its rectangle.
        width: Of its rectangle.
        rng: Source of its colours and parts.
    """

    along: Field
    across: Field
    length: float
    width: float
    rng: np.random.Generator

    def block(self, middle: float, length: float, width: float) -> Mask:
        """Return a rectangle on the long axis; in shares of the object's length and width."""
        away = np.abs(self.along - middle * self.length)
        inside = away < length * self.length / 2
        return np.asarray(inside & (np.abs(self.across) < width * self.width / 2))


Layers = list[tuple[Mask, Colour, float]]  # from below: where, colour, metres above the ground


def ship(body: Body) -> Layers:
    """A hull with a pointed bow, a deck, and a bridge with a windscreen aft."""
    rng, to_bow = body.rng, body.length / 2 - body.along
    taper = np.clip(to_bow / (rng.uniform(0.30, 0.45) * body.length), 0, 1) ** 0.6
    stern = 1 - 0.2 * np.clip(-0.35 - body.along / body.length, 0, 0.15) / 0.15
    half = body.width / 2 * taper * stern
    inside = np.abs(body.along) < body.length / 2
    hull = inside & (np.abs(body.across) < half)
    deck = inside & (np.abs(body.across) < 0.78 * half) & (to_bow > 0.05 * body.length)
    middle = rng.uniform(-0.28, -0.05)
    long = rng.uniform(0.16, 0.30)
    paint = _vary(rng, HULLS)
    floor = mix(paint, (0.66, 0.56, 0.42), float(rng.uniform(0.3, 1)))
    return [
        (hull, paint, 1.2),
        (deck, floor, 1.0),
        (body.block(middle, long, 0.55), _vary(rng, SKINS), 3.0),
        (body.block(middle + long / 2, 0.05, 0.50), GLASS, 2.5),
    ]


def plane(body: Body) -> Layers:
    """A fuselage with a pointed nose, swept wings with engines, and a tailplane."""
    rng, scaled, side = body.rng, body.along / body.length, np.abs(body.across) / body.width
    nose = np.clip((0.5 - scaled) / 0.14, 0, 1) ** 0.5
    tail = np.clip((scaled + 0.5) / 0.30, 0.25, 1)
    thick = rng.uniform(0.10, 0.13) * body.length / 2
    fuselage = (np.abs(scaled) < 0.5) & (np.abs(body.across) < thick * nose * tail)
    sweep, root = rng.uniform(0.10, 0.45), rng.uniform(0.09, 0.13)
    wings = np.abs(scaled - 0.08 + sweep * side) < root * (1 - side)
    wings &= side < 0.5
    tailplane = (np.abs(scaled + 0.40 + 0.2 * side) < 0.055 - 0.05 * side) & (side < 0.19)
    skin = _vary(rng, SKINS)
    engine = (np.abs(scaled - 0.12 + sweep * 0.2) < 0.06) & (np.abs(side - 0.2) < 0.022)
    stripe = _vary(rng, CLOTHS)
    fin = body.block(-0.42, 0.12, 0.022)
    windows = body.block(0.42, 0.03, 0.06)
    return [
        (tailplane, skin, 2.2),
        (wings, mix(skin, (0.6, 0.62, 0.64), 0.3), 2.0),
        (engine, mix(skin, GLASS, 0.6), 2.0),
        (fuselage, skin, 3.0),
        (fin, stripe, 4.5),
        (windows & fuselage, GLASS, 3.0),
    ]


def vehicle(body: Body) -> Layers:
    """A car with windscreens and a roof; longer ones are trucks: a cab and a box."""
    rng = body.rng
    whole, paint = body.block(0, 1, 1), _vary(rng, CARS + CLOTHS)
    if body.length > 6.5:
        load = _vary(rng, LOADS)
        return [
            (whole, paint, 2.0),
            (body.block(-0.12, 0.74, 0.96), load, 3.2),
            (body.block(0.42, 0.06, 0.85), GLASS, 2.0),
        ]
    cabin = body.block(-0.08, 0.52, 0.86)
    return [
        (whole, paint, 0.9),
        (cabin, GLASS, 1.4),
        (body.block(-0.08, 0.28, 0.82), paint, 1.5),
    ]


@dataclass(frozen=True, slots=True)
class Species:
    """How objects of a class stand and look.

    Attributes:
        ground: Land use that they stand on; see ``grounds.py``.
        length_m: Shortest and longest, metres.
        slender: Smallest and largest width as a share of the length.
        number: Fewest and most wanted on one parcel.
        paint: Its painter.
    """

    ground: str
    length_m: tuple[float, float]
    slender: tuple[float, float]
    number: tuple[int, int]
    paint: Callable[[Body], Layers]


SPECIES = {
    "plane": Species("apron", (9, 15), (0.80, 1.0), (2, 4), plane),
    "ship": Species("harbour", (8, 18), (0.22, 0.32), (2, 5), ship),
    "vehicle": Species("lot", (4.2, 9.5), (0.30, 0.46), (5, 12), vehicle),
}


def place_objects(
    parcels: Sequence[tuple[str, NDArray[np.float64]]],
    height: Field,
    pixel_m: float,
    rng: np.random.Generator,
) -> list[Standing]:
    """Return objects that stand free on their ground, at any angle, none across a parcel's edge.

    Args:
        parcels: Land use and corners in pixels of each parcel, ``[4, 2]`` as (x, y).
        height: Of the ground in metres, ``[h, w]``; nothing stands where it is above 0.
        pixel_m: Side of a pixel in metres.
        rng: Source of the places.
    """
    found: list[Standing] = []
    free = np.zeros(height.shape, np.uint8)
    for land_use, corners in parcels:
        for label, kind in SPECIES.items():
            if kind.ground != land_use:
                continue
            free[:] = 0
            cv2.fillPoly(free, [np.round(corners).astype(np.int32)], 1)
            free[height > 0.05] = 0
            wanted = len(found) + int(rng.integers(kind.number[0], kind.number[1] + 1))
            low, high = corners.min(axis=0), corners.max(axis=0)
            for _ in range(TRIES * kind.number[1]):
                if len(found) == wanted:
                    break
                length = float(rng.uniform(*kind.length_m)) / pixel_m
                share, angle = float(rng.uniform(*kind.slender)), float(rng.uniform(-np.pi, np.pi))
                x, y = map(float, rng.uniform(low, high))
                one = Standing(label, x, y, length, length * share, angle)
                if _take(one, free, CLEARANCE_M / pixel_m):
                    found.append(one)
    return found


def paint_object(
    one: Standing, albedo: Field, height: Field, pixel_m: float, rng: np.random.Generator
) -> None:
    """Paint an object over the albedo ``[h, w, 3]`` and the height in metres ``[h, w]``."""
    corners = one.corners()
    (left, top), (right, bottom) = np.floor(corners.min(axis=0)), np.ceil(corners.max(axis=0))
    rows, columns = slice(max(int(top), 0), int(bottom)), slice(max(int(left), 0), int(right))
    window = albedo[rows, columns]
    y, x = np.mgrid[: window.shape[0], : window.shape[1]] + 0.5
    x, y = x + columns.start - one.x, y + rows.start - one.y
    cos, sin = np.cos(one.angle), np.sin(one.angle)
    along, across = (x * cos + y * sin) * pixel_m, (y * cos - x * sin) * pixel_m
    body = Body(
        along.astype(np.float32), across.astype(np.float32),
        one.length * pixel_m, one.width * pixel_m, rng,
    )  # fmt: skip
    grain = 1 + 0.04 * rng.normal(0, 1, (*window.shape[:2], 1)).astype(np.float32)
    for where, colour, above in SPECIES[one.label].paint(body):
        lay(window, where, grain * np.asarray(colour, np.float32))
        height[rows, columns][where] = above


def _take(one: Standing, free: NDArray[np.uint8], margin: float) -> bool:
    """Take an object's ground with a margin, if all of it is free."""
    corners = np.round(one.corners(margin)).astype(np.int32)
    (left, top), (right, bottom) = corners.min(axis=0), corners.max(axis=0) + 1
    rows, columns = free.shape
    if left < 0 or top < 0 or right > columns or bottom > rows:
        return False
    window = free[top:bottom, left:right]
    mask = np.zeros(window.shape, np.uint8)
    cv2.fillPoly(mask, [corners - (left, top)], 1)
    if not window[mask > 0].all():
        return False
    window[mask > 0] = 0
    return True


def _vary(rng: np.random.Generator, colours: Sequence[Colour]) -> Colour:
    red, green, blue = colours[int(rng.integers(len(colours)))]
    bright = float(rng.normal(1, 0.06))
    return red * bright, green * bright, blue * bright
