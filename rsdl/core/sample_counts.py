"""Counts of samples and bytes, which add up over batches, ranks and resumes."""

from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True)
class SampleCounts:
    """Outcomes of the planned samples; the sum over all batches is the epoch's ledger.

    Attributes:
        planned: Rows that count by the plan, so without padding.
        delivered: Rows that reached the step.
        padded: Rows that only fill up a batch.
        skipped: Rows whose sample could not be decoded.
        encoded_bytes: Bytes read from shards.
        decoded_bytes: Bytes of full-size pixels decoded from them.
        fingerprint: Sum of hashes of the planned draws, modulo 2^64: equal multisets of draws have
            equal fingerprints, independent of read order and of ranks.
    """

    planned: int = 0
    delivered: int = 0
    padded: int = 0
    skipped: int = 0
    encoded_bytes: int = 0
    decoded_bytes: int = 0
    fingerprint: int = 0

    def __add__(self, other: "SampleCounts") -> "SampleCounts":
        """Return the sum, field by field."""
        sums = {
            field.name: getattr(self, field.name) + getattr(other, field.name)
            for field in fields(self)
        }
        sums["fingerprint"] %= 1 << 64
        return SampleCounts(**sums)
