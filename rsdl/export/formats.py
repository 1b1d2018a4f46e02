"""The formats that a model is exported to, and the check that an export computes what it did."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from rsdl.core.pixels import Pixels
from rsdl.export.graph import (
    Run,
    open_onnx,
    open_torch,
    require_onnx,
    to_arrays,
    write_onnx,
    write_torch,
)
from rsdl.export.model import TrainedModel
from rsdl.export.weights import open_weights, write_hub, write_weights


@dataclass(frozen=True, slots=True)
class Format:
    """One format.

    Attributes:
        write: Writes a model to a folder.
        open: Returns what runs the written files, as their users do.
        require: Checks that the packages it needs are installed.
    """

    write: Callable[[TrainedModel, Path], None]
    open: Callable[[TrainedModel, Path], Run]
    require: Callable[[], None] = lambda: None


# The Hub's layout is that of the weights, where timm has the network.
FORMATS = {
    "safetensors": Format(write_weights, open_weights),
    "hf": Format(write_hub, open_weights),
    "onnx": Format(write_onnx, open_onnx, require_onnx),
    "torch": Format(write_torch, open_torch),
}


@dataclass(frozen=True, slots=True)
class Parity:
    """How far an export is from the run, on real samples.

    Attributes:
        samples: Number of samples.
        difference: Largest difference of an output, such as a logit, on the same pixels.
        same_classes: Samples whose class, or whose detections are those of ``rsdl evaluate``.
    """

    samples: int
    difference: float
    same_classes: int

    def __str__(self) -> str:
        """Return the numbers in one line."""
        return (
            f"{self.samples} samples, logits differ by {self.difference:.1e} at most, "
            f"{self.same_classes} of {self.samples} classes are those of rsdl evaluate"
        )


def check_parity(run: Run, model: TrainedModel, images: Iterable[Pixels]) -> Parity:
    """Compare an export with the run's network.

    Args:
        run: The export.
        model: The run's network.
        images: Decoded images ``[H, W, C]``, of any sizes.
    """
    samples, same, difference = 0, 0, 0.0
    for image in images:
        pixels = np.ascontiguousarray(np.moveaxis(image, 2, 0))[None]  # [1, C, H, W]
        ours = run(pixels)
        with torch.no_grad():
            theirs = to_arrays(model(torch.from_numpy(pixels)))
        for one, other in zip(ours, theirs, strict=True):
            gap = float(np.abs(one - other).max())
            # NaN is a difference too.
            difference = max(difference, gap) if np.isfinite(gap) else np.inf
        outputs = tuple(map(torch.from_numpy, ours))
        found = model.task.predict(outputs if len(outputs) > 1 else outputs[0])
        labels = model.task.labels(found)
        same += labels == model.predict(image).labels
        samples += 1
    return Parity(samples, difference, same)
