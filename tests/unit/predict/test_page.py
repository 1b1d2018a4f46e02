"""A page of a map holds all that it needs, and no foreign text becomes markup."""

import base64
import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from rasterio.transform import Affine

from rsdl.data.targets.mask import class_colours
from rsdl.predict.features import FewFeatures, Ground
from rsdl.predict.page import draw_page
from tests.unit.predict.maps import draw_map
from tests.unit.predict.test_features import SHAPES

EVIL = '</script><script>alert("1")</script><img src=x onerror=alert(1)>'


def content(page: bytes) -> dict:
    """Return what the page's script reads."""
    found = re.search(r'<script id="page" type="application/json">(.*?)</script>', page.decode())
    parsed: dict = json.loads(found[1])
    return parsed


def picture(uri: str) -> np.ndarray:
    """Return the pixels of a data URI, ``[H, W, 4]``."""
    data = base64.b64decode(uri.partition(",")[2])
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)


def test_foreign_text_stays_text(tmp_path: Path):
    classes = np.zeros((20, 30), np.uint8)
    path, scene, legend = draw_map(tmp_path, classes, (EVIL, "b"))
    few = FewFeatures()
    ground = Ground(scene)
    few.add(ground.project(SHAPES), {"name": np.array([EVIL, EVIL], object)}, ground.crs)
    page = draw_page(path, scene, legend, run=EVIL, polygons=few)
    assert page.count(b"<script") == page.count(b"</script>") == 2
    assert b"<img src=x" not in page
    found = content(page)
    assert EVIL in found["classes"]["alt"]
    assert found["polygons"]["features"][0]["properties"]["name"] == EVIL


def test_a_page_names_no_address_that_a_browser_would_fetch(tmp_path: Path):
    path, scene, legend = draw_map(tmp_path, np.zeros((20, 30), np.uint8), ("a",))
    page = draw_page(path, scene, legend, run="run").decode()
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)[1]
    assert set(re.findall(r"url\(([^)]*)\)", style)) <= {"#default#VML"}  # Internet Explorer's
    assert not re.findall(r"<(?:link|img|iframe|script[^>]+src)", page)
    assert "sourceMappingURL" not in page
    assert "Redistribution and use in source and binary forms" in page
    assert "img-src data:;" in page


def test_pictures_are_transparent_where_the_map_has_no_data(tmp_path: Path):
    classes = np.zeros((40, 60), np.uint8)
    classes[:, 30:] = 255
    place = Affine(1e-4, 0, 20, 0, -1e-4, 0)  # a grid that Web Mercator keeps, at the equator
    path, scene, legend = draw_map(tmp_path, classes, ("a", "b"), crs="EPSG:4326", place=place)
    found = content(draw_page(path, scene, legend, run="run"))
    for name in ("scene", "classes"):
        alpha = picture(found[name]["uri"])[..., 3]
        assert (alpha[:, :29] == 255).all()
        assert (alpha[:, 31:] == 0).all()
    painted = picture(found["classes"]["uri"])[:, :29, 2::-1]
    assert (painted == class_colours(2)[0]).all()


def test_a_large_scene_makes_a_small_page(tmp_path: Path):
    classes = np.random.default_rng(0).integers(0, 3, (60, 90)).astype(np.uint8)
    classes = classes.repeat(40, axis=0).repeat(40, axis=1)  # 2,400 x 3,600
    path, scene, legend = draw_map(tmp_path, classes, ("a", "b", "c"))
    page = draw_page(path, scene, legend, run="run")
    assert max(picture(content(page)["scene"]["uri"]).shape) <= 2048
    assert len(page) < 8 << 20  # of noise, which nothing compresses


def test_a_scene_at_a_pole_is_shown_in_its_pixels(tmp_path: Path):
    classes = np.zeros((40, 60), np.uint8)
    place = Affine(10, 0, -300, 0, -10, 200)
    path, scene, legend = draw_map(tmp_path, classes, ("a",), crs="EPSG:3413", place=place)
    page = draw_page(path, scene, legend, run="run", polygons=FewFeatures())
    found = content(page)
    assert not found["on_earth"]
    assert found["bounds"] == [[-40, 0], [0, 60]]
    assert found["polygons"] is None
    assert b"shown in its own pixels" in page


@pytest.mark.parametrize("many", [False, True])
def test_many_polygons_are_not_shown_and_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, many: bool
):
    path, scene, legend = draw_map(tmp_path, np.zeros((20, 30), np.uint8), ("a",))
    if many:
        monkeypatch.setattr("rsdl.predict.features.MAX_CORNERS", 5)
    few = FewFeatures()
    ground = Ground(scene)
    few.add(ground.project(SHAPES), {"class": np.array([0, 0])}, ground.crs)
    page = draw_page(path, scene, legend, run="run", polygons=few)
    assert (content(page)["polygons"] is None) == many
    assert (b"too many for this page" in page) == many
