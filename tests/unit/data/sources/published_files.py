"""Small files in the arrangement of a published segmentation set."""

import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.transform import Affine

from rsdl.data.sample import Sample
from rsdl.data.sources.mask_folder import MaskSource
from rsdl.data.sources.published import PublishedChoice
from rsdl.data.sources.published_masks import prepare_masks
from rsdl.data.sources.segmentation_catalog import SEGMENTATION_DATASETS

SIDE = 16
WHOLE = PublishedChoice(tile=0)


def write(path: Path, pixels: NDArray[Any]) -> Path:
    """Write pixels [H, W] or [H, W, C]; a TIFF of more than three bands is georeferenced."""
    path.parent.mkdir(parents=True, exist_ok=True)
    bands = pixels[..., None] if pixels.ndim == 2 else pixels
    if path.suffix != ".tif" or bands.shape[2] <= 3:
        assert cv2.imwrite(str(path), bands[..., ::-1])
        return path
    with rasterio.open(
        path, "w", driver="GTiff", width=bands.shape[1], height=bands.shape[0],
        count=bands.shape[2], dtype=bands.dtype, crs="EPSG:32633",
        transform=Affine(10, 0, 0, 0, -10, 0),
    ) as file:  # fmt: skip
        file.write(np.moveaxis(bands, 2, 0))
    return path


def image(number: int = 0, bands: int = 3, side: int = SIDE) -> NDArray[np.uint8]:
    """Return noise [side, side, bands] without 0 and 255."""
    return np.random.default_rng(number).integers(1, 255, (side, side, bands), np.uint8)


def flat(value: int | tuple[int, int, int], side: int = SIDE) -> NDArray[np.uint8]:
    """Return a mask of one value or colour."""
    shape = (side, side) if isinstance(value, int) else (side, side, 3)
    return np.full(shape, value, np.uint8)


def striped(values: list[Any]) -> NDArray[np.uint8]:
    """Return a mask whose rows take the values or colours in turn."""
    rows = np.array([values[row % len(values)] for row in range(SIDE)], np.uint8)
    return np.repeat(rows[:, None], SIDE, axis=1)


def prepare(name: str, origin: Path | None, choice: PublishedChoice = WHOLE) -> MaskSource:
    """Return a set as a source, whole images unless ``choice`` says otherwise."""
    work = (origin or Path.cwd()).parent / "work"
    return prepare_masks(SEGMENTATION_DATASETS[name], choice, origin=origin, work=work)


def keys_of(source: MaskSource) -> dict[str, list[str]]:
    """Return the keys of the images of each split, without those of empty splits."""
    found: dict[str, list[str]] = {}
    for plan in source.shards(10**9):
        found.setdefault(plan.split, []).extend(item.file.key for item in plan.items)
    return {split: sorted(keys) for split, keys in found.items() if keys}


def samples_of(source: MaskSource) -> dict[str, Sample]:
    """Return the samples by key."""
    read = [source.read(item) for plan in source.shards(10**9) for item in plan.items]
    return {sample.key: sample for sample in read if isinstance(sample, Sample)}


def zip_tree(root: Path, path: Path) -> Path:
    """Write the files below a folder into a ZIP archive."""
    with zipfile.ZipFile(path, "w") as pack:
        for file in sorted(root.rglob("*")):
            pack.write(file, file.relative_to(root))
    return path
