"""Runs that differ by their seed alone, as one result: mean and standard deviation, never the best.

Which runs these are is told by their configs. A run whose config is not known, or that is not
completed, stands for itself.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from rsdl.evaluate import formatting, run_summary
from rsdl.evaluate.study_rows import StudyRow, is_final


@dataclass(frozen=True, slots=True)
class Result:
    """One recipe on one data set: a run, or several of different seeds.

    Attributes:
        runs: The runs; several only where all are completed and measured on one split.
    """

    runs: tuple[StudyRow, ...]

    @property
    def name(self) -> str:
        """Names of the runs."""
        return ", ".join(s.name for s in self.runs)

    @property
    def architecture(self) -> str:
        """The network."""
        return self.runs[0].architecture

    @property
    def dataset(self) -> str:
        """What it was trained on."""
        return self.runs[0].dataset

    @property
    def status(self) -> str:
        """How the runs stand."""
        return self.runs[0].status

    @property
    def head(self) -> run_summary.Headline:
        """What the first was measured on; the others were, too."""
        return self.runs[0].head

    @property
    def n(self) -> int:
        """Number of seeds."""
        return len(self.runs)

    @property
    def final(self) -> bool:
        """Whether it is completed and measured."""
        return is_final(self.runs[0])

    @property
    def oa(self) -> float | None:
        """Mean overall accuracy in ``[0, 1]``, where there is one."""
        known = [s.oa for s in self.runs if s.oa is not None]
        return fmean(known) if known else None

    @property
    def std(self) -> float | None:
        """Standard deviation of the accuracy over seeds (of the sample, ``n - 1``)."""
        known = [s.oa for s in self.runs if s.oa is not None]
        return stdev(known) if len(known) > 1 else None

    @property
    def spread(self) -> str:
        """How far seeds differ, for people; empty for a single run."""
        return "" if self.std is None else f"± {formatting.percent(self.std, 2)}, n = {self.n}"

    def cost(self, key: str) -> float | None:
        """Return the mean of a number of the record, where each run has one."""
        values = [formatting.number(s.entry.run.get(key)) for s in self.runs]
        known = [value for value in values if value is not None]
        return fmean(known) if len(known) == self.n else None


def results_of(rows: Sequence[StudyRow]) -> list[Result]:
    """Return runs put together by what they differ in beside the seed, in order of appearance.

    A seed that was run again stands apart: it is no further sample.
    """
    groups: dict[tuple[object, ...], list[StudyRow]] = {}
    seen: Counter[tuple[object, ...]] = Counter()
    for number, row in enumerate(rows):
        run, recipe = row.entry.run, row.entry.recipe
        key: tuple[object, ...] = (number,)
        if recipe and is_final(row):
            key = (row.architecture, row.dataset, row.head.basis, recipe,
                   run.get("manifest_digest"))  # fmt: skip
            seed = (*key, run.get("seed"))
            seen[seed] += 1
            key = (*key, seen[seed])
        groups.setdefault(key, []).append(row)
    return [Result(tuple(runs)) for runs in groups.values()]
