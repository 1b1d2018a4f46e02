import argparse
import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from rsdl.config.model import ModelConfig
from rsdl.core.errors import ConfigError, UnreachableError
from rsdl.models.catalog import build_model
from rsdl.models.hub import HUB_ADDRESS, open_address
from rsdl.models.normalization import Normalization, choose_normalization
from rsdl.models.remote_sensing import SECO, SENTINEL2, WEIGHTS
from tests.hub_server import Hub

OWN = Normalization((1.0,), (2.0,), "the data set")
ALL = "resnet50_sentinel2_all_moco"


def build(weights: str, bands: tuple[str, ...], name: str | None = None) -> nn.Module:
    config = ModelConfig(name=name or WEIGHTS[weights].architecture, weights=weights)
    size = 256 if "swin" in config.name else 224
    return build_model(config, num_classes=7, in_chans=len(bands), image_size=size, bands=bands)


def publish(hub: Hub, weights: str, content: Any) -> None:  # noqa: ANN401
    parts = HUB_ADDRESS.fullmatch(WEIGHTS[weights].address)
    assert parts is not None and parts["revision"]
    torch.save(content, hub.place(parts["repository"], parts["revision"], parts["file"]))


def encoder(weights: str) -> dict[str, Tensor]:
    """Return tensors as the encoder's authors name them; each takes one number on the disk."""
    row = WEIGHTS[weights]
    bands = len(row.trained_on.bands)
    with torch.device("meta"):
        if row.architecture.startswith("swinv2"):
            kind = "b" if "base" in row.architecture else "t"
            model = getattr(torchvision.models, f"swin_v2_{kind}")()
            stem = model.features[0][0]
            model.features[0][0] = nn.Conv2d(bands, stem.out_channels, 4, 4)
        else:
            model = timm.create_model(row.architecture, in_chans=bands, num_classes=0)
    return {k: torch.ones((), dtype=v.dtype).expand(v.shape) for k, v in model.state_dict().items()}


@pytest.mark.filterwarnings("ignore:for .*copying from a non-meta parameter:UserWarning")
@pytest.mark.parametrize("weights", WEIGHTS)
def test_every_published_file_fits_its_architecture(
    weights: str, hub: Hub, monkeypatch: pytest.MonkeyPatch
):
    tensors: Any = encoder(weights)
    if "satmae" in weights:
        decoder = {"mask_token": torch.ones(1), "decoder_blocks.0.norm1.weight": torch.ones(1)}
        tensors = {"model": tensors | decoder, "args": argparse.Namespace(epochs=800)}
        address = f"{hub.url}/zenodo/resolve/1/fmow_pretrain.pth"
        monkeypatch.setitem(WEIGHTS, weights, replace(WEIGHTS[weights], address=address))
        torch.save(tensors, hub.place("zenodo", "1", "fmow_pretrain.pth"))
    else:
        publish(hub, weights, tensors)
    with torch.device("meta"):
        build(weights, WEIGHTS[weights].trained_on.bands)
    assert len(hub.requests) == 1


def moco(tensors: dict[str, Tensor]) -> Any:  # noqa: ANN401
    whole = {f"module.encoder_q.{k}": v for k, v in tensors.items()}
    whole |= {"module.encoder_q.fc.0.weight": torch.ones(4, 4), "module.queue": torch.ones(4)}
    return {"epoch": 99, "arch": "resnet50", "state_dict": whole}


def dino(tensors: dict[str, Tensor]) -> Any:  # noqa: ANN401
    teacher = {f"module.backbone.{k}": v for k, v in tensors.items()}
    teacher |= {"module.head.mlp.0.weight": torch.ones(4, 4)}
    student = {k: v * 0 for k, v in teacher.items()}
    return {"student": student, "teacher": teacher, "args": argparse.Namespace(arch="resnet50")}


def mae(tensors: dict[str, Tensor]) -> Any:  # noqa: ANN401
    return {
        "model": {f"encoder.{k}": v for k, v in tensors.items()} | {"mask_token": torch.ones(1)}
    }


