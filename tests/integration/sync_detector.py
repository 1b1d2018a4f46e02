"""A witness of everything in a training step that would make the host wait for a GPU.

What it sees on the CPU: every call from Python that brings a tensor's values to the host (``item``,
``tolist``, ``bool``, ``numpy``, ``cpu``), and every operation below Python, of autograd and of the
optimizer too, whose result or shape depends on values, or that copies between devices.

What it cannot see: copies from pageable memory to a GPU, since there is no other device here; what
a CUDA kernel's own implementation waits for; and backward's threads on a GPU, which on the CPU is
the calling thread. The tests marked ``gpu`` are for these: there CUDA itself is asked to refuse.
"""

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

READS = {
    "item", "tolist", "numpy", "cpu", "__bool__", "__int__", "__float__", "__index__", "__array__",
    "__contains__", "nonzero", "equal", "allclose", "is_nonzero", "unique",
}  # fmt: skip
WAITS = {
    "aten._local_scalar_dense", "aten.nonzero", "aten.nonzero_static", "aten.is_nonzero",
    "aten.equal", "aten.masked_select", "aten.unique_dim", "aten._unique2",
    "aten.unique_consecutive", "aten.bincount", "aten.repeat_interleave.Tensor",
}  # fmt: skip


class Calls(TorchFunctionMode):
    """Notes what Python asks of tensors."""

    def __init__(self, found: list[str], host: set[int]) -> None:
        super().__init__()
        self._found = found
        self._host = host

    def __torch_function__(
        self,
        func: Any,  # noqa: ANN401 - torch's signature
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        name = getattr(func, "__name__", "")
        read = [value for value in args if isinstance(value, Tensor)]
        if name in READS and read and read[0].data_ptr() not in self._host:
            self._found.append(f"Tensor.{name}")
        if func is torch.tensor and args and not isinstance(args[0], (int, float)):
            self._found.append("torch.tensor of a list")  # a copy from pageable memory
        return func(*args, **(kwargs or {}))


class Operations(TorchDispatchMode):
    """Notes operations that a device would be waited for."""

    def __init__(self, found: list[str], host: set[int]) -> None:
        super().__init__()
        self._found = found
        self._host = host
        self.count = 0

    def __torch_dispatch__(
        self,
        func: Any,  # noqa: ANN401 - torch's signature
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        self.count += 1
        name = str(func)  # aten.index.Tensor
        waits = name in WAITS or name.rpartition(".")[0] in WAITS
        if waits and args[0].data_ptr() not in self._host:
            self._found.append(name)
        if name.startswith(("aten.index.", "aten.index_put", "aten._index_put")):
            indices = [value for value in args[1] if isinstance(value, Tensor)]
            if any(value.dtype in (torch.bool, torch.uint8) for value in indices):
                self._found.append(f"{name} by a mask")
        device = (kwargs or {}).get("device")
        if name.startswith("aten._to_copy") and device not in (None, args[0].device):
            self._found.append(f"{name} to {device}")
        return func(*args, **(kwargs or {}))


class SyncDetector:
    """Watches while it is entered.

    Args:
        host: Returns the tensors that lie on the host even where a GPU trains.

    Attributes:
        found: What would have made the host wait.
        num_operations: Operations that it has seen.
    """

    def __init__(self, host: Callable[[], Iterable[Tensor]]) -> None:
        self.found: list[str] = []
        self.num_operations = 0
        self._host = host
        self._stack = ExitStack()

    def __enter__(self) -> "SyncDetector":
        host = {tensor.data_ptr() for tensor in self._host()}
        self._operations = Operations(self.found, host)
        self._stack.enter_context(self._operations)
        self._stack.enter_context(Calls(self.found, host))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        self.num_operations = self._operations.count


class WatchedStep(pl.Callback):
    """Has one step watched, from the first hook of its batch to the last; stands first and last.

    Args:
        step: Which, counted from 0.
        enter: Begins to watch.
        leave: Ends it.
    """

    def __init__(self, step: int, enter: Callable[[], object], leave: Callable[[], object]) -> None:
        self._step, self._enter, self._leave = step, enter, leave
        self.first, self.last = _First(self), _Last(self)

    def begin(self, trainer: pl.Trainer) -> None:
        """Begin, if this is the step."""
        if trainer.global_step == self._step:
            self._enter()

    def end(self, trainer: pl.Trainer) -> None:
        """End, if this was the step."""
        if trainer.global_step == self._step + 1:
            self._leave()


class _First(pl.Callback):
    def __init__(self, watched: WatchedStep) -> None:
        self._watched = watched

    def on_train_batch_start(self, trainer: pl.Trainer, *_: object) -> None:
        self._watched.begin(trainer)


class _Last(pl.Callback):
    def __init__(self, watched: WatchedStep) -> None:
        self._watched = watched

    def on_train_batch_end(self, trainer: pl.Trainer, *_: object) -> None:
        self._watched.end(trainer)
