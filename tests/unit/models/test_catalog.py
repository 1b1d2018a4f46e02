import subprocess
import sys

import pytest
import timm
import torch
from pydantic import ValidationError

from rsdl.config.model import NINE, ModelConfig
from rsdl.core.errors import ConfigError
from rsdl.models.catalog import ARCHITECTURES, build_backbone, build_model, find_timm_name

NAMES = sorted(ARCHITECTURES)
# The table that the case study publishes: millions of parameters with 21 classes.
PUBLISHED = {
    "resnet50": 23.6,
    "resnext101": 86.8,
    "densenet161": 26.5,
    "efficientnet_b5": 28.4,
    "convnext_base": 87.6,
    "vit_base": 85.8,
    "swin_base": 86.8,
    "pvt_v2_b5": 81.5,
    "maxvit_small": 68.2,
}


def build(name: str, num_classes: int, in_chans: int = 3, image_size: int = 224) -> torch.nn.Module:
    with torch.device("meta"):
        return build_model(
            ModelConfig(name=name),
            num_classes=num_classes,
            in_chans=in_chans,
            image_size=image_size,
        )


def count(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_the_config_names_the_nine_of_the_catalog():
    assert tuple(ARCHITECTURES) == NINE


def test_reading_a_config_imports_neither_torch_nor_timm():
    code = (
        "import sys; from rsdl.models.catalog import ModelConfig; ModelConfig(name='resnet50');"
        "sys.exit(len({'torch', 'timm'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_nine_have_the_published_numbers_of_parameters():
    millions = {name: round(count(build(name, 21)) / 1e6, 1) for name in NAMES}
    assert millions == PUBLISHED


def test_the_27_models_of_the_case_study_have_1725_5_million_parameters():
    total = sum(count(build(name, classes)) for name in NAMES for classes in (21, 30, 45))
    assert round(total / 1e6, 1) == 1725.5


@pytest.mark.parametrize("name", NAMES)
def test_a_classifier_takes_any_number_of_bands(name: str):
    with torch.device("meta"):
        logits = build(name, 7, in_chans=13, image_size=64).eval()(torch.empty(2, 13, 64, 64))
    assert logits.shape == (2, 7)


@pytest.mark.parametrize("name", NAMES)
def test_a_backbone_gives_maps_from_fine_to_coarse_with_channels_first(name: str):
    size = 128
    with torch.device("meta"):
        backbone = build_backbone(ModelConfig(name=name), in_chans=5, image_size=size)
        maps = backbone(torch.empty(2, 5, size, size))
    expected = [
        (2, channels, size // stride, size // stride)
        for channels, stride in zip(
            backbone.feature_info.channels(), backbone.feature_info.reduction(), strict=True
        )
    ]
    assert [tuple(one.shape) for one in maps] == expected
    assert len(maps) >= 3


def test_drop_rates_reach_the_network():
    config = ModelConfig(name="test_vit", drop_rate=0.3, drop_path_rate=0.2)
    model = build_model(config, num_classes=2, in_chans=3, image_size=32)
    rates = {module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)}
    depths = {getattr(module, "drop_prob", None) for module in model.modules()}
    assert 0.3 in rates
    assert any(depth == pytest.approx(0.2) for depth in depths if depth is not None)


def test_an_option_that_a_network_lacks_is_named():
    with pytest.raises(
        ConfigError, match=r"^model\.drop_path_rate: densenet161 has no such option"
    ):
        build_model(
            ModelConfig(name="densenet161", drop_path_rate=0.1),
            num_classes=2,
            in_chans=3,
            image_size=64,
        )


def test_a_seed_gives_the_weights_that_timm_alone_would_make():
    torch.manual_seed(3)
    ours = build_model(ModelConfig(name="test_vit"), num_classes=4, in_chans=3, image_size=64)
    torch.manual_seed(3)
    theirs = timm.create_model("test_vit", num_classes=4, img_size=64)
    for name, tensor in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[name], tensor), name


def test_a_timm_name_with_a_tag_is_known():
    assert find_timm_name("resnet50.a1_in1k") == "resnet50.a1_in1k"
    assert find_timm_name("swin_base") == "swin_base_patch4_window7_224"


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("resnet05", "resnet50"),
        ("vit_bse", "vit_base"),
        ("convnext-base", "convnext_base"),
        ("zzzz", "maxvit_small"),
        ("resnet50.nowhere", "use resnet50"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(name: str, near: str):
    with pytest.raises(ConfigError) as caught:
        build_model(ModelConfig(name=name), num_classes=2, in_chans=3, image_size=64)
    assert caught.value.where == "model.name"
    assert near in str(caught.value)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"name": ""},
        {"name": "resnet50", "drop_rate": 1},
        {"name": "resnet50", "wieghts": "none"},
    ],
)
def test_a_wrong_config_is_refused(values: dict[str, object]):
    with pytest.raises(ValidationError):
        ModelConfig.model_validate(values)


def test_every_field_is_described_in_the_schema():
    properties = ModelConfig.model_json_schema()["properties"]
    assert all(field["description"] for field in properties.values())
