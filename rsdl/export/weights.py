"""Write weights as safetensors: timm's networks in the layout of the Hugging Face Hub."""

from pathlib import Path
from typing import Any

import timm
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from timm.models import save_for_hf

from rsdl.core.bands import divisors
from rsdl.core.errors import ConfigError
from rsdl.core.image_size import height_width
from rsdl.export.graph import Run, to_arrays
from rsdl.export.load import WEIGHTS, build
from rsdl.export.model import TrainedModel
from rsdl.records.model_spec import ModelSpec

# Largest value of stored pixels, which timm's mean and std are relative to.
TOP = {"uint8": 255.0, "uint16": 65535.0, "float32": 1.0}


def is_of_timm(model: TrainedModel) -> bool:
    """Return whether timm has the network, or it is one with a head of rsdl."""
    return hasattr(model.network, "pretrained_cfg")


def write_weights(model: TrainedModel, folder: Path) -> None:
    """Write ``model.safetensors``, and of a network of timm its ``config.json``."""
    if is_of_timm(model):
        write_hub(model, folder)
        return
    tensors = {name: each.contiguous() for name, each in model.network.state_dict().items()}
    save_file(tensors, folder / WEIGHTS)


def write_hub(model: TrainedModel, folder: Path) -> None:
    """Write ``model.safetensors`` and timm's ``config.json``.

    Raises:
        ConfigError: If the network is not one of timm's, but one with a head of rsdl.
    """
    spec = model.spec
    if not is_of_timm(model):
        raise ConfigError(
            "--to",
            f"timm has no {spec.task.name} network, which hf is for",
            "use safetensors for rsdl.load, or onnx or torch",
        )
    network = model.network.to(memory_format=torch.contiguous_format)
    save_for_hf(
        network,
        str(folder),
        # Tag and licence of the network's published weights say nothing of these.
        model_config={
            "label_names": list(spec.classes),
            "pretrained_cfg": {"tag": "rsdl", "license": "other"},
        },
        safe_serialization=True,
        data_config=timm_input(spec),
    )


def timm_input(spec: ModelSpec) -> dict[str, Any]:
    """Return timm's description of the preprocessing; it resizes before it crops, we after."""
    top = TOP[spec.dtype]
    return {
        "input_size": (len(spec.bands), *height_width(spec.image_size)),
        "mean": tuple(value / top for value in spec.mean),
        "std": tuple((divisors(spec.std) / top).tolist()),
        "interpolation": "bilinear",
        "crop_pct": spec.central or 1.0,
        "crop_mode": "squash" if spec.central is None else "center",
    }


def open_weights(model: TrainedModel, folder: Path) -> Run:
    """Return what runs the network that timm, or else rsdl, makes of the folder."""
    if is_of_timm(model):
        network = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    else:
        network = build(model.spec, load_file(folder / WEIGHTS), str(folder)).network

    @torch.no_grad()
    def run(images: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        return to_arrays(network(model.preprocess(torch.from_numpy(images))))

    return run
