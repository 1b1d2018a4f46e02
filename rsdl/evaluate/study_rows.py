"""Runs as rows: how each stands, and what it was measured on."""

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
        run: ``run.json``.
        evaluation: ``report.json``, if there is one.
        history: ``metrics.csv``.
        tta: ``report-tta.json``, if there is one; it competes with nothing.
        recipe: Names everything that decides the result but the seed; runs of one recipe differ by
            chance alone. Empty where it is not known.
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
        """Overall accuracy in ``[0, 1]``, where there is one."""
        return formatting.number(self.head.metrics.get("oa"))


def row_of(entry: ComparedRun) -> StudyRow:
    """Return what the page says about one run."""
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
    """Return whether a run is completed and measured."""
    return row.status == "completed" and row.oa is not None
