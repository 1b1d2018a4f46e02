"""Asynchronous copies of a few numbers from the device to the host."""

import torch
from torch import Tensor


class AsyncScalars:
    """The values of a tensor, copied to the host without blocking.

    Reading them one step later costs no wait: the copy finishes while the device computes that
    step.

    Args:
        tensor: A few numbers. The tensor may change afterwards.
    """

    def __init__(self, tensor: Tensor) -> None:
        self._event: torch.cuda.Event | None = None
        if tensor.device.type != "cuda":
            self._values = tensor.clone()
            return
        self._values = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        self._values.copy_(tensor, non_blocking=True)
        # blocking=True: synchronize() sleeps instead of spinning on a core.
        self._event = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        self._event.record()

    @property
    def is_late(self) -> bool:
        """Whether an immediate ``take`` would wait for the device."""
        return self._event is not None

    def take(self) -> list[float]:
        """Wait for the copy and return the numbers."""
        if self._event is not None:
            self._event.synchronize()
        return [float(value) for value in self._values.tolist()]
