"""The report of a classification run: confusion matrix, classes, calibration and pictures."""

from rsdl.evaluate.compared_run import ComparedRun
from rsdl.evaluate.figures.confusion import confusion_sections, frequent_confusions
from rsdl.evaluate.figures.curves import Curves
from rsdl.evaluate.figures.reliability import reliability
from rsdl.evaluate.formatting import decimal, percent
from rsdl.evaluate.report.run_summary import TaskReport, Tile, images
from rsdl.evaluate.scores import wilson_interval
from rsdl.records.evaluation import ClassificationEvaluation
from rsdl.records.evaluation_base import ClassScores


def tiles(entry: ComparedRun) -> list[Tile]:
    """Return the metrics of a run; overall accuracy with its 95% interval."""
    head, metrics, tta = entry.head, entry.head.metrics, entry.tta
    note, trials = head.note, entry.evaluation.num_samples if entry.evaluation else 0
    if trials and entry.score is not None:
        low, high = wilson_interval(round(entry.score * trials), trials)
        note = f"95% interval {100 * low:.1f} to {100 * high:.1f}%"
    if tta is not None:
        note += f"; {percent(tta.metrics.get('oa'))} with TTA ({tta.split})"
    label = f"Overall accuracy ({head.basis})" if head.basis else "Overall accuracy"
    balanced = percent(metrics.get("balanced_accuracy"))
    return [
        Tile(label, percent(entry.score), note),
        Tile("Kappa", decimal(metrics.get("kappa")), "agreement beyond chance"),
        Tile("Macro F1", percent(metrics.get("macro_f1")), "mean over classes"),
        Tile("Balanced accuracy", balanced, "mean class recall"),
        Tile("Top-5 accuracy", percent(metrics.get("top5")), "truth among the best five"),
        Tile("Calibration error", percent(metrics.get("ece")), "ECE, lower is better"),
        images(entry.evaluation),
    ]


def verdict(evaluation: ClassificationEvaluation) -> str:
    """Return the correct share, the best and the worst class, and the commonest mistake."""
    right = sum(row[i] for i, row in enumerate(evaluation.confusion))
    total, split = evaluation.num_samples, evaluation.split
    text = f"{right:,} of {total:,} {split} images are classified correctly."
    known = [row for row in weakest_first(evaluation.per_class) if row.f1 is not None]
    if known and known[0].f1 != known[-1].f1:
        worst, best = known[0], known[-1]
        text += (
            f" {best.name} is recognised best (F1 {percent(best.f1)}), "
            f"{worst.name} least (F1 {percent(worst.f1)})."
        )
    for top in frequent_confusions(evaluation, 1):
        times = "once" if top.count == 1 else f"{top.count:,} times"
        text += f" The commonest mistake is {top.label} taken for {top.predicted} ({times})."
    return text


def sections(evaluation: ClassificationEvaluation) -> dict[str, object]:
    """Return the variables of ``classification.html.jinja``."""
    return {
        **confusion_sections(evaluation),
        "class_rows": weakest_first(evaluation.per_class),
        "reliability": reliability(evaluation.calibration),
    }


def weakest_first(rows: tuple[ClassScores, ...]) -> list[ClassScores]:
    """Return classes by F1, those without one last."""
    return sorted(rows, key=lambda row: (row.f1 is None, row.f1 or 0.0))


REPORT = TaskReport(
    template="classification.html.jinja",
    metrics=("oa", "balanced_accuracy", "kappa", "macro_f1", "top5", "ece"),
    columns=(("kappa", "Kappa", decimal), ("macro_f1", "Macro F1", percent)),
    curves=(
        Curves(
            "Validation accuracy",
            {"overall accuracy": "val_oa", "macro F1": "val_macro_f1"},
            lambda value: percent(value, 0),
        ),
    ),
    tiles=tiles,
    verdict=verdict,
    sections=sections,
)
