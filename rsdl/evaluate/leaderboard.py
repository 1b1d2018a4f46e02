"""The leaderboard: results by architecture and data set, with the best of each data set marked.

Runs that differ only by their seed or fold are one result, their mean and standard deviation; the
best one is never reported alone. Runs are grouped by their configs; a run that has no known config,
or is not completed, is a result of its own.

A result is marked as best only among completed runs that were evaluated on the same split, so a
validation score never beats a test score.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import fsum
from statistics import fmean, stdev

from rsdl.config.fold import parse_fold
from rsdl.evaluate import formatting
from rsdl.evaluate.compared_run import ComparedRun, Headline
from rsdl.evaluate.student_t import mean_half_width
from rsdl.records.run_record import RunRecord


@dataclass(frozen=True, slots=True)
class Result:
    """One recipe on one data set: one run, or several with different seeds or folds.

    Attributes:
        runs: The runs; several only if all are completed and evaluated on the same split.
    """

    runs: tuple[ComparedRun, ...]

    @property
    def name(self) -> str:
        """Names of the runs."""
        return ", ".join(entry.run.name for entry in self.runs)

    @property
    def short_name(self) -> str:
        """The name of the run; of several seeds the shortest, which a sweep extends for others."""
        return min((entry.run.name for entry in self.runs), key=len)

    @property
    def by_repeat(self) -> dict[tuple[int, str | None, str], float]:
        """The primary metric by seed and fold of the run, and the version of the data set."""
        return {repeat_of(e.run): e.score for e in self.runs if e.score is not None}

    @property
    def overlap(self) -> float:
        """Ratio of held-out to training data of folds; 0 without folds."""
        fold = self.run.fold
        return 0.0 if fold is None else 1 / (parse_fold(fold).num_folds - 1)

    @property
    def run(self) -> RunRecord:
        """The record of the first run; all have the same architecture, data set and status."""
        return self.runs[0].run

    @property
    def head(self) -> Headline:
        """The headline of the first run; all runs have the same split."""
        return self.runs[0].head

    @property
    def n(self) -> int:
        """Number of runs: seeds, or seeds times folds."""
        return len(self.runs)

    @property
    def is_final(self) -> bool:
        """Whether the runs are completed and evaluated."""
        return self.runs[0].is_final

    @property
    def score(self) -> float | None:
        """Mean of the primary metric; ``None`` if no run has one."""
        known = [entry.score for entry in self.runs if entry.score is not None]
        return fmean(known) if known else None

    @property
    def std(self) -> float | None:
        """Sample standard deviation (``n - 1``) of the primary metric over the runs."""
        known = [entry.score for entry in self.runs if entry.score is not None]
        return stdev(known) if len(known) > 1 else None

    @property
    def half_width(self) -> float | None:
        """Half the 95% confidence interval of the mean, by Student's t; ``None`` for one run."""
        known = [entry.score for entry in self.runs if entry.score is not None]
        return mean_half_width(known, overlap=self.overlap) if len(known) > 1 else None

    @property
    def spread(self) -> str:
        """Standard deviation, number of runs and interval as text; empty for a single run."""
        if self.std is None:
            return ""
        interval = formatting.percent(self.half_width, 2)
        return f"± {formatting.percent(self.std, 2)}, n = {self.n}; 95% CI ± {interval}"


@dataclass(frozen=True, slots=True)
class Column:
    """One data set of the table, with the split that runs are compared on and its best score.

    Attributes:
        label: Label of the metric that its runs are ranked by.
    """

    dataset: str
    basis: str | None
    best: float | None
    label: str

    def has_best(self, result: Result) -> bool:
        """Return whether a result is the best of this column; ties count as best."""
        return self.compares(result) and result.score == self.best

    def compares(self, result: Result) -> bool:
        """Return whether a result is of this data set, final, and of this split and metric."""
        return (
            result.is_final
            and result.run.dataset == self.dataset
            and result.head.basis == self.basis
            and result.run.facts.label == self.label
        )


@dataclass(frozen=True, slots=True)
class Leaderboard:
    """The primary metric by architecture (rows) and data set (columns).

    Attributes:
        cells: Results by (architecture, data set), each with whether it is best; the best first.
    """

    architectures: tuple[str, ...]
    columns: tuple[Column, ...]
    cells: Mapping[tuple[str, str], Sequence[tuple[Result, bool]]]

    def heading(self, column: Column) -> str:
        """Return a data set with its split and, among other metrics, its metric."""
        basis = [f"({column.basis})"] if column.basis else []
        labels = {each.label for each in self.columns}
        return " ".join([column.dataset, *basis, *([column.label] if len(labels) > 1 else [])])

    def mean(self, architecture: str) -> float | None:
        """Return the mean over data sets; ``None`` if one has no result or several recipes."""
        scores = []
        for column in self.columns:
            runs = self.cells[(architecture, column.dataset)]
            fit = [r.score for r, _ in runs if column.compares(r)]
            scores += fit if len(fit) == 1 else []
        known = [score for score in scores if score is not None]
        return fmean(known) if known and len(known) == len(self.columns) else None


