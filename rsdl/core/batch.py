"""The batch that the loader yields and the training step moves to the device."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rsdl.core.sample_counts import SampleCounts

# The fields of a batch that are moved to the device.
TENSORS = ("images", "targets", "valid", "samples", "uniforms")


@dataclass(frozen=True, slots=True)
class Batch:
    """One rank's rows of one (micro-)batch.

    Attributes:
        images: Pixels as stored, ``[B, H, W, C]``, uint8, uint16 or float32.
        targets: Targets as the data set's kind of target collates them, ``[B, ...]``.
        valid: Which rows count, ``[B]`` bool; padding and corrupt samples do not.
        samples: Number of the sample within its split, ``[B]`` int64.
        uniforms: Numbers in ``[0, 1)`` for augmentation, ``[B, K]`` float32; a pure function of
            (seed, epoch, sample).
        windows: Top, left, height and width in pixels of the part of each image that became a
            row, ``[B, 4]`` int32; stays on the host.
        sizes: Height and width of the images, after ``data.decode_size``, ``[B, 2]`` int32;
            stay on the host.
        num_planned: Rows of the whole global batch that count by the plan, over all ranks and
            accumulation steps; losses are divided by it.
        counts: Outcomes of this rank's rows; stay on the host.
    """

    images: Tensor
    targets: Tensor
    valid: Tensor
    samples: Tensor
    uniforms: Tensor
    windows: Tensor
    sizes: Tensor
    num_planned: int
    counts: SampleCounts

    def __len__(self) -> int:
        """Return the number of rows, counted or not."""
        return len(self.samples)

    def to(self, device: torch.device, *, non_blocking: bool = True) -> "Batch":
        """Return the batch with every tensor on ``device``."""

        def move(tensor: Tensor) -> Tensor:
            # A copy from pageable memory to a GPU is synchronous even with `non_blocking`.
            if device.type == "cuda" and tensor.device.type == "cpu" and not tensor.is_pinned():
                tensor = tensor.pin_memory()
            return tensor.to(device, non_blocking=non_blocking)

        return replace(
            self,
            images=move(self.images),
            targets=move(self.targets),
            valid=move(self.valid),
            samples=move(self.samples),
            uniforms=move(self.uniforms),
        )
