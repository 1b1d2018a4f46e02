"""Building blocks of procedural scenes: noise, lattices and sunlight.

A scene is an albedo and a height. Shading and cast shadows, which make it look like an aerial
picture, are computed from the height and one sun for the whole scene, so a painter only places
objects.
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]
Metres = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]
Colour = tuple[float, float, float]
Painting = tuple[Field, Field]

# Random values of lattice cells repeat after this many cells, more than any scene has.
TABLE = 64


@dataclass(frozen=True, slots=True)
class Site:
    """One parcel to paint.

    Attributes:
        u: Metres from the parcel's centre along its own direction, ``[h, w]``.
        v: Metres from the centre across this direction, ``[h, w]``.
        pixel_m: Side of a pixel in metres.
        dryness: From 0, lush, to 1, the end of a dry summer; the same over a scene.
        autumn: From 0, green leaves, to 1, all turned; the same over a scene.
        rng: Source of every random choice.
    """

    u: Field
    v: Field
    pixel_m: float
    dryness: float
    autumn: float
    rng: np.random.Generator

    def noise(self, scale_m: float, octaves: int = 3) -> Field:
        """Return smooth noise in about ``[-1, 1]`` with features of ``scale_m``, ``[h, w]``."""
        return noise(self.u.shape, scale_m / self.pixel_m, octaves, self.rng)

    def between(self, low: float, high: float) -> float:
        """Return a uniform random number of the range."""
        return float(self.rng.uniform(low, high))

    def plain(self, colour: Colour, texture: float = 0.06, scale_m: float = 12.0) -> Field:
        """Return an albedo of one colour with mottling, ``[h, w, 3]``."""
        tint = np.asarray(colour, np.float32) * (1 + self.rng.normal(0, 0.04, 3).astype(np.float32))
        grain = self.rng.normal(0, 1, self.u.shape).astype(np.float32)
        mottled = 1 + texture * (2 * self.noise(scale_m, 4) + 0.5 * grain)
        return mottled[..., None] * tint

    def grass(self) -> Field:
        """Return an albedo of grass for the site's dryness, ``[h, w, 3]``."""
        return self.plain(mix((0.27, 0.40, 0.16), (0.55, 0.49, 0.29), self.dryness), 0.09)


@dataclass(frozen=True, slots=True)
class Lattice:
    """A rectangular lattice over a site.

    Attributes:
        row: Cell number along u, ``[h, w]``.
        column: Cell number along v, ``[h, w]``.
        along: Metres along u from the cell's centre, ``[h, w]``.
        across: Metres along v from the cell's centre, ``[h, w]``.
    """

    row: NDArray[np.int32]
    column: NDArray[np.int32]
    along: Field
    across: Field

    def draw(self, rng: np.random.Generator, count: int = 1) -> Field:
        """Return ``count`` random numbers in ``[0, 1)`` for each cell, ``[count, h, w]``."""
        table = rng.random((count, TABLE, TABLE), dtype=np.float32)
        return np.asarray(table[:, self.row % TABLE, self.column % TABLE])


def lattice(u: Metres, v: Metres, pitch_u: float, pitch_v: float) -> Lattice:
    """Return the lattice with cells of ``pitch_u`` x ``pitch_v`` metres."""
    u, v = u.astype(np.float32), v.astype(np.float32)
    row, column = np.floor(u / pitch_u), np.floor(v / pitch_v)
    along = u - (row + np.float32(0.5)) * np.float32(pitch_u)
    across = v - (column + np.float32(0.5)) * np.float32(pitch_v)
    return Lattice(row.astype(np.int32), column.astype(np.int32), along, across)


def crowns(
    site: Site, pitch_m: float, radius_m: tuple[float, float], share: float = 1.0
) -> tuple[Field, Field]:
    """Return domes scattered over the site: height of the highest one, and its random number.

    Args:
        site: The site.
        pitch_m: Mean distance in metres.
        radius_m: Smallest and largest radius in metres.
        share: Share of the lattice cells with a dome.

    Returns:
        Height relative to the dome's own maximum (0 between domes), ``[h, w]``, and a random number
        in ``[0, 1)`` for each dome, ``[h, w]``.
    """
    grid = lattice(site.u, site.v, pitch_m, pitch_m)
    table = site.rng.random((4, TABLE, TABLE), dtype=np.float32)
    best = np.zeros_like(site.u)
    number = np.zeros_like(site.u)
    low, high = radius_m
    ragged = 1 + 0.25 * site.noise(pitch_m / 3, 2)
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            jitter_u, jitter_v, size, pick = table[
                :, (grid.row + down) % TABLE, (grid.column + right) % TABLE
            ]
            away_u = grid.along - (down + 0.8 * (jitter_u - 0.5)) * pitch_m
            away_v = grid.across - (right + 0.8 * (jitter_v - 0.5)) * pitch_m
            radius = (low + (high - low) * size) * ragged
            dome = 1 - (away_u**2 + away_v**2) / radius**2
            higher = (dome > best) & (pick < share)
            best[higher] = dome[higher]
            number[higher] = size[higher]
    return np.sqrt(best), number


