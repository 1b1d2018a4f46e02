"""Copy of a run's state on the host, which later optimizer steps do not change."""

import copy
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter


def stage_to_cpu(tree: Any) -> Any:  # noqa: ANN401 - a tree of containers, tensors and values
    """Return a copy of a tree of dicts, lists, tuples, tensors and plain values, on the CPU.

    All copies from a device run asynchronously, into page-locked memory, with one wait at the end.
    Tied weights (one tensor under two names) stay one tensor in the copy.
    """
    devices: set[torch.device] = set()
    copied = _copy(tree, {}, devices)
    for device in devices:
        torch.accelerator.synchronize(device)
    return copied


def _copy(node: Any, seen: dict[Any, Tensor], devices: set[torch.device]) -> Any:  # noqa: ANN401
    if isinstance(node, Tensor):
        if type(node) not in (Tensor, Parameter) or not node.numel():
            return _copy_tensor(node.detach(), devices)
        key = (node.device, node.data_ptr(), node.dtype, tuple(node.shape), node.stride())
        if key not in seen:
            seen[key] = _copy_tensor(node.detach(), devices)
        return seen[key]
    if isinstance(node, dict):
        # Keep the class and its attributes: a state dict carries the versions of modules.
        twin = copy.copy(node)
        twin.update((key, _copy(value, seen, devices)) for key, value in node.items())
        return twin
    if isinstance(node, list | tuple):
        values = [_copy(value, seen, devices) for value in node]
        return type(node)(*values) if hasattr(node, "_fields") else type(node)(values)
    return copy.deepcopy(node)


def _copy_tensor(tensor: Tensor, devices: set[torch.device]) -> Tensor:
    if tensor.device.type in ("cpu", "meta"):
        return tensor.clone()
    devices.add(tensor.device)
    return tensor.to("cpu", non_blocking=True)
