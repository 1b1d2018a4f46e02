"""Batches of one loader beside those of another, and samples that no loader can read."""

from pathlib import Path

import torch

from rsdl.config.data import DataConfig
from rsdl.core.batch import Batch
from rsdl.core.sample_counts import SampleCounts
from rsdl.data.dataset import DataSet

# Of a counts, what does not depend on where pixels come from.
COUNTS = ("planned", "delivered", "padded", "skipped", "fingerprint")


def total(batches: list[Batch]) -> SampleCounts:
    """Return the sum of their tallies."""
    return sum((batch.counts for batch in batches), SampleCounts())


def assert_alike(
    ours: list[Batch], theirs: list[Batch], *, most: float = 1, mean: float | None = None
) -> None:
    """Check that batches are the same, and pixels but for so much.

    Args:
        ours: Batches.
        theirs: Others, in the memory of the host.
        most: How far any value may be off.
        mean: How far values may be off on average; ``None`` asks for no more than ``most``.
    """
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        for name in ("targets", "valid", "samples", "uniforms"):
            left, right = getattr(one, name), getattr(other, name)
            assert left.dtype == right.dtype and torch.equal(left, right), name
        assert one.num_planned == other.num_planned
        for name in COUNTS:
            assert getattr(one.counts, name) == getattr(other.counts, name), name
        assert one.images.dtype == other.images.dtype and one.images.is_contiguous()
        gap = (one.images.cpu().double() - other.images.double()).abs()
        assert gap.max() <= most and gap.mean() <= (most if mean is None else mean)


def damage(packed: str, sample: int, content: bytes = b"") -> str:
    """Write over the image of a training sample; return what it is called."""
    index = DataSet(DataConfig(url=packed, decoded_cache="off")).split("train", "").index
    row, name = index.rows[sample], index.name(sample)
    with (Path(packed) / name.partition(":")[0]).open("r+b") as shard:
        shard.seek(int(row["offset"]))
        shard.write((content + bytes(int(row["length"])))[: int(row["length"])])
    return name
