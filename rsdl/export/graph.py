"""Capture a network and its preprocessing as one graph: ``torch.export`` and, from it, ONNX.

The graph takes stored pixels ``[B, C, H, W]`` in the data set's dtype, of any batch and size, and
returns logits. Its inputs and outputs are named ``images`` and ``logits``.
"""

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.fx import GraphModule

from rsdl.core.errors import ConfigError
from rsdl.core.image_size import height_width
from rsdl.data.batch_buffer import TORCH_DTYPES
from rsdl.export.model import TrainedModel

# Stored pixels [B, C, H, W] -> the network's outputs, such as logits [B, num_classes] alone.
Run = Callable[[NDArray[Any]], tuple[NDArray[Any], ...]]

ONNX_PACKAGES = ("onnx", "onnxruntime", "onnxscript")
GRAPH, ONNX = "model.pt2", "model.onnx"


def to_arrays(outputs: Tensor | tuple[Tensor, ...]) -> tuple[NDArray[Any], ...]:
    """Return a network's outputs as arrays."""
    tensors = outputs if isinstance(outputs, tuple) else (outputs,)
    return tuple(each.numpy() for each in tensors)


def require_onnx() -> None:
    """Check that what writes and runs ONNX is installed.

    Raises:
        ConfigError: If not.
    """
    absent = [name for name in ONNX_PACKAGES if find_spec(name) is None]
    if absent:
        raise ConfigError(
            "--to", f"onnx needs {', '.join(absent)}", 'pip install "rsdl-train[export]"'
        )


def capture(model: TrainedModel) -> torch.export.ExportedProgram:
    """Return a model as a graph for any batch and image size.

    Raises:
        ConfigError: If it cannot be captured.
    """
    if model.spec.decode_size is not None:
        problem = f"the graph cannot shrink images to data.decode_size={model.spec.decode_size}"
        raise ConfigError("--to", problem, "use --to safetensors")
    height, width = height_width(model.spec.image_size)
    # Odd sizes, so that none is taken for a constant.
    shape = (2, len(model.bands), height + 5, width + 11)
    images = torch.zeros(shape, dtype=TORCH_DTYPES[model.spec.dtype])
    free = torch.export.Dim.DYNAMIC
    try:
        with torch.no_grad(), quiet():
            program = torch.export.export(
                model, (images,), dynamic_shapes={"images": {0: free, 2: free, 3: free}}
            )
    except Exception as error:  # torch.export's errors share no base class
        raise not_captured(model, error) from error
    parts = [part for part in program.graph_module.modules() if isinstance(part, GraphModule)]
    for node in (node for part in parts for node in part.graph.nodes):
        node.meta.pop("stack_trace", None)  # names files of this machine
    return program


def not_captured(model: TrainedModel, error: Exception) -> ConfigError:
    """Return the error for a network that PyTorch's exporters do not take."""
    first = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
    return ConfigError(
        "--to", f"PyTorch cannot export {model.spec.model.name}: {first}", "use --to safetensors"
    )


def write_torch(model: TrainedModel, folder: Path) -> None:
    """Write ``model.pt2``, which ``torch.export.load`` reads."""
    program = capture(model)
    with quiet():
        torch.export.save(program, folder / GRAPH)


def open_torch(model: TrainedModel, folder: Path) -> Run:
    """Return what runs ``model.pt2``."""
    with quiet():
        graph = torch.export.load(folder / GRAPH).module()

    @torch.no_grad()
    def run(images: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        return to_arrays(graph(torch.from_numpy(images)))

    return run


def write_onnx(model: TrainedModel, folder: Path) -> None:
    """Write ``model.onnx``."""
    from onnxscript import optimizer

    program = capture(model)
    try:
        with quiet():
            exported = torch.onnx.export(
                program,
                dynamo=True,
                input_names=["images"],
                output_names=["logits"],
                # Its pattern rules scan the graph anew for each node, which takes minutes for
                # thousands of nodes; ONNX Runtime applies its own to what it loads.
                optimize=False,
                verbose=False,
            )
            assert exported is not None
            optimizer.fold_constants(exported.model)
            optimizer.remove_unused_nodes(exported.model)
            exported.save(folder / ONNX)
    except Exception as error:  # the exporter's errors share no base class
        raise not_captured(model, error) from error


def open_onnx(model: TrainedModel, folder: Path) -> Run:
    """Return what runs ``model.onnx`` in ONNX Runtime on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(folder / ONNX, providers=["CPUExecutionProvider"])

    def run(images: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        return (np.asarray(session.run(["logits"], {"images": images})[0]),)

    return run


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress the exporters' notes on their own progress and deprecations."""
    logs = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [log.level for log in logs]
    try:
        for log in logs:
            log.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for log, level in zip(logs, levels, strict=True):
            log.setLevel(level)
