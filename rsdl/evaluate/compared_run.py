"""A run as a study shows it: its record, and its metrics with the split that they come from."""

from collections.abc import Mapping
from dataclasses import dataclass

from rsdl.evaluate.figures.curves import History
from rsdl.evaluate.formatting import number
from rsdl.records.evaluation_base import Evaluation
from rsdl.records.run_record import RunRecord


@dataclass(frozen=True, slots=True)
class Headline:
    """The main metrics of a run, and the split that they were measured on.

    Attributes:
        basis: Name of the split; ``None`` if the run was not evaluated.
        note: Description of the measurement, for the reader.
        metrics: Values by name.
    """

    basis: str | None
    note: str
    metrics: Mapping[str, float | None]


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

    run: RunRecord
    evaluation: Evaluation | None = None
    history: History = ()
    tta: Evaluation | None = None
    recipe: str = ""

    @property
    def head(self) -> Headline:
        """The evaluation's metrics, else those of the run's best or last validation."""
        if self.evaluation is not None:
            split = self.evaluation.split
            # Whole images and packed ones are not compared with each other.
            how = "" if self.evaluation.windows is None else ", whole images"
            return Headline(f"{split}{how}", f"{split} split{how}", self.evaluation.metrics)
        for kind, note in (("best", "best validation"), ("final", "last validation")):
            if number(self.run.score(kind)) is not None:
                metrics = self.run.metrics[kind]
                epoch = number(metrics.get("epoch")) if kind == "best" else None
                note += f", epoch {epoch:.0f}" if epoch is not None else ""
                return Headline("val", note, metrics)
        return Headline(None, "not evaluated yet", {})

    @property
    def score(self) -> float | None:
        """The primary metric; ``None`` if unknown."""
        return number(self.head.metrics.get(self.run.facts.primary_metric))

    @property
    def is_final(self) -> bool:
        """Whether the run is completed and evaluated."""
        return self.run.status == "completed" and self.score is not None
