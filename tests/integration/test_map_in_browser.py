"""The page of a map in a real browser: all lies where it is on Earth, and nothing is fetched."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rasterio.transform import Affine
from rasterio.warp import transform

from rsdl.data.targets.mask import class_colours
from rsdl.data.targets.objects import rectangle_corners
from rsdl.predict.features import FewFeatures, write_features
from rsdl.predict.page import draw_page
from rsdl.predict.polygons import trace_polygons
from rsdl.raster.georef import apply, outline
from tests.integration.browser import look_at
from tests.unit.predict.maps import draw_map
from tests.unit.predict.scenes import PLACE
from tests.unit.predict.test_object_writer import NAMES, draw, write

EVIL = "</script><script>window.hacked=1</script><img src=x onerror=window.hacked=1>"
BLOCK = (slice(100, 140), slice(320, 380))
LOOK = """
const page = view.document, find = (name) => page.querySelector(name);
const box = (name) => {
  const {left, top, right, bottom} = find(name).getBoundingClientRect();
  return [left, top, right, bottom];
};
const hover = (x, y) => {
  const place = {clientX: x, clientY: y, bubbles: true};
  find('#map').dispatchEvent(new view.MouseEvent('mousemove', place));
  return find('.position').textContent;
};
const boxes = [...page.querySelectorAll('.leaflet-control-layers input')];
const polygons = boxes[2]; if (polygons) polygons.click();
const scene = box('img.scene'), classes = box('img.classes');
const said = {
  scene, classes,
  corners: [hover(scene[0], scene[1]), hover(scene[2], scene[3])],
  alt: find('img.classes').alt,
  legend: [...page.querySelectorAll('.legend li')].map((item) => item.innerText),
  requests: view.performance.getEntriesByType('resource').map((each) => each.name),
  sideways: page.documentElement.scrollWidth - page.documentElement.clientWidth,
};
const block = [...page.querySelectorAll('path')].find(
  (path) => path.getAttribute('stroke') === BLOCK_COLOUR);
if (block) {
  const r = block.getBoundingClientRect(), x = (r.left + r.right) / 2, y = (r.top + r.bottom) / 2;
  said.block = hover(x, y);
  const picture = find('img.classes'), canvas = page.createElement('canvas');
  canvas.width = picture.naturalWidth; canvas.height = picture.naturalHeight;
  const context = canvas.getContext('2d');
  context.drawImage(picture, 0, 0);
  const column = (x - classes[0]) / (classes[2] - classes[0]) * canvas.width;
  const row = (y - classes[1]) / (classes[3] - classes[1]) * canvas.height;
  said.colour = [...context.getImageData(column, row, 1, 1).data];
  block.dispatchEvent(new view.MouseEvent('click', {clientX: x, clientY: y, bubbles: true}));
  said.popup = find('.leaflet-popup-content').textContent;
}
const slider = find('#opacity');
slider.value = 30;
slider.dispatchEvent(new view.Event('input'));
said.opacity = find('img.classes').style.opacity;
boxes[1].click();
said.hidden = find('img.classes') === null;
said.hacked = view.hacked === 1;
return said;
"""


def see(
    browser: str, folder: Path, *, crs: str, place: Affine, width: int = 1200
) -> tuple[dict[str, Any], np.ndarray]:
    """Return what is seen of the page of a map with a block of one class, and its scene's edge."""
    classes = np.zeros((300, 500), np.uint8)
    classes[BLOCK] = 1
    names = ("ground", EVIL, "nothing")
    path, scene, legend = draw_map(folder, classes, names, crs=crs, place=place)
    few = FewFeatures()
    with write_features(folder / "a.gpkg", scene, names, "gpkg", few=few) as write:
        traced = trace_polygons(
            lambda top, count: classes[top : top + count], 300, 500, simplify_px=1.0
        )
        for each in traced:
            write(each.shapes, {"class": each.classes})
    page = folder / "page.html"
    page.write_bytes(draw_page(path, scene, legend, run=EVIL, polygons=few))
    colour = "rgb({}, {}, {})".format(*class_colours(3)[1].tolist())
    look = LOOK.replace("BLOCK_COLOUR", f'"{colour}"')
    return look_at(browser, page, look, width=width, folder=folder), outline(300, 500, 64)


def degrees(text: str) -> np.ndarray:
    """Return latitude and longitude that the page says."""
    return np.array([float(number) for number in text.split(", ")])


@pytest.mark.parametrize(
    ("crs", "place"),
    [
        ("EPSG:32633", PLACE),
        ("EPSG:2263", Affine(3, 1, 980_000, 1, -3, 200_000)),  # turned, in feet
        ("EPSG:4326", Affine(1e-3, 0, 179.8, 0, -1e-3, 65)),  # across the 180th meridian
    ],
)
def test_pictures_and_polygons_lie_where_the_scene_is(
    browser: str, tmp_path: Path, crs: str, place: Affine
):
    seen, edge = see(browser, tmp_path, crs=crs, place=place)
    lon, lat = (np.array(each) for each in transform(crs, "EPSG:4326", *apply(place, edge).T))
    lon = np.where(lon < lon[0] - 180, lon + 360, lon)
    assert seen["scene"] == seen["classes"]
    left, top, right, bottom = seen["scene"]
    assert min(right - left, bottom - top) > 150
    north_west, south_east = map(degrees, seen["corners"])
    # Leaflet lays pictures at whole pixels of the screen.
    screen = (lat.max() - lat.min()) / (bottom - top), (lon.max() - lon.min()) / (right - left)
    for said, wanted in (
        (north_west, (lat.max(), lon.min())), (south_east, (lat.min(), lon.max())),
        (degrees(seen["block"]), centre_of_block(crs, place)),
    ):  # fmt: skip
        off = said - np.array(wanted)
        off[1] = (off[1] + 180) % 360 - 180
        assert (np.abs(off) < 2.5 * np.array(screen)).all(), (said, wanted)
    assert seen["colour"] == [*class_colours(3)[1].tolist(), 255]
    assert not seen["requests"]


