"""Numbers on their way from the device to the host, without the one waiting for the other."""

import torch
from torch import Tensor


class AsyncScalars:
    """What a tensor held when it was read; to be taken when the device has come so far.

    Taken a step later, it costs no wait: the device has that step to do in the meantime.

    Args:
        tensor: Few numbers; it may change afterwards.
    """

    def __init__(self, tensor: Tensor) -> None:
        self._event: torch.cuda.Event | None = None
        if tensor.device.type != "cuda":
            self._values = tensor.clone()
            return
        self._values = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        self._values.copy_(tensor, non_blocking=True)
        # Blocking: it waits without keeping a core busy.
        self._event = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        self._event.record()

    @property
    def is_late(self) -> bool:
        """Whether taking it at once would wait for the device."""
        return self._event is not None

    def take(self) -> list[float]:
        """Return the numbers, once they are here."""
        if self._event is not None:
            self._event.synchronize()
        return [float(value) for value in self._values.tolist()]
