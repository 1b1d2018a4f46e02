"""Imagery for the benchmarks: tiles cut from scenes, real or synthetic, in class folders of JPEGs.

The amount of detail decides the cost of decoding, so tiles come from scenes with the texture of
land use and not from noise or flat colours. Labels are arbitrary.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import rasterio
import simplejpeg
from numpy.typing import NDArray

from rsdl.data.kinds import SUFFIXES
from rsdl.data.sources.synthetic import draw_parcels, paint_scene

NUM_CLASSES = 10
NUM_SCENES = 4
SCENE_PX = 1024
JPEG_QUALITY = 90
DONE = "complete"


def list_images(folder: Path) -> list[Path]:
    """Return the images of a tree of class folders, ordered by name."""
    return sorted(path for path in folder.glob("*/*") if path.suffix.lower() in SUFFIXES)


def cut_images(
    folder: Path, *, size: int, count: int, scenes: Path | None = None, seed: int = 0
) -> Path:
    """Write ``count`` tiles of ``size`` x ``size`` pixels as JPEGs, unless they exist already.

    Args:
        folder: Where to make the tree.
        size: Side of a tile in pixels.
        count: Number of tiles.
        scenes: Folder of RGB uint8 GeoTIFFs to cut from; ``None`` makes synthetic scenes.
        seed: Random seed.

    Returns:
        The tree of class folders.
    """
    tree = folder / f"tiles-{size}px-{count}"
    mark = tree.with_suffix("." + DONE)
    if mark.exists():
        return tree
    pictures = list(read_scenes(scenes, size) if scenes else paint_scenes(folder, seed))
    random = np.random.default_rng(seed)
    for number in range(count):
        picture = pictures[number % len(pictures)]
        top, left = (int(random.integers(side - size + 1)) for side in picture.shape[:2])
        tile = np.ascontiguousarray(picture[top : top + size, left : left + size])
        place = tree / f"class{number % NUM_CLASSES}"
        place.mkdir(parents=True, exist_ok=True)
        image = simplejpeg.encode_jpeg(
            tile, quality=JPEG_QUALITY, colorspace="RGB", colorsubsampling="420"
        )
        (place / f"tile{number:05}.jpg").write_bytes(image)
    mark.touch()
    return tree


def read_scenes(folder: Path, size: int) -> Iterator[NDArray[np.uint8]]:
    """Yield the first three bands of every uint8 GeoTIFF that is large enough for a tile.

    Raises:
        FileNotFoundError: If there is none.
    """
    found = False
    for path in sorted(folder.glob("*.tif")):
        with rasterio.open(path) as scene:
            if scene.count < 3 or scene.dtypes[0] != "uint8" or min(scene.shape) < size:
                continue
            found = True
            yield np.ascontiguousarray(np.moveaxis(scene.read((1, 2, 3)), 0, 2))
    if not found:
        raise FileNotFoundError(f"no RGB uint8 GeoTIFF of {size} px or more in {folder}")


def paint_scenes(folder: Path, seed: int) -> Iterator[NDArray[np.uint8]]:
    """Yield synthetic scenes, cached in ``folder``: each takes some seconds to make."""
    for number in range(NUM_SCENES):
        path = folder / f"painted-{seed}-{number}.npy"
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            random = np.random.default_rng((seed, number))
            pixels = paint_scene(draw_parcels(SCENE_PX, random), SCENE_PX, 0.6, random)
            part = path.with_suffix(".part.npy")
            np.save(part, pixels)
            part.replace(path)
        yield np.load(path)
