"""Audit of an epoch: samples planned, delivered, padded and skipped must balance."""

from rsdl.core.batch import SampleCounts
from rsdl.core.errors import RsdlError
from rsdl.data.plan import SamplingPlan
from rsdl.records.run_record import LedgerEntry


def close_ledger(counts: SampleCounts, plan: SamplingPlan, epoch: int, split: str) -> LedgerEntry:
    """Return the ledger entry of an epoch, after comparing the samples read with the plan.

    Args:
        counts: Samples that all ranks read, resumes included.
        plan: Samples that the epoch was to read.
        epoch: Epoch, from 0.
        split: Name of the split.

    Raises:
        RsdlError: If they differ: samples were lost or read twice.
    """
    balanced = (
        counts.planned == plan.num_planned == counts.delivered + counts.skipped
        and counts.fingerprint == plan.fingerprint()
    )
    entry = LedgerEntry(
        epoch=epoch,
        split=split,
        planned=plan.num_planned,
        delivered=counts.delivered,
        padded=counts.padded,
        skipped=counts.skipped,
        fingerprint=f"{counts.fingerprint:016x}",
        balanced=balanced,
    )
    if not balanced:
        raise RsdlError(
            "ledger",
            f"epoch {epoch} does not balance: {entry}",
            "this is a bug in rsdl: please report it",
        )
    return entry
