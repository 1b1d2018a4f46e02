import http.server
import logging
import pickle
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import timm
import torch
from timm.models import adapt_input_conv
from torch import Tensor

from rsdl.config.model import ModelConfig
from rsdl.core.errors import ConfigError, RsdlError
from rsdl.models.catalog import build_backbone, build_model
from rsdl.models.first_layer import adapt_bands
from rsdl.models.sources import WeightsSource
from rsdl.models.tensors import read_tensors
from rsdl.models.weights import load_weights

SIZE = 64
CLASSES = 5
HEADS = {"test_resnet": "fc", "test_vit": "head"}
NAMES = sorted(HEADS)


def trained(name: str) -> torch.nn.Module:
    """Return a network that differs from a new one in every tensor, statistics included."""
    size: Any = {"img_size": SIZE} if "vit" in name else {}
    model = timm.create_model(name, num_classes=CLASSES, **size)
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor.uniform_(0.5, 1.5)
    return model.eval()


def load(
    name: str, source: object, *, num_classes: int = CLASSES, in_chans: int = 3, size: int = SIZE,
    bands: Sequence[str] = (),
) -> torch.nn.Module:  # fmt: skip
    config = ModelConfig(name=name, weights=str(source))
    model = build_model(
        config, num_classes=num_classes, in_chans=in_chans, image_size=size, bands=bands
    )
    return model.eval()


def refusal(name: str, source: object, **options: Any) -> str:  # noqa: ANN401
    with pytest.raises(RsdlError) as caught:
        load(name, source, **options)
    text = str(caught.value)
    assert text.startswith("model.weights: ")
    assert "\n" not in text
    return text


def assert_equal(left: dict[str, Tensor], right: dict[str, Tensor], but: str = "\0") -> None:
    assert left.keys() == right.keys()
    for name, tensor in left.items():
        if not name.startswith(but):
            assert torch.equal(tensor, right[name]), name


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("file", ["w.pth", "w.pt", "w.bin", "w.safetensors"])
def test_a_file_comes_back_as_it_was_saved(name: str, file: str, tmp_path: Path):
    model = trained(name)
    path = tmp_path / file
    if path.suffix == ".safetensors":
        safetensors.torch.save_file(model.state_dict(), path)
    else:
        torch.save(model.state_dict(), path)
    assert_equal(load(name, path).state_dict(), model.state_dict())
    assert_equal(load(name, path.as_uri()).state_dict(), model.state_dict())


def test_a_file_in_the_current_folder_needs_no_slash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    model = trained("test_resnet")
    torch.save(model.state_dict(), tmp_path / "w.pth")
    monkeypatch.chdir(tmp_path)
    assert_equal(load("test_resnet", "w.pth").state_dict(), model.state_dict())


def test_averaged_weights_are_preferred(tmp_path: Path):
    live, averaged = trained("test_resnet").state_dict(), trained("test_resnet").state_dict()
    state = {f"model.{name}": tensor for name, tensor in live.items()}
    state |= {f"averaged.module.{name}": tensor for name, tensor in averaged.items()}
    state["averaged.n_averaged"] = torch.tensor(7)
    state["criterion.weight"] = torch.ones(3)
    torch.save({"state_dict": state}, tmp_path / "last.ckpt")
    assert_equal(load("test_resnet", tmp_path / "last.ckpt").state_dict(), averaged)


