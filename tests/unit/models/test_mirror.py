import json
import logging
import shutil
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file

from rsdl.commands.fetch_weights import fetch_weights
from rsdl.config.model import ModelConfig
from rsdl.core.errors import ConfigError, DataError, RsdlError, StorageError, UnreachableError
from rsdl.models.catalog import build_model
from rsdl.models.hub import HUB_ADDRESS
from rsdl.models.mirror import read_card
from rsdl.models.normalization import Normalization, choose_normalization
from rsdl.models.remote_sensing import WEIGHTS
from rsdl.storage.local import LocalStore
from tests.hub_server import Hub

OWN = Normalization((1.0,) * 3, (2.0,) * 3, "the data set")
RGB = ("red", "green", "blue")


@pytest.fixture
def mirror(tmp_path: Path, hub: Hub) -> Path:
    for name in ("test_resnet", "test_vit"):
        hub.publish(name)
    fetch_weights(["test_resnet", "test_vit"], out=str(tmp_path / "mirror"))
    return tmp_path / "mirror"


def build(name: str, weights: object) -> torch.nn.Module:
    config = ModelConfig(name=name, weights=str(weights))
    return build_model(config, num_classes=1000, in_chans=3, image_size=160, bands=RGB)


def normalized(weights: object, how: str = "auto") -> Normalization:
    config = ModelConfig(name="test_resnet", weights=str(weights))
    return choose_normalization(how, config, RGB, "uint8", OWN)


def test_a_mirror_has_tensors_config_and_licence(mirror: Path, hub: Hub):
    assert sorted(path.name for path in mirror.iterdir()) == [
        "test_resnet.json", "test_resnet.md", "test_resnet.safetensors",
        "test_vit.json", "test_vit.md", "test_vit.safetensors",
    ]  # fmt: skip
    card = read_card(LocalStore(mirror), "test_resnet")
    published = timm.get_pretrained_cfg("test_resnet")
    assert card is not None and published is not None
    assert card.license == published.license and card.source == f"hub:{published.hf_hub_id}"
    for key in ("tag", "architecture", "mean", "std", "input_size", "hf_hub_id"):
        expected = getattr(published, key)
        found = card.pretrained_cfg[key]
        assert found == (list(expected) if isinstance(expected, tuple) else expected)
    assert (mirror / "test_resnet.md").read_text() == "license: apache-2.0\n"
    assert hub.requests[0].endswith("model.safetensors")


@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
@pytest.mark.parametrize("file", ["", "/", "/{}.safetensors"])
def test_the_folder_or_a_file_of_it_gives_the_network(name: str, file: str, mirror: Path):
    model = build(name, f"{mirror}{file.format(name)}")
    expected = load_file(mirror / f"{name}.safetensors")
    assert expected.keys() <= model.state_dict().keys()
    for key, tensor in expected.items():
        assert torch.equal(model.state_dict()[key], tensor), key


def test_normalisation_is_the_mirror_s_and_not_what_timm_has_now(mirror: Path):
    path = mirror / "test_resnet.json"
    path.write_text(
        json.dumps(json.loads(path.read_text()) | {"mean": [1, 2, 3], "std": [4, 5, 6]})
    )
    for weights in (mirror, mirror / "test_resnet.safetensors"):
        found = normalized(weights)
        assert (found.mean, found.std) == ((1, 2, 3), (4, 5, 6))
        assert found.source == f"the weights of {weights}"
    assert normalized(mirror, "dataset") is OWN
    shutil.copy(mirror / "test_resnet.safetensors", mirror / "alone.safetensors")
    assert normalized(mirror / "alone.safetensors").source == "the weights of test_resnet"


