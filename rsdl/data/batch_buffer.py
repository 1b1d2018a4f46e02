"""A batch that several threads fill: its memory, unfinished parts and byte counts.

The memory is allocated once, at full size, in the stored type. Threads write into disjoint rows and
take the lock only to report a part as done.
"""

import threading
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rsdl.core.batch import Batch
from rsdl.core.image_size import ImageSize, height_width
from rsdl.core.rng import fingerprint, to_float32
from rsdl.core.sample_counts import SampleCounts
from rsdl.data.crop import CropRule
from rsdl.data.manifest import Manifest
from rsdl.data.partners import ComposeRule, Partners
from rsdl.data.plan import PlannedBatch
from rsdl.data.targets import KINDS
from rsdl.data.targets.base import TargetKind

TORCH_DTYPES = {"uint8": torch.uint8, "uint16": torch.uint16, "float32": torch.float32}


@dataclass(frozen=True, slots=True)
class LoadRule:
    """How samples become rows of a batch.

    Attributes:
        image_size: Size of the images in a batch: the side of a square, or height and width.
        crop: Rule for the crop; random or central.
        on_corrupt: ``error`` or ``skip``.
        num_workers: Threads, at least 1.
        prefetch: Batches in flight, at least 1.
        pin_memory: Whether batches use page-locked memory, so that copies overlap compute.
        compose: How often rows are composed of several images.
    """

    image_size: ImageSize
    crop: CropRule
    on_corrupt: str = "error"
    num_workers: int = 2
    prefetch: int = 4
    pin_memory: bool = False
    compose: ComposeRule = field(default_factory=ComposeRule)


@dataclass(slots=True)
class BatchBuffer:
    """A batch being filled by several threads.

    Attributes:
        planned: The samples of its rows.
        images: Pixels, ``[B, H, W, C]``.
        pixels: The same memory as a NumPy array.
        target: Kind of target.
        targets: Targets of the rows, as the kind allocates them.
        windows: Top, left, height and width of each row's crop in its image, ``[B, 4]``.
        sizes: Height and width of the images, ``[B, 2]``; 0 for corrupt ones.
        valid: Rows that count, ``[B]``; False for corrupt ones.
        crop_uniforms: Numbers for each row's crop, ``[B, K]``.
        parts_left: Parts that are not finished.
        partners: What its rows are composed of, beside their own samples.
        encoded_bytes: Bytes read so far.
        decoded_bytes: Bytes of pixels decoded so far.
        error: The first error.
        ready: Set when no part is left.
    """

    planned: PlannedBatch
    images: Tensor
    pixels: NDArray[Any]
    target: TargetKind
    targets: Any
    windows: NDArray[np.int32]
    sizes: NDArray[np.int32]
    valid: NDArray[np.bool_]
    crop_uniforms: NDArray[np.float64]
    parts_left: int
    partners: Partners | None = None
    encoded_bytes: int = 0
    decoded_bytes: int = 0
    error: BaseException | None = None
    ready: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def finish_part(self, encoded: int, decoded: int, error: BaseException | None) -> int:
        """Report one part as done, with its bytes read and decoded; return the parts left."""
        with self.lock:
            self.encoded_bytes += encoded
            self.decoded_bytes += decoded
            self.error = self.error or error
            self.parts_left -= 1
            if self.parts_left == 0:
                self.ready.set()
            return self.parts_left

    def to_batch(self, numbers: NDArray[np.float64]) -> Batch:
        """Return the filled batch, with ``numbers`` ``[B, K]`` for augmentation."""
        planned = self.planned
        num_planned, num_valid = int(planned.valid.sum()), int(self.valid.sum())
        return Batch(
            images=self.images,
            targets=torch.from_numpy(self.target.collate(self.targets)),
            valid=torch.from_numpy(self.valid),
            samples=torch.from_numpy(planned.samples),
            uniforms=torch.from_numpy(to_float32(numbers)),
            windows=torch.from_numpy(self.windows),
            sizes=torch.from_numpy(self.sizes),
            num_planned=planned.num_planned,
            counts=SampleCounts(
                planned=num_planned,
                delivered=num_valid,
                padded=len(planned.valid) - num_planned,
                skipped=num_planned - num_valid,
                encoded_bytes=self.encoded_bytes,
                decoded_bytes=self.decoded_bytes,
                fingerprint=fingerprint(planned.draws[planned.valid]),
            ),
        )


def open_buffer(
    planned: PlannedBatch,
    manifest: Manifest,
    rule: LoadRule,
    crop_uniforms: NDArray[np.float64],
    buffer_type: type[BatchBuffer] = BatchBuffer,
) -> BatchBuffer:
    """Allocate the memory of one batch."""
    size = len(planned.samples)
    images = torch.empty(
        (size, *height_width(rule.image_size), len(manifest.bands)),
        dtype=TORCH_DTYPES[manifest.dtype],
        pin_memory=rule.pin_memory,
    )
    target = KINDS[manifest.target]
    return buffer_type(
        planned=planned,
        images=images,
        pixels=images.numpy(),
        target=target,
        targets=target.allocate(size, rule.image_size),
        windows=np.zeros((size, 4), dtype=np.int32),
        sizes=np.zeros((size, 2), dtype=np.int32),
        valid=planned.valid.copy(),
        crop_uniforms=crop_uniforms,
        parts_left=min(rule.num_workers, size),
    )