@pytest.mark.parametrize("name", NAMES)
def test_a_head_for_other_classes_starts_at_random_and_that_is_logged(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    tensors = trained(name).state_dict()
    torch.save(tensors, tmp_path / "w.pth")
    with caplog.at_level(logging.INFO, logger="rsdl"):
        model = load(name, tmp_path / "w.pth", num_classes=9)
    head = model.get_submodule(HEADS[name])
    assert head.weight.shape[0] == 9
    assert_equal(model.state_dict(), tensors, but=f"{HEADS[name]}.")
    assert "a head for 5 classes; the new one for 9 starts at random" in caplog.text


@pytest.mark.parametrize("name", NAMES)
def test_a_file_without_a_head_is_enough(name: str, tmp_path: Path):
    tensors = trained(name).state_dict()
    torch.save({k: v for k, v in tensors.items() if not k.startswith(HEADS[name])}, tmp_path / "w")
    assert_equal(load(name, tmp_path / "w").state_dict(), tensors, but=f"{HEADS[name]}.")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("in_chans", [1, 2, 4, 13])
def test_the_first_layer_is_adapted_to_other_bands(
    name: str, in_chans: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    tensors = trained(name).state_dict()
    torch.save(tensors, tmp_path / "w.pth")
    with caplog.at_level(logging.INFO, logger="rsdl"):
        model = load(name, tmp_path / "w.pth", in_chans=in_chans)
    (stem,) = (k for k in tensors if k in _first_convs(model))
    expected = adapt_input_conv(in_chans, tensors[stem])
    torch.testing.assert_close(model.state_dict()[stem], expected)
    assert_equal(model.state_dict(), tensors, but=stem)
    assert f"adapted from 3 to {in_chans} bands" in caplog.text


@pytest.mark.parametrize(
    ("bands", "filters", "how"),
    [
        (["nir", "red", "green", "blue"], [0, 0, 1, 2], "red, green, blue; in order: nir"),
        (["B01", "B02", "b3", "B04", "B05"], [0, 2, 1, 0, 1], "B02, b3, B04; in order: B01, B05"),
        (["blue", "green", "red"], [2, 1, 0], "blue, green, red"),
    ],
)
def test_bands_named_by_a_colour_get_its_filters(
    bands: list[str], filters: list[int], how: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    tensors = trained("test_resnet").state_dict()
    torch.save(tensors, tmp_path / "w.pth")
    with caplog.at_level(logging.INFO, logger="rsdl"):
        model = load("test_resnet", tmp_path / "w.pth", in_chans=len(bands), bands=bands)
    (stem,) = _first_convs(model)
    expected = tensors[stem][:, filters] * (3 / len(bands))
    torch.testing.assert_close(model.state_dict()[stem], expected)
    line = f"adapted from 3 to {len(bands)} bands, by name: {how}"
    assert any(message.endswith(line) for message in caplog.messages)


def test_bands_of_other_names_are_taken_in_order_and_that_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    tensors = trained("test_resnet").state_dict()
    torch.save(tensors, tmp_path / "w.pth")
    with caplog.at_level(logging.INFO, logger="rsdl"):
        model = load("test_resnet", tmp_path / "w.pth", bands=["vv", "vh", "angle"])
    assert_equal(model.state_dict(), tensors)
    assert "bands vv, vh, angle taken for red, green, blue: in order" in caplog.text


def test_a_checkpoint_of_as_many_bands_keeps_its_order(tmp_path: Path):
    tensors = trained("test_resnet").state_dict()
    torch.save({"state_dict": tensors}, tmp_path / "w.ckpt")
    model = load("test_resnet", tmp_path / "w.ckpt", bands=["blue", "green", "red"])
    assert_equal(model.state_dict(), tensors)


def _first_convs(model: torch.nn.Module) -> set[str]:
    first: Any = model.pretrained_cfg["first_conv"]  # type: ignore[index]
    return {f"{name}.weight" for name in ((first,) if isinstance(first, str) else first)}


@pytest.mark.parametrize(("bands", "in_chans"), [(13, 3), (3, 13), (4, 4), (6, 2)])
def test_equal_bands_give_the_same_response_whatever_their_number(bands: int, in_chans: int):
    weight = torch.rand(2, 1, 3, 3).expand(2, bands, 3, 3)
    adapted = adapt_bands(weight, [None] * in_chans)
    assert adapted.shape == (2, in_chans, 3, 3)
    torch.testing.assert_close(adapted.sum(1), weight.sum(1))


def test_position_embeddings_follow_the_image_size(tmp_path: Path):
    tensors = trained("test_vit").state_dict()
    tensors["pos_embed"].fill_(0.25)
    torch.save(tensors, tmp_path / "w.pth")
    model = load("test_vit", tmp_path / "w.pth", size=96)
    embedding = model.state_dict()["pos_embed"]
    assert embedding.shape[1] > tensors["pos_embed"].shape[1]
    torch.testing.assert_close(embedding, torch.full_like(embedding, 0.25))
    assert_equal(
        {k: v for k, v in model.state_dict().items() if k != "pos_embed"},
        {k: v for k, v in tensors.items() if k != "pos_embed"},
    )


def test_relative_position_tables_follow_the_window(tmp_path: Path):
    def tiny(image_size: int) -> torch.nn.Module:
        sizes: dict[str, Any] = {"embed_dim": 8, "depths": (1, 1, 1, 1), "num_heads": (1, 1, 1, 1)}
        return timm.create_model("swin_tiny_patch4_window7_224", img_size=image_size, **sizes)

    table = "layers.3.blocks.0.attn.relative_position_bias_table"
    tensors = tiny(224).state_dict()
    slope = torch.arange(-6.0, 7.0)  # 13 x 13 offsets of a 7 x 7 window, growing along a row
    tensors[table] = slope.repeat(13).unsqueeze(1)
    torch.save(tensors, tmp_path / "w.pth")
    model = tiny(96)
    load_weights(model, WeightsSource("w.pth", lambda: tmp_path / "w.pth"))
    resized = model.state_dict()[table].reshape(5, 5)  # the last map has 3 x 3 cells
    assert torch.allclose(resized, resized[0].expand(5, 5), atol=1e-3)
    assert resized[0].abs().max() <= 6.01
    assert (resized[0].diff() > 0).all()
    torch.testing.assert_close(resized[0], -resized[0].flip(0), atol=1e-3, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_a_backbone_starts_from_the_file_too(name: str, tmp_path: Path):
    tensors = trained(name).state_dict()
    torch.save(tensors, tmp_path / "w.pth")
    config = ModelConfig(name=name, weights=str(tmp_path / "w.pth"))
    backbone = build_backbone(config, in_chans=3, image_size=SIZE)
    kept = {k.removeprefix("model."): v for k, v in backbone.state_dict().items()}
    assert len(kept) > len(tensors) / 2
    assert_equal(kept, {k: tensors[k] for k in kept})


def test_weights_of_another_network_are_refused_even_if_the_classes_differ(tmp_path: Path):
    torch.save(trained("test_vit").state_dict(), tmp_path / "w.pth")
    for num_classes in (CLASSES, 9):
        text = refusal("test_resnet", tmp_path / "w.pth", num_classes=num_classes)
        assert "weights of test_resnet are in it" in text
        assert "model.name" in text


def test_another_shape_is_told_with_both_shapes(tmp_path: Path):
    tensors = trained("test_resnet").state_dict()
    name = next(k for k in tensors if k.startswith("layer2") and tensors[k].ndim == 4)
    tensors[name] = torch.zeros(7, 6, 5, 4)
    torch.save(tensors, tmp_path / "w.pth")
    own = list(trained("test_resnet").state_dict()[name].shape)
    text = refusal("test_resnet", tmp_path / "w.pth")
    assert f'"{name}" is [7, 6, 5, 4] in the file and {own} in test_resnet' in text


def test_missing_and_surplus_tensors_are_named(tmp_path: Path):
    tensors = trained("test_vit").state_dict()
    norm = tensors.pop("norm.weight")
    torch.save(tensors, tmp_path / "w.pth")
    assert '"norm.weight" of test_vit is not in it' in refusal("test_vit", tmp_path / "w.pth")
    torch.save(tensors | {"norm.weight": norm, "neck.bias": norm}, tmp_path / "w.pth")
    assert '"neck.bias" is no part of test_vit' in refusal("test_vit", tmp_path / "w.pth")


@pytest.mark.parametrize("file", ["w.pth", "w.safetensors"])
@pytest.mark.parametrize("part", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_file_is_refused(file: str, part: float, tmp_path: Path):
    path = tmp_path / file
    tensors = trained("test_resnet").state_dict()
    if path.suffix == ".safetensors":
        safetensors.torch.save_file(tensors, path)
    else:
        torch.save(tensors, path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])
    assert f"{path}: is damaged or no weight file" in refusal("test_resnet", path)


class Malicious:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("legacy", [True, False])
def test_a_pickle_that_wants_to_run_code_never_runs(legacy: bool, tmp_path: Path):
    mark, path = tmp_path / "executed", tmp_path / "w.pth"
    content = {"state_dict": trained("test_resnet").state_dict(), "extra": Malicious(mark)}
    if legacy:
        path.write_bytes(pickle.dumps(content["extra"]))
    else:
        torch.save(content, path)
    text = refusal("test_resnet", path)
    assert not mark.exists()
    assert "could run code" in text
    torch.load(path, weights_only=False) if not legacy else pickle.loads(path.read_bytes())
    assert mark.exists()  # the file was really dangerous


@pytest.mark.parametrize("content", [b"not a checkpoint", b"<!doctype html>", b"\x80"])
def test_any_other_file_is_refused(content: bytes, tmp_path: Path):
    (tmp_path / "w.pth").write_bytes(content)
    assert "is damaged or no weight file" in refusal("test_resnet", tmp_path / "w.pth")


@pytest.mark.parametrize("content", [{}, [torch.ones(1)], {"a": 1}, torch.ones(2)])
def test_a_file_without_named_tensors_is_refused(content: object, tmp_path: Path):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(ConfigError, match=r"^model\.weights: "):
        read_tensors(tmp_path / "w.pth", "w.pth")


@pytest.mark.parametrize("source", ["nowhere/w.pth", "pretraind", "."])
def test_a_missing_file_is_answered_with_what_can_be_said(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    text = refusal("test_resnet", source)
    assert "no such file" in text
    assert '"pretrained", "none"' in text


def test_an_unknown_scheme_is_refused():
    assert "ftp" in refusal("test_resnet", "ftp://host/w.pth")


STATUSES = {"/busy.pth": 503, "/secret.pth": 403}


class Folder(http.server.SimpleHTTPRequestHandler):
    requests: int = 0

    def do_GET(self) -> None:
        type(self).requests += 1
        if self.path.endswith("/short.pth"):
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"x" * 10)
        elif self.path in STATUSES:
            self.send_error(STATUSES[self.path])
        else:
            super().do_GET()

    def log_message(self, format: str, *args: object) -> None:
        del format, args


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Serve tmp_path on 127.0.0.1, with torch's cache in a folder of its own."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.chdir(tmp_path)
    Folder.requests = 0
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Folder) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def test_a_url_is_fetched_once(server: str, tmp_path: Path):
    model = trained("test_resnet")
    torch.save(model.state_dict(), tmp_path / "w.pth")
    for _ in range(2):
        assert_equal(load("test_resnet", f"{server}/w.pth").state_dict(), model.state_dict())
    assert Folder.requests == 1


@pytest.mark.parametrize("file", ["short.pth", "none.pth"])
def test_a_failed_download_is_told_and_leaves_nothing(server: str, file: str, tmp_path: Path):
    text = refusal("test_resnet", f"{server}/{file}")
    assert "cannot be fetched" in text
    assert "model.weights=PATH" in text
    assert [p for p in (tmp_path / "home").rglob("*") if p.is_file() and p.name != ".lock"] == []


@pytest.mark.parametrize(
    ("file", "code"), [("short.pth", 69), ("busy.pth", 69), ("none.pth", 2), ("secret.pth", 2)]
)
def test_a_server_that_is_away_is_asked_again_later_and_a_wrong_name_is_not(
    server: str, file: str, code: int
):
    with pytest.raises(RsdlError) as caught:
        load("test_resnet", f"{server}/{file}")
    assert caught.value.exit_code == code


def test_pretrained_weights_without_internet_are_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:1")
    text = refusal("test_resnet", "pretrained")
    assert "pretrained weights of test_resnet are not cached and http://127.0.0.1:1 cannot" in text
    assert "model.weights=PATH" in text
    assert "model.weights=none" in text


def test_pretrained_weights_in_the_cache_need_no_internet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:1")
    tensors = timm.create_model("test_resnet").state_dict()
    repository = timm.get_pretrained_cfg("test_resnet").hf_hub_id.replace("/", "--")
    snapshot = tmp_path / f"models--{repository}" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("0" * 40)
    safetensors.torch.save_file(tensors, snapshot / "model.safetensors")
    loaded = load("test_resnet", "pretrained", num_classes=9)
    assert_equal(loaded.state_dict(), tensors, but=HEADS["test_resnet"])
    (stem,) = _first_convs(loaded)
    other = load(
        "test_resnet",
        "pretrained",
        num_classes=9,
        in_chans=4,
        bands=["nir", "blue", "green", "red"],
    )
    expected = tensors[stem][:, [0, 2, 1, 0]] * (3 / 4)
    torch.testing.assert_close(other.state_dict()[stem], expected)
    same = {k: v for k, v in other.state_dict().items() if k != stem}
    assert_equal(same, {k: v for k, v in tensors.items() if k != stem}, but=HEADS["test_resnet"])


def test_a_model_that_has_no_published_weights_says_so():
    text = refusal("resnet50t", "pretrained")
    assert "timm has no pretrained weights of resnet50t" in text


PREFIXES = [
    "backbone.", "encoder_q.", "module.", "model.", "model._orig_mod.", "teacher.", "student.",
    "encoder.", "net.", "module.model.", "module._orig_mod.", "module.encoder_q.",
    "teacher.backbone.", "backbone.module._orig_mod.",
]  # fmt: skip


@pytest.mark.parametrize(
    ("prefix", "entry"),
    [(prefix, "") for prefix in PREFIXES]
    + [("backbone.", entry) for entry in ("state_dict", "model", "teacher", "student")],
)
def test_a_prefix_of_another_project_is_taken_off(prefix: str, entry: str, tmp_path: Path):
    name = "test_resnet"
    tensors = trained(name).state_dict()
    prefixed: Any = {f"{prefix}{key}": tensor for key, tensor in tensors.items()}
    torch.save({entry: prefixed, "epoch": 3} if entry else prefixed, tmp_path / "w.pth")
    assert_equal(load(name, tmp_path / "w.pth").state_dict(), tensors)


def test_a_prefix_and_what_is_left_out_are_said_in_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    tensors = trained("test_resnet").state_dict()
    weights = [key for key in tensors if not key.endswith("num_batches_tracked")]
    state = {f"module.encoder_q.{key}": tensor for key, tensor in tensors.items()}
    state |= {f"module.encoder_k.{key}": tensor + 1 for key, tensor in tensors.items()}
    state |= {"module.encoder_q.fc.0.weight": torch.ones(8, 8), "module.queue": torch.ones(8, 8)}
    for key in ("fc.weight", "fc.bias"):
        del state[f"module.encoder_q.{key}"]
    torch.save({"state_dict": state}, tmp_path / "moco.pth")
    with caplog.at_level(logging.INFO, logger="rsdl"):
        model = load("test_resnet", tmp_path / "moco.pth")
    assert_equal(model.state_dict(), tensors, but="fc.")
    (said,) = (line for line in caplog.messages if "taken off" in line)
    assert f'prefix "encoder_q." taken off, {len(weights) - 2} weights loaded' in said
    assert f'left out: "encoder_k.conv1.0.weight" (and {len(tensors)} more)' in said
    assert 'has another head ("fc.0.weight"); the new one for 5 starts at random' in caplog.text


def test_of_teacher_and_student_the_teacher_is_taken(tmp_path: Path):
    teacher, student = trained("test_vit").state_dict(), trained("test_vit").state_dict()
    state = {f"student.backbone.{key}": tensor for key, tensor in student.items()}
    state |= {f"teacher.backbone.{key}": tensor for key, tensor in teacher.items()}
    torch.save(state, tmp_path / "dino.pth")
    assert_equal(load("test_vit", tmp_path / "dino.pth").state_dict(), teacher)


def test_a_prefix_under_which_something_lacks_is_refused(tmp_path: Path):
    tensors = trained("test_resnet").state_dict()
    state = {f"backbone.{key}": tensor for key, tensor in tensors.items() if "layer1" not in key}
    torch.save(state, tmp_path / "w.pth")
    weights = sum(not key.endswith("num_batches_tracked") for key in tensors)
    assert f"only 0 of the {weights} weights of test_resnet" in refusal(
        "test_resnet", tmp_path / "w.pth"
    )
