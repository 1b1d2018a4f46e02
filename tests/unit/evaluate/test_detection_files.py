"""Detections of packed tiles in the files of benchmarks, and where tiles lie in their images."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from rsdl.config.data import DataConfig
from rsdl.core.errors import ConfigError, DataError
from rsdl.data.dataset import DataSet, SplitData
from rsdl.data.packing.pack import PackOptions, pack
from rsdl.data.sample import Sample
from rsdl.data.targets.objects import make_objects, rectangle_corners
from rsdl.evaluate.detection_files import check_places, coco_results, dota_files
from rsdl.evaluate.evaluator import place_tiles
from rsdl.storage.connect import connect
from rsdl.tasks.base import Place
from tests.drawn_objects import CLASSES, DrawnObjects

TILE, STEP, SIDE = 128, 96, 64
PLANE, SHIP = (140.0, 60.0, 40.0, 20.0, 0.3), (40.0, 50.0, 30.0, 10.0, -0.6)


class DrawnTiles(DrawnObjects):
    """Tiles of two scenes, which tell their row and column, or do not."""

    def __init__(self, meta: bool = True, height: int = TILE) -> None:
        super().__init__(count=4, splits=("train",))
        self.meta, self.height = meta, height

    def read(self, item: tuple[str, int]) -> Sample:
        _, number = item
        column = STEP * (number % 2)
        corners = rectangle_corners(np.array([PLANE, SHIP])) - (column, 0)
        objects = make_objects(corners, [0, 1], (self.height, TILE))
        pixels = np.full((self.height, TILE, 3), 90 + number, np.uint8)
        meta = {"source": f"images/P{number // 2:04d}.png"}
        place = {"row": 0, "col": column} if self.meta else {}
        data = cv2.imencode(".png", pixels)[1].tobytes()
        return Sample(f"tile{number}", "png", data, objects, meta | place, pixels)


def open_tiles(folder: Path, *, meta: bool = True, height: int = TILE) -> SplitData:
    source = DrawnTiles(meta=meta, height=height)
    options = PackOptions(num_workers=1)
    pack(source, connect(str(folder / "tiles")), options)  # type: ignore[arg-type]
    return DataSet(config_of(folder)).split("train", "data.train_split")


def config_of(folder: Path) -> DataConfig:
    return DataConfig(url=str(folder / "tiles"), image_size=SIDE, eval_crop=1.0)


def detect(places: list[Place]) -> NDArray[np.float32]:
    """Return the ship and the plane where a tile shows them, and the plane where it is cut."""
    found = np.zeros((len(places), 3, 7), np.float32)
    found[..., 6] = -1
    for rows, place in zip(found, places, strict=True):
        column = place.corner[1]
        if column == 0:
            rows[0] = (*SHIP, 0.9, 1)
            rows[1] = (124, 60, 8, 20, 0, 0.95, 0)  # the part of the plane that is in the tile
        else:
            rows[0] = (*PLANE, 0.8, 0)
        rows[:, 0] -= column
        rows[:, :4] /= TILE / SIDE
    return found


def test_a_tile_is_placed_in_its_image(tmp_path: Path):
    places = place_tiles(open_tiles(tmp_path), config_of(tmp_path), [0, 1, 2, 3])
    seen = sorted((place.image, place.corner, place.scale) for place in places)
    assert seen == [
        (f"images/P000{scene}.png", (0, column), (2.0, 2.0))
        for scene in (0, 1)
        for column in (0, STEP)
    ]
    assert all(place.target.labels.tolist() == [0, 1] for place in places)


def test_samples_without_row_and_column_are_images_of_their_own(tmp_path: Path):
    places = place_tiles(open_tiles(tmp_path, meta=False), config_of(tmp_path), [0, 1, 2, 3])
    assert sorted(place.image for place in places) == ["tile0", "tile1", "tile2", "tile3"]
    assert {place.corner for place in places} == {(0, 0)}


def test_samples_of_which_the_network_saw_a_part_have_no_place(tmp_path: Path):
    places = place_tiles(open_tiles(tmp_path, height=100), config_of(tmp_path), [0, 1])
    assert places == []
    with pytest.raises(ConfigError, match="eval_crop"):
        check_places(places)


def test_dotas_files_hold_each_object_of_an_image_once(tmp_path: Path):
    places = place_tiles(open_tiles(tmp_path), config_of(tmp_path), [0, 1, 2, 3])
    files = dota_files(detect(places), places, CLASSES, nms_iou=0.1, oriented=True)
    assert list(files) == ["Task1_square.txt", "Task1_van.txt", "Task1_ship.txt"]
    assert files["Task1_ship.txt"] == ""
    for name, box, score in (("square", PLANE, "0.80000"), ("van", SHIP, "0.90000")):
        lines = [line.split() for line in files[f"Task1_{name}.txt"].splitlines()]
        assert [line[:2] for line in lines] == [["P0000", score], ["P0001", score]]
        outline = np.array(lines[0][2:], np.float64).reshape(4, 2)
        expected = rectangle_corners(np.array([box]))[0]
        assert np.abs(np.sort(outline, axis=0) - np.sort(expected, axis=0)).max() < 0.01
    upright = dota_files(detect(places), places, CLASSES, nms_iou=0.1, oriented=False)
    assert upright["Task2_van.txt"].splitlines()[0] == "P0000 0.90000 25.00 45.00 55.00 55.00"


def test_images_that_dota_cannot_tell_apart_are_refused(tmp_path: Path):
    places = place_tiles(open_tiles(tmp_path), config_of(tmp_path), [0, 1, 2, 3])
    other = [
        place._replace(image=place.image.replace("images/P0001", "more/P0000")) for place in places
    ]
    with pytest.raises(DataError, match="two images P0000"):
        dota_files(detect(other), other, CLASSES, nms_iou=0.1, oriented=True)


def test_cocos_results_are_those_of_the_stored_samples(tmp_path: Path):
    places = place_tiles(open_tiles(tmp_path), config_of(tmp_path), [0, 1, 2, 3])
    rows = json.loads(coco_results(detect(places), places, [0, 1, 2, 3], oriented=False))
    assert len(rows) == 6 and {row["image_id"] for row in rows} == {1, 2, 3, 4}
    ships = [row for row in rows if row["category_id"] == 2]
    assert [row["bbox"] for row in ships] == [[25, 45, 30, 10]] * 2
    oriented = json.loads(coco_results(detect(places), places, [0, 1, 2, 3], oriented=True))
    assert len(oriented[0]["segmentation"][0]) == 8
