"""Procedural high-resolution scenes with labelled land use: data that needs no download.

Each scene is a mosaic of parcels, one land use each. Sun, season, soil and haze vary per scene, so
a network has to learn shapes and not the colours of one day. Scenes are written like a user's, as
georeferenced GeoTIFFs beside one GeoJSON of labelled polygons, and are packed by the same code. A
scene is a function of (seed, number): generating more scenes does not change the first ones.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.io import MemoryFile
from rasterio.transform import Affine
from rasterio.warp import transform_geom

from rsdl.core.errors import ConfigError
from rsdl.core.rng import key_of
from rsdl.storage.local import LocalStore
from rsdl.synthetic.grounds import GROUNDS
from rsdl.synthetic.landuse import PAINTERS
from rsdl.synthetic.relief import Field, Site, light, noise

LABELS = "labels.geojson"
CRS_NAME = "EPSG:32633"
CLASSES = tuple(sorted(PAINTERS))
Parcels = list[tuple[str, NDArray[np.float64]]]
Drawn = tuple[NDArray[np.uint8], list[dict[str, Any]]]  # pixels, and features
Draw = Callable[[Affine, float, np.random.Generator], Drawn]
# Four parcels on each side hold every class once and some twice.
MIN_PARCELS = 4
PARCEL_PX = 128
MIN_SIZE_PX = 256
PIXEL_M = (0.5, 0.7)
ORIGIN_M = (390_000.0, 5_700_000.0)
SCENES_PER_ROW = 20
# Render at a finer resolution than stored, as a sensor averages over its pixels.
FINER = 2


def write_scenes(folder: Path, *, num_scenes: int, size: int, seed: int) -> Path:
    """Write scenes ``scene_000.tif``, ... and their labels.

    Args:
        folder: The destination; created if missing.
        num_scenes: Number of scenes, at least 1.
        size: Side of a scene in pixels, at least 256; every scene has every class.
        seed: Seed of all random choices.

    Returns:
        Path of the GeoJSON: polygons in EPSG:4326 with the properties ``class`` and ``scene``.

    Raises:
        ConfigError: If ``num_scenes`` or ``size`` is too small.
        StorageError: If the folder cannot be written.
    """

    def draw(place: Affine, pixel_m: float, rng: np.random.Generator) -> Drawn:
        parcels = draw_parcels(size, rng)
        pixels = paint_scene(parcels, size, pixel_m, rng)
        return pixels, [_feature(label, corners, place) for label, corners in parcels]

    return write_drawn(
        folder, draw, num_scenes=num_scenes, size=size, key=("scene", seed), pixel_m=PIXEL_M,
        labels=LABELS,
    )  # fmt: skip


def write_drawn(
    folder: Path,
    draw: Draw,
    *,
    num_scenes: int,
    size: int,
    key: tuple[str, int],
    pixel_m: tuple[float, float],
    labels: str,
    crs: str | None = None,
) -> Path:
    """Write scenes ``scene_000.tif``, ... and the GeoJSON of what is in them; return its path.

    Args:
        folder: The destination; created if missing.
        draw: Draws a scene of some place, pixel size in metres and random numbers: its pixels, and
            its features, to which the scene's name is added.
        num_scenes: Number of scenes.
        size: Side of a scene in pixels.
        key: Of the random numbers, beside a scene's number.
        pixel_m: Smallest and largest pixel size.
        labels: Name of the GeoJSON.
        crs: That of the features, if it is not WGS84.

    Raises:
        ConfigError: If ``num_scenes`` or ``size`` is too small.
        StorageError: If the folder cannot be written.
    """
    if num_scenes < 1:
        raise ConfigError("num_scenes", f"{num_scenes} is less than 1", "ask for 1 or more")
    if size < MIN_SIZE_PX:
        raise ConfigError("size", f"{size} px is less than {MIN_SIZE_PX}", "make it larger")
    store = LocalStore(folder)
    features: list[dict[str, Any]] = []
    for number in range(num_scenes):
        name = f"scene_{number:03}.tif"
        rng = np.random.Generator(np.random.Philox(key=key_of(*key, number)))
        side_m = round(float(rng.uniform(*pixel_m)), 2)
        place = place_scene(number, size, side_m)
        pixels, found = draw(place, side_m, rng)
        store.write(name, encode_scene(pixels, place))
        for feature in found:
            feature["properties"]["scene"] = name
        features += found
    page: dict[str, Any] = {"type": "FeatureCollection"}
    if crs is not None:
        page["crs"] = {"type": "name", "properties": {"name": crs}}
    store.write(labels, (json.dumps(page | {"features": features}) + "\n").encode())
    return folder / labels


def draw_parcels(
    size: int, rng: np.random.Generator, land_uses: tuple[str, ...] = CLASSES
) -> Parcels:
    """Return the land use and the corners of every parcel of a scene.

    Args:
        size: Side of the scene in pixels.
        rng: Source of the layout.
        land_uses: What parcels may be, each as often as it is named.

    Returns:
        Class names with corners in pixels, ``[4, 2]`` as (x, y); together they cover the scene.
    """
    count = max(MIN_PARCELS, size // PARCEL_PX)
    pitch = size / count
    nodes = np.stack(np.meshgrid(*[np.arange(count + 1) * pitch] * 2), axis=-1)
    shift = rng.uniform(-0.07, 0.07, nodes.shape) * pitch
    # Nodes on the scene's edge may only move along it.
    shift[:, [0, -1], 0] = 0
    shift[[0, -1], :, 1] = 0
    nodes = nodes + shift
    kinds = [rng.permutation(len(land_uses)) for _ in range(-(-(count**2) // len(land_uses)))]
    order = rng.permutation(np.concatenate(kinds)[: count**2])
    return [
        (
            land_uses[order[row * count + column]],
            nodes[[row, row, row + 1, row + 1], [column, column + 1, column + 1, column]],
        )
        for row in range(count)
        for column in range(count)
    ]


def paint_scene(
    parcels: Parcels, size: int, pixel_m: float, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Return the scene's pixels, RGB, ``[size, size, 3]``."""
    return take_picture(*paint_ground(parcels, size, pixel_m, rng), pixel_m, rng)


