"""The report of a segmentation run: classes, confusion matrix and overlays."""

from itertools import groupby

from rsdl.evaluate.compared_run import ComparedRun
from rsdl.evaluate.figures.confusion import confusion_sections, frequent_confusions
from rsdl.evaluate.figures.curves import Curves
from rsdl.evaluate.formatting import compact, decimal, percent
from rsdl.evaluate.report.run_summary import TaskReport, Tile, images
from rsdl.records.evaluation import SegmentationEvaluation
from rsdl.records.evaluation_base import ClassScores

RANKS = {"best": "Best images", "median": "Median images", "worst": "Worst images"}


def tiles(entry: ComparedRun) -> list[Tile]:
    """Return the metrics of a run, mean IoU first."""
    head, metrics, tta = entry.head, entry.head.metrics, entry.tta
    note = head.note
    if tta is not None:
        note += f"; {percent(tta.metrics.get('miou'))} with TTA ({tta.split})"
    label = f"Mean IoU ({head.basis})" if head.basis else "Mean IoU"
    return [
        Tile(label, percent(entry.score), note),
        Tile("Overall accuracy", percent(metrics.get("oa")), "correct share of pixels"),
        Tile("Frequency-weighted IoU", percent(metrics.get("fw_iou")), "by pixels of each class"),
        Tile("Macro F1", percent(metrics.get("macro_f1")), "mean over classes"),
        Tile("Kappa", decimal(metrics.get("kappa")), "agreement beyond chance"),
        Tile("Boundary F1", percent(metrics.get("boundary_f1")), "boundaries found in place"),
        images(entry.evaluation),
    ]


def verdict(evaluation: SegmentationEvaluation) -> str:
    """Return the correct share of pixels, the best and worst class, and the commonest mistake."""
    right = sum(row[i] for i, row in enumerate(evaluation.confusion))
    share = right / evaluation.num_pixels if evaluation.num_pixels else None
    text = (
        f"{percent(share)} of {compact(evaluation.num_pixels)} labelled pixels in "
        f"{evaluation.num_samples:,} {evaluation.split} images are classified correctly."
    )
    rows = [(iou, row) for iou, row in class_rows(evaluation) if iou is not None]
    if rows and rows[0][0] != rows[-1][0]:
        (low, worst), (high, best) = rows[0], rows[-1]
        text += (
            f" {best.name} is segmented best (IoU {percent(high)}), "
            f"{worst.name} least (IoU {percent(low)})."
        )
    for top in frequent_confusions(evaluation, 1):
        text += (
            f" The commonest mistake is {top.label} taken for {top.predicted} "
            f"({percent(top.share)} of its pixels)."
        )
    return text


def class_rows(evaluation: SegmentationEvaluation) -> list[tuple[float | None, ClassScores]]:
    """Return IoU and scores of each class by IoU, those without one last."""
    rows = zip(evaluation.iou, evaluation.per_class, strict=True)
    return sorted(rows, key=lambda row: (row[0] is None, row[0] or 0.0))


def sections(evaluation: SegmentationEvaluation) -> dict[str, object]:
    """Return the variables of ``segmentation.html.jinja``."""
    ranked = groupby(evaluation.overlays, key=lambda shown: RANKS[shown.rank])
    return {
        **confusion_sections(evaluation),
        "class_rows": class_rows(evaluation),
        "colours": dict(zip(evaluation.classes, class_colours(evaluation), strict=True)),
        "seen": seen(evaluation),
        "overlays": {title: list(shown) for title, shown in ranked},
    }


def seen(evaluation: SegmentationEvaluation) -> str:
    """Return in a sentence what the network was shown."""
    if evaluation.windows is None:
        return "Images as packed, cropped and resized as in validation."
    windows = " x ".join(map(str, evaluation.windows))
    return f"Whole images, by overlapping windows of {windows} px that are blended."


def class_colours(evaluation: SegmentationEvaluation) -> list[str]:
    """Return the colour of each class in the overlays, as CSS."""
    from rsdl.data.targets.mask import class_colours

    return [f"rgb({r}, {g}, {b})" for r, g, b in class_colours(len(evaluation.classes)).tolist()]


REPORT = TaskReport(
    template="segmentation.html.jinja",
    metrics=("miou", "oa", "fw_iou", "macro_f1", "kappa", "boundary_f1"),
    columns=(("oa", "OA", percent), ("boundary_f1", "Boundary F1", percent)),
    curves=(
        Curves(
            "Validation",
            {"mean IoU": "val_miou", "overall accuracy": "val_oa"},
            lambda value: percent(value, 0),
        ),
    ),
    tiles=tiles,
    verdict=verdict,
    sections=sections,
)
