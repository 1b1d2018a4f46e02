"""Tiles are what a plain read of the whole scene, cut with NumPy, gives."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st

from rsdl.data.sample import Sample
from rsdl.data.sources.geotiff import GeotiffSource
from rsdl.data.sources.geotiff_options import GeotiffOptions
from rsdl.raster.georef import apply, bounding_box, outline, shift
from rsdl.raster.tiles import tile_corners

PLACE = rasterio.Affine(0.3, 0, 500_000, 0, -0.3, 4_500_000)


@st.composite
def cuts(draw: st.DrawFn) -> dict[str, Any]:
    """Return a scene and how it is cut."""
    tile = draw(st.integers(5, 20))
    return {
        "shape": (
            draw(st.integers(1, 6)),
            draw(st.integers(tile, tile + 40)),
            draw(st.integers(tile, tile + 40)),
        ),
        "dtype": draw(st.sampled_from(["uint8", "uint16", "float32"])),
        "tile": tile,
        "overlap": draw(st.integers(0, tile // 2)),
        "nodata": draw(st.sampled_from([None, 0, 3])),
        "mask": draw(st.booleans()),
        "holes": draw(st.booleans()),
        "tile_format": draw(st.sampled_from(["npy", "npy", "tif"])),
        "interleave": draw(st.sampled_from(["pixel", "band"])),
        "seed": draw(st.integers(0, 99)),
    }


def write_scene(path: Path, cut: dict[str, Any]) -> np.ndarray:
    """Write the scene, in blocks that no tile is aligned with; return its pixels ``[C, H, W]``."""
    random = np.random.default_rng(cut["seed"])
    pixels = random.integers(0, 6, cut["shape"]).astype(cut["dtype"])
    if cut["holes"] and cut["dtype"] == "float32":
        pixels[random.random(pixels.shape) < 0.1] = random.choice([np.nan, np.inf, -np.inf])
    bands, height, width = pixels.shape
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(
            path, "w", driver="GTiff", count=bands, height=height, width=width, crs="EPSG:32618",
            dtype=pixels.dtype, transform=PLACE, tiled=True, blockxsize=16, blockysize=16,
            compress="deflate", interleave=cut["interleave"], photometric="MINISBLACK", alpha="NO",
            nodata=cut["nodata"],
        ) as scene,
    ):  # fmt: skip
        scene.write(pixels)
        if cut["mask"]:
            scene.write_mask(random.random((height, width)) < 0.8)
    return pixels


def cut_plainly(
    pixels: np.ndarray, masks: np.ndarray, cut: dict[str, Any]
) -> tuple[np.ndarray, np.ndarray]:
    """Return a tile ``[H, W, C]`` with holes filled, and where it has data, in the plainest way."""
    dark_zero = cut["nodata"] == 0 and cut["dtype"] != "float32"
    present = (masks > 0) & np.isfinite(pixels)
    valid = present.any(axis=0) if dark_zero else present.all(axis=0)
    filled = pixels.copy()
    for band, here in zip(filled, present, strict=True):
        missing = ~valid if dark_zero else ~here
        mean = float(band[~missing].mean(dtype=np.float64)) if not missing.all() else 0.0
        band[missing] = mean if cut["dtype"] == "float32" else round(mean)
    return np.moveaxis(filled, 0, 2), valid


@settings(deadline=None, max_examples=60)
@given(cuts())
def test_tiles_are_cut_as_plainly_as_can_be(
    tmp_path_factory: pytest.TempPathFactory, cut: dict[str, Any]
):
    folder = tmp_path_factory.mktemp("cut")
    pixels = write_scene(folder / "a.tif", cut)
    with rasterio.open(folder / "a.tif") as scene:
        masks = scene.read_masks()
    labels = folder / "labels.geojson"
    labels.write_text(json.dumps(everywhere()))
    tile = cut["tile"]
    source = GeotiffSource(
        GeotiffOptions(
            scenes=(str(folder / "a.tif"),), labels=str(labels), tile=tile, max_nodata=1,
            overlap=cut["overlap"], tile_format=cut["tile_format"], fractions=(1.0, 0.0, 0.0),
        )
    )  # fmt: skip
    items = [item for plan in source.shards(1 << 20) for item in plan.items]
    corners = tile_corners(*pixels.shape[1:], tile=tile, overlap=cut["overlap"])
    assert [(item.row, item.col) for item in items] == corners
    for item, (row, col) in zip(items, corners, strict=True):
        window = (slice(None), slice(row, row + tile), slice(col, col + tile))
        wanted, valid = cut_plainly(pixels[window], masks[window], cut)
        sample = source.read(item)
        if not valid.any():
            assert isinstance(sample, str)
            continue
        assert isinstance(sample, Sample)
        assert sample.pixels is not None
        np.testing.assert_array_equal(sample.pixels, wanted)
        assert sample.pixels.flags.c_contiguous
        got = np.ones_like(valid) if sample.valid is None else sample.valid
        np.testing.assert_array_equal(got, valid)
        place = shift(PLACE, row, col)
        assert sample.meta == {
            "class": "land",
            "source": "a.tif",
            "row": row,
            "col": col,
            "crs": "EPSG:32618",
            "transform": list(place)[:6],
            "bounds": bounding_box(apply(place, outline(tile, tile, 1))).tolist(),
        }
        check_image(sample.image, wanted, place, cut["tile_format"])


def everywhere() -> dict[str, Any]:
    """Return one polygon that holds every scene here."""
    ring = [[4e5, 4e6], [6e5, 4e6], [6e5, 5e6], [4e5, 5e6], [4e5, 4e6]]
    geometry = {"type": "Polygon", "coordinates": [ring]}
    feature = {"type": "Feature", "properties": {"class": "land"}, "geometry": geometry}
    crs = {"type": "name", "properties": {"name": "EPSG:32618"}}
    return {"type": "FeatureCollection", "features": [feature], "crs": crs}


def check_image(image: bytes, wanted: np.ndarray, place: rasterio.Affine, form: str) -> None:
    """Compare an encoded tile with its pixels, and a GeoTIFF with its place too."""
    if form == "npy":
        stream = io.BytesIO()
        np.save(stream, np.ascontiguousarray(wanted))
        assert image == stream.getvalue()
        return
    with rasterio.MemoryFile(image) as memory, memory.open() as tile:
        np.testing.assert_array_equal(np.moveaxis(tile.read(), 0, 2), wanted)
        assert tile.crs == rasterio.CRS.from_epsg(32618)
        np.testing.assert_allclose(list(tile.transform), list(place), rtol=1e-12)
