"""Damaged files end in a value or in an RsdlError, for every reader that is fuzzed."""

import itertools
import struct
from pathlib import Path

import pytest

from rsdl.core.errors import DataError, RsdlError
from rsdl.data.tar import scan_tar
from rsdl.raster.scenes import SceneRules, describe_scenes
from rsdl.raster.vectors import read_polygons
from tests.fuzz import seeds
from tests.fuzz.targets import TARGETS
from tests.fuzz.worker import attempt, inputs


@pytest.mark.parametrize("name", TARGETS)
def test_a_damaged_file_ends_in_a_value_or_an_error_of_ours(name: str):
    target = TARGETS[name]
    for whole in target.make():
        target.read(whole)
    num = len(target.fixed()) + 80
    for number, data in itertools.islice(inputs(target, 1, 0), num):
        assert attempt(target, data) is None, (number, data[:200])


def test_equal_seeds_give_equal_inputs_from_any_number_on():
    target = TARGETS["png"]
    whole = list(itertools.islice(inputs(target, 3, 0), 30))
    assert whole[20:] == list(itertools.islice(inputs(target, 3, 20), 10))
    assert whole[20:] != list(itertools.islice(inputs(target, 4, 20), 10))


def test_an_index_whose_header_has_an_open_bracket_is_refused_by_name():
    with pytest.raises(DataError, match=r"train.npy: is not a readable index"):
        TARGETS["index"].read(seeds.INDEX.replace(b")]", b"  ").replace(b"}", b" "))


def test_a_tar_header_that_claims_gigabytes_is_refused_before_memory_is_taken(tmp_path: Path):
    (tmp_path / "x.tar").write_bytes(seeds.tar_bomb())
    with pytest.raises(DataError, match=r"not a readable tar: a header claims 8589934592 bytes"):
        list(scan_tar(tmp_path / "x.tar", "x.tar"))


def test_json_that_is_nested_too_deep_is_no_json():
    with pytest.raises(RsdlError, match=r"s0.json: is not JSON"):
        TARGETS["shards"].read(seeds.deep_tar())


def test_lines_of_geojson_that_are_nested_too_deep_are_named(tmp_path: Path):
    path = tmp_path / "x.geojsonl"
    page = b'{"type":"Feature","properties":{"class":"a"},"geometry":{"type":"Polygon",'
    page += b'"coordinates":[[[0,0],[1,0],[1,1],[0,0]]]}}'
    path.write_bytes(page + b"\n" + page.replace(b"[[[", seeds.DEEP))
    with pytest.raises(DataError, match=r"line 2: is not JSON"):
        read_polygons(path, "class")


def test_a_crs_name_that_is_no_text_is_unknown(tmp_path: Path):
    path = tmp_path / "x.geojson"
    page = seeds.labels(".geojson")[".geojson"]
    path.write_bytes(page.replace(b"urn:ogc:def:crs:EPSG::32633", b"\\ud800"))
    with pytest.raises(DataError, match='unknown "crs"'):
        read_polygons(path, "class")


def test_a_projection_that_cannot_be_written_down_is_one_line(tmp_path: Path):
    for suffix, data in seeds.labels(".shp").items():
        (tmp_path / f"x{suffix}").write_bytes(data)
    prj = tmp_path / "x.prj"
    prj.write_bytes(prj.read_bytes().replace(b"UTM", b"\xff\xff\xff"))
    with pytest.raises(DataError, match=r"x\.shp"):
        read_polygons(tmp_path / "x.shp", "class")


def test_a_layer_whose_name_is_no_text_is_one_line(tmp_path: Path):
    path = tmp_path / "x.fgb"
    data = seeds.labels(".fgb")[".fgb"]
    at = data.index(b"x\0", 8)  # the layer's name
    path.write_bytes(data[:at] + b"\xc8" + data[at + 1 :])
    with pytest.raises(DataError, match=r"x\.fgb: cannot be read"):
        read_polygons(path, "class")


def test_keys_of_a_crs_that_are_damaged_are_one_line(tmp_path: Path):
    path = tmp_path / "x.tif"
    data = seeds.tiff()
    for tag, kind in ((33550, 12), (34737, 2)):  # the size of pixels, and texts of the CRS
        entry = struct.pack("<2H", tag, kind)
        assert data.count(entry) == 1
        data = data.replace(entry, struct.pack("<2H", tag, 255))
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"x\.tif: cannot be read"):
        describe_scenes([path], SceneRules("auto", None, "auto", None))


def test_coordinates_that_no_crs_has_are_refused_by_feature(tmp_path: Path):
    path = tmp_path / "x.geojson"
    page = seeds.labels(".geojson")[".geojson"]
    path.write_bytes(page.replace(b"4999900.0", b"1e300", 1))
    with pytest.raises(DataError, match="feature 0: has broken coordinates"):
        read_polygons(path, "class")