def paint_ground(
    parcels: Parcels, size: int, pixel_m: float, rng: np.random.Generator
) -> tuple[Field, Field]:
    """Return the albedo ``[h, w, 3]`` and the height ``[h, w]`` of a scene.

    They are ``FINER`` times as fine as the scene's pixels.
    """
    fine, fine_m = size * FINER, pixel_m / FINER
    albedo, height = np.zeros((fine, fine, 3), np.float32), np.zeros((fine, fine), np.float32)
    dryness, autumn = float(rng.uniform(0, 1)), max(0.0, float(rng.uniform(-0.6, 0.6)))
    tracks = np.zeros((fine, fine), np.uint8)
    for label, corners in parcels:
        outline = np.round(corners * FINER).astype(np.int32)
        left, top = outline.min(axis=0)
        right, bottom = outline.max(axis=0)
        window = slice(top, bottom), slice(left, right)
        mask = np.zeros((bottom - top, right - left), np.uint8)
        cv2.fillPoly(mask, [outline - [left, top]], 1)
        site = _site(mask.shape, fine_m, dryness, autumn, rng)
        colours, heights = (PAINTERS | GROUNDS)[label](site)
        albedo[window][mask > 0] = colours[mask > 0]
        height[window][mask > 0] = heights[mask > 0]
        cv2.polylines(tracks, [outline], True, 1, round(2.4 / fine_m))
    _lay_tracks(albedo, height, tracks, fine_m, rng)
    return albedo, height


def take_picture(
    albedo: Field, height: Field, pixel_m: float, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Return the pixels that a sensor sees of what :func:`paint_ground` painted, ``[H, W, 3]``."""
    radiance = light(albedo, height, pixel_m / FINER, rng)
    blurred = cv2.GaussianBlur(radiance, (0, 0), float(rng.uniform(0.4, 0.9)))
    rows, columns = (side // FINER for side in height.shape)
    seen = cv2.resize(blurred, (columns, rows), interpolation=cv2.INTER_AREA)
    seen += np.asarray(rng.normal(0, 0.012, seen.shape), np.float32)
    return np.asarray(np.clip(seen, 0, 1) * 255 + 0.5, np.uint8)


def _site(
    shape: tuple[int, ...], pixel_m: float, dryness: float, autumn: float, rng: np.random.Generator
) -> Site:
    rows, columns = (np.arange(side, dtype=np.float32) - side / 2 for side in shape)
    y, x = np.meshgrid(rows * np.float32(pixel_m), columns * np.float32(pixel_m), indexing="ij")
    angle = float(rng.uniform(0, 2 * np.pi))
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    here = float(np.clip(dryness + rng.normal(0, 0.12), 0, 1))
    return Site(x * cos + y * sin, y * cos - x * sin, pixel_m, here, autumn, rng)


def _lay_tracks(
    albedo: Field,
    height: Field,
    tracks: NDArray[np.uint8],
    pixel_m: float,
    rng: np.random.Generator,
) -> None:
    """Lay dirt tracks along the boundaries of the parcels."""
    where = tracks > 0
    dirt = np.array([0.56, 0.49, 0.39], np.float32)
    mottled = 1 + 0.12 * noise(where.shape, 3 / pixel_m, 2, rng)
    albedo[where] = mottled[where][:, None] * dirt
    height[where] = 0


def place_scene(number: int, size: int, pixel_m: float) -> Affine:
    """Return the transform of a scene; no two of the same size touch."""
    # Keep half a scene of distance, so that no two scenes share ground.
    pitch = 1.5 * size * PIXEL_M[1]
    row, column = divmod(number, SCENES_PER_ROW)
    west, north = ORIGIN_M[0] + column * pitch, ORIGIN_M[1] - row * pitch
    return Affine(pixel_m, 0.0, west, 0.0, -pixel_m, north)


def encode_scene(pixels: NDArray[np.uint8], transform: Affine) -> bytes:
    """Return a scene's pixels ``[H, W, bands]`` as a GeoTIFF."""
    height, width, bands = pixels.shape
    with MemoryFile() as memory:
        with memory.open(
            driver="GTiff",
            width=width,
            height=height,
            count=bands,
            dtype="uint8",
            crs=CRS_NAME,
            transform=transform,
            photometric="RGB",
            tiled=True,
            blockxsize=256,
            blockysize=256,
            compress="deflate",
            predictor=2,
        ) as scene:
            scene.write(np.moveaxis(pixels, 2, 0))
        return bytes(memory.read())


def _feature(label: str, corners: NDArray[np.float64], transform: Affine) -> dict[str, Any]:
    ring = [
        (transform.c + transform.a * float(x), transform.f + transform.e * float(y))
        for x, y in corners
    ]
    # Corners run clockwise, in pixels as on the map; GeoJSON requires counterclockwise rings.
    ring = [*ring[::-1], ring[-1]]
    plane = {"type": "Polygon", "coordinates": [ring]}
    sphere = transform_geom(CRS.from_string(CRS_NAME), CRS.from_epsg(4326), plane, precision=9)
    geometry = {"type": "Polygon", "coordinates": sphere["coordinates"]}
    return {
        "type": "Feature",
        "properties": {"class": label},
        "geometry": geometry,
    }
