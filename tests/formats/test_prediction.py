"""A folder of maps that an earlier revision began is gone on with."""

import json
from pathlib import Path

import pytest

from rsdl.core.errors import DataError
from rsdl.records.prediction import PREDICTION, parse_mapped_scene, parse_prediction

MADE = Path(__file__).with_name("0.1.0-f849616")
STORED = (MADE / PREDICTION).read_bytes()


def test_a_stored_record_is_read_and_is_that_of_the_same_prediction():
    record = parse_prediction(STORED, PREDICTION)
    assert (record.run, record.window, record.overlap) == ("quickstart_segmentation", (64, 64), 16)
    again = parse_prediction(record.to_json(), PREDICTION)
    assert record.differs_in(again) is None
    assert record.differs_in(record.model_copy(update={"tta": True})) == "tta"


def test_nodata_that_is_not_a_number_is_kept():
    record = parse_prediction(STORED, PREDICTION).model_copy(update={"nodata": float("nan")})
    assert record.differs_in(parse_prediction(record.to_json(), PREDICTION)) is None


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"format": 2}, "made by a newer rsdl: format 2"),
        ({"later": 1}, "unknown field later"),
        ({"overlap": "x"}, "is no record of maps: overlap"),
    ],
)
def test_a_record_of_a_newer_release_or_a_damaged_one_is_refused(change: dict, problem: str):
    data = json.dumps(json.loads(STORED) | change).encode()
    with pytest.raises(DataError, match=problem):
        parse_prediction(data, "maps/prediction.json")


def test_a_stored_record_of_a_scene_is_read_and_tells_it_from_another():
    scene = parse_mapped_scene((MADE / "scene_000.json").read_bytes(), "scene_000.json")
    renamed = scene.model_copy(update={"scene": "moved.tif"})
    changed = scene.model_copy(update={"sha256_of_ends": "0" * 64})
    assert (scene.scene, scene.num_bytes) == ("scene_000.tif", 605588)
    assert (scene.is_same(renamed), scene.is_same(changed)) == (True, False)
