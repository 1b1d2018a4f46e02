"""An epoch's ledger balances, or the run stops."""

from dataclasses import replace

import numpy as np
import pytest

from rsdl.core.errors import RsdlError
from rsdl.core.rng import fingerprint
from rsdl.core.sample_counts import SampleCounts
from rsdl.data.plan import SamplingPlan
from rsdl.data.shuffle import GlobalOrder, OrderRule
from rsdl.train.recorder import close_ledger

PLAN = SamplingPlan(GlobalOrder(np.array([7, 5, 8]), OrderRule(1, 0)), global_batch=6, tail="pad")
READ = SampleCounts(
    planned=20, delivered=18, padded=4, skipped=2, fingerprint=fingerprint(np.arange(20))
)


def test_what_was_planned_and_read_balances():
    entry = close_ledger(READ, PLAN, 3, "train")
    assert entry.balanced and entry.epoch == 3 and entry.split == "train"
    assert (entry.planned, entry.delivered, entry.padded, entry.skipped) == (20, 18, 4, 2)


@pytest.mark.parametrize(
    "counts",
    [
        replace(READ, delivered=17),
        replace(READ, planned=19),
        replace(READ, skipped=3),
        replace(READ, fingerprint=READ.fingerprint + 1),
        # One sample twice and another not at all.
        replace(READ, fingerprint=fingerprint(np.array([*range(19), 0]))),
    ],
)
def test_what_does_not_balance_stops_the_run(counts: SampleCounts):
    with pytest.raises(RsdlError, match="epoch 3 does not balance"):
        close_ledger(counts, PLAN, 3, "train")
