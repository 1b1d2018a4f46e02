"""Whether results differ by more than chance: paired tests over the seeds and folds they share."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from rsdl.evaluate.compared_run import ComparedRun
from rsdl.evaluate.leaderboard import Column, Result, column_of, names_of, results_of
from rsdl.evaluate.student_t import PairedTest, holm, paired_test


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two results on one data set; the better one over the shared repeats is ``left``.

    Attributes:
        column: Data set and split.
        names: Names of both, as in the figures.
        test: Differences of the primary metric, ``left - right``, over the repeats of both.
        adjusted: p-value adjusted for all comparisons on this data set; ``None`` like ``test.p``.
    """

    column: Column
    left: Result
    right: Result
    names: tuple[str, str]
    test: PairedTest
    adjusted: float | None = None


def comparisons_of(rows: Sequence[ComparedRun]) -> list[Comparison]:
    """Return the paired tests between all results that share two repeats or more.

    Only final results on the split that their column compares; pairs have the same seed, the same
    fold and the same version of the data set.
    """
    results = results_of(rows)
    named = list(zip(names_of(results), results, strict=True))
    found = []
    for dataset in dict.fromkeys(entry.run.dataset for entry in rows):
        column = column_of(rows, dataset)
        rivals = [(name, r) for name, r in named if column.compares(r) and r.n > 1]
        rivals.sort(key=lambda pair: -(pair[1].score or 0.0))
        pairs = [compare(column, *pair) for pair in combinations(rivals, 2)]
        found += _adjust([pair for pair in pairs if pair is not None])
    return found


def compare(
    column: Column, better: tuple[str, Result], other: tuple[str, Result]
) -> Comparison | None:
    """Return the paired test of two results; ``None`` if they share fewer than two repeats."""
    (name, left), (other_name, right) = better, other
    if left.run.facts != right.run.facts:
        return None
    ours, theirs = left.by_repeat, right.by_repeat
    shared = [repeat for repeat in ours if repeat in theirs]
    if len(shared) < 2:
        return None
    pairs = [ours[repeat] for repeat in shared], [theirs[repeat] for repeat in shared]
    test = paired_test(*pairs, overlap=left.overlap)
    if test.mean < 0:  # better over the shared repeats, though not over all
        return compare(column, other, better)
    return Comparison(column, left, right, (name, other_name), test)


def _adjust(pairs: Sequence[Comparison]) -> list[Comparison]:
    """Return comparisons with p-values adjusted by Holm's method; equal differences have none."""
    known = [pair.test.p for pair in pairs if pair.test.p is not None]
    adjusted = iter(holm(known))
    return [pair if pair.test.p is None else replace(pair, adjusted=next(adjusted))
            for pair in pairs]  # fmt: skip
