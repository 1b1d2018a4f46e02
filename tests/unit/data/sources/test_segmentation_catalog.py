"""Each published segmentation set, as its authors arrange, number and split it."""

import re
from pathlib import Path

import numpy as np
import pytest

from rsdl.config.load import load_config
from rsdl.data.manifest import INDEX_COLUMNS
from rsdl.data.sources.catalog import DATASETS
from rsdl.data.sources.isprs import POTSDAM_SPLIT, VAIHINGEN_SPLIT
from rsdl.data.sources.segmentation_catalog import SEGMENTATION_DATASETS
from rsdl.data.targets.mask import IGNORE
from tests.unit.data.sources.published_files import (
    SIDE,
    flat,
    image,
    keys_of,
    prepare,
    samples_of,
    striped,
    write,
)

WHITE, BLUE, CYAN = (255, 255, 255), (0, 0, 255), (0, 255, 255)
CONFIGS = Path(__file__).parents[4] / "configs"


def test_each_rule_finds_its_own_example():
    for name, dataset in SEGMENTATION_DATASETS.items():
        assert dataset.name == name and name not in DATASETS
        for rule in dataset.rules:
            path = f"any/folder/{rule.example}"
            assert re.fullmatch(f"((?:.*/)?){rule.image}", path, re.IGNORECASE), path
            assert re.compile(rule.image).groups == re.compile(rule.mask).groups
        for url, md5 in dataset.archives:
            assert url.startswith("https://") and re.fullmatch("[0-9a-f]{32}", md5)


@pytest.mark.parametrize("name", ["loveda", "potsdam", "burned"])
def test_each_data_config_names_a_set_that_can_be_prepared(name: str, tmp_path: Path):
    path = tmp_path / "run.yaml"
    path.write_text(
        f"extends: [{CONFIGS}/data/{name}.yaml]\nname: run\nmodel: {{name: resnet50}}\n"
    )
    config = load_config(str(path))
    assert name in SEGMENTATION_DATASETS and config.data.url.endswith(f"/{name}")
    assert config.task.name == "segmentation"


def test_loveda_counts_from_one_and_its_test_split_has_no_masks(tmp_path: Path):
    for split, scene in (("Train", "Rural"), ("Val", "Urban"), ("Test", "Rural")):
        write(tmp_path / f"LoveDA/{split}/{scene}/images_png/7.png", image())
        if split != "Test":
            mask = striped([0, 1, 6, 7])
            write(tmp_path / f"LoveDA/{split}/{scene}/masks_png/7.png", mask)
    source = prepare("loveda", tmp_path)
    assert keys_of(source) == {"train": ["Train_Rural_7"], "val": ["Val_Urban_7"]}
    assert source.left_out == {"images without a mask": 1}
    assert [source.classes[code] for code in (0, 5, 6)] == ["background", "forest", "agriculture"]
    sample = samples_of(source)["Val_Urban_7"]
    assert sample.target[:4, 0].tolist() == [IGNORE, 0, 5, 6]
    assert source.provenance["split_rule"] == "published"


def test_the_isprs_tiles_are_split_as_published():
    names = [f"{row}_{col}" for row in range(2, 8) for col in range(7, 16)]
    splits = [POTSDAM_SPLIT((name,)) for name in names]
    assert (splits.count("train"), splits.count("test")) == (24, 14)
    areas = [VAIHINGEN_SPLIT((str(area),)) for area in range(1, 39)]
    assert (areas.count("train"), areas.count("test")) == (16, 17)


def test_potsdam_colours_are_classes_also_where_its_files_are_not_exact(tmp_path: Path):
    exact = [WHITE, BLUE, CYAN, (0, 255, 0), (255, 255, 0), (255, 0, 0), (0, 0, 0)]
    soft = [(225, 227, 227), (9, 14, 222), (9, 222, 221), (3, 250, 7), (252, 255, 0), (240, 9, 8)]
    for tile, colours in {"2_10": exact, "4_12": soft, "7_13": exact, "9_99": exact}.items():
        write(tmp_path / f"4_Ortho_RGBIR/top_potsdam_{tile}_RGBIR.tif", image(bands=4))
        write(tmp_path / f"2_Ortho_RGB/top_potsdam_{tile}_RGB.tif", image())
        write(tmp_path / f"5_Labels_all/top_potsdam_{tile}_label.tif", striped(colours))
    source = prepare("potsdam", tmp_path)
    assert source.bands == ("red", "green", "blue", "nir")
    assert keys_of(source) == {"train": ["2_10", "4_12"], "test": ["7_13"]}
    assert source.left_out == {"images in no published split": 1, "images of other kinds": 4}
    targets = {key: sample.target[:, 0].tolist() for key, sample in samples_of(source).items()}
    assert targets["2_10"][:7] == [0, 1, 2, 3, 4, 5, IGNORE]
    assert targets["4_12"][:6] == [0, 1, 2, 3, 4, 5]
    assert source.provenance["masks"]["nearest_colour"] is True


@pytest.mark.parametrize(
    ("name", "tile", "bands"),
    [
        ("potsdam", "3_13", ("red", "green", "blue")),
        ("vaihingen", "area2", ("nir", "red", "green")),
    ],
)
def test_tiles_of_mmsegmentation_hold_numbers_and_keep_the_split_of_their_scene(
    name: str, tile: str, bands: tuple[str, ...], tmp_path: Path
):
    write(tmp_path / f"img_dir/train/{tile}_0_0_512_512.png", image())
    write(tmp_path / f"ann_dir/train/{tile}_0_0_512_512.png", striped([0, 1, 6]))
    source = prepare(name, tmp_path)
    (sample,) = samples_of(source).values()
    assert sample.target[:3, 0].tolist() == [IGNORE, 0, 5]
    assert source.bands == bands and list(keys_of(source)) == ["test"]
    assert sample.group == tile and "group" in source.provenance[INDEX_COLUMNS]