@dataclass(frozen=True, slots=True)
class Summary:
    """One architecture over all data sets.

    Attributes:
        mean: Mean of the primary metric; ``None`` unless every data set has one.
        best: Whether no other mean is higher.
        parameters: Parameters of its largest network; heads differ with the number of classes.
        device_s: Device seconds of all its runs.
    """

    mean: float | None
    best: bool
    parameters: int
    device_s: float


def leaderboard_of(entries: Sequence[ComparedRun]) -> Leaderboard:
    """Return the table of runs, rows and columns in order of appearance."""
    architectures = tuple(dict.fromkeys(entry.run.architecture for entry in entries))
    datasets = dict.fromkeys(entry.run.dataset for entry in entries)
    columns = tuple(column_of(entries, dataset) for dataset in datasets)
    results = results_of(entries)
    cells = {
        (architecture, column.dataset): _cell(results, architecture, column)
        for architecture in architectures
        for column in columns
    }
    return Leaderboard(architectures, columns, cells)


def results_of(entries: Sequence[ComparedRun]) -> list[Result]:
    """Return runs grouped by everything but seed and fold, in order of appearance.

    An extended run is no seed of one that was as long at once: their learning rates differ.
    The seed is that of the run, or of the draw of train, val and test, which papers repeat, too.
    A second run of the same seed and fold goes to a separate result: it is no further sample.
    """
    groups: dict[tuple[object, ...], list[ComparedRun]] = {}
    seen: Counter[tuple[object, ...]] = Counter()
    for index, entry in enumerate(entries):
        run = entry.run
        key: tuple[object, ...] = (index,)
        if entry.recipe and entry.is_final:
            key = (run.architecture, run.dataset, entry.head.basis, entry.recipe,
                   run.split_draw or run.manifest_digest, *run.extended_at)  # fmt: skip
            repeat = (*key, *repeat_of(run))
            seen[repeat] += 1
            key = (*key, seen[repeat])
        groups.setdefault(key, []).append(entry)
    return [Result(tuple(runs)) for runs in groups.values()]


def repeat_of(run: RunRecord) -> tuple[int, str | None, str]:
    """Return what runs of one recipe differ in: seed, fold and version of the data set."""
    return run.seed, run.fold, run.manifest_digest


def names_of(results: Sequence[Result]) -> list[str]:
    """Return the architecture of each result, or its run if another on the data set has it, too."""
    times = Counter((result.run.architecture, result.run.dataset) for result in results)
    return [
        r.run.architecture if times[r.run.architecture, r.run.dataset] == 1 else r.short_name
        for r in results
    ]


def column_of(entries: Sequence[ComparedRun], dataset: str) -> Column:
    """Return split and metric of most completed runs (test wins ties), and the best score."""
    mine = [entry for entry in entries if entry.run.dataset == dataset]
    rivals = [entry for entry in mine if entry.is_final]
    votes = Counter((entry.head.basis, entry.run.facts.label) for entry in rivals)
    basis, label = max(
        votes,
        key=lambda each: (votes[each], each[0] == "test"),
        default=(None, mine[0].run.facts.label),
    )
    fit = [
        result.score or 0.0
        for result in results_of(rivals)
        if (result.head.basis, result.run.facts.label) == (basis, label)
    ]
    return Column(dataset, basis, max(fit, default=None), label)


def summaries_of(rows: Sequence[ComparedRun], board: Leaderboard) -> dict[str, Summary]:
    """Return a summary of each architecture."""
    # A mean over the metrics of several tasks says nothing.
    one_task = len({entry.run.facts.primary_metric for entry in rows}) == 1
    means = {name: board.mean(name) if one_task else None for name in board.architectures}
    best = max((mean for mean in means.values() if mean is not None), default=None)
    summaries = {}
    for name, mean in means.items():
        mine = [entry.run for entry in rows if entry.run.architecture == name]
        summaries[name] = Summary(
            mean=mean,
            best=mean is not None and mean == best,
            parameters=max(run.parameters for run in mine),
            device_s=fsum(run.device_s for run in mine),
        )
    return summaries


def _cell(
    results: Sequence[Result], architecture: str, column: Column
) -> list[tuple[Result, bool]]:
    place = (architecture, column.dataset)
    mine = [r for r in results if (r.run.architecture, r.run.dataset) == place]
    mine.sort(key=lambda r: (not column.has_best(r), not r.is_final, -(r.score or 0.0)))
    return [(r, column.has_best(r)) for r in mine]