@pytest.mark.parametrize("wrap", [dict, moco, dino, mae])
def test_bands_take_their_own_filters_whatever_the_file_wraps_them_in(
    wrap: Any,  # noqa: ANN401
    hub: Hub,
    caplog: pytest.LogCaptureFixture,
):
    tensors = timm.create_model("resnet50", in_chans=13, num_classes=0).state_dict()
    filters = torch.arange(13.0).view(1, 13, 1, 1).expand(64, 13, 7, 7).clone()
    tensors["conv1.weight"] = filters
    publish(hub, ALL, wrap(tensors))
    with caplog.at_level(logging.INFO, logger="rsdl"):
        found = build(ALL, ("blue", "green", "red", "nir", "thermal")).state_dict()
    numbers = (found["conv1.weight"][0, :, 0, 0] / (13 / 5)).round(decimals=4).tolist()
    assert numbers == [1, 2, 3, 7, 4]  # B02, B03, B04, B08, and in order the fifth, B05
    assert torch.equal(found["layer4.2.conv3.weight"], tensors["layer4.2.conv3.weight"])
    line = "from 13 to 5 bands, by name: blue, green, red, nir; in order: thermal"
    assert line in caplog.text


def test_a_file_is_downloaded_once(hub: Hub):
    publish(hub, ALL, timm.create_model("resnet50", in_chans=13, num_classes=0).state_dict())
    build(ALL, SENTINEL2)
    build(ALL, ("red", "nir"))
    assert len(hub.requests) == 1


def test_processes_that_ask_at_once_download_once(hub: Hub):
    address = WEIGHTS[ALL].address
    publish(hub, ALL, {"weight": torch.rand(1 << 20)})
    with ThreadPoolExecutor(4) as pool:  # flock tells threads apart as it does processes
        paths = set(pool.map(lambda _: open_address(address), range(4)))
    assert len(paths) == len(hub.requests) == 1


def test_a_hub_that_is_away_is_asked_again_later(hub: Hub, monkeypatch: pytest.MonkeyPatch):
    del hub
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(UnreachableError, match=r"model\.weights: http://127.0.0.1:1/.* cannot be"):
        build(ALL, SENTINEL2)


def test_another_architecture_is_answered_with_what_there_is_for_it():
    with pytest.raises(ConfigError) as caught:
        build("vit_small_sentinel2_all_moco", SENTINEL2, "resnet18")
    text = str(caught.value)
    assert "\n" not in text and "is for vit_small_patch16_224, and the network is resnet18" in text
    assert "for resnet18 there are resnet18_sentinel2_all_moco, resnet18_sentinel2_rgb_moco" in text
    with pytest.raises(ConfigError, match="for pvt_v2_b5 there are no others than pretrained"):
        build(ALL, SENTINEL2, "pvt_v2_b5")


def test_a_name_that_is_nearly_right_is_answered_with_the_right_one():
    config = ModelConfig(name="resnet50", weights="resnet50_sentinel2_all_mocko")
    with pytest.raises(ConfigError, match=f"no such file.*; write {ALL}, or use"):
        build_model(config, num_classes=2, in_chans=3, image_size=64)


def normalized(how: str, weights: str, bands: tuple[str, ...], dtype: str) -> Normalization:
    config = ModelConfig(name=WEIGHTS[weights].architecture, weights=weights)
    return choose_normalization(how, config, bands, dtype, OWN)


def test_images_are_normalised_as_published_band_by_band():
    found = normalized("auto", ALL, ("nir", "B04"), "uint16")
    assert (found.mean, found.std) == ((0, 0), (10_000, 10_000))
    assert found.source == f"the weights of {ALL}"
    found = normalized("auto", "resnet50_sentinel1_all_moco", ("VH", "VV"), "float32")
    assert (found.mean, found.std) == ((-20.26, -12.59), (5.91, 5.26))


@pytest.mark.parametrize(
    ("weights", "bands", "dtype"),
    [
        (ALL, ("red", "green", "blue"), "uint8"),
        (ALL, ("red", "thermal"), "uint16"),
        ("resnet50_sentinel2_rgb_seco", ("red", "green", "blue"), "uint8"),
        ("resnet50_sentinel2_si_ms_satlas", ("red", "B08"), "uint16"),
    ],
)
def test_auto_is_the_data_set_s_where_the_weights_saw_other_pixels(
    weights: str, bands: tuple[str, ...], dtype: str
):
    assert normalized("auto", weights, bands, dtype) is OWN


def test_unusual_pixels_are_normalised_as_published_where_that_is_asked_for():
    found = normalized("weights", "resnet50_sentinel2_rgb_seco", ("B02", "B04"), "uint8")
    blue, red = (3 + 0.406 * 85, 0.225 * 85), (0.485 * 129, 0.229 * 129)
    assert found.mean == pytest.approx((blue[0], red[0]))
    assert found.std == pytest.approx((blue[1], red[1]))
    assert SECO.pixels
    with pytest.raises(ConfigError, match=r"which saw uint8 B04, B03, B02, and .* uint16 B02"):
        normalized("weights", "resnet50_sentinel2_rgb_seco", ("B02",), "uint16")
