"""A large scene to cut: 4 bands of uint16 in deflated blocks, sparse on disk, with labels.

Every fourth block on each axis holds texture; the others are never written and read as zeros.
"""

import json
from pathlib import Path

import numpy as np
import rasterio
from rasterio.windows import Window

BANDS, BLOCK_PX, EVERY = 4, 512, 4
ORIGIN, PIXEL = (500_000.0, 5_600_000.0), 10.0
CRS = "EPSG:32632"


def make_scene(path: Path, side: int, seed: int = 0) -> Path:
    """Write a scene of ``side`` x ``side`` pixels and ``.geojson`` labels, unless it exists.

    Args:
        path: The GeoTIFF; the labels lie beside it.
        side: Pixels of a side.
        seed: Seed of the texture.
    """
    if path.exists():
        return path
    part = path.with_name(path.name + ".part")
    random = np.random.default_rng(seed)
    transform = rasterio.Affine(PIXEL, 0, ORIGIN[0], 0, -PIXEL, ORIGIN[1])
    with rasterio.open(
        part, "w", driver="GTiff", height=side, width=side, count=BANDS, dtype="uint16",
        crs=CRS, transform=transform, tiled=True, blockxsize=BLOCK_PX, blockysize=BLOCK_PX,
        compress="deflate", predictor=2, interleave="pixel", sparse_ok=True, bigtiff="if_safer",
    ) as scene:  # fmt: skip
        for row in range(0, side, BLOCK_PX * EVERY):
            for col in range(0, side, BLOCK_PX * EVERY):
                height, width = min(BLOCK_PX, side - row), min(BLOCK_PX, side - col)
                steps = random.integers(-20, 21, (BANDS, height, width))
                # Random walks along the rows: as in imagery, neighbours differ little.
                pixels = np.clip(3000 + np.cumsum(steps, axis=2), 1, 10_000).astype(np.uint16)
                scene.write(pixels, window=Window(col, row, width, height))
    path.with_suffix(".geojson").write_text(json.dumps(label_halves(side)))
    part.replace(path)
    return path


def label_halves(side: int) -> dict[str, object]:
    """Return labels that cover the whole scene: one class in the west, one in the east."""
    left, top = ORIGIN
    bottom, middle, right = top - side * PIXEL, left + side * PIXEL / 2, left + side * PIXEL
    features = [
        {
            "type": "Feature",
            "properties": {"class": name},
            "geometry": {
                "type": "Polygon",
                "coordinates": [[[x0, top], [x1, top], [x1, bottom], [x0, bottom], [x0, top]]],
            },
        }
        for name, x0, x1 in (("west", left, middle), ("east", middle, right))
    ]
    crs = {"type": "name", "properties": {"name": f"urn:ogc:def:crs:{CRS.replace(':', '::')}"}}
    return {"type": "FeatureCollection", "crs": crs, "features": features}
