"""Published annotations as they come: what each odd line of a format becomes."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from shapely import MultiPoint, Polygon

from rsdl.core.errors import ConfigError, DataError, RsdlError
from rsdl.data.sources.annotation_formats import read_annotations
from rsdl.data.sources.annotations import (
    AnnotatedImages,
    AnnotationRules,
    Annotations,
    to_corners,
)
from rsdl.data.targets.corners import areas
from rsdl.data.targets.objects import DIFFICULT, IGNORED

WIDTH, HEIGHT = 40, 30
SQUARE = "2 4 10 4 10 12 2 12"


def draw(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((HEIGHT, WIDTH, 3), 90, np.uint8))
    return path


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
    return path


def read_one(root: Path, layout: str, **rules: Any) -> Annotations:  # noqa: ANN401
    labels = rules.pop("labels", ())
    found = read_annotations(layout, root, AnnotationRules(**rules), labels)
    assert len(found.objects) == 1
    return next(iter(found.objects.values()))


def boxes(found: Annotations) -> list[list[float]]:
    """Return left, top, right and bottom of each object."""
    ends = np.concatenate([found.corners.min(axis=1), found.corners.max(axis=1)], axis=1)
    listed: list[list[float]] = ends.tolist()
    return listed


@pytest.fixture
def root(tmp_path: Path) -> Path:
    draw(tmp_path / "set/images/a.png")
    return tmp_path / "set"


@pytest.mark.parametrize("header", ["", "imagesource:GoogleEarth\ngsd:0.13\n", "gsd:null\n"])
@pytest.mark.parametrize(
    ("line", "flag"),
    [("ship", 0), ("ship 0", 0), ("ship 1", DIFFICULT), ("ship 2", IGNORED)],
)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_dota_lines_have_eight_to_ten_columns_below_any_header(
    header: str, line: str, flag: int, newline: str, root: Path
):
    write(root / "labelTxt/a.txt", f"{header}{SQUARE} {line}\n\n".replace("\n", newline))
    found = read_one(root, "dota")
    assert boxes(found) == [[2, 4, 10, 12]]
    assert (found.names, found.flags.tolist()) == (("ship",), [flag])


def test_dota_without_classes_needs_the_one(root: Path):
    write(root / "labelTxt/a.txt", f"{SQUARE}\n")
    with pytest.raises(DataError, match=r"a\.txt:1: has eight numbers.*--single-class"):
        read_one(root, "dota")
    assert read_one(root, "dota", single="ship").names == ("ship",)


@pytest.mark.parametrize("line", ["1 2 3 ship", "a b c d e f g h ship 0", f"{SQUARE} ship 7"])
def test_another_dota_line_is_refused_with_its_number(line: str, root: Path):
    write(root / "labelTxt/a.txt", f"gsd:1\n{line}\n")
    with pytest.raises(DataError, match=r"a\.txt:2: .*is not x1 y1"):
        read_one(root, "dota")


@pytest.mark.parametrize(
    "line", [f"{SQUARE} 0", "0 0.1 0.1 0.2 0.1 0.2 0.2 0.1 0.2"], ids=["no class", "yolo"]
)
def test_a_number_in_place_of_dotas_class_is_refused_unless_it_is_one(line: str, root: Path):
    write(root / "labelTxt/a.txt", line)
    with pytest.raises(DataError, match=r"a\.txt:1: .*a number for its class; .*--classes"):
        read_one(root, "dota")
    assert read_one(root, "dota", classes=("0", "0.2")).names == (line.split()[-1],)


def test_a_class_to_ignore_that_does_not_occur_is_refused(root: Path):
    write(root / "dota/labelTxt/a.txt", f"{SQUARE} ship 0")
    with pytest.raises(ConfigError, match=r'--ignore: no object is of class "shp"; use ship'):
        read_one(root, "dota", ignore=("shp",))
    write(root / "yolo/labels/a.txt", "0 0.5 0.5 0.1 0.1")
    rules: dict[str, Any] = {"classes": None, "labels": (str(root / "yolo/labels"),)}
    write(root / "classes.txt", "car\nship\n")
    assert read_one(root, "yolo", ignore=("ship",), **rules).names == ("car",)
    with pytest.raises(ConfigError, match=r'"shp"; use car, ship'):
        read_one(root, "yolo", ignore=("shp",), **rules)


def test_an_empty_file_means_no_objects(root: Path):
    write(root / "labelTxt/a.txt", "")
    assert read_one(root, "dota").names == ()


def test_images_and_labels_without_the_other_are_counted(root: Path):
    draw(root / "images/b.png")
    write(root / "labelTxt/a.txt", f"{SQUARE} ship 0\n")
    write(root / "labelTxt/c.txt", f"{SQUARE} ship 0\n")
    found = read_annotations("dota", root, AnnotationRules())
    assert list(found.objects) == ["images/a.png"]
    assert found.tree.left_out["images without annotations"] == 1
    assert found.tree.left_out["annotations without an image"] == 1
    kept = read_annotations("dota", root, AnnotationRules(keep_unlabelled=True))
    assert kept.objects["images/b.png"].names == ()


def test_labels_of_the_same_names_go_with_the_nearest_folders(tmp_path: Path):
    for part, name in (("train/part1", "x"), ("train/part2", "y"), ("val", "z")):
        draw(tmp_path / part / "images/0.png")
        write(tmp_path / part / "labelTxt/0.txt", f"{SQUARE} {name} 0\n")
    draw(tmp_path / "test/images/0.png")
    found = read_annotations("dota", tmp_path, AnnotationRules())
    names = {path: each.names[0] for path, each in found.objects.items()}
    assert names == {
        "train/part1/images/0.png": "x",
        "train/part2/images/0.png": "y",
        "val/images/0.png": "z",
    }
    assert {file.path: file.split for file in found.tree.files} == {
        path: path.split("/")[0] for path in names
    }


def test_two_files_for_an_image_are_refused_until_one_is_chosen(root: Path):
    for version in ("v1", "v2"):
        write(root / version / "a.txt", f"{SQUARE} {version} 0\n")
    with pytest.raises(DataError, match=r"has 2 files of annotations.*--labels"):
        read_one(root, "dota")
    assert read_one(root, "dota", labels=("v2",)).names == ("v2",)
    with pytest.raises(DataError, match=r"v3.*no folder"):
        read_one(root, "dota", labels=("v3",))


def test_an_unknown_class_is_refused_unless_it_is_ignored(root: Path):
    write(root / "labelTxt/a.txt", f"{SQUARE} ship 0\n{SQUARE} car 0\n")
    with pytest.raises(DataError, match=r'a\.txt:2: .*"car".*--ignore'):
        read_one(root, "dota", classes=("ship",))
    found = read_annotations("dota", root, AnnotationRules(classes=("ship",), ignore=("car",)))
    assert found.tree.left_out["objects of ignored classes"] == 1


def test_a_polygon_that_crosses_itself_becomes_its_hull():
    crossed = to_corners([0, 0, 10, 10, 10, 0, 0, 10], "x")
    assert crossed is not None
    assert {tuple(point) for point in crossed.tolist()} == {(0, 0), (10, 0), (10, 10), (0, 10)}
    # In their order around the object, as the shoelace formula shows.
    x, y = crossed.T
    shoelace = abs((x * np.roll(y, -1) - y * np.roll(x, -1)).sum()) / 2
    assert shoelace == pytest.approx(100)


def test_objects_without_area_are_counted(root: Path):
    write(root / "labelTxt/a.txt", f"1 1 9 1 9 1 1 1 ship 0\n3 3 3 3 3 3 3 3 ship 0\n{SQUARE} ship")
    found = read_annotations("dota", root, AnnotationRules())
    assert len(found.objects["images/a.png"].names) == 1
    assert found.tree.left_out["objects without area"] == 2


@pytest.mark.parametrize("start", [0, 25_000])
def test_four_corners_stay_and_more_points_get_a_rectangle(start: int):
    slanted = np.array([[0, 2], [3, 0], [5, 3], [2, 5]]) + start
    four = to_corners(slanted.ravel().tolist(), "x")
    assert four is not None and (four == slanted).all()
    middle = (slanted + np.roll(slanted, -1, axis=0)) / 2
    eight = np.stack([slanted, middle], axis=1).reshape(-1).tolist()
    nearly = to_corners(eight, "x")
    assert nearly is not None
    np.testing.assert_allclose(areas(nearly[None] - start), areas(four[None] - start), rtol=1e-3)


@pytest.mark.parametrize("outline", [[1, 2, 3, 4], [1, 2, 3, 4, 5, float("nan")], [1e9] * 8])
def test_an_outline_of_no_pixels_is_refused(outline: list[float]):
    with pytest.raises(DataError, match="outline"):
        to_corners(outline, "x")


def test_yolo_takes_boxes_corners_and_outlines_by_number(root: Path):
    write(root / "data.yaml", "names: {0: car, 3: ship}\n")
    lines = "3 0.5 0.5 0.5 0.2\n0 -0.1 0 0.5 0 0.5 0.5 -0.1 0.5\n0 0 0 1 0 0.5 1\n"
    write(root / "labels/a.txt", lines)
    found = read_one(root, "yolo")
    assert found.names == ("ship", "car", "car")
    expected = [[10, 12, 30, 18], [-4, 0, 20, 15]]
    np.testing.assert_allclose(boxes(found)[:2], expected, atol=1e-4)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("0 12 14 20 22", "divide x"),
        ("7 0.5 0.5 0.1 0.1", "has class 7"),
        ("0 0.5 0.5 0.1 0.1 0.9", "is not class x y"),
        ("ship 0.5 0.5 0.1 0.1", "is not class x y"),
        ("0 0.5 0.5 -0.1 0.1", "has a box -0.1 wide"),
    ],
)
def test_another_yolo_line_is_refused(line: str, problem: str, root: Path):
    write(root / "classes.txt", "car\nship\n")
    write(root / "labels/a.txt", line)
    with pytest.raises(DataError, match=rf"a\.txt:1: .*{problem}"):
        read_one(root, "yolo")


def test_yolo_without_names_is_refused(root: Path):
    write(root / "labels/a.txt", "")
    with pytest.raises(DataError, match="--classes"):
        read_one(root, "yolo")


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ({"classes.txt": "car\n\nship\n"}, r"classes\.txt:2: is empty"),
        ({"data.yaml": "names: [no, ship]"}, 'has "False" for the name of class 0'),
        ({"a.yaml": "names: [car, ship]", "b.yaml": "names: [ship, car]"}, "other classes than"),
    ],
)
def test_names_that_do_not_tell_the_class_of_a_number_are_refused(
    files: dict[str, str], problem: str, root: Path
):
    write(root / "labels/a.txt", "1 0.5 0.5 0.1 0.1")
    for name, text in files.items():
        write(root / name, text)
    with pytest.raises(DataError, match=problem):
        read_one(root, "yolo")


def make_coco(**changes: Any) -> dict[str, Any]:  # noqa: ANN401
    two = [[2, 4, 10, 4, 10, 8], [6, 4, 10, 12, 2, 12]]
    rows = [
        {"id": 7, "image_id": 50, "category_id": 9, "bbox": [2, 4, 8, 8], "segmentation": two},
        {"id": 8, "image_id": 50, "category_id": 4, "bbox": [0, 0, 20, 9], "iscrowd": 1,
         "segmentation": {"counts": [1], "size": [30, 40]}, "attributes": {"role": 2.0}},
    ]  # fmt: skip
    return {
        "images": [{"id": 50, "file_name": "a.png", "width": WIDTH, "height": HEIGHT}],
        "annotations": rows,
        "categories": [{"id": 9, "name": "ship"}, {"id": 4, "name": "car"}],
    } | changes


def read_coco(root: Path, page: dict[str, Any], **rules: Any) -> AnnotatedImages:  # noqa: ANN401
    write(root / "instances_train.json", json.dumps(page))
    return read_annotations("coco", root, AnnotationRules(**rules))


def test_coco_maps_any_ids_and_a_crowd_is_ignored(root: Path):
    found = read_coco(root, make_coco())
    objects = found.objects["images/a.png"]
    assert (found.classes, objects.names) == (("car", "ship"), ("ship", "car"))
    assert objects.flags.tolist() == [0, IGNORED]
    assert boxes(objects) == [[2, 4, 10, 12], [0, 0, 20, 9]]
    assert found.sizes == {"images/a.png": (HEIGHT, WIDTH)}


def test_polygons_of_a_coco_object_become_one_outline(root: Path):
    rows = make_coco()["annotations"][:1]
    objects = read_coco(root, make_coco(annotations=rows), outline="polygon").objects
    corners = objects["images/a.png"].corners
    points = np.array([[2, 12], [10, 12], [10, 4], [2, 4]], np.float32)
    assert all(cv2.pointPolygonTest(corners[0], tuple(map(float, p)), True) > -0.01 for p in points)


def test_the_class_may_be_an_attribute(root: Path):
    rows = make_coco()["annotations"][1:]
    found = read_coco(root, make_coco(annotations=rows), class_from="role")
    assert found.objects["images/a.png"].names == ("2",)
    with pytest.raises(DataError, match=r'annotation 8: has no "wings"; name one of .*role'):
        read_coco(root, make_coco(annotations=rows), class_from="wings")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"annotations": [{"id": 1, "image_id": 3}]}, "not among the images"),
        ({"annotations": [{"id": 1, "image_id": 50, "category_id": 1, "bbox": [0, 0, 1, 1]}]},
         "not among the categories"),
        ({"categories": []}, "not among the categories"),
        ({"images": [{"id": 1, "file_name": "a.png"}] * 2}, "two images of one id"),
        ({"images": 3}, "is not as COCO"),
        ({"categories": [{"id": 9, "name": "ship"}, {"id": 9, "name": "car"}]},
         "two categories of id 9"),
        ({"annotations": [{"id": 1, "image_id": 50, "category_id": 9, "bbox": [9, 9, -5, 3]}]},
         "annotation 1: has a bbox -5 wide"),
        ({"annotations": [{"id": 1, "image_id": 50, "category_id": 9, "bbox": [0, 0, 1, 1],
                           "iscrowd": "0"}]}, 'annotation 1: has iscrowd "0"'),
        ({"images": [{"id": 50, "file_name": "a.png", "height": float("inf")}]}, "is not as COCO"),
        ({"categories": [{"id": float("inf"), "name": "a"}]}, "has no categories"),
        ({"images": [{"id": 50, "file_name": "other.png"}]}, "no image that the annotations name"),
    ],
)  # fmt: skip
def test_a_coco_file_that_disagrees_with_itself_is_refused(
    change: dict[str, Any], problem: str, root: Path
):
    with pytest.raises(DataError, match=problem):
        read_coco(root, make_coco(**change))


def test_each_coco_file_can_be_of_a_split(root: Path):
    draw(root / "images/b.png")
    write(root / "one.json", json.dumps(make_coco()))
    images = [{"id": 50, "file_name": "b.png"}]
    write(root / "two.json", json.dumps(make_coco(images=images)))
    with pytest.raises(DataError, match="--labels train=FILE"):
        read_annotations("coco", root, AnnotationRules())
    found = read_annotations("coco", root, AnnotationRules(), ("train=one.json", "val=two.json"))
    splits = {file.path: file.split for file in found.tree.files}
    assert splits == {"images/a.png": "train", "images/b.png": "val"}


def test_an_image_in_the_folder_of_another_split_is_another(tmp_path: Path):
    draw(tmp_path / "val/a.png")
    images = [{"id": 50, "file_name": "train/a.png"}]
    write(tmp_path / "one.json", json.dumps(make_coco(images=images)))
    with pytest.raises(DataError, match="has no image that the annotations name"):
        read_annotations("coco", tmp_path, AnnotationRules(), ("train=one.json",))
    images = [{"id": 50, "file_name": "a.png"}]
    write(tmp_path / "one.json", json.dumps(make_coco(images=images)))
    found = read_annotations("coco", tmp_path, AnnotationRules(), ("train=one.json",))
    assert [file.path for file in found.tree.files] == ["val/a.png"]


def voc(item: str, name: str = "<name>ship</name>") -> str:
    return f"<annotation><object>{name}<difficult>1</difficult>{item}</object></annotation>"


BNDBOX = "<bndbox><xmin>2</xmin><ymin>4</ymin><xmax>10</xmax><ymax>12</ymax></bndbox>"
DIOR = "".join(
    f"<{axis}_{place}>{value}</{axis}_{place}>"
    for place, point in zip(
        ("left_top", "right_top", "right_bottom", "left_bottom"),
        ((2, 4), (10, 4), (10, 12), (2, 12)),
        strict=True,
    )
    for axis, value in zip("xy", point, strict=True)
)
QUARTER = "1.5707963"


@pytest.mark.parametrize(
    ("item", "box"),
    [
        (BNDBOX, [2, 4, 10, 12]),
        (f"<robndbox>{DIOR}</robndbox>", [2, 4, 10, 12]),
        (f"<robndbox><cx>6</cx><cy>8</cy><w>10</w><h>4</h><angle>{QUARTER}</angle></robndbox>",
         [4, 3, 8, 13]),
        (f"<mbox_cx>6</mbox_cx><mbox_cy>8</mbox_cy><mbox_w>10</mbox_w><mbox_h>4</mbox_h>"
         f"<mbox_ang>{QUARTER}</mbox_ang>", [4, 3, 8, 13]),
        ("<points><point>2,4</point><point>10,4</point><point>10,12</point><point>2,12</point>"
         "<point>2,4</point></points>", [2, 4, 10, 12]),
        (f"{BNDBOX}<robndbox><cx>6</cx><cy>8</cy><w>4</w><h>2</h><angle>0</angle></robndbox>",
         [4, 7, 8, 9]),
    ],
)  # fmt: skip
def test_xml_holds_boxes_of_many_forms(item: str, box: list[float], root: Path):
    write(root / "xml/a.xml", voc(item))
    found = read_one(root, "voc")
    np.testing.assert_allclose(boxes(found), [box], atol=1e-4)
    assert (found.names, found.flags.tolist()) == (("ship",), [DIFFICULT])


def test_the_angle_of_a_box_turns_from_x_to_y(root: Path):
    item = "<cx>20</cx><cy>15</cy><w>10</w><h>2</h><angle>0.5</angle>"
    write(root / "xml/a.xml", voc(f"<robndbox>{item}</robndbox>"))
    corners = read_one(root, "voc").corners[0]
    far = corners[[1, 2]].mean(axis=0) - (20, 15)
    np.testing.assert_allclose(far, [5 * np.cos(0.5), 5 * np.sin(0.5)], atol=1e-4)


def test_voc_pixels_may_count_from_one(root: Path):
    write(root / "xml/a.xml", voc(BNDBOX))
    assert boxes(read_one(root, "voc", one_based=True)) == [[1, 3, 10, 12]]


@pytest.mark.parametrize(
    ("page", "problem"),
    [
        ("<annotation>", "is no XML"),
        (voc(BNDBOX, ""), "object 1: has no name"),
        (voc(""), "object 1: has no bndbox"),
        (voc(BNDBOX.replace("10", "ten")), "object 1: .*ten"),
        (voc(BNDBOX).replace("<difficult>1", "<difficult>false"), '1: has difficult "false"'),
        (voc("<points><point>2,4,0</point><point>9,4,0</point></points>"), '"2,4,0".*not x,y'),
        ('<?xml version="1.0" encoding="none"?><annotation/>', "is no XML: .*none"),
        ("<metadata/>", "has no object, and is a <metadata>"),
    ],
)
def test_broken_xml_is_refused(page: str, problem: str, root: Path):
    write(root / "xml/a.xml", page)
    with pytest.raises(DataError, match=problem):
        read_one(root, "voc")


def test_vhr10_reads_blanks_in_brackets_and_negative_images(tmp_path: Path):
    draw(tmp_path / "positive image set/001.jpg")
    draw(tmp_path / "negative image set/001.jpg")
    text = "( 2, 4),(10,12 ),1 \r\n(3,3),(9,9),10\r\n\r\n"
    write(tmp_path / "ground truth/001.txt", text)
    found = read_annotations("vhr10", tmp_path, AnnotationRules())
    assert found.objects["positive image set/001.jpg"].names == ("airplane", "vehicle")
    assert found.objects["negative image set/001.jpg"].names == ()
    for line in ("(1,1),(9,9),11", "(1.2.3,1),(9,9),1"):
        write(tmp_path / "ground truth/001.txt", line)
        with pytest.raises(DataError, match=r"001\.txt:1.*class of 1 to 10"):
            read_annotations("vhr10", tmp_path, AnnotationRules())


def xview(*facts: tuple[str, str, float]) -> str:
    features = [
        {"properties": {"image_id": image, "bounds_imcoords": bounds, "type_id": label}}
        for image, bounds, label in facts
    ]
    return json.dumps({"type": "FeatureCollection", "features": features})


def test_xview_types_have_gaps_and_two_without_a_name(root: Path):
    rows = ("a.png", "2,4,10,12", 94), ("a.png", "1,1,3,3", 75), ("no.tif", "1,1,3,3", 11)
    write(root / "x.geojson", xview(*rows))
    found = read_annotations("xview", root, AnnotationRules())
    objects = found.objects["images/a.png"]
    assert (objects.names, boxes(objects)) == (("Tower",), [[2, 4, 10, 12]])
    assert len(found.classes or ()) == 60
    assert found.tree.left_out["objects of types without a name (75, 82)"] == 1
    assert found.tree.left_out["objects of images that are missing"] == 1


@pytest.mark.parametrize(("bounds", "label"), [("1,2,3", 11), ("1,2,3,4", 14), ("1,2,3,4", 11.5)])
def test_another_xview_feature_is_refused(bounds: str, label: float, root: Path):
    write(root / "x.geojson", xview(("a.png", bounds, label)))
    with pytest.raises(DataError, match="feature 0"):
        read_annotations("xview", root, AnnotationRules())


def write_rareplanes(root: Path, crs: str | None) -> None:
    transform = rasterio.Affine(0.5, 0, 500_000, 0, -0.5, 4_000_000)
    path = root / "PS-RGB_tiled/a.tif"
    path.parent.mkdir(parents=True)
    with rasterio.open(
        path, "w", driver="GTiff", width=WIDTH, height=HEIGHT, count=3, dtype="uint8", crs=crs,
        transform=transform,
    ) as image:  # fmt: skip
        image.write(np.full((3, HEIGHT, WIDTH), 90, np.uint8))
    xs = [500_000 + 0.5 * x for x in (2, 10, 10, 2, 2)]
    ys = [4_000_000 - 0.5 * y for y in (4, 4, 12, 12, 4)]
    ring = list(zip(*rasterio.warp.transform("EPSG:32614", "EPSG:4326", xs, ys), strict=True))
    feature = {
        "type": "Feature",
        "properties": {"role": "Small Civil", "num_engines": 2},
        "geometry": {"type": "Polygon", "coordinates": [ring]},
    }
    page = {"type": "FeatureCollection", "features": [feature]}
    write(root / "geojson_aircraft_tiled/a.geojson", json.dumps(page))


@pytest.mark.parametrize(
    ("field", "name"), [(None, "aircraft"), ("role", "Small Civil"), ("num_engines", "2")]
)
def test_rareplanes_lie_on_their_images(field: str | None, name: str, tmp_path: Path):
    write_rareplanes(tmp_path, "EPSG:32614")
    found = read_one(tmp_path, "rareplanes", class_from=field)
    assert found.names == (name,)
    np.testing.assert_allclose(boxes(found), [[2, 4, 10, 12]], atol=1e-2)


def test_rareplanes_without_a_place_on_the_ground_are_refused(tmp_path: Path):
    write_rareplanes(tmp_path, None)
    with pytest.raises(DataError, match="not georeferenced"):
        read_one(tmp_path, "rareplanes")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"crs": {"properties": {"name": "\ud800"}}}, "unknown .crs."),
        ({"features": None}, "is no GeoJSON of features"),
    ],
)
def test_another_geojson_of_rareplanes_is_refused(
    change: dict[str, Any], problem: str, tmp_path: Path
):
    write_rareplanes(tmp_path, "EPSG:32614")
    path = tmp_path / "geojson_aircraft_tiled/a.geojson"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(DataError, match=problem):
        read_one(tmp_path, "rareplanes")


def test_an_aircraft_without_attributes_has_no_class_from_one(tmp_path: Path):
    write_rareplanes(tmp_path, "EPSG:32614")
    path = tmp_path / "geojson_aircraft_tiled/a.geojson"
    page = json.loads(path.read_text())
    page["features"][0]["properties"] = None
    path.write_text(json.dumps(page))
    with pytest.raises(DataError, match=r'feature 0: has no "role"'):
        read_one(tmp_path, "rareplanes", class_from="role")


def test_an_option_of_another_format_is_refused(root: Path):
    with pytest.raises(ConfigError, match="--class-from: goes with coco and rareplanes"):
        read_annotations("dota", root, AnnotationRules(class_from="role"))


@pytest.mark.parametrize("layout", ["dota", "coco", "yolo", "voc", "xview", "rareplanes", "vhr10"])
def test_a_folder_without_images_or_annotations_is_refused(layout: str, tmp_path: Path):
    with pytest.raises(RsdlError, match="no such folder"):
        read_annotations(layout, tmp_path / "none", AnnotationRules(classes=("a",)))
    with pytest.raises(RsdlError, match="has no images"):
        read_annotations(layout, tmp_path, AnnotationRules(classes=("a",)))
    draw(tmp_path / "a.png")
    with pytest.raises(RsdlError, match=r"has no (annotations|\.)"):
        read_annotations(layout, tmp_path, AnnotationRules(classes=("a",)))


@given(st.lists(st.integers(-3, 3), min_size=8, max_size=8))
def test_four_corners_span_the_hull_of_any_four_points(outline: list[int]):
    points = MultiPoint(np.array(outline).reshape(4, 2))
    hull = points.convex_hull
    found = to_corners([float(number) for number in outline], "x")
    assert (found is None) == (hull.area == 0)
    if found is not None:
        ring = Polygon(found)
        assert ring.convex_hull.area == pytest.approx(hull.area)
        # Where all four are corners of the hull, their order goes around it.
        assert ring.is_valid or len(hull.exterior.coords) < 5
