"""Runs as rows: how each stands, and what it was measured on."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rsdl.evaluate import facts, units
from rsdl.evaluate.curves import History
from rsdl.evaluate.result import Evaluation


@dataclass(frozen=True, slots=True)
class Entry:
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
class Standing:
    """One run as a row of the page."""

    name: str
    architecture: str
    dataset: str
    status: str
    epochs: str
    device: str
    head: facts.Headline
    entry: Entry

    @property
    def oa(self) -> float | None:
        """Overall accuracy in ``[0, 1]``, where there is one."""
        return units.number(self.head.metrics.get("oa"))


def standing_of(entry: Entry) -> Standing:
    """Return what the page says about one run."""
    run = entry.run
    return Standing(
        name=units.text(run.get("name")),
        architecture=units.text(run.get("architecture")),
        dataset=units.text(run.get("dataset")),
        status=facts.status_of(run),
        epochs=facts.epochs(run),
        device=facts.device(run),
        head=facts.headline(run, entry.evaluation),
        entry=entry,
    )


def is_final(standing: Standing) -> bool:
    """Return whether a run is completed and measured."""
    return standing.status == "completed" and standing.oa is not None
