"""Scenes on a web server are read by range: as those of this machine, and little of them."""

import json
import traceback
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from rasterio.warp import transform_bounds

from rsdl.core.errors import DataError, StorageError
from rsdl.predict.area import parse_box
from rsdl.predict.find import find_files
from rsdl.predict.folder import MapFolder
from rsdl.predict.pictures import read_picture, scene_grid
from rsdl.predict.scene import WindowRule
from rsdl.raster.dataset_pool import DatasetPool
from rsdl.raster.files import make_slugs, relative_names
from rsdl.raster.read_tile import read_window
from rsdl.raster.remote import RasterFile, RemoteFile, is_inside, open_bytes
from rsdl.raster.scenes import SceneRules, describe_scenes, fingerprint_ends
from rsdl.storage.connect import connect
from tests.range_server import RangeServer, serve_ranges
from tests.unit.predict.scenes import by_pixel, draw_scene, predict

RULE = WindowRule((64, 64), overlap=16, blend=True)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RangeServer]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("GDAL_HTTP_MAX_RETRY", "0")
    (tmp_path / "served").mkdir()
    with serve_ranges(tmp_path / "served") as running:
        yield running


def test_a_corner_of_a_large_cog_costs_its_tiles_and_two_ends(server: RangeServer, tmp_path: Path):
    draw_scene(tmp_path / "plain.tif", (3072, 3072))
    cog = server.folder / "cog.tif"
    rasterio.shutil.copy(tmp_path / "plain.tif", cog, driver="COG", COMPRESS="NONE")
    size = cog.stat().st_size
    with rasterio.open(cog) as source:
        left, top, crs = source.bounds.left, source.bounds.top, source.crs
    box = (left, top - 50, left + 50, top)  # 100 of 3072 px
    text = ",".join(map(str, transform_bounds(crs, "EPSG:4326", *box)))
    (file,) = find_files([f"{server.url}/cog.tif"])
    (clipped,) = parse_box(text).clip(describe_scenes([file], SceneRules()))
    shares, valid = predict(clipped, by_pixel, RULE)
    fingerprint_ends(file)
    assert valid.any()
    assert size > 28 << 20
    # Two ends of a MiB, two tiles of 512 x 512 x 3 bytes, headers, and what GDAL reads ahead.
    assert server.sent < size / 6
    assert max(request.sent for request in server.requests) < size / 10
    (whole,) = describe_scenes([cog], SceneRules())
    expected, there = predict(parse_box(text).clip([whole])[0], by_pixel, RULE)
    np.testing.assert_array_equal(valid, there)
    np.testing.assert_array_equal(shares, expected)


def test_a_scene_is_known_again_wherever_it_lies(server: RangeServer, tmp_path: Path):
    for name, size in (("small.tif", (45, 70)), ("large.tif", (1500, 1500))):
        draw_scene(server.folder / name, size)
        remote = fingerprint_ends(RemoteFile(f"{server.url}/{name}?sig=1"))
        assert remote == fingerprint_ends(server.folder / name)
    assert server.sent < 4 << 20  # of 6.8 MB


def test_named_bands_of_a_remote_vrt_are_found(server: RangeServer):
    pixels = draw_scene(server.folder / "a.tif")
    vrt = server.folder / "a.vrt"
    rasterio.shutil.copy(server.folder / "a.tif", vrt, driver="VRT")
    text = vrt.read_text().replace(str(server.folder / "a.tif"), "a.tif")
    for name, old in (("nir", "Red"), ("swir", "Green"), ("red", "Blue")):
        text = text.replace(
            f"<ColorInterp>{old}</ColorInterp>", f"<Description>{name}</Description>"
        )
    vrt.write_text(text.replace('relativeToVRT="0"', 'relativeToVRT="1"'))
    for file in (vrt, RemoteFile(f"{server.url}/a.vrt")):
        (scene,) = describe_scenes([file], SceneRules(bands=("red", "nir")))
        read, _ = read_window(scene, rasterio.windows.Window(3, 5, 20, 10), DatasetPool())
        np.testing.assert_array_equal(np.moveaxis(read, 2, 0), pixels[[2, 0], 5:15, 3:23])


def test_an_item_on_a_server_leads_to_its_scene(server: RangeServer):
    draw_scene(server.folder / "a.tif")
    asset = {"href": "a.tif", "type": "image/tiff; application=geotiff", "roles": ["data"]}
    (server.folder / "item").write_text(json.dumps({"id": "one", "assets": {"image": asset}}))
    (file,) = find_files([f"{server.url}/item?token=secret"])
    assert file == RemoteFile(f"{server.url}/a.tif")


