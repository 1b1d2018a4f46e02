"""Runs as rows of a table: status, and metrics with the split that they were measured on."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rsdl.evaluate import formatting, run_summary
from rsdl.evaluate.curves import History
from rsdl.records.evaluation import Evaluation


@dataclass(frozen=True, slots=True)
class ComparedRun:
    """One run to compare.

    Attributes:
        run: Content of ``run.json``.
        evaluation: Content of ``report.json``, if there is one.
        history: Rows of ``metrics.csv``.
        tta: Content of ``report-tta.json``, if there is one; it is never compared with others.
        recipe: Identity of everything that determines the result except the seed; runs of one
            recipe differ only by chance. Empty if unknown.
    """

    run: Mapping[str, Any]
    evaluation: Evaluation | None = None
    history: History = ()
    tta: Evaluation | None = None
    recipe: str = ""


@dataclass(frozen=True, slots=True)
class StudyRow:
    """One run as a row of the page."""

    name: str
    architecture: str
    dataset: str
    status: str
    epochs: str
    device: str
    head: run_summary.Headline
    entry: ComparedRun

    @property
    def oa(self) -> float | None:
        """Overall accuracy in ``[0, 1]``; ``None`` if unknown."""
        return formatting.number(self.head.metrics.get("oa"))


def row_of(entry: ComparedRun) -> StudyRow:
    """Return the row of one run."""
    run = entry.run
    return StudyRow(
        name=formatting.text(run.get("name")),
        architecture=formatting.text(run.get("architecture")),
        dataset=formatting.text(run.get("dataset")),
        status=run_summary.status_of(run),
        epochs=run_summary.epochs(run),
        device=run_summary.device(run),
        head=run_summary.headline(run, entry.evaluation),
        entry=entry,
    )


def is_final(row: StudyRow) -> bool:
    """Return whether a run is completed and evaluated."""
    return row.status == "completed" and row.oa is not None
