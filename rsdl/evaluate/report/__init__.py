"""The HTML report of one run: ``run_summary.py`` for every run, and one file for each task."""

from collections.abc import Mapping

from rsdl.evaluate.compared_run import ComparedRun
from rsdl.evaluate.figures.curves import run_curves
from rsdl.evaluate.html import render_page
from rsdl.evaluate.report import classification, detection, run_summary, segmentation

TASK_REPORTS: Mapping[str, run_summary.TaskReport] = {
    "classification": classification.REPORT,
    "segmentation": segmentation.REPORT,
    "detection": detection.REPORT,
}


def render_report(entry: ComparedRun, *, config_yaml: str) -> str:
    """Return one self-contained HTML page about a run; it makes no requests.

    Args:
        entry: The run.
        config_yaml: The resolved config.
    """
    run, evaluation = entry.run, entry.evaluation
    task = TASK_REPORTS[run.task]
    return render_page(
        task.template,
        **(task.sections(evaluation) if evaluation else {}),
        run=run,
        evaluation=evaluation,
        verdict=task.verdict(evaluation) if evaluation and evaluation.num_samples else "",
        quality=task.tiles(entry),
        effort=run_summary.effort(run),
        device=run_summary.device(run),
        curves=run_curves(entry.history, task.curves),
        ledger_totals=run_summary.ledger_totals(run),
        record=run_summary.run_facts(run),
        config_yaml=config_yaml,
    )
