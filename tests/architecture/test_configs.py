"""Every committed config loads, is short, and is what editors are told."""

import json
import re
import runpy
from pathlib import Path

import jsonschema
import pytest
import yaml

from rsdl.commands.config import schema_text
from rsdl.config.load import load_config
from rsdl.config.task import DetectionConfig
from rsdl.data.sources.catalog import DATASETS
from rsdl.models.catalog import ARCHITECTURES

CONFIGS = Path(__file__).parents[2] / "configs"
STUDY = [f"{name}_{data}" for name in ARCHITECTURES for data in ("ucm", "aid", "resisc45")]
FILES = sorted(path.relative_to(CONFIGS).as_posix() for path in CONFIGS.rglob("*.yaml"))
SEGMENTATION = [
    f"{name}_{data}" for name in ARCHITECTURES for data in ("loveda", "potsdam", "burned")
]
DETECTION = [f"{name}_{data}" for name in ARCHITECTURES for data in ("dota", "xview", "rareplanes")]
# Detectors of the published study by their nearest of ours.
PUBLISHED = [
    f"{name}_{data}"
    for name in (
        "convnext_base_faster_rcnn", "swin_base_faster_rcnn", "vit_base_retinanet",
        "resnext101_retinanet", "resnext101_fcos", "vgg16_retinanet", "darknet53_retinanet",
        "cspdarknet53_dense", "resnet50_rt_detr_v2", "resnet50_deformable_detr",
    )
    for data in ("dota", "xview", "rareplanes")
]  # fmt: skip
RUNS = [name for name in FILES if "/" not in name]


def test_the_study_has_27_configs_and_there_is_a_quickstart():
    assert len(STUDY) == 27
    assert {f"{name}.yaml" for name in [*STUDY, "quickstart"]} <= set(RUNS)


@pytest.mark.parametrize("name", RUNS)
def test_every_config_loads(name: str):
    load_config(str(CONFIGS / name))


@pytest.mark.parametrize("name", STUDY)
def test_a_config_of_the_study_is_a_few_lines_over_shared_pieces(name: str):
    text = (CONFIGS / f"{name}.yaml").read_text()
    assert len([line for line in text.splitlines() if line and not line.startswith("#")]) < 10
    assert len(yaml.safe_load(text)["extends"]) == 2
    config = load_config(str(CONFIGS / f"{name}.yaml"))
    architecture, _, dataset = name.rpartition("_")
    assert (config.name, config.model.name) == (name, architecture)
    assert dataset in DATASETS and config.data.url.endswith(f"/{dataset}")
    assert config.trainer.max_epochs == 300
    assert config.model.weights == "pretrained" and config.optim.base_lr is not None


@pytest.mark.parametrize("name", STUDY)
def test_a_config_of_the_study_becomes_one_from_scratch_by_one_more_recipe(
    name: str, tmp_path: Path
):
    path = tmp_path / "scratch.yaml"
    path.write_text(f"extends: [{CONFIGS}/{name}.yaml, {CONFIGS}/recipes/scratch.yaml]\n")
    config = load_config(str(path))
    assert config.model.weights == "none" and config.model.drop_path_rate is None
    assert config.optim.layer_decay is None and config.optim.ema_decay is None
    assert config.optim.lr == 5e-4  # at batches of 64


def test_the_page_of_recipes_is_up_to_date():
    page = runpy.run_path(str(CONFIGS.parent / "scripts/recipes"))["page"]()
    assert (CONFIGS.parent / "docs/recipes.md").read_text() == page, "run scripts/recipes"


@pytest.mark.parametrize("name", SEGMENTATION)
def test_a_config_of_segmentation_is_a_few_lines_over_shared_pieces(name: str):
    path = CONFIGS / "segmentation" / f"{name}.yaml"
    assert len(path.read_text().splitlines()) < 8
    config = load_config(str(path))
    architecture, _, dataset = name.rpartition("_")
    assert (config.name, config.model.name) == (name, architecture)
    assert config.task.name == "segmentation" and config.data.url.endswith(f"/{dataset}")
    assert config.model.weights == "pretrained"


