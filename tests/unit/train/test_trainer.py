"""The trainer's settings: what YAML's words for torch.compile mean, and what a GPU is told."""

import pytest
import torch
import yaml
from pydantic import ValidationError

from rsdl.config.trainer import TrainerConfig
from rsdl.train.trainer import choose_precision, set_tensor_cores


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("true", "on"), ("on", "on"), ("false", "off"), ("off", "off"), ('"off"', "off"),
        ("reduce-overhead", "reduce-overhead"), ("max-autotune", "max-autotune"),
    ],
)  # fmt: skip
def test_compile_may_be_said_as_in_older_configs(text: str, meant: str):
    config = TrainerConfig(**yaml.safe_load(f"compile: {text}"))
    assert config.compile == meant
    again = TrainerConfig(**yaml.safe_load(yaml.safe_dump(config.model_dump())))
    assert again == config


@pytest.mark.parametrize("value", ["fast", 1, None])
def test_another_word_is_refused(value: object):
    with pytest.raises(ValidationError, match="compile"):
        TrainerConfig(compile=value)


@pytest.mark.parametrize("precision", ["fp32", "bf16-mixed"])
def test_without_a_gpu_nothing_is_changed(precision: str):
    before = torch.get_float32_matmul_precision()
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    set_tensor_cores(precision)
    assert torch.get_float32_matmul_precision() == before


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_mixed_precision_uses_tensor_cores_and_fp32_does_not():
    before = torch.get_float32_matmul_precision()
    try:
        set_tensor_cores("bf16-mixed")
        assert torch.get_float32_matmul_precision() == "high"
        set_tensor_cores("fp32")
        assert torch.get_float32_matmul_precision() == "highest"
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize(
    ("gpu", "native", "fields", "expected"),
    [
        (False, False, {}, "fp32"),
        (True, True, {}, "bf16-mixed"),
        (True, False, {}, "16-mixed"),  # a V100, which would emulate bf16
        (True, False, {"strategy": "fsdp"}, "fp32"),
        (True, True, {"accelerator": "cpu"}, "fp32"),
        (True, False, {"precision": "bf16-mixed"}, "bf16-mixed"),
    ],
)
def test_auto_takes_the_precision_that_the_card_computes_in(
    gpu: bool,
    native: bool,
    fields: dict[str, str],
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
):
    def supports_bf16(including_emulation: bool = True) -> bool:
        return native or including_emulation

    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supports_bf16)
    assert choose_precision(TrainerConfig(**fields)) == expected
