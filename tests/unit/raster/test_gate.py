"""What every sample must pass, through class folders and foreign shards; scenes: test_geotiff."""

import io
import tarfile
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import simplejpeg
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from rsdl.core.errors import ConfigError, CorruptSampleError, DataError, RsdlError
from rsdl.data.decode import decode_image
from rsdl.data.manifest import Manifest
from rsdl.data.packing.index_shards import index_shards
from rsdl.data.packing.pack import PackOptions, pack
from rsdl.data.packing.verify import check_dataset
from rsdl.data.read_picture import check_jpeg, read_picture
from rsdl.data.sources.folder import FolderSource
from rsdl.raster.headers import jpeg_header
from rsdl.raster.picture import PictureRules
from rsdl.storage.connect import connect

RANDOM = np.random.default_rng(3)
PLACE = rasterio.Affine(10, 0, 500_000, 0, -10, 5_000_000)


def noise(*shape: int, dtype: str = "uint8") -> np.ndarray:
    return RANDOM.integers(1, 250, shape).astype(dtype)


def tiff(pixels: np.ndarray, **options: Any) -> bytes:  # noqa: ANN401
    """Return pixels ``[C, H, W]`` as a GeoTIFF."""
    scales, offsets = options.pop("scales", None), options.pop("offsets", None)
    names = options.pop("names", None)
    bands, height, width = pixels.shape
    with rasterio.MemoryFile() as memory:
        with memory.open(
            driver="GTiff", count=bands, height=height, width=width, dtype=pixels.dtype,
            crs="EPSG:32633", transform=PLACE, **options,
        ) as target:  # fmt: skip
            target.write(pixels)
            if names is not None:
                target.descriptions = names
            if scales is not None:
                target.scales, target.offsets = scales, offsets
        return bytes(memory.read())


def npy(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, pixels)
    return stream.getvalue()


def pil(image: Image.Image, kind: str, **options: Any) -> bytes:  # noqa: ANN401
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def jpeg(pixels: np.ndarray | None = None) -> bytes:
    pixels = noise(8, 8, 3) if pixels is None else pixels
    return bytes(simplejpeg.encode_jpeg(pixels, quality=95, colorspace="RGB"))


def turned(orientation: int, kind: str = "JPEG") -> bytes:
    exif = Image.Exif()
    exif[274] = orientation
    return pil(Image.fromarray(np.kron(noise(2, 3, 3), np.ones((8, 8, 1), "u1"))), kind, exif=exif)