def test_vaihingen_masks_have_the_names_of_their_images_and_other_labels_are_left_out(
    tmp_path: Path,
):
    for area in (1, 6):
        write(tmp_path / f"top/top_mosaic_09cm_area{area}.tif", image())
        write(tmp_path / f"top_mosaic_09cm_area{area}.tif", striped([WHITE, BLUE]))
    write(tmp_path / "gts_for_participants/top_mosaic_09cm_area1.tif", flat(CYAN))
    write(tmp_path / "top_mosaic_09cm_area1_noBoundary.tif", flat(CYAN))
    source = prepare("vaihingen", tmp_path)
    assert source.bands == ("nir", "red", "green")
    assert keys_of(source) == {"train": ["1"], "test": ["6"]}
    for sample in samples_of(source).values():
        assert sample.target[:2, 0].tolist() == [0, 1]


def test_the_first_five_tiles_of_each_city_of_inria_are_validation(tmp_path: Path):
    for city in ("austin", "tyrol-w"):
        for number in (1, 5, 6, 12):
            write(tmp_path / f"train/images/{city}{number}.tif", image(number))
            write(tmp_path / f"train/gt/{city}{number}.tif", flat(255))
    write(tmp_path / "test/images/innsbruck1.tif", image())
    source = prepare("inria", tmp_path)
    cities = ("train_austin_", "train_tyrol-w_")
    assert keys_of(source) == {
        "train": sorted(f"{city}{number}" for city in cities for number in (6, 12)),
        "val": sorted(f"{city}{number}" for city in cities for number in (1, 5)),
    }
    assert source.left_out == {"images without a mask": 1}
    assert {int(sample.target.max()) for sample in samples_of(source).values()} == {1}


@pytest.mark.parametrize(
    ("images", "masks", "splits"),
    [
        ("{}/sat/{}.tiff", "{}/map/{}.tif", {"train": "train", "valid": "val", "test": "test"}),
        ("tiff/{}/{}.tiff", "tiff/{}_labels/{}.tif", {"train": "train", "val": "val"}),
    ],
)
def test_white_areas_of_massachusetts_count_for_nothing_though_they_have_labels(
    images: str, masks: str, splits: dict[str, str], tmp_path: Path
):
    for folder in splits:
        pixels = image()
        pixels[:4] = 255
        write(tmp_path / images.format(folder, "10078660_15"), pixels)
        write(tmp_path / masks.format(folder, "10078660_15"), striped([255, 0]))
    source = prepare("massachusetts_roads", tmp_path)
    assert set(keys_of(source)) == set(splits.values())
    for sample in samples_of(source).values():
        assert sample.target[:6, 0].tolist() == [IGNORE] * 4 + [1, 0]
        assert sample.pixels is not None and (sample.pixels[:4] < 255).all()


def test_soft_colours_of_deepglobe_are_classes(tmp_path: Path):
    for folder, number in (("training_data", 1), ("test_data", 8)):
        write(tmp_path / f"data/{folder}/images/{number}_sat.jpg", image())
        colours = [(250, 251, 3), (0, 255, 255), (4, 4, 4)]
        write(tmp_path / f"data/{folder}/masks/{number}_mask.png", striped(colours))
    source = prepare("deepglobe", tmp_path)
    assert {split: len(keys) for split, keys in keys_of(source).items()} == {"train": 1, "test": 1}
    sample = next(iter(samples_of(source).values()))
    assert sample.target[2, 0] == IGNORE
    named = [source.classes[code] for code in sample.target[:2, 0]]
    assert named == ["agriculture", "urban"]


def test_deepglobe_as_the_challenge_gave_it_is_drawn_from_train(tmp_path: Path):
    for number in range(10):
        write(tmp_path / f"train/{number}_sat.jpg", image(number))
        write(tmp_path / f"train/{number}_mask.png", flat(CYAN))
    write(tmp_path / "valid/77_sat.jpg", image())
    source = prepare("deepglobe", tmp_path)
    counts = {split: len(keys) for split, keys in keys_of(source).items()}
    assert counts == {"train": 8, "val": 1, "test": 1}
    assert source.provenance["fractions"] == [0.8, 0.1, 0.1]


def test_burned_areas_become_float32_and_what_was_not_seen_counts_for_nothing(tmp_path: Path):
    for number in range(3):
        pixels = image(number, bands=5).astype(np.float64) + 0.5
        pixels[..., 3:] *= 40
        pixels[:2] = np.nan
        write(tmp_path / f"post_fire/LISA_{number}.tif", pixels)
        write(tmp_path / f"dnbr/LISA_{number}.tif", pixels)
        write(tmp_path / f"masks/LISA_{number}.tif", striped([1, 0]))
    source = prepare("burned", tmp_path)
    assert (source.dtype, source.bands) == ("float32", ("red", "green", "blue", "nir", "swir"))
    sample = samples_of(source)["LISA_1"]
    assert sample.target[:4, 0].tolist() == [IGNORE, IGNORE, 1, 0]
    expected = image(1, bands=5).astype(np.float32) + 0.5
    expected[..., 3:] *= 40
    assert sample.pixels is not None
    assert sample.pixels[2:].tolist() == expected[2:].tolist()
    assert sample.pixels.shape == (SIDE, SIDE, 5) and sample.meta["crs"] == "EPSG:32633"
    assert source.left_out == {"images of other kinds": 3}
