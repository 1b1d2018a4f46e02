"""Each published detection set, as its authors arrange, name and split it."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rsdl.cli import app
from rsdl.commands.data import SplitChoice
from rsdl.commands.prepare import PrepareOptions
from rsdl.commands.prepare import prepare as prepare_command
from rsdl.core.errors import ConfigError, DataError
from rsdl.data.packing.pack import PackOptions
from rsdl.data.packing.verify import check_dataset
from rsdl.data.sample import Sample
from rsdl.data.sources.catalog import DATASETS
from rsdl.data.sources.detection_catalog import DETECTION_DATASETS, DIOR_CLASSES, DOTA_CLASSES
from rsdl.data.sources.object_source import ObjectSource
from rsdl.data.sources.published_objects import ObjectChoice, prepare_objects
from rsdl.data.sources.segmentation_catalog import SEGMENTATION_DATASETS
from rsdl.storage.connect import connect
from tests.unit.data.sources.published_files import image, write

WHOLE = ObjectChoice(tile=0)
ASKED = PrepareOptions(origin=None, work="", split=SplitChoice())


def put(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def voc(name: str, box: str, side: int = 16) -> str:
    """Return the XML of an image with an object."""
    size = f"<size><width>{side}</width><height>{side}</height></size>"
    return f"<annotation>{size}<object>{name}{box}</object></annotation>"


BNDBOX = "<bndbox><xmin>2</xmin><ymin>3</ymin><xmax>9</xmax><ymax>8</ymax></bndbox>"


def prepare(name: str, root: Path, choice: ObjectChoice = WHOLE) -> ObjectSource:
    return prepare_objects(DETECTION_DATASETS[name], choice, origin=root, work=root / "work")


def samples_of(source: ObjectSource) -> dict[str, Sample]:
    """Return the samples by split and key."""
    found = {}
    for plan in source.shards(10**9):
        for item in plan.items:
            sample = source.read(item)
            assert isinstance(sample, Sample)
            found[f"{plan.split}/{sample.key}"] = sample
    return found


def objects_of(source: ObjectSource) -> dict[str, list[str]]:
    """Return the classes of the objects of each sample."""
    return {
        key: [source.classes[label] for label in sample.target.labels]
        for key, sample in sorted(samples_of(source).items())
    }


def test_each_rule_finds_its_own_examples():
    for name, dataset in DETECTION_DATASETS.items():
        assert dataset.name == name and name not in [*DATASETS, *SEGMENTATION_DATASETS]
        for rule in dataset.rules:
            assert (rule.read is None) != (rule.read_all is None)
            for pattern, path in ((rule.image, rule.example), (rule.labels, rule.labels_example)):
                found = re.fullmatch(f"((?:.*/)?){pattern}", f"any/{path}", re.IGNORECASE)
                assert found, (name, path)
            if rule.read is not None:
                assert re.compile(rule.image).groups == re.compile(rule.labels).groups


def write_dota(root: Path, labels: str = "labelTxt-v1.0/labelTxt", name: str = "plane") -> Path:
    for number, split in enumerate(("train", "val", "test")):
        write(root / f"{split}/images/P000{number}.png", image(number))
        if split != "test":
            row = f"imagesource:GoogleEarth\r\ngsd:null\r\n2 2 9 2 9 9 2 9 {name} 0\r\n"
            put(root / f"{split}/{labels}/P000{number}.txt", row)
    return root


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("dota", "labelTxt-v1.0/labelTxt"), ("dota", "labelTxt"), ("dota", "labelTxt-v1.0"),
        ("dota", "annotations/version1.0"), ("dota1.5", "labelTxt-v1.5/DOTA-v1.5_train"),
        ("dota2.0", "annotations/version2.0"),
    ],
)  # fmt: skip
def test_dota_has_train_and_val_and_no_labels_of_test(name: str, labels: str, tmp_path: Path):
    source = prepare(name, write_dota(tmp_path / "DOTA", labels))
    assert objects_of(source) == {"train/train_P0000": ["plane"], "val/val_P0001": ["plane"]}
    assert source.left_out == {"images without annotations": 1}
    assert source.classes == DOTA_CLASSES[: {"dota": 15, "dota1.5": 16}.get(name, 18)]
    assert source.provenance["split_rule"] == "published"


def test_the_versions_of_dota_lie_beside_each_other(tmp_path: Path):
    write_dota(tmp_path, "labelTxt-v1.0/labelTxt")
    write_dota(tmp_path, "labelTxt-v1.5/labelTxt", "container-crane")
    put(tmp_path / "train/labelTxt-v1.0/trainset_reclabelTxt/P0000.txt", "wrong")
    assert objects_of(prepare("dota", tmp_path))["train/train_P0000"] == ["plane"]
    assert objects_of(prepare("dota1.5", tmp_path))["train/train_P0000"] == ["container-crane"]


def test_a_class_of_another_version_of_dota_is_refused(tmp_path: Path):
    write_dota(tmp_path, "labelTxt", "container-crane")
    with pytest.raises(DataError, match=r"P0000.txt:3: .*container-crane.*prepare dota, dota1\.5"):
        prepare("dota", tmp_path)


def test_dota_and_fair1m_are_cut_and_dior_is_not(tmp_path: Path):
    root = write_dota(tmp_path)
    write(root / "train/images/P0000.png", image(side=1200))
    source = prepare("dota", root, ObjectChoice())
    keys = {key for key in samples_of(source) if key.startswith("train")}
    assert keys == {"train/train_P0000_r00000_c00000"}  # of four tiles that with an object
    assert samples_of(source)["val/val_P0001_r00000_c00000"].pixels.shape == (1024, 1024, 3)
    half = prepare("dota", root, ObjectChoice(tile=64, overlap=8))
    assert half.provenance["objects"]["overlap"] == 8
    with pytest.raises(ConfigError, match=r"--overlap: is 200 px"):
        prepare("dota", root, ObjectChoice(tile=64))
    assert DETECTION_DATASETS["dior"].rules[0].tile is None


def test_shares_replace_the_published_split(tmp_path: Path):
    source = prepare("dota", write_dota(tmp_path), ObjectChoice(tile=0, fractions=(0.5, 0, 0.5)))
    assert {key.partition("/")[0] for key in samples_of(source)} == {"train", "test"}
    assert source.provenance["split_rule"] == "stratified by class"


def write_dior(root: Path, boxes: str = "Horizontal Bounding Boxes/") -> Path:
    names = ["airplane", "Expressway-Service-area", "expresswaytollstation"]
    for number, split in enumerate(("train", "val", "test")):
        folder = "JPEGImages-test" if split == "test" else "JPEGImages-trainval"
        write(root / f"{folder}/0000{number}.jpg", image(number))
        name = f"<name>{names[number]}</name>"
        put(root / f"Annotations/{boxes}0000{number}.xml", voc(name, BNDBOX))
        put(root / f"ImageSets/Main/{split}.txt", f"0000{number}\n")
    return root


def test_dior_has_the_split_of_its_lists_and_its_classes_in_any_spelling(tmp_path: Path):
    root = write_dior(tmp_path / "boxes")
    expected = {
        "train/00000": ["airplane"],
        "val/00001": ["Expressway-Service-area"],
        "test/00002": ["Expressway-toll-station"],
    }
    source = prepare("dior", root)
    assert objects_of(source) == dict(sorted(expected.items())) and source.classes == DIOR_CLASSES
    assert objects_of(prepare("dior", write_dior(tmp_path / "plain", ""))) == objects_of(source)
    with pytest.raises(DataError, match=r"no Annotations/Oriented Bounding Boxes/00001.xml to go"):
        prepare("dior_r", root)
    (root / "ImageSets/Main/val.txt").unlink()
    with pytest.raises(DataError, match=r"has no ImageSets/Main/val.txt, which lists .*--split"):
        prepare("dior", root)


def test_the_oriented_boxes_of_dior_are_a_set_of_their_own(tmp_path: Path):
    root = write_dior(tmp_path, "Oriented Bounding Boxes/")
    assert len(objects_of(prepare("dior_r", root))) == 3
    with pytest.raises(DataError, match=r'prepare "dior_r" for these'):
        prepare("dior", root)


@pytest.mark.parametrize("above", [".", "DIOR"])
def test_the_dior_of_torchgeo_is_split_by_its_table(above: str, tmp_path: Path):
    root, rows = tmp_path / above, ["image_path,label_path,split"]
    for number, split in enumerate(("train", "val", "test")):
        folder = "test" if split == "test" else "trainval"
        write(root / f"Images/{folder}/00000{number}.jpg", image(number))
        if split != "test":
            xml = voc("<name>ship</name>", BNDBOX)
            put(root / f"Annotations/{folder}/00000{number}.xml", xml)
        rows.append(f"Images/{folder}/00000{number}.jpg,,{split}")
    put(root / "sample_df.csv", "\n".join(rows))
    source = prepare("dior", tmp_path)
    assert objects_of(source) == {
        "train/trainval_000000": ["ship"],
        "val/trainval_000001": ["ship"],
    }


def write_xview(root: Path, rows: list[tuple[str, int]], names: list[str]) -> Path:
    for number, name in enumerate(names):
        write(root / f"train_images/{name}", image(number))
    write(root / "val_images/7.tif", image(9))
    features = [
        {"properties": {"image_id": name, "type_id": label, "bounds_imcoords": "2,3,9,8"}}
        for name, label in rows
    ]
    nowhere = {"image_id": names[0], "type_id": 18, "bounds_imcoords": []}
    features.append({"properties": nowhere})
    put(root / "train_labels/xView_train.geojson", json.dumps({"features": features}))
    return root


def test_xview_has_no_published_val_a_missing_image_and_types_without_a_name(tmp_path: Path):
    rows = [("100.tif", 18), ("1395.tif", 11), ("102.tif", 75), ("102.tif", 94), ("104.tif", 82)]
    root = write_xview(tmp_path / "x=View", rows, ["100.tif", "102.tif", "104.tif"])
    source = prepare("xview", root)
    found = objects_of(source)
    assert sorted(found.values()) == [[], ["Small Car"], ["Tower"]]
    assert {key.partition("/")[0] for key in found} == {"train", "val", "test"}
    assert len(source.classes) == 60
    assert source.left_out == {
        "images without annotations": 1,
        "objects of images that are missing": 1,
        "objects without bounds": 1,
        "objects of types without a name (75, 82)": 2,
    }
    (root / "train_labels/xView_train.geojson").unlink()
    with pytest.raises(DataError, match=r"train_images/100.tif\", and no xView_train.geojson to"):
        prepare("xview", root)


def write_rareplanes(root: Path, pattern: str, folder: str) -> Path:
    for number, split in enumerate(("Train", "Test")):
        name = f"{number}_104_tile_{number}.png"
        write(root / f"{split.lower()}/{folder}/{name}", image(number))
        plane = {
            "id": 1, "image_id": 5, "category_id": None, "bbox": [2, 3, 7, 5], "num_engines": 2.0,
            "segmentation": [[2, 5, 5, 3, 9, 5, 5, 8]], "role": "Small Civil Transport/Utility",
        }  # fmt: skip
        page: dict[str, Any] = {"images": [{"id": 5, "file_name": name}], "annotations": [plane]}
        # The published files have a category for each aircraft, which names no class.
        page["categories"] = [{"image_fname": name}]
        put(root / "metadata_annotations" / pattern.format(split), json.dumps(page))
    return root


def test_rareplanes_takes_an_attribute_for_the_class(tmp_path: Path):
    pattern = "RarePlanes_{}_Coco_Annotations_tiled.json"
    root = write_rareplanes(tmp_path / "real", pattern, "PS-RGB_tiled")
    source = prepare("rareplanes", tmp_path)
    assert [*objects_of(source).values()] == [["aircraft"], ["aircraft"]]
    assert {key.partition("/")[0] for key in objects_of(source)} == {"train", "test"}
    by_role = prepare("rareplanes", root, ObjectChoice(tile=0, class_from="role"))
    assert by_role.classes == ("Small Civil Transport/Utility",)
    drawn = prepare("rareplanes", root, ObjectChoice(fractions=(0.5, 0, 0.5)))
    assert drawn.provenance["groups"] == 2
    with pytest.raises(DataError, match=r'has no "wings"; name one of bbox|has no "wings"'):
        prepare("rareplanes", root, ObjectChoice(class_from="wings"))
    with pytest.raises(ConfigError, match=r"--class-from: the objects of dota have a class each"):
        prepare("dota", root, ObjectChoice(class_from="role"))


def test_synthetic_rareplanes_is_cut(tmp_path: Path):
    write_rareplanes(tmp_path / "synthetic", "instances_{}_aircraft.json", "images")
    sizes = [sample.pixels.shape for sample in samples_of(prepare("rareplanes", tmp_path)).values()]
    assert sizes == [(16, 16, 3)] * 2
    cut = prepare("rareplanes", tmp_path, ObjectChoice())
    assert [sample.pixels.shape for sample in samples_of(cut).values()] == [(512, 512, 3)] * 2


def test_rareplanes_without_the_images_of_train_is_refused(tmp_path: Path):
    pattern = "RarePlanes_{}_Coco_Annotations_tiled.json"
    root = write_rareplanes(tmp_path, pattern, "PS-RGB_tiled")
    (root / "train/PS-RGB_tiled/0_104_tile_0.png").unlink()
    with pytest.raises(
        DataError, match=r"has no images of train with annotations, such as train/PS"
    ):
        prepare("rareplanes", root)


def test_the_negative_images_of_vhr10_have_no_objects(tmp_path: Path):
    root = tmp_path / "NWPU VHR-10 dataset"
    write(root / "positive image set/001.jpg", image(0))
    write(root / "positive image set/002.jpg", image(1))
    write(root / "negative image set/001.jpg", image(2))
    put(root / "ground truth/001.txt", "( 2, 3),(9,8), 1 \r\n(2,3),( 9, 8),10\n")
    source = prepare("vhr10", tmp_path, ObjectChoice(fractions=(1, 0, 0)))
    expected = {"train/001": ["airplane", "vehicle"], "train/empty_001": []}
    assert objects_of(source) == expected
    assert source.left_out == {"images without annotations": 1}
    (root / "ground truth/001.txt").unlink()
    with pytest.raises(DataError, match=r"no ground truth/001.txt to go with; put it there"):
        prepare("vhr10", tmp_path)


SHIP = (
    "<Class_ID>100000013</Class_ID><mbox_cx>8</mbox_cx><mbox_cy>8</mbox_cy><mbox_w>8</mbox_w>"
    "<mbox_h>4</mbox_h><mbox_ang>0.5</mbox_ang>"
)


def write_hrsc(root: Path, folder: str, number: int) -> None:
    write(root / f"{folder}/AllImages/10000000{number}.bmp", image(number))
    xml = voc("", SHIP).replace("object>", "HRSC_Object>")
    put(root / f"{folder}/Annotations/10000000{number}.xml", xml)


def test_hrsc2016_has_lists_or_folders_of_its_split(tmp_path: Path):
    for number, split in enumerate(("train", "val", "test")):
        write_hrsc(tmp_path / "lists", "FullDataSet", number)
        put(tmp_path / f"lists/ImageSets/{split}.txt", f"10000000{number}\n")
    write_hrsc(tmp_path / "lists", "FullDataSet", 3)
    source = prepare("hrsc2016", tmp_path / "lists")
    keys = {"train/100000000", "val/100000001", "test/100000002"}
    assert objects_of(source) == {key: ["ship"] for key in sorted(keys)}
    assert source.left_out == {"in no list of --split-files": 1}
    write_hrsc(tmp_path / "folders", "Train", 0)
    write_hrsc(tmp_path / "folders", "Test", 1)
    found = objects_of(prepare("hrsc2016", tmp_path / "folders"))
    assert {key.partition("/")[0] for key in found} == {"train", "test"}
    (tmp_path / "lists/ImageSets/train.txt").unlink()
    with pytest.raises(DataError, match=r"has no ImageSets/train.txt, which lists"):
        prepare("hrsc2016", tmp_path / "lists")


def test_fair1m_has_parts_whose_images_share_their_names(tmp_path: Path):
    points = "<points><point>2,3</point><point>9,3</point><point>9,8</point></points>"
    result = "<possibleresult><name>{}</name></possibleresult>"
    for folder, name in (
        ("train/part1", "Boeing737"), ("train/part2", "other-ship"), ("validation", "Bridge"),
    ):  # fmt: skip
        write(tmp_path / folder / "images/0.tif", image())
        labels = "labelXmls" if folder.endswith("2") else "labelXml"
        put(tmp_path / folder / labels / "0.xml", voc(result.format(name), points))
    write(tmp_path / "test/images/0.tif", image())
    source = prepare("fair1m", tmp_path)
    assert objects_of(source) == {
        "train/train_part1_0": ["Boeing737"],
        "train/train_part2_0": ["other-ship"],
        "val/validation_0": ["Bridge"],
    }
    assert source.left_out == {"images without annotations": 1}
    put(tmp_path / "validation/labelXml/0.xml", voc(result.format("zeppelin"), points))
    with pytest.raises(DataError, match=r'"zeppelin".*it is no class of FAIR1M'):
        prepare("fair1m", tmp_path)


@pytest.mark.parametrize("name", DETECTION_DATASETS)
def test_another_folder_is_refused_with_what_was_looked_for(name: str, tmp_path: Path):
    write(tmp_path / "pictures/a.png", image())
    rule = DETECTION_DATASETS[name].rules[0]
    with pytest.raises(DataError) as caught:
        prepare(name, tmp_path)
    said = str(caught.value)
    assert f"such as {rule.example} with {rule.labels_example}" in said and "\n" not in said
    with pytest.raises(DataError, match=f"^{name}: is only given out by hand"):
        prepare_objects(DETECTION_DATASETS[name], WHOLE, origin=None, work=tmp_path)


def run(name: str, tmp_path: Path, asked: PrepareOptions) -> int:
    asked = replace(asked, origin=str(tmp_path / "data"), work=str(tmp_path / "work"))
    options = PackOptions(num_workers=1)
    return prepare_command(name, asked, out=str(tmp_path / "out"), options=options)


def test_the_command_packs_what_verify_accepts(tmp_path: Path):
    write_dota(tmp_path / "data")
    assert run("dota", tmp_path, replace(ASKED, tile=16, overlap=4)) == 0
    assert not check_dataset(connect(str(tmp_path / "out"))).problems


def test_options_of_other_kinds_of_sets_are_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match=r'--split: dota has no split "torchgeo"'):
        run("dota", tmp_path, replace(ASKED, split=SplitChoice(published="torchgeo")))
    with pytest.raises(ConfigError, match=r"--overlap: loveda is no detection set"):
        run("loveda", tmp_path, replace(ASKED, overlap=4))
    with pytest.raises(ConfigError, match=r"--class-from: ucm is no detection set"):
        run("ucm", tmp_path, replace(ASKED, class_from="role"))


def test_the_help_names_every_detection_set():
    shown = CliRunner().invoke(app, ["data", "prepare", "--help"], env={"COLUMNS": "300"}).output
    assert [name for name in DETECTION_DATASETS if name not in shown] == []
