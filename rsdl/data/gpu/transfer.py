"""Copy batches to a GPU while the previous step still computes."""

import torch

from rsdl.core.batch import TENSORS, Batch


class Transfer:
    """Copies batches to a GPU on a separate CUDA stream.

    The host runs ahead of the device, so a copy issued at the start of a step begins while the
    device computes the previous step. On the compute stream it would wait for that step.

    Args:
        device: The GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def send(self, batch: Batch) -> Batch:
        """Return the batch on the device, ready for further work on the current stream.

        Tensors already on the device are returned unchanged.
        """
        current = torch.cuda.current_stream(self.device)
        with torch.cuda.stream(self._stream):
            sent = batch.to(self.device)
        current.wait_stream(self._stream)
        for name in TENSORS:
            tensor = getattr(sent, name)
            if tensor is not getattr(batch, name):
                # The memory belongs to the copy stream, which must not reuse it too early.
                tensor.record_stream(current)
        return sent
