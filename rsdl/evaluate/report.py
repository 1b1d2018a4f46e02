"""The HTML report of one run: metrics, training curves, mistakes and the run record."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rsdl.evaluate import formatting, run_summary
from rsdl.evaluate.calibration import reliability
from rsdl.evaluate.confusion import Confusion, confusion_matrix, frequent_confusions
from rsdl.evaluate.curves import History, run_curves
from rsdl.evaluate.html import render_page
from rsdl.evaluate.scores import wilson_interval
from rsdl.records.evaluation import ClassScores, Evaluation


@dataclass(frozen=True, slots=True)
class Tile:
    """One number of the summary, shown as a tile."""

    label: str
    value: str
    note: str = ""


def render_report(
    *,
    evaluation: Evaluation | None,
    tta: Evaluation | None = None,
    run: Mapping[str, Any],
    history: History,
    config_yaml: str,
) -> str:
    """Return one self-contained HTML page about a run; it makes no requests.

    Args:
        evaluation: Content of ``report.json``; ``None`` before the first evaluation.
        tta: Content of ``report-tta.json``, if there is one.
        run: Content of ``run.json``; missing keys are shown as dashes.
        history: Rows of ``metrics.csv`` as mappings of column to value; may be empty.
        config_yaml: The resolved config.
    """
    return render_page(
        "report.html.jinja",
        run=run,
        status=run_summary.status_of(run),
        evaluation=evaluation,
        quality=_quality(run_summary.headline(run, evaluation), evaluation, tta),
        effort=_effort(run),
        device=run_summary.device(run),
        verdict=_verdict(evaluation),
        curves=run_curves(history),
        matrix=confusion_matrix(evaluation) if evaluation else None,
        confusions=_confusions(evaluation),
        class_rows=_weakest_first(evaluation.per_class) if evaluation else [],
        reliability=reliability(evaluation.calibration) if evaluation else None,
        ledger=run_summary.ledger_of(run),
        ledger_totals=run_summary.ledger_totals(run),
        record=run_summary.run_facts(run),
        config_yaml=config_yaml,
    )


def _quality(
    head: run_summary.Headline, evaluation: Evaluation | None, tta: Evaluation | None
) -> list[Tile]:
    metrics = head.metrics
    interval = head.note
    oa = formatting.number(metrics.get("oa"))
    if evaluation is not None and evaluation.num_samples and oa is not None:
        trials = evaluation.num_samples
        low, high = wilson_interval(round(oa * trials), trials)
        interval = f"95% interval {100 * low:.1f} to {100 * high:.1f}%"
    if tta is not None:
        interval += f"; {formatting.percent(tta.metrics.get('oa'))} with TTA ({tta.split})"
    return [
        Tile(_on("Overall accuracy", head.basis), formatting.percent(oa), interval),
        Tile("Kappa", formatting.decimal(metrics.get("kappa")), "agreement beyond chance"),
        Tile("Macro F1", formatting.percent(metrics.get("macro_f1")), "mean over classes"),
        Tile(
            "Balanced accuracy",
            formatting.percent(metrics.get("balanced_accuracy")),
            "mean class recall",
        ),
        Tile(
            "Top-5 accuracy", formatting.percent(metrics.get("top5")), "truth among the best five"
        ),
        Tile("Calibration error", formatting.percent(metrics.get("ece")), "ECE, lower is better"),
        _images(evaluation),
    ]


def _on(label: str, split: str | None) -> str:
    return f"{label} ({split})" if split else label


def _images(evaluation: Evaluation | None) -> Tile:
    if evaluation is None:
        return Tile("Images evaluated", formatting.DASH)
    skipped = evaluation.num_skipped
    note = f"{skipped:,} more could not be decoded" if skipped else "none skipped"
    return Tile(f"Images evaluated ({evaluation.split})", f"{evaluation.num_samples:,}", note)


def _effort(run: Mapping[str, Any]) -> list[Tile]:
    read = [
        f"{formatting.size(run[key])} {word}"
        for key, word in (("bytes_encoded", "stored"), ("bytes_decoded", "of pixels"))
        if formatting.number(run.get(key)) is not None
    ]
    waited = _share(run.get("data_wait_s"), run.get("wall_s"))
    return [
        Tile("Images read", formatting.compact(run.get("samples_read")), ", ".join(read)),
        Tile(
            "Epochs",
            run_summary.epochs(run),
            f"{formatting.count(run.get('optimizer_steps'))} steps",
        ),
        Tile(
            "Wall-clock",
            formatting.duration(run.get("wall_s")),
            waited and f"{waited} waiting for data",
        ),
        Tile(
            "Parameters",
            formatting.compact(run.get("parameters")),
            formatting.text(run.get("timm_model")),
        ),
    ]


def _confusions(evaluation: Evaluation | None) -> list[Confusion]:
    if evaluation is None:
        return []
    # About as many rows as the table of classes beside it.
    return frequent_confusions(evaluation, min(max(len(evaluation.classes) // 2, 10), 22))


def _share(part: object, whole: object) -> str:
    numerator, denominator = formatting.number(part), formatting.number(whole)
    return (
        formatting.percent(numerator / denominator) if numerator is not None and denominator else ""
    )


def _verdict(evaluation: Evaluation | None) -> str:
    if evaluation is None or not evaluation.num_samples:
        return ""
    right = sum(row[i] for i, row in enumerate(evaluation.confusion))
    total, split = evaluation.num_samples, evaluation.split
    text = f"{right:,} of {total:,} {split} images are classified correctly."
    known = [row for row in _weakest_first(evaluation.per_class) if row.f1 is not None]
    worst, best = (known[0], known[-1]) if known else (None, None)
    if worst is not None and best is not None and worst.f1 != best.f1:
        text += (
            f" {best.name} is recognised best (F1 {formatting.percent(best.f1)}), "
            f"{worst.name} least (F1 {formatting.percent(worst.f1)})."
        )
    confusions = frequent_confusions(evaluation, 1)
    if confusions:
        top = confusions[0]
        times = "once" if top.count == 1 else f"{top.count:,} times"
        text += f" The commonest mistake is {top.label} taken for {top.predicted} ({times})."
    return text


def _weakest_first(rows: tuple[ClassScores, ...]) -> list[ClassScores]:
    return sorted(rows, key=lambda row: (row.f1 is None, row.f1 or 0.0))
