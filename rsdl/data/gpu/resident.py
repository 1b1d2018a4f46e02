"""Keep the decoded train split in the memory of the training device.

Decoding the same small dataset 300 times is wasteful if the device can hold all of it: then a batch
is a gather, and crop, resize and augmentation run on the device; the host computes the boxes. Every
rank holds the whole split, since the global order mixes all of it. Samples, order, crops and ledger
are those of :mod:`rsdl.data.loader`; pixels are too, except for the rounding that
:mod:`rsdl.data.gpu.resample` states. Evaluation reads files, so its scores depend on no device.

A split that does not fit is read from its files, or is an error with ``data.resident=on``; all
ranks make the same decision.
"""

import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rsdl.core.batch import Batch
from rsdl.core.errors import ConfigError, CorruptSampleError
from rsdl.core.resources import usable_memory
from rsdl.core.rng import key_of, uniforms
from rsdl.data.batch_buffer import TORCH_DTYPES, BatchBuffer, LoadRule
from rsdl.data.crop import crop_boxes
from rsdl.data.dataset import SplitData
from rsdl.data.gpu.read_split import (
    DoesNotFitError,
    ResidentSplit,
    estimate_pixels,
    pixel_bytes,
    read_split,
)
from rsdl.data.gpu.resample import resample, send
from rsdl.data.loader import NUM_UNIFORMS
from rsdl.data.plan import PlannedBatch, SamplingPlan, Share
from rsdl.data.targets import KINDS
from rsdl.distributed.rank import any_rank, is_main

logger = logging.getLogger(__name__)

# Share of the free memory: the need of training is not known yet. ``on`` declares it to be small.
SHARES = {"auto": 0.3, "on": 0.7}


def open_resident(
    wanted: str, data: SplitData, device: torch.device, *, num_workers: int, processes: int
) -> ResidentSplit | None:
    """Load a split onto a device, if it is enabled and fits.

    This is a collective call: every rank must call it at the same point.

    Args:
        wanted: ``off``; ``auto``: only on a GPU, since the decoded cache is faster on a CPU; or
            ``on``.
        data: The split.
        device: The training device.
        num_workers: Threads for loading.
        processes: Processes that share this machine's memory.

    Returns:
        The split, or ``None`` if it is read from its files.

    Raises:
        ConfigError: If ``wanted`` is ``on`` and it does not fit.
    """
    if wanted == "off" or (wanted == "auto" and device.type != "cuda"):
        return None
    if not KINDS[data.manifest.target].in_index:
        if wanted == "auto":
            return None
        raise ConfigError(
            "data.resident",
            f"is on, but targets of the kind {data.manifest.target} are read from the shards",
            "pass data.resident=off",
        )
    free, share, each = free_bytes(device, processes), SHARES[wanted], pixel_bytes(data.manifest)
    limit = int(free * share) // each
    # If the tars exceed four times the limit, the pixels do not fit: no shard is fetched to count.
    expected = shard_bytes(data) // 4 // each
    if expected <= limit:
        expected = estimate_pixels(data)
    resident: ResidentSplit | None = None
    if not any_rank(expected > limit, device):
        say(f"loading {len(data.index):,} images ({gigabytes(expected * each)}) onto {device}")
        try:
            resident = read_split(
                data, device, expected=expected, limit=limit, num_workers=num_workers
            )
        except DoesNotFitError as error:
            expected = error.num_pixels
        if not any_rank(resident is None, device):
            return resident
    where = f"the {share:.0%} of {gigabytes(free)} free on {device} that it may have"
    problem = f"the decoded split takes about {gigabytes(expected * each)}, more than {where}"
    if expected <= limit:
        problem = "the decoded split does not fit the device of another rank"
    if wanted == "on":
        raise ConfigError("data.resident", f"is on, but {problem}", "pass data.resident=off")
    say(f"images stay in their files: {problem}")
    return None


