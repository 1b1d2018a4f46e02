"""How large the pixels of a data set are on the ground, so that maps are made at the same size."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import rasterio

from rsdl.raster.georef import pixel_sizes


class GroundSampling:
    """Collects the pixel sizes of a shard's source files."""

    def __init__(self) -> None:
        self._transforms: dict[str, dict[str, list[float]]] = {}

    def add(self, meta: Mapping[str, Any]) -> None:
        """Add a sample by its metadata; the first one of a source file counts."""
        if "crs" in meta and "transform" in meta:
            sources = self._transforms.setdefault(meta["crs"], {})
            sources.setdefault(str(meta.get("source")), meta["transform"])

    def sizes(self) -> tuple[float, ...]:
        """Return the side of a pixel of each source file in metres, sorted; see ``pixel_sizes``."""
        found: list[float] = []
        for crs, transforms in self._transforms.items():
            places = np.array(list(transforms.values()), np.float64)
            sizes = pixel_sizes(places, rasterio.CRS.from_user_input(crs))
            found += [] if sizes is None else sizes.tolist()
        return tuple(sorted(found))


def describe_ground_sampling(sizes: Iterable[float]) -> dict[str, Any]:
    """Return the provenance entry for pixel sizes in metres; none without any."""
    known = np.array(list(sizes))
    if not len(known):
        return {}
    low, middle, high = (float(f"{size:.6g}") for size in np.quantile(known, [0, 0.5, 1]))
    return {"gsd_m": {"min": low, "median": middle, "max": high}}
