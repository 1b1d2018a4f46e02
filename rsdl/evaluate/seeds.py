"""Group runs that differ only by their seed into one result: mean and standard deviation.

The best seed is never reported alone. Runs are grouped by their configs; a run that has no known
config, or is not completed, is a result of its own.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from rsdl.evaluate import formatting, run_summary
from rsdl.evaluate.study_rows import StudyRow, is_final


@dataclass(frozen=True, slots=True)
class Result:
    """One recipe on one data set: one run, or several with different seeds.

    Attributes:
        runs: The runs; several only if all are completed and evaluated on the same split.
    """

    runs: tuple[StudyRow, ...]

    @property
    def name(self) -> str:
        """Names of the runs."""
        return ", ".join(s.name for s in self.runs)

    @property
    def architecture(self) -> str:
        """The architecture of the runs."""
        return self.runs[0].architecture

    @property
    def dataset(self) -> str:
        """The data set of the runs."""
        return self.runs[0].dataset

    @property
    def status(self) -> str:
        """The status of the runs."""
        return self.runs[0].status

    @property
    def head(self) -> run_summary.Headline:
        """The headline of the first run; all runs have the same split."""
        return self.runs[0].head

    @property
    def n(self) -> int:
        """Number of seeds."""
        return len(self.runs)

    @property
    def final(self) -> bool:
        """Whether the runs are completed and evaluated."""
        return is_final(self.runs[0])

    @property
    def oa(self) -> float | None:
        """Mean overall accuracy in ``[0, 1]``; ``None`` if no run has one."""
        known = [s.oa for s in self.runs if s.oa is not None]
        return fmean(known) if known else None

    @property
    def std(self) -> float | None:
        """Sample standard deviation (``n - 1``) of the accuracy over seeds."""
        known = [s.oa for s in self.runs if s.oa is not None]
        return stdev(known) if len(known) > 1 else None

    @property
    def spread(self) -> str:
        """Standard deviation and number of seeds as text; empty for a single run."""
        return "" if self.std is None else f"± {formatting.percent(self.std, 2)}, n = {self.n}"

    def cost(self, key: str) -> float | None:
        """Return the mean of a number of the record; ``None`` unless every run has it."""
        values = [formatting.number(s.entry.run.get(key)) for s in self.runs]
        known = [value for value in values if value is not None]
        return fmean(known) if len(known) == self.n else None


def results_of(rows: Sequence[StudyRow]) -> list[Result]:
    """Return runs grouped by everything but the seed, in order of appearance.

    A second run of the same seed goes to a separate result, since it is not a further sample.
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
