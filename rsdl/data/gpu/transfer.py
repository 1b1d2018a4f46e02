"""Batches on their way to a GPU, copied while the step before them still computes."""

import torch

from rsdl.core.batch import TENSORS, Batch


class Transfer:
    """Copies batches to a GPU on a stream of its own.

    The host runs ahead of the device, so a copy that is asked for at the start of a step begins
    while the device is at the step before it. On the stream that computes it would wait its turn.

    Args:
        device: The GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def send(self, batch: Batch) -> Batch:
        """Return the batch on the device, ready for what the current stream does next.

        Tensors that lie there already stay as they are.
        """
        current = torch.cuda.current_stream(self.device)
        with torch.cuda.stream(self._stream):
            sent = batch.to(self.device)
        current.wait_stream(self._stream)
        for name in TENSORS:
            tensor = getattr(sent, name)
            if tensor is not getattr(batch, name):
                # Its memory belongs to the copying stream, which must not take it back too early.
                tensor.record_stream(current)
        return sent