def test_what_is_whole_is_left_alone_and_the_rest_is_fetched(
    mirror: Path, hub: Hub, capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    capsys.readouterr()
    whole = (mirror / "test_vit.safetensors").stat()
    (mirror / "test_resnet.safetensors").write_bytes(b"cut short")
    shutil.rmtree(tmp_path / "torch")  # the local copies
    before = len(hub.requests)
    fetch_weights(["test_resnet", "test_vit"], out=str(mirror), dry_run=True)
    assert len(hub.requests) == before
    assert "1 would be fetched, 1 there already" in capsys.readouterr().out
    fetch_weights(["test_resnet", "test_vit"], out=str(mirror))
    said = capsys.readouterr().out
    assert "test_vit: there already, of hub:timm/" in said and "1 fetched, 1 there already" in said
    assert (mirror / "test_vit.safetensors").stat().st_mtime_ns == whole.st_mtime_ns
    build("test_resnet", mirror)
    fetch_weights(["test_vit"], out=str(mirror), overwrite=True)
    assert (mirror / "test_vit.safetensors").stat().st_ino != whole.st_ino


def test_a_mirror_of_an_older_tag_says_that_there_is_another(
    mirror: Path, capsys: pytest.CaptureFixture[str]
):
    path = mirror / "test_vit.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"source": "hub:timm/test_vit.old"}))
    fetch_weights(["test_vit"], out=str(mirror))
    line = capsys.readouterr().out.splitlines()[-2]
    assert "there already, of hub:timm/test_vit.old; " in line and "--overwrite" in line


def test_tensors_that_are_not_what_the_card_says_are_refused(mirror: Path):
    path = mirror / "test_resnet.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    for weights in (mirror, path):
        with pytest.raises(StorageError, match=r"test_resnet\.safetensors: is not what .*--overwr"):
            build("test_resnet", weights)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "made by a newer rsdl: format 2, this one reads 1"),
        ({"colour": "blue"}, "made by a newer rsdl: unknown field colour"),
        ({"mean": [1]}, "mean, std and bands differ in length"),
        ({"sha256": 3}, "sha256: Input should be a valid string"),
    ],
)
def test_a_card_that_is_not_understood_is_refused(
    change: dict[str, object], message: str, mirror: Path
):
    path = mirror / "test_resnet.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(DataError, match=message):
        build("test_resnet", mirror)


def test_another_s_json_beside_weights_is_no_card(mirror: Path):
    (mirror / "test_resnet.json").write_text('{"architecture": "test_resnet"}')
    build("test_resnet", mirror / "test_resnet.safetensors")
    with pytest.raises(ConfigError, match=r"no mirror with test_resnet\.safetensors; use .*fetch"):
        build("test_resnet", mirror)


def test_a_file_of_the_mirror_for_another_network_is_refused(mirror: Path):
    with pytest.raises(ConfigError, match="is for test_vit, and the network is test_resnet"):
        build("test_resnet", mirror / "test_vit.safetensors")


def test_remote_sensing_weights_are_mirrored_with_their_bands(
    tmp_path: Path, hub: Hub, caplog: pytest.LogCaptureFixture
):
    name = "resnet18_sentinel2_all_moco"
    parts = HUB_ADDRESS.fullmatch(WEIGHTS[name].address)
    assert parts is not None
    tensors = timm.create_model("resnet18", in_chans=13, num_classes=0).state_dict()
    torch.save(tensors, hub.place(parts["repository"], parts["revision"], parts["file"]))
    fetch_weights([name], out=str(tmp_path / "mirror"))
    file = tmp_path / "mirror" / f"{name}.safetensors"
    assert not file.with_suffix(".md").exists()  # this hub has no model card
    with caplog.at_level(logging.INFO, logger="rsdl"):
        build("resnet18", file)
    assert "adapted from 13 to 3 bands, by name: red, green, blue" in caplog.text
    config = ModelConfig(name="resnet18", weights=str(file))
    found = choose_normalization("auto", config, ("nir", "red"), "uint16", OWN)
    assert (found.mean, found.std) == ((0, 0), (10_000, 10_000))


def refusal(names: list[str], out: Path) -> RsdlError:
    with pytest.raises(RsdlError) as caught:
        fetch_weights(names, out=str(out))
    assert "\n" not in str(caught.value)
    assert not out.exists() or not list(out.rglob("*.json"))
    return caught.value


def test_a_wrong_name_is_told_before_anything_is_downloaded(tmp_path: Path, hub: Hub):
    hub.publish("test_vit")
    out = tmp_path / "mirror"
    assert "no model" in str(refusal(["test_vit", "test_vot"], out))
    assert "timm has no pretrained weights of resnet50t" in str(refusal(["resnet50t"], out))
    assert hub.requests == []


def test_a_hub_that_is_away_or_has_no_such_file_leaves_no_weights(
    tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
):
    out = tmp_path / "mirror"
    missing = refusal(["test_vit"], out)
    assert missing.exit_code == 2 and "404" in str(missing)
    hub.publish("test_vit").write_bytes(b"<!doctype html>")
    assert "is damaged or no safetensors" in str(refusal(["test_vit"], out))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:1")
    away = refusal(["test_resnet"], out)
    assert isinstance(away, UnreachableError) and away.exit_code == 69
