"""What a row of a batch may be composed of, for a mosaic or copy-paste: which other samples.

A row's partners are drawn from the window of shards that its sample is shuffled in, so that no
other shard is read for them, and by numbers of the sample's own. So a row is a function of (seed,
epoch, sample), whoever loads it and after any resume. A partner is read as any sample is, with the
same random crop, but is no use of that sample: the ledger counts the row's own sample alone.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rsdl.core.rng import key_of, uniforms
from rsdl.data.plan import SamplingPlan

Int64s = NDArray[np.int64]

# Partners of a row: three of a mosaic, then the one whose objects are pasted.
PASTED = 3
NUM_PARTNERS = 4
# Columns of a row's own numbers; those of its partners and of their crops follow.
BY_MOSAIC, BY_PASTE, CENTRE_Y, CENTRE_X = range(4)
NUM_OWN = 4

CHOSEN = 0.5  # of a partner's objects, those that are to be pasted


@dataclass(frozen=True, slots=True)
class ComposeRule:
    """How often rows are composed of several images.

    Attributes:
        mosaic: Share of the rows that are a mosaic of four.
        copy_paste: Share of the rows onto which objects of another image are pasted.
    """

    mosaic: float = 0.0
    copy_paste: float = 0.0

    @property
    def is_on(self) -> bool:
        """Whether any row is composed."""
        return self.mosaic > 0 or self.copy_paste > 0


@dataclass(frozen=True, slots=True)
class Partners:
    """What the rows of a batch may be composed of, beside their own samples.

    Attributes:
        samples: Sample numbers, ``[B, NUM_PARTNERS]``.
        numbers: Random numbers of the rows, ``[B, NUM_OWN]``.
        crops: Random numbers of the partners' crops, ``[B, NUM_PARTNERS, K]``.
        key: Key of the random stream that chooses objects.
    """

    samples: Int64s
    numbers: NDArray[np.float64]
    crops: NDArray[np.float64]
    key: int

    def needed(self, row: int, rule: ComposeRule) -> list[int]:
        """Return which partners a row is composed of; none where it stays as it is."""
        numbers = self.numbers[row]
        mosaic = [0, 1, 2] if numbers[BY_MOSAIC] < rule.mosaic else []
        return [*mosaic, *([PASTED] if numbers[BY_PASTE] < rule.copy_paste else [])]

    def centre(self, row: int) -> tuple[float, float]:
        """Return y and x of the centre of a row's mosaic, each in ``[0, 1)``."""
        return float(self.numbers[row, CENTRE_Y]), float(self.numbers[row, CENTRE_X])

    def choose_objects(self, draw: int, number: int) -> NDArray[np.bool_]:
        """Return which objects of a draw's partner are to be pasted, of so many."""
        numbers: NDArray[np.float64] = uniforms(self.key, np.array([draw]), number)[0]
        return numbers < CHOSEN


def choose_partners(plan: SamplingPlan, draws: Int64s, num_uniforms: int) -> Partners:
    """Return the partners of draws, each a function of (seed, epoch, draw).

    Args:
        plan: The sampling plan of the epoch.
        draws: Numbers of the draws, ``[B]``.
        num_uniforms: Random numbers of one crop.
    """
    rule = plan.order.rule
    keys = [key_of(rule.seed, rule.epoch, name) for name in ("compose", "paste")]
    numbers = uniforms(keys[0], draws, NUM_OWN + NUM_PARTNERS * (1 + num_uniforms))
    own, drawn, crops = np.split(numbers, (NUM_OWN, NUM_OWN + NUM_PARTNERS), axis=1)
    samples = plan.samples_of(plan.order.neighbours(draws, drawn))
    return Partners(samples, own, crops.reshape(len(draws), NUM_PARTNERS, num_uniforms), keys[1])
