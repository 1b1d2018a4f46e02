"""A data set of objects written for other tools, and what is read back from there."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from rsdl.commands import data
from rsdl.config.data import DataConfig
from rsdl.core.errors import ConfigError, DataError
from rsdl.data.convert_objects import LAYOUTS, convert_objects
from rsdl.data.dataset import DataSet
from rsdl.data.object_sizes import count_sizes
from rsdl.data.packing.pack import PackOptions, pack
from rsdl.data.sample import Sample
from rsdl.data.sources.annotation_formats import read_annotations
from rsdl.data.sources.annotations import AnnotatedImages, AnnotationRules, Annotations
from rsdl.data.sources.object_options import ObjectOptions
from rsdl.data.sources.object_source import ObjectSource
from rsdl.data.targets.corners import box_corners
from rsdl.data.targets.objects import DIFFICULT, IGNORED, Objects
from rsdl.storage.connect import connect

CLASSES = ("motor boat", "ship")
# An upright box that is marked, one that is difficult, and a turned one.
CORNERS = np.concatenate(
    [box_corners([[1, 2, 9, 8], [0, 0, 30, 35]]), [[[20, 10], [26, 14], [22, 20], [16, 16]]]]
).astype(np.float32)
FLAGS = np.array([IGNORED, DIFFICULT, 0], np.uint8)


def draw_images(root: Path) -> AnnotatedImages:
    """Return six images with the same three objects."""
    objects = Annotations(CORNERS, ("ship", "motor boat", "ship"), FLAGS)
    for split in ("train", "val"):
        (root / split).mkdir(parents=True)
        for number in range(3):
            seed = np.random.default_rng([number, len(split)])
            pixels = seed.integers(1, 255, (36, 48, 3), np.uint8)
            assert cv2.imwrite(str(root / f"{split}/{number}.png"), pixels)
            (root / f"{split}/{number}.txt").write_text("")
    empty = read_annotations("dota", root, AnnotationRules())
    return empty._replace(objects=dict.fromkeys(empty.objects, objects), classes=CLASSES)


@pytest.fixture
def dataset(tmp_path: Path) -> DataSet:
    out = tmp_path / "packed"
    pack(ObjectSource(draw_images(tmp_path / "raw"), ObjectOptions(tile=None)),
         connect(str(out)), PackOptions())  # fmt: skip
    return DataSet(DataConfig(url=str(out)))


def read_back(layout: str, root: Path, **rules: Any) -> dict[tuple[str, str], Objects]:  # noqa: ANN401
    images = read_annotations(layout, root, AnnotationRules(**rules))
    source = ObjectSource(images, ObjectOptions(tile=None))
    found: dict[tuple[str, str], Objects] = {}
    for plan in source.shards(10**9):
        for part in plan.items:
            sample = source.read(part)
            assert isinstance(sample, Sample)
            found[plan.split, sample.key] = sample.target
    return found


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_is_written_is_read_back(layout: str, dataset: DataSet, tmp_path: Path):
    out = tmp_path / "out"
    lost = convert_objects(dataset, layout, connect(str(out)))
    rules = {"outline": "polygon"} if layout == "coco" else {}
    found = read_back(layout, out, **rules)
    assert {split for split, _ in found} == {"train", "val"} and len(found) == 6
    kept = slice(1, 3) if layout == "yolo" else slice(None)
    for objects in found.values():
        np.testing.assert_allclose(objects.corners, CORNERS[kept], atol=1e-4)
        assert objects.labels.tolist() == [1, 0, 1][kept]
        flags = [0, 0] if layout == "yolo" else FLAGS.tolist()
        assert objects.flags.tolist() == flags
    marks = {
        "ignored objects, which YOLO cannot mark": 6,
        "difficult objects, which YOLO takes as any other": 6,
    }
    assert lost == (marks if layout == "yolo" else {})


@pytest.mark.parametrize("layout", LAYOUTS)
def test_images_are_written_as_they_are_stored(layout: str, dataset: DataSet, tmp_path: Path):
    convert_objects(dataset, layout, connect(str(tmp_path / "out")))
    written = sorted(path.read_bytes() for path in (tmp_path / "out/images").rglob("*.png"))
    assert written == sorted(path.read_bytes() for path in (tmp_path / "raw").rglob("*.png"))


def test_coco_boxes_are_the_hulls(dataset: DataSet, tmp_path: Path):
    convert_objects(dataset, "coco", connect(str(tmp_path / "out")))
    page = json.loads((tmp_path / "out/annotations/instances_val.json").read_text())
    assert [row["bbox"] for row in page["annotations"][:3]] == [
        [1, 2, 8, 6], [0, 0, 30, 35], [16, 10, 10, 10],
    ]  # fmt: skip
    assert page["annotations"][2]["area"] == pytest.approx(52)
    ids = [row["id"] for row in page["annotations"]]
    assert len(set(ids)) == len(ids) == 9


def test_a_folder_that_holds_something_is_refused(dataset: DataSet, tmp_path: Path):
    target = connect(str(tmp_path / "out"))
    target.write("kept.txt", b"x")
    with pytest.raises(DataError, match="is not empty"):
        convert_objects(dataset, "coco", target)


def test_objects_are_counted_by_class_and_size(
    dataset: DataSet, capsys: pytest.CaptureFixture[str]
):
    assert count_sizes(dataset.split("train", "")).tolist() == [[0, 3, 0], [3, 0, 0]]
    data.info(dataset.store.url, sheet=None, split="train", sizes=True)
    assert "medium" in capsys.readouterr().out


def test_a_data_set_of_classes_has_no_objects_to_convert_or_count(packed: str, tmp_path: Path):
    dataset = DataSet(DataConfig(url=packed))
    with pytest.raises(DataError, match="no objects"):
        convert_objects(dataset, "coco", connect(str(tmp_path / "out")))
    with pytest.raises(ConfigError, match="--sizes"):
        data.info(packed, sheet=None, split="train", sizes=True)