def free_bytes(device: torch.device, processes: int) -> int:
    """Return the bytes of free memory on ``device`` for one process."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return usable_memory() // processes


def shard_bytes(data: SplitData) -> int:
    """Return the bytes of a split in its shards; of a part, by its share of their samples."""
    kept = dict(zip(data.index.shard_names, data.index.shard_samples.tolist(), strict=True))
    shards = [shard for split in data.manifest.splits.values() for shard in split.shards]
    return sum(s.bytes * kept.get(s.name, 0) // s.samples for s in shards)


def gigabytes(num: int) -> str:
    """Return bytes as text in GB."""
    return f"{num / 1e9:.2f} GB"


def say(line: str) -> None:
    """Log a line on the main rank only."""
    if is_main():
        logger.info(line)


class ResidentLoader:
    """The batches of one rank for the rest of one epoch, from device memory.

    Replaces :class:`rsdl.data.loader.BatchLoader`. The bytes read for the split are counted in the
    first batch after it was read.

    Args:
        resident: The split on the device.
        plan: The sampling plan of the epoch.
        share: This rank's part.
        rule: How samples become rows.
        start: Position in the global order to start at, in samples.
    """

    def __init__(
        self,
        resident: ResidentSplit,
        plan: SamplingPlan,
        share: Share,
        rule: LoadRule,
        start: int = 0,
    ) -> None:
        self.plan = plan
        self.start = start
        self.waited_s = 0.0  # the split is loaded before training starts
        self.skipped: list[str] = []
        self._resident = resident
        self._share = share
        self._rule = rule
        order = plan.order.rule
        self._crop_key = key_of(order.seed, order.epoch, "crop")
        self._augment_key = key_of(order.seed, order.epoch, "augment")
        self._corrupt = np.zeros(len(resident.labels), dtype=np.bool_)
        self._corrupt[list(resident.corrupt)] = True

    def __len__(self) -> int:
        """Return the number of (micro-)batches that an iteration yields."""
        return self.plan.num_batches(self.start) * self._share.accumulate

    def __iter__(self) -> Iterator[Batch]:
        """Yield batches in plan order; images are on the device, the rest on the host."""
        for planned in self.plan.batches(self._share, self.start):
            yield self._make(planned)

    def _make(self, planned: PlannedBatch) -> Batch:
        store, samples = self._resident.store, planned.samples
        bad = self._corrupt[samples]
        for row in np.flatnonzero(bad).tolist():
            self._pass_over(self._resident.corrupt[int(samples[row])], counts=planned.valid[row])
        numbers = uniforms(self._crop_key, planned.draws, self._rule.crop.num_uniforms)
        boxes = crop_boxes(self._rule.crop, store.heights[samples], store.widths[samples], numbers)
        images = resample(store, samples, boxes, self._rule.image_size)
        if bad.any():
            images[send(np.flatnonzero(bad), images.device)] = self._mean(images)
        encoded, decoded = self._resident.charge()
        filled = BatchBuffer(
            planned=planned,
            images=images.view(TORCH_DTYPES[self._resident.manifest.dtype]),
            pixels=NO_PIXELS,
            target=KINDS[self._resident.manifest.target],
            targets=self._resident.labels[samples],
            windows=boxes.astype(np.int32),
            sizes=np.stack((store.heights[samples], store.widths[samples]), 1).astype(np.int32),
            valid=planned.valid & ~bad,
            crop_uniforms=NO_NUMBERS,
            parts_left=0,
            encoded_bytes=encoded,
            decoded_bytes=decoded,
        )
        return filled.to_batch(uniforms(self._augment_key, planned.draws, NUM_UNIFORMS))

    def _pass_over(self, error: CorruptSampleError, *, counts: bool) -> None:
        """Skip a sample that could not be read, or raise the error."""
        if self._rule.on_corrupt == "error":
            skip = "pass data.on_corrupt=skip to leave such samples out"
            remedy = f"{error.remedy}, or {skip}" if error.remedy else skip
            raise CorruptSampleError(error.where, error.problem, remedy)
        if counts:
            self.skipped.append(str(error))

    def _mean(self, images: Tensor) -> Tensor:
        """Return the mean of each band, ``[C]``, in the dtype of ``images``."""
        manifest = self._resident.manifest
        mean = np.asarray(manifest.mean).astype(manifest.dtype)
        bits = mean.view(np.int16) if images.dtype == torch.int16 else mean
        return send(bits, images.device)


NO_PIXELS: NDArray[Any] = np.empty(0, dtype=np.uint8)
NO_NUMBERS: NDArray[np.float64] = np.empty((0, 0))