def write_tree(root: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def pack_tree(
    tmp_path: Path,
    files: dict[str, bytes],
    on_corrupt: str = "error",
    **rules: Any,  # noqa: ANN401
) -> tuple[Manifest, dict[str, np.ndarray]]:
    """Pack files as a class folder; return the manifest and the pixels by stem."""
    root = write_tree(tmp_path / "tree", {f"{name}": data for name, data in files.items()})
    out = tmp_path / "out"
    source = FolderSource(root, fractions=(1, 0, 0), rules=PictureRules(**rules))
    manifest = pack(source, connect(str(out)), PackOptions(on_corrupt=on_corrupt, num_workers=1))
    found = {}
    for split in manifest.splits.values():
        for shard in split.shards:
            with tarfile.open(out / shard.name) as tar:
                for member in tar:
                    key, _, kind = member.name.partition(".")
                    if kind in ("jpg", "png", "tif", "npy"):
                        data = tar.extractfile(member)
                        assert data is not None
                        bands = len(manifest.bands)
                        found[key.partition("_")[2]] = decode_image(data.read(), kind, key, bands)
    assert check_dataset(connect(str(out))).problems == []
    return manifest, found


@pytest.mark.parametrize("kind", ["tif", "npy"])
def test_nan_without_a_tag_is_filled_and_all_nan_is_named(tmp_path: Path, kind: str):
    def encode(pixels: np.ndarray) -> bytes:
        return tiff(pixels) if kind == "tif" else npy(np.moveaxis(pixels, 0, 2))

    pixels = noise(4, 8, 8, dtype="float32")
    holed = pixels.copy()
    holed[:, :2, :2] = np.nan
    holed[1, 5, 5] = np.inf
    files = {f"a/x.{kind}": encode(holed), f"b/y.{kind}": encode(pixels)}
    manifest, found = pack_tree(tmp_path / "1", files)
    assert np.isfinite([*manifest.mean, *manifest.std]).all()
    assert np.isfinite(found["x"]).all()
    np.testing.assert_array_equal(found["y"], np.moveaxis(pixels, 0, 2))
    files[f"a/z.{kind}"] = encode(np.full_like(pixels, np.nan))
    with pytest.raises(CorruptSampleError, match=rf"a/z\.{kind}: holds no data.*on-corrupt skip"):
        pack_tree(tmp_path / "2", files)
    manifest, found = pack_tree(tmp_path / "3", files, on_corrupt="skip")
    assert set(found) == {"x", "y"}
    assert manifest.provenance["num_skipped"] == 1


def test_what_needs_nothing_is_stored_as_it_came(tmp_path: Path):
    files = {
        "a/x.tif": tiff(noise(3, 8, 8), nodata=0),
        "b/y.tif": tiff(noise(3, 8, 8), compress="lzw"),
    }
    root = write_tree(tmp_path, files)
    source = FolderSource(root, fractions=(1, 0, 0))
    for plan in source.shards(1 << 20):
        for item in plan.items:
            assert source.read(item).image == files[item.path]


def test_bands_in_another_order_are_refused_and_can_be_chosen(tmp_path: Path):
    rgb, bgr = noise(3, 6, 6), noise(3, 6, 6)
    files = {
        "a/x.tif": tiff(rgb, names=("red", "green", "blue")),
        "b/y.tif": tiff(bgr, names=("blue", "green", "red")),
    }
    with pytest.raises(DataError, match=r'\.tif: band 1 is "(blue|red)" here and "(red|blue)" in'):
        pack_tree(tmp_path / "1", files)
    manifest, found = pack_tree(tmp_path / "2", files, bands=("red", "blue"))
    assert manifest.bands == ("red", "blue")
    np.testing.assert_array_equal(found["x"], np.moveaxis(rgb[[0, 2]], 0, 2))
    np.testing.assert_array_equal(found["y"], np.moveaxis(bgr[[2, 0]], 0, 2))


def test_scales_that_differ_are_refused_or_applied(tmp_path: Path):
    files = {
        f"{name}/{name}.tif": tiff(
            np.full((1, 6, 6), number, np.uint16), scales=(1e-4,), offsets=(offset,)
        )
        for name, number, offset in (("a", 1200, 0.0), ("b", 2200, -0.1))
    }
    with pytest.raises(DataError, match=r"b\.tif: has scale 0\.0001 and offset -0\.1, not scale"):
        pack_tree(tmp_path / "1", files)
    manifest, found = pack_tree(tmp_path / "2", files, unscale=True)
    assert manifest.dtype == "float32"
    for pixels in found.values():
        np.testing.assert_allclose(pixels, 0.12, atol=1e-6)


@pytest.mark.parametrize("kind", ["png", "tif"])
def test_a_palette_of_classes_is_no_picture(tmp_path: Path, kind: str):
    classes = noise(8, 8) % 5
    if kind == "png":
        image = Image.fromarray(classes).convert("P")
        image.putpalette([number * 40 % 256 for number in range(5) for _ in range(3)])
        data = pil(image, "PNG")
    else:
        with rasterio.MemoryFile() as memory:
            with memory.open(
                driver="GTiff", count=1, height=8, width=8, dtype="uint8", photometric="palette"
            ) as target:
                target.write(classes[None])
                target.write_colormap(1, {n: (n * 40, 9, 9, 255) for n in range(5)})
            data = bytes(memory.read())
    with pytest.raises(DataError, match=r"palette of \d+ colours, as a map of classes"):
        pack_tree(tmp_path, {f"a/x.{kind}": data, f"b/y.{kind}": data})


def test_cmyk_is_refused(tmp_path: Path):
    data = pil(Image.fromarray(noise(8, 8, 4), "CMYK"), "JPEG")
    with pytest.raises(DataError, match=r"x\.jpg: has CMYK colours"):
        pack_tree(tmp_path, {"a/x.jpg": data, "b/y.jpg": jpeg()})


def test_pages_are_refused_or_taken_as_bands(tmp_path: Path):
    pixels = noise(4, 9, 9)
    pages = [Image.fromarray(page) for page in pixels]
    data = pil(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    files = {"a/x.tif": data, "b/y.tif": data}
    with pytest.raises(DataError, match=r"has 4 pages and shows only the first.*--axes PAGES"):
        pack_tree(tmp_path / "1", files)
    manifest, found = pack_tree(tmp_path / "2", files, axes="PAGES")
    assert len(manifest.bands) == 4
    np.testing.assert_array_equal(found["x"], np.moveaxis(pixels, 0, 2))


def test_arrays_with_bands_first_are_refused_or_turned(tmp_path: Path):
    pixels = noise(4, 16, 20)
    files = {"a/x.npy": npy(pixels), "b/y.npy": npy(pixels)}
    with pytest.raises(DataError, match=r"has shape \(4, 16, 20\), which looks like bands first"):
        pack_tree(tmp_path / "1", files)
    manifest, found = pack_tree(tmp_path / "2", files, axes="CHW")
    assert len(manifest.bands) == 4
    np.testing.assert_array_equal(found["x"], np.moveaxis(pixels, 0, 2))


def test_other_image_formats_are_read_and_stored_without_loss(tmp_path: Path):
    pixels = noise(16, 16, 3)
    image = Image.fromarray(pixels)
    files = {
        "a/bmp.bmp": pil(image, "BMP"),
        "a/webp.webp": pil(image, "WEBP", lossless=True),
        "a/jp2.jp2": pil(image, "JPEG2000"),
        "b/jfif.jfif": jpeg(pixels),
    }
    _, found = pack_tree(tmp_path, files)
    assert set(found) == {"bmp", "webp", "jp2", "jfif"}
    for name in ("bmp", "webp", "jp2"):
        np.testing.assert_array_equal(found[name], pixels, err_msg=name)


@pytest.mark.parametrize(
    "odd",
    [
        lambda: ("jpg", turned(6)),
        lambda: ("tif", tiff(np.pad(noise(3, 6, 6), ((0, 0), (2, 0), (0, 0))), nodata=0)),
        lambda: ("png", pil(Image.fromarray(noise(8, 8, 4) // 128 * 255), "PNG")),
    ],
)
def test_foreign_shards_with_what_must_be_changed_are_refused_or_left_out(
    tmp_path: Path, odd: Callable[[], tuple[str, bytes]]
):
    kind, data = odd()
    plain = pil(Image.fromarray(noise(8, 8, 3)), "PNG")
    images = [("s0", "png", plain), ("s1", kind, data), ("s2", "jpg", jpeg())]
    with tarfile.open(tmp_path / "train-0.tar", "w") as tar:
        for key, suffix, content in images:
            for name, member in (
                (f"{key}.{suffix}", content),
                (f"{key}.cls", b"1" if key == "s2" else b"0"),
            ):
                info = tarfile.TarInfo(name)
                info.size = len(member)
                tar.addfile(info, io.BytesIO(member))
    store = connect(str(tmp_path))
    with pytest.raises(DataError, match=r"train-0\.tar:s1: .*--on-corrupt skip"):
        index_shards(store)
    manifest = index_shards(store, on_corrupt="skip")
    assert manifest.splits["train"].samples == 2
    assert manifest.provenance["num_skipped"] == 1
    assert check_dataset(store).problems == []


def test_a_nodata_that_no_image_can_hold_is_refused(tmp_path: Path):
    root = write_tree(tmp_path / "src", {"a/0.tif": tiff(noise(3, 8, 8))})
    with pytest.raises(ConfigError, match="--nodata: is 300, which no pixel of uint8 can hold"):
        FolderSource(root, rules=PictureRules(nodata=300))


def test_masks_beside_a_file_count(tmp_path: Path):
    pixels = noise(1, 6, 6, dtype="uint16")
    pixels[:, :2] = 60_000
    root = write_tree(tmp_path / "tree", {f"{n}/{n}.tif": tiff(pixels) for n in "ab"})
    mask = np.full((6, 6), 255, np.uint8)
    mask[:2] = 0
    for name in "ab":
        path = root / name / f"{name}.tif"
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(path, "r+") as target:
            target.write_mask(mask)
        assert (root / name / f"{name}.tif.msk").exists()
    source = FolderSource(root, fractions=(1, 0, 0))
    for plan in source.shards(1 << 20):
        for item in plan.items:
            sample = source.read(item)
            assert sample.pixels is not None
            assert sample.pixels.max() < 250
            assert not decode_image(sample.image, "tif", "").max() > 250


def test_what_bands_mean_is_compared_even_where_the_first_file_does_not_say(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    names = {"a": None, "b": ("red", "green", "blue"), "c": ("blue", "green", "red")}
    files = {f"{n}/{n}.tif": tiff(noise(3, 6, 6), names=names[n]) for n in "abc"}
    with pytest.raises(DataError, match=r'\.tif: band 1 is "\w+" here and "\w+" in'):
        pack_tree(tmp_path / "1", files, on_corrupt="skip")
    files.pop("c/c.tif")
    pack_tree(tmp_path / "2", files)
    assert "does not describe its bands" in caplog.text


def test_choosing_bands_does_not_hide_another_offset(tmp_path: Path):
    files = {
        f"{n}/{n}.tif": tiff(
            np.full((2, 6, 6), 1200, np.uint16), names=("red", "nir"), scales=(1e-4,) * 2,
            offsets=(offset,) * 2,
        )
        for n, offset in (("a", 0.0), ("b", -0.1))
    }  # fmt: skip
    with pytest.raises(DataError, match=r"has scale 0\.0001 and offset"):
        pack_tree(tmp_path, files, bands=("nir",))


@pytest.mark.parametrize(
    "shape", [(13, 32, 32), (10, 32, 32), (18, 64, 64), (6, 20, 20), (3, 16, 16)]
)
def test_arrays_whose_axes_may_mean_two_things_are_refused(shape: tuple[int, ...]):
    with pytest.raises(CorruptSampleError, match="looks like bands first"):
        read_picture(npy(noise(*shape)), "npy", "x")
    assert (
        read_picture(npy(noise(*shape)), "npy", "x", PictureRules(axes="HWC")).pixels.shape == shape
    )
    bands, height, width = shape
    assert read_picture(npy(noise(height, width, bands)), "npy", "x").pixels.shape[2] == bands


def test_foreign_shards_must_agree_in_what_bands_mean(tmp_path: Path):
    with tarfile.open(tmp_path / "train-0.tar", "w") as tar:
        for key, names in (("s0", ("red", "green")), ("s1", ("green", "red"))):
            data = tiff(noise(2, 8, 8), names=names)
            for name, member in ((f"{key}.tif", data), (f"{key}.cls", key[1:].encode())):
                info = tarfile.TarInfo(name)
                info.size = len(member)
                tar.addfile(info, io.BytesIO(member))
    with pytest.raises(DataError, match=r's1: band 1 is "green" here and "red" in'):
        index_shards(connect(str(tmp_path)), on_corrupt="skip")


def test_jpegs_of_12_bits_are_refused_without_decoding():
    data = bytearray(jpeg())
    frame = data.index(b"\xff\xc0") if b"\xff\xc0" in data else data.index(b"\xff\xc2")
    assert jpeg_header(bytes(data)).precision == 8
    data[frame + 4] = 12
    assert jpeg_header(bytes(data)).precision == 12
    with pytest.raises(CorruptSampleError, match="has 12 bits a sample"):
        check_jpeg(bytes(data), "x", "YCBCR")


def test_palettes_keep_their_nodata_and_webp_its_orientation():
    values = noise(8, 8)
    values[0] = 0
    with rasterio.MemoryFile() as memory:
        with memory.open(
            driver="GTiff", count=1, height=8, width=8, dtype="uint8", nodata=0,
            photometric="palette",
        ) as target:  # fmt: skip
            target.write(values[None])
            target.write_colormap(1, {n: (n, 255 - n, 9, 255) for n in range(256)})
        found = read_picture(bytes(memory.read()), "tif", "x")
    assert found.present is not None
    np.testing.assert_array_equal(found.present[..., 0], values > 0)
    np.testing.assert_array_equal(found.pixels[..., 0], values)
    exif = Image.Exif()
    exif[274] = 6
    data = pil(Image.fromarray(noise(16, 24, 3)), "WEBP", exif=exif, lossless=True)
    assert read_picture(data, "webp", "x").pixels.shape == (24, 16, 3)


def png_claiming(side: int) -> bytes:
    data = bytearray(pil(Image.fromarray(noise(8, 8, 3)), "PNG"))
    data[16:24] = side.to_bytes(4) * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4)
    return bytes(data)


def tiff_claiming(side: int) -> bytes:
    with rasterio.MemoryFile() as memory:
        with memory.open(
            driver="GTiff", count=3, height=side, width=side, dtype="uint8", sparse_ok=True,
            tiled=True, blockxsize=4096, blockysize=4096,
        ):  # fmt: skip
            pass
        return bytes(memory.read())


def jpeg_claiming(side: int) -> bytes:
    data = bytearray(jpeg())
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = side.to_bytes(2) * 2
    return bytes(data)


@pytest.mark.parametrize(
    ("kind", "make"), [("png", png_claiming), ("tif", tiff_claiming), ("jpg", jpeg_claiming)]
)
def test_what_claims_to_be_huge_is_refused_before_memory_is_taken(
    kind: str, make: Callable[[int], bytes]
):
    data = make(30_000)
    for read in (read_picture, decode_image):
        tracemalloc.start()
        with pytest.raises(CorruptSampleError, match="claims 30000 x 30000 pixels"):
            read(data, kind, "x")
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
        tracemalloc.stop()


@given(st.binary(max_size=300), st.sampled_from(["jpg", "png", "tif", "npy", "bmp", "webp", "jp2"]))
def test_any_bytes_are_read_or_refused_in_one_line(data: bytes, kind: str):
    marks = {"jpg": b"\xff\xd8\xff", "png": b"\x89PNG\r\n\x1a\n", "tif": b"II*\x00", "bmp": b"BM"}
    for content in (data, marks.get(kind, b"") + data):
        try:
            read_picture(content, kind, "x")
        except RsdlError as error:
            assert "\n" not in str(error)
