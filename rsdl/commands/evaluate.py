"""``rsdl evaluate``: metrics of a run or checkpoint on a split, and its report."""

import sys

from rich.console import Console
from rich.table import Table

from rsdl.commands.report import write_report
from rsdl.data.dataset import DataSet
from rsdl.evaluate.evaluator import evaluate_checkpoint
from rsdl.records.evaluation import Evaluation
from rsdl.train.build import open_evaluation
from rsdl.train.saved_run import check_same_data, find_run, read_config


def evaluate(
    target: str, *, split: str | None = None, tta: bool = False, data_url: str | None = None
) -> int:
    """Evaluate a run's best weights, or one checkpoint, and rewrite the run's report.

    Args:
        target: Folder of a run, or a checkpoint in its ``checkpoints`` folder.
        split: Split to evaluate on; ``None`` takes the config's test split, else validation.
        tta: Whether to average over flips and rotations.
        data_url: New location of the data, if it has moved.
    """
    console = Console(file=sys.stdout, soft_wrap=True)
    evaluation, page = evaluate_run(target, split=split, tta=tta, data_url=data_url)
    console.print(summary_table(evaluation))
    console.print(f"report: {page}", highlight=False)
    return 0


def evaluate_run(
    target: str, *, split: str | None = None, tta: bool = False, data_url: str | None = None
) -> tuple[Evaluation, str]:
    """Return what :func:`evaluate` prints: the evaluation and where the rewritten report lies."""
    folder, checkpoint = find_run(target)
    config = read_config(folder, data_url)
    dataset = DataSet(config.data, config.storage, seed=config.seed)
    check_same_data(folder, dataset.manifest.digest)
    split = split or dataset.evaluated_split
    dataset.check_split(split, "--split")
    record = folder.read_record()
    devices = record.device_count if record is not None else 1
    parts = open_evaluation(config, folder, dataset, devices=devices, tta=tta)
    evaluation = evaluate_checkpoint(parts, checkpoint, split)
    return evaluation, write_report(folder, evaluation)


def summary_table(evaluation: Evaluation) -> Table:
    """Return a table of the metrics for the terminal."""
    how = ", test-time augmentation" if evaluation.tta else ""
    title = f"{evaluation.run}: {evaluation.split}, {evaluation.num_samples} images{how}"
    table = Table(title=title)
    table.add_column("metric")
    table.add_column("value", justify="right")
    for name, value in evaluation.metrics.items():
        table.add_row(name, "-" if value is None else f"{value:.4f}")
    return table