def test_files_of_one_server_are_named_like_those_of_a_folder(tmp_path: Path):
    files = [
        RemoteFile(f"https://host/in/{name}") for name in ("a/x.tif?sig=1", "b/x.tif", "y.tif")
    ]
    assert relative_names(files) == ["a/x.tif", "b/x.tif", "y.tif"]
    assert make_slugs(relative_names(files)) == ["a_x", "b_x", "y"]
    mixed: list[RasterFile] = [
        *files,
        RemoteFile("s3://bucket/x.tif"),
        Path("x.tif"),
        tmp_path / "z.tif",
    ]
    assert len(set(make_slugs(relative_names(mixed)))) == len(mixed)
    assert str(files[0]) == "https://host/in/a/x.tif"
    assert "sig" not in repr(files[0])


def test_a_scene_below_the_maps_is_seen_on_any_store(tmp_path: Path):
    file = RemoteFile("s3://bucket/maps/in/x.tif")
    assert is_inside(file, "s3://bucket/maps")
    assert is_inside(file, "s3://bucket/maps/")
    for other in ("s3://bucket/map", "s3://bucket/maps/in/x", str(tmp_path), "s3://other/maps"):
        assert not is_inside(file, other)
    assert is_inside(tmp_path / "maps/x.tif", str(tmp_path / "maps"))
    assert not is_inside(tmp_path / "x.tif", "s3://bucket")


def test_what_a_server_refuses_is_said_without_the_signature(server: RangeServer, tmp_path: Path):
    def refusal(kind: type[Exception], url: str) -> str:
        with pytest.raises(kind) as caught:
            describe_scenes(find_files([url]), SceneRules())
        assert "secret" not in "".join(traceback.format_exception(caught.value))
        return str(caught.value)

    draw_scene(server.folder / "a.tif")
    (server.folder / "page.tif").write_text("<html>")
    assert "no such file" in refusal(StorageError, f"{server.url}/none.tif?sig=secret")
    assert "page.tif: is not a raster" in refusal(DataError, f"{server.url}/page.tif?sig=secret")
    assert "cannot be listed" in refusal(DataError, f"{server.url}/folder/?sig=secret")
    assert "holds a password" in refusal(StorageError, "https://me:secret@host/a.tif")
    assert "is no URL" in refusal(StorageError, "https://[::/a.tif?sig=secret")
    server.behave(ranges=False)
    assert "no ranges" in refusal(StorageError, f"{server.url}/a.tif?sig=secret")


def test_a_scene_that_goes_away_amid_its_map_is_told_from_a_damaged_one(server: RangeServer):
    draw_scene(server.folder / "gone.tif", (600, 600), compress="deflate")
    (scene,) = describe_scenes([RemoteFile(f"{server.url}/gone.tif?sig=secret")], SceneRules())
    server.behave(status=404)
    with pytest.raises(StorageError, match=r"gone\.tif: no such file") as gone:
        predict(scene, by_pixel, RULE)
    assert "secret" not in "".join(traceback.format_exception(gone.value))
    server.behave()
    data = (server.folder / "gone.tif").read_bytes()
    (server.folder / "gone.tif").write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match=r"gone\.tif: cannot be read at row") as caught:
        predict(scene, by_pixel, RULE)
    assert "secret" not in "".join(traceback.format_exception(caught.value))
    with pytest.raises(DataError, match=r"gone\.tif: cannot be read") as drawn:
        read_picture(scene, scene_grid(scene, 600), np.ones((600, 600), bool))
    assert "secret" not in "".join(traceback.format_exception(drawn.value))


def test_bytes_are_read_in_blocks_as_they_are_sliced(server: RangeServer):
    data = np.random.default_rng(0).bytes(300_000)
    (server.folder / "a.bin").write_bytes(data)
    with open_bytes(RemoteFile(f"{server.url}/a.bin")) as found:
        assert len(found) == len(data)
        for start, stop in ((0, 2), (65_530, 65_540), (299_990, 400_000), (10, 200_000), (5, 5)):
            assert found[start:stop] == data[start:stop]
        asked = len(server.requests)
        assert (found[0], found[65_536]) == (data[0], data[65_536])
        assert [found[at : at + 2] for at in range(0, 65_536, 4096)][3] == data[12_288:12_290]
        assert len(server.requests) == asked  # the blocks are kept


def test_maps_keep_apart_from_scenes_of_a_server(server: RangeServer, tmp_path: Path):
    draw_scene(server.folder / "a.tif")
    scenes = describe_scenes([RemoteFile(f"{server.url}/a.tif")], SceneRules())
    folder = MapFolder(connect(str(tmp_path / "maps")))
    folder.check_apart(scenes)
    folder.finish(scenes[0])
    folder.store.write("a.tif", b"a map")
    again = describe_scenes([server.folder / "a.tif"], SceneRules())
    assert not folder.missing(again, lambda scene: f"{scene.slug}.tif")