def noise(shape: tuple[int, ...], scale_px: float, octaves: int, rng: np.random.Generator) -> Field:
    """Return fractal noise in about ``[-1, 1]``, ``[h, w]``."""
    height, width = shape
    total = np.zeros((height, width), np.float32)
    amplitude, norm = 1.0, 0.0
    for octave in range(octaves):
        pitch = max(1.0, scale_px / 2**octave)
        rows, columns = int(height / pitch) + 3, int(width / pitch) + 3
        coarse = rng.uniform(-1, 1, (rows, columns)).astype(np.float32)
        total += amplitude * cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        norm += amplitude
        amplitude /= 2
    return total / np.float32(norm)


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """Return the colour at ``share`` of the way from ``first`` to ``second``."""
    red, green, blue = (a + (b - a) * share for a, b in zip(first, second, strict=True))
    return red, green, blue


def lay(albedo: Field, where: Mask, colour: Field | Colour) -> None:
    """Paint one colour, or another albedo, over the pixels of a mask."""
    paint = np.asarray(colour, np.float32)
    albedo[where] = paint[where] if paint.ndim == 3 else paint


def light(albedo: Field, height: Field, pixel_m: float, rng: np.random.Generator) -> Field:
    """Return the scene lit by a random sun: shaded slopes, cast shadows, haze and hue.

    Args:
        albedo: ``[h, w, 3]``, around ``[0, 1]``.
        height: Metres above ground, ``[h, w]``.
        pixel_m: Side of a pixel in metres.
        rng: Source of the sun's position and the haze and hue.

    Returns:
        Radiance around ``[0, 1]``, ``[h, w, 3]``.
    """
    azimuth, elevation = rng.uniform(0, 2 * np.pi), np.deg2rad(rng.uniform(34, 58))
    to_sun = np.array([np.cos(azimuth), np.sin(azimuth)])
    slope_x = cv2.Sobel(height, cv2.CV_32F, 1, 0, ksize=3, scale=1 / (8 * pixel_m))
    slope_y = cv2.Sobel(height, cv2.CV_32F, 0, 1, ksize=3, scale=1 / (8 * pixel_m))
    facing = -(slope_x * to_sun[0] + slope_y * to_sun[1])
    lit = 1 + 0.42 * np.tanh(facing)
    shade = cv2.GaussianBlur(_shadow(height, to_sun, elevation, pixel_m), (0, 0), 0.8)
    # In the shade, only the blue sky gives light.
    sky = np.array([0.36, 0.42, 0.52], np.float32)
    light_here = lit[..., None] * (1 - shade[..., None]) + sky * shade[..., None]
    hue = 1 + rng.normal(0, 0.045, 3).astype(np.float32)
    haze = np.float32(rng.uniform(0.0, 0.08))
    radiance = albedo * light_here * hue * np.float32(rng.uniform(0.85, 1.2))
    return np.asarray(haze + (1 - haze) * radiance, np.float32)


def _shadow(height: Field, to_sun: NDArray[np.float64], elevation: float, pixel_m: float) -> Field:
    """Return 1 where something blocks the ray towards the sun, else 0, ``[h, w]``."""
    step_px = 2
    drop = np.float32(step_px * pixel_m * np.tan(elevation))
    steps = int(float(height.max()) / drop) + 1
    rows, columns = height.shape
    reach = steps * step_px + 1
    padded = np.pad(height, reach)
    highest = np.zeros_like(height)
    for step in range(1, steps + 1):
        right = reach + round(step * step_px * to_sun[0])
        down = reach + round(step * step_px * to_sun[1])
        ray = padded[down : down + rows, right : right + columns] - step * drop
        np.maximum(highest, ray, out=highest)
    return (highest > height + 0.15).astype(np.float32)
