"""The report of a detection run: classes, precision by recall, errors and the worst images."""

from dataclasses import dataclass

from rsdl.evaluate.compared_run import ComparedRun
from rsdl.evaluate.figures.confusion import confusion_sections
from rsdl.evaluate.figures.curves import Curves
from rsdl.evaluate.figures.precision_recall import class_plots, recall_plots
from rsdl.evaluate.formatting import compact, percent
from rsdl.evaluate.report.run_summary import TaskReport, Tile, images
from rsdl.records.detection import DetectionEvaluation, DetectionScores

NAMES = {
    "map": ("mAP", "mean over classes and IoU 0.5 to 0.95"),
    "ap50": ("AP50", "mean over classes at IoU 0.5"),
    "ap75": ("AP75", "at IoU 0.75"),
    "map_small": ("mAP, small objects", "up to 32 x 32 px"),
    "map_medium": ("mAP, medium objects", "32 x 32 to 96 x 96 px"),
    "map_large": ("mAP, large objects", "above 96 x 96 px"),
}
KINDS = {
    "missed": "an object that no detection is on or near",
    "background": "a detection where nothing is (IoU below 0.1)",
    "place": "the right class, out of place (IoU 0.1 to 0.5)",
    "label": "in place, but another class",
    "both": "another class, and out of place",
    "duplicate": "a second detection of an object",
}
VOC = {"voc07": "VOC07", "voc12": "VOC12"}
TITLES = {"label": "class"}


@dataclass(frozen=True, slots=True)
class ErrorRow:
    """One kind of error; ``share`` is of all errors."""

    name: str
    meaning: str
    count: int
    share: float


def tiles(entry: ComparedRun) -> list[Tile]:
    """Return the metrics of a run, the one that ranks runs first."""
    head, metrics, tta = entry.head, entry.head.metrics, entry.tta
    primary = entry.run.facts.primary_metric
    note = head.note
    if tta is not None:
        note += f"; {percent(tta.metrics.get(primary))} with TTA ({tta.split})"
    label = NAMES[primary][0]
    first = Tile(f"{label} ({head.basis})" if head.basis else label, percent(entry.score), note)
    rest = [
        Tile(title, percent(metrics.get(name)), words)
        for name, (title, words) in NAMES.items()
        if name != primary
    ]
    return [first, *rest, images(entry.evaluation)]


def verdict(evaluation: DetectionEvaluation) -> str:
    """Return what was found, the best and worst class, and the commonest error."""
    found = sum(row[i] for i, row in enumerate(evaluation.confusion))
    objects = evaluation.num_found + sum(evaluation.unmatched_objects)
    made = evaluation.num_found + sum(evaluation.unmatched_detections)
    text = (
        f"{percent(found / objects if objects else None)} of {compact(objects)} objects in "
        f"{evaluation.num_samples:,} {evaluation.split} images are found, and "
        f"{percent(found / made if made else None)} of {compact(made)} detections are right."
    )
    rows = [row for row in class_rows(evaluation) if row.ap50 is not None]
    if rows and rows[0].ap50 != rows[-1].ap50:
        text += (
            f" {rows[-1].name} is detected best (AP50 {percent(rows[-1].ap50)}), "
            f"{rows[0].name} least (AP50 {percent(rows[0].ap50)})."
        )
    for top in error_rows(evaluation)[:1]:
        if top.count:
            text += f" The commonest error: {top.meaning} ({percent(top.share)} of errors)."
    return text


def class_rows(evaluation: DetectionEvaluation) -> list[DetectionScores]:
    """Return the classes by AP50, those without objects last."""
    return sorted(evaluation.per_class, key=lambda row: (row.ap50 is None, row.ap50 or 0.0))


def error_rows(evaluation: DetectionEvaluation) -> list[ErrorRow]:
    """Return the kinds of errors, the most frequent first."""
    counts = {kind: sum(getattr(row, kind) for row in evaluation.errors) for kind in KINDS}
    total = max(sum(counts.values()), 1)
    rows = [
        ErrorRow(TITLES.get(kind, kind), meaning, counts[kind], counts[kind] / total)
        for kind, meaning in KINDS.items()
    ]
    return sorted(rows, key=lambda row: -row.count)


def sections(evaluation: DetectionEvaluation) -> dict[str, object]:
    """Return the variables of ``detection.html.jinja``."""
    return {
        **confusion_sections(evaluation),
        "class_rows": class_rows(evaluation),
        "titles": {name: title for name, (title, _) in NAMES.items()} | VOC,
        "sizes": ("small", "medium", "large"),
        "error_rows": error_rows(evaluation),
        "error_kinds": {TITLES.get(kind, kind): kind for kind in KINDS},
        "class_errors": list(zip(evaluation.classes, evaluation.errors, strict=True)),
        "recall_curves": recall_plots(evaluation),
        "class_curves": class_plots(evaluation) if len(evaluation.classes) > 1 else [],
    }


REPORT = TaskReport(
    template="detection.html.jinja",
    metrics=("map", "ap50", "ap75", "voc07", "voc12", "map_small", "map_medium", "map_large"),
    columns=(("map", "mAP", percent), ("ap50", "AP50", percent), ("ap75", "AP75", percent)),
    curves=(
        Curves(
            "Validation",
            {"mAP": "val_map", "AP50": "val_ap50", "AP75": "val_ap75"},
            lambda value: percent(value, 0),
        ),
    ),
    tiles=tiles,
    verdict=verdict,
    sections=sections,
)
