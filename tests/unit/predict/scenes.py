"""Draws small scenes, and the networks that tests predict them with."""

from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.transform import Affine

from rsdl.predict.scene import Network, WindowRule, predict_scene
from rsdl.predict.windows import Floats
from rsdl.predict.writers import class_layer, to_classes, write_cog
from rsdl.raster.scenes import Scene, SceneRules, describe_scenes

PLACE = Affine(0.5, 0, 390_000, 0, -0.5, 5_700_000)
NUM_CLASSES = 3


def draw_scene(
    path: Path,
    size: tuple[int, int] = (45, 70),
    *,
    transform: Affine = PLACE,
    crs: str = "EPSG:32633",
    **profile: Any,  # noqa: ANN401 - of rasterio
) -> NDArray[np.uint8]:
    """Write a scene of random pixels from 1 to 255, and return them, ``[3, H, W]``."""
    pixels = np.random.default_rng(1).integers(1, 256, (3, *size), np.uint8)
    if (hole := profile.pop("hole", None)) is not None:
        pixels[:, hole[0], hole[1]] = 0
    with rasterio.open(
        path, "w", driver="GTiff", dtype="uint8", count=3, height=size[0], width=size[1],
        crs=crs, transform=transform, photometric="RGB", **profile,
    ) as raster:  # fmt: skip
        raster.write(pixels)
    return pixels


def describe(path: Path) -> Scene:
    return describe_scenes([path], SceneRules())[0]


def by_pixel(windows: NDArray[Any]) -> Floats:
    """Return softmax of a 1 x 1 convolution: what a pixel gets depends on it alone."""
    weights = np.array([[1, -1, 0.5], [-0.5, 1, -1], [0.2, 0.1, 0.3]], np.float32)
    raised = np.exp(windows.astype(np.float32) / 128 @ weights.T)  # [B, H, W, K]
    return np.moveaxis(raised / raised.sum(axis=3, keepdims=True), 3, 1)


def by_place(windows: NDArray[Any]) -> Floats:
    """Return probabilities that differ over each window, and from window to window."""
    size = windows.shape[1:3]
    ramp = np.linspace(0, 4, size[0] * size[1], dtype=np.float32).reshape(size)
    logits = np.stack([ramp, ramp[::-1], np.full_like(ramp, 2)])[None]
    raised = np.exp(logits * windows.mean((1, 2, 3), np.float32)[:, None, None, None] / 128)
    return raised / raised.sum(axis=1, keepdims=True)


def predict(
    scene: Scene, network: Network, rule: WindowRule, batch_size: int = 4
) -> tuple[Floats, NDArray[np.bool_]]:
    """Return the merged probabilities of a scene and where it has data."""
    tops: list[int] = []
    parts: list[tuple[Floats, NDArray[np.bool_]]] = []

    def write(top: int, shares: Floats, valid: NDArray[np.bool_]) -> None:
        tops.append(top)
        parts.append((shares, valid))

    predict_scene(scene, network, rule, write, num_classes=NUM_CLASSES, batch_size=batch_size)
    ends = np.cumsum([len(valid) for _, valid in parts])
    assert tops == [0, *ends[:-1]]
    shares, valid = zip(*parts, strict=True)
    return np.concatenate(shares, axis=1), np.concatenate(valid)


def write_map(scene: Scene, network: Network, rule: WindowRule, part: Path) -> NDArray[np.uint8]:
    """Write the map of a scene, and return its pixels."""
    with write_cog(part, scene, class_layer(("a", "b", "c"), {})) as write:
        predict_scene(
            scene, network, rule,
            lambda top, shares, valid: write(top, to_classes(shares, valid)),
            num_classes=NUM_CLASSES, batch_size=4,
        )  # fmt: skip
    with rasterio.open(part) as raster:
        pixels: NDArray[np.uint8] = raster.read(1)
    return pixels
