import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from rsdl.core.errors import ConfigError, NoGpuError
from rsdl.train import accelerator
from rsdl.train.accelerator import check_accelerator, choose_device, has_code_for

ARCHITECTURES = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"]

without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")


@pytest.mark.parametrize(
    ("capability", "architectures", "runs"),
    [
        ((7, 0), ARCHITECTURES, False),
        ((7, 5), ARCHITECTURES, True),
        ((8, 9), ARCHITECTURES, True),
        ((9, 0), ["sm_80"], False),
        ((9, 0), ["sm_80", "compute_80"], True),
        ((8, 0), ["sm_86"], False),
        ((9, 0), ["sm_90a"], True),
        ((8, 0), [], False),
    ],
)
def test_a_card_runs_code_of_its_own_generation(
    capability: tuple[int, int], architectures: list[str], runs: bool
):
    assert has_code_for(capability, architectures) == runs


@without_gpu
def test_a_gpu_that_is_not_there_is_refused_with_a_code_that_is_tried_again():
    with pytest.raises(
        NoGpuError, match=r"trainer\.accelerator: is gpu, but .* used here: "
    ) as told:
        check_accelerator("gpu")
    assert told.value.exit_code == 69 and "\n" not in str(told.value)
    check_accelerator("auto")
    check_accelerator("cpu")


@without_gpu
def test_a_gpu_that_lies_idle_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    device = tmp_path / "nvidiactl"
    device.touch()
    monkeypatch.setattr(accelerator, "DEVICE_FILE", device)
    check_accelerator("cpu")
    assert not caplog.records
    check_accelerator("auto")
    (line,) = caplog.messages
    assert line.startswith("trainer.accelerator: this machine has a GPU, but trains on the CPU: ")


def test_a_card_that_pytorch_has_no_code_for_is_named(monkeypatch: pytest.MonkeyPatch):
    for name, value in {
        "is_available": True,
        "get_device_capability": (7, 0),
        "get_arch_list": ARCHITECTURES,
        "get_device_name": "Tesla V100-SXM2-32GB",
    }.items():
        monkeypatch.setattr(torch.cuda, name, lambda value=value: value)
    with pytest.raises(NoGpuError, match=r"no code for a Tesla V100-SXM2-32GB \(sm_70\)"):
        check_accelerator("gpu")


@pytest.mark.slow
def test_the_command_ends_with_69(tmp_path: Path):
    config = tmp_path / "run.yaml"
    config.write_text("data: {url: nowhere}\nmodel: {name: test_vit}\n")
    ended = subprocess.run(
        [sys.executable, "-m", "rsdl", "train", str(config), "trainer.accelerator=gpu"],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 69, ended
    assert ended.stderr.startswith("trainer.accelerator: is gpu, but no GPU can be used here: ")
    assert len(ended.stderr.splitlines()) == 1


@without_gpu
def test_a_device_is_chosen_by_name():
    assert choose_device("auto", "--device") == choose_device("cpu", "--device")
    assert choose_device("cpu", "--device").type == "cpu"
    with pytest.raises(NoGpuError, match="--device: cuda:1 cannot be used here: "):
        choose_device("cuda:1", "--device")
    for name in ("gpu", "cpu:x", "cuda:", ""):
        with pytest.raises(ConfigError, match=r"--device: .* is no device"):
            choose_device(name, "--device")
