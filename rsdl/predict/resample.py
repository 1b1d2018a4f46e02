"""The pixel size on the ground (GSD) that a network was trained on, and scenes at that size.

A network that has learned roofs of 40 pixels finds none in scenes where they have 10. Sizes that
differ by a tenth are within what training scenes themselves differ by, and what augmentation shows.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from rsdl.core.errors import ConfigError, DataError
from rsdl.raster.georef import pixel_sizes, scale, shift
from rsdl.raster.scenes import Scene
from rsdl.records.model_spec import ModelSpec

TOLERANCE = 1.1


@dataclass(frozen=True, slots=True)
class TrainingGsd:
    """Sides of the pixels of the training imagery on the ground, in metres.

    Attributes:
        low: The smallest.
        middle: The median, at which scenes are read that differ.
        high: The largest.
    """

    low: float
    middle: float
    high: float

    def holds(self, size: float) -> bool:
        """Return whether a pixel size is one of these, give or take a tenth."""
        return self.low / TOLERANCE <= size <= self.high * TOLERANCE

    def __str__(self) -> str:
        low, high = f"{self.low:.3g}", f"{self.high:.3g}"
        return f"{low} m" if low == high else f"{low} to {high} m"


def training_gsd(spec: ModelSpec, given: float | None) -> TrainingGsd | None:
    """Return the pixel size of a run's training imagery; ``None`` if nothing says it.

    Args:
        spec: What holds the provenance of the data set.
        given: What the user says, in metres.
    """
    if given is not None:
        return TrainingGsd(given, given, given)
    found = spec.provenance.get("gsd_m")
    if not isinstance(found, dict):
        return None
    sides = [found.get(name) for name in ("min", "median", "max")]
    known = [float(side) for side in sides if isinstance(side, int | float)]
    return TrainingGsd(*known) if len(known) == 3 else None


def fit(scenes: Sequence[Scene], gsd: TrainingGsd, *, resample: bool) -> tuple[Scene, ...]:
    """Return scenes at the pixel size of the training imagery.

    Args:
        scenes: Whole scenes.
        gsd: The pixel sizes that the run was trained on.
        resample: Whether scenes of another size are read at that size.

    Raises:
        DataError: If a scene has another size and is not to be resampled.
    """
    fitted = []
    for scene in scenes:
        size = pixel_size(scene)
        if size is None or gsd.holds(size):
            fitted.append(scene)
        elif resample:
            fitted.append(resampled(scene, gsd.middle / size))
        else:
            problem = f"has pixels of {size:.3g} m, the run was trained on {gsd}"
            remedy = f"pass --resample to map it at {gsd.middle:.3g} m"
            raise DataError(str(scene.path), problem, remedy)
    return tuple(fitted)


def pixel_size(scene: Scene) -> float | None:
    """Return the side of the pixel in a scene's centre in metres, ``None`` if it is nowhere."""
    if scene.crs is None:
        return None
    centre = shift(scene.transform, scene.height // 2, scene.width // 2)
    sizes = pixel_sizes(np.array([list(centre)[:6]]), scene.crs)
    return None if sizes is None or not sizes[0] > 0 else float(sizes[0])


def resampled(scene: Scene, factor: float) -> Scene:
    """Return a scene of larger or smaller pixels that covers the same ground.

    The grid begins and ends where the scene does, so that pixels are as large as ``factor`` says up
    to half a pixel over the whole side.

    Args:
        scene: A whole scene, as it is stored.
        factor: Side of the new pixels in stored ones.

    Raises:
        ConfigError: If it were more than a raster can hold.
    """
    height, width = (max(1, round(side / factor)) for side in (scene.height, scene.width))
    if max(height, width) >= 2**31:
        problem = f"would make {height} x {width} pixels of {scene.path}"
        raise ConfigError("--resample", problem, "check --gsd, in metres")
    down, across = scene.height / height, scene.width / width
    place = scale(scene.transform, across, down)
    return replace(scene, height=height, width=width, transform=place, scale=(down, across))