def centre_of_block(crs: str, place: Affine) -> tuple[float, float]:
    """Return latitude and longitude of the middle of the box around the block, as drawn."""
    rows, cols = BLOCK
    corners = np.array([(c, r) for r in (rows.start, rows.stop) for c in (cols.start, cols.stop)])
    lon, lat = (np.array(n) for n in transform(crs, "EPSG:4326", *apply(place, corners).T))
    return (lat.max() + lat.min()) / 2, (lon.max() + lon.min()) / 2


def test_controls_work_and_foreign_text_is_text(browser: str, tmp_path: Path):
    seen, _ = see(browser, tmp_path, crs="EPSG:32633", place=PLACE)
    assert not seen["hacked"]
    assert seen["popup"].startswith(f"{EVIL}: 60")  # square metres: 2,400 pixels of 0.25
    assert seen["opacity"] == "0.3"
    assert seen["hidden"]
    assert EVIL in seen["alt"]
    assert [line.split()[-1] for line in seen["legend"]] == ["98.4%", "1.6%", "0%"]


def test_a_page_fits_a_phone(browser: str, tmp_path: Path):
    seen, _ = see(browser, tmp_path, crs="EPSG:32633", place=PLACE, width=390)
    assert seen["sideways"] == 0
    assert 200 < seen["scene"][2] - seen["scene"][0] <= 390


def test_a_scene_at_a_pole_tells_rows_and_columns(browser: str, tmp_path: Path):
    place = Affine(10, 0, -2500, 0, -10, 1500)
    seen, _ = see(browser, tmp_path, crs="EPSG:3413", place=place)
    row, col = (int(text.split()[-1]) for text in seen["corners"][1].split(", "))
    assert math.dist((row, col), (300, 500)) < 4
    row, col = (int(text.split()[-1]) for text in seen["corners"][0].split(", "))
    assert math.dist((row, col), (0, 0)) < 4
    assert not seen["requests"]


OBJECTS = """
const page = view.document, find = (name) => page.querySelector(name);
const scene = find('img.scene').getBoundingClientRect();
const paths = [...page.querySelectorAll('path')];
const boxes = paths.map((path) => {
  const {left, top, right, bottom} = path.getBoundingClientRect();
  return [left - scene.left, top - scene.top, right - scene.left, bottom - scene.top];
});
paths[0].dispatchEvent(new view.MouseEvent('click', {clientX: 9, clientY: 9, bubbles: true}));
const slider = find('#opacity');
slider.value = 40;
slider.dispatchEvent(new view.Event('input'));
return {
  boxes, popup: find('.leaflet-popup-content').textContent,
  colours: paths.map((path) => path.getAttribute('stroke')),
  opacity: paths.map((path) => path.getAttribute('stroke-opacity')),
  width: scene.width, height: scene.height,
  legend: [...page.querySelectorAll('.legend li')].map((item) => item.innerText),
  requests: view.performance.getEntriesByType('resource').map((each) => each.name),
};
"""


@pytest.mark.parametrize(("suffix", "unit"), [(".tif", "m"), (".png", "px")])
def test_boxes_lie_on_the_objects_and_tell_class_and_score(
    browser: str, tmp_path: Path, suffix: str, unit: str
):
    # A grid that Web Mercator keeps, at the equator.
    where: dict[str, Any] = {"crs": "EPSG:4326", "place": Affine(1e-5, 0, 20, 0, -1e-5, 0)}
    if suffix == ".png":
        where = {"crs": None}
    scene, whole = draw(tmp_path / f"scene{suffix}", **where)
    write(tmp_path / "maps", scene, page=True)
    page = tmp_path / "maps/scene.html"
    seen = look_at(browser, page, OBJECTS, width=1200, folder=tmp_path)
    scale = np.array([seen["width"] / scene.width, seen["height"] / scene.height] * 2)
    corners = rectangle_corners(whole[:, :5])
    wanted = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
    boxes = np.array(seen["boxes"]) / scale
    assert len(boxes) == len(wanted)
    for box, colour in zip(boxes, seen["colours"], strict=True):
        off = np.abs(wanted - box).max(axis=1)
        assert off.min() < 1.5
        expected = class_colours(3)[int(whole[off.argmin(), 6])].tolist()
        assert colour == "rgb({}, {}, {})".format(*expected)
    name, rest = seen["popup"].split(": score ")
    assert name in NAMES
    assert rest.startswith(f"{whole[:, 5].max():.2f}, ")
    assert rest.endswith(f" {unit}")
    assert set(seen["opacity"]) == {"0.4"}
    assert sum(int(line.split()[-1]) for line in seen["legend"]) == len(whole)
    assert not seen["requests"]