@pytest.mark.parametrize("name", DETECTION)
def test_a_config_of_detection_is_a_few_lines_over_shared_pieces(name: str):
    path = CONFIGS / "detection" / f"{name}.yaml"
    assert len(path.read_text().splitlines()) < 8
    config = load_config(str(path))
    architecture, _, dataset = name.rpartition("_")
    assert (config.name, config.model.name) == (name, architecture)
    assert config.task.name == "detection" and config.data.url.endswith(f"/{dataset}")
    assert config.task.is_oriented == (dataset == "dota")
    assert config.data.crop_ratio == (1, 1)  # boxes keep their shape
    assert config.model.weights == "pretrained"


def test_the_published_study_of_detectors_has_an_analogue_of_each():
    found = {Path(name).stem for name in FILES if name.startswith("detection/study/")}
    assert sorted(found & set(PUBLISHED)) == sorted(PUBLISHED) and len(PUBLISHED) == 30
    assert {name.rpartition("_")[0] for name in PUBLISHED} == found - set(PUBLISHED) - {"base"}


@pytest.mark.parametrize("name", PUBLISHED)
def test_an_analogue_has_the_settings_of_the_published_study(name: str):
    config = load_config(str(CONFIGS / f"detection/study/{name}.yaml"))
    detector, _, dataset = name.rpartition("_")
    assert isinstance(config.task, DetectionConfig) and not config.task.is_oriented
    assert config.name == name and detector == f"{config.model.name}_{config.task.head}"
    assert (config.data.image_size, config.trainer.max_epochs) == (512, 300)
    # Tiles of DOTA are larger otherwise.
    assert config.data.url.endswith("/dota_512" if dataset == "dota" else f"/{dataset}")
    assert config.data.batch_size % config.trainer.accumulate == 0
    recipe = (CONFIGS / f"detection/study/recipes/{detector}.yaml").read_text()
    assert "# An analogue of" in recipe


@pytest.mark.parametrize("name", [name for name in FILES if "recipes/" in name])
def test_every_value_that_a_recipe_takes_from_elsewhere_has_its_source(name: str):
    text = (CONFIGS / name).read_text()
    values = [line for line in text.splitlines() if re.match(r"  \w+: ", line)]
    own = (
        "batch_size", "max_epochs", "every_minutes", "weights", "null", "crop_scale",
        "crop_ratio", "accumulate", "  name: detection",
        "  name: segmentation", "  head: upernet",
    )  # fmt: skip
    bare = [line for line in values if "  # " not in line and not any(key in line for key in own)]
    assert values and not bare
    cited = {word for line in values for word in re.findall(r"  # (\w+)", line)} - {"the"}
    assert all(re.search(rf"^# {word}: \w", text, re.M) for word in cited)


@pytest.mark.parametrize("name", FILES)
def test_editors_find_the_schema_and_it_accepts_the_file(name: str):
    text = (CONFIGS / name).read_text()
    mark = "# yaml-language-server: $schema="
    assert text.startswith(mark)
    schema = (CONFIGS / name).parent / text.splitlines()[0].removeprefix(mark)
    assert schema.resolve() == CONFIGS / "schema.json"
    jsonschema.validate(yaml.safe_load(text), json.loads(schema.read_text()))


def test_the_schema_is_up_to_date():
    stored = (CONFIGS / "schema.json").read_text()
    assert stored == schema_text(), 'run "rsdl config --schema > configs/schema.json"'


@pytest.mark.parametrize(
    "tree",
    [
        {"optim": {"rate": 1}},
        {"optim": {"lr": -1}},
        {"trainer": {"max_epochs": "many"}},
        {"seeds": 1},
        {"extends": 3},
    ],
)
def test_the_schema_refuses_what_loading_refuses(tree: dict[str, object]):
    schema = json.loads((CONFIGS / "schema.json").read_text())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(tree, schema)
