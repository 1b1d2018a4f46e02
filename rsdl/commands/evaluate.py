"""``rsdl evaluate``: metrics of a run or checkpoint on a split, and its report."""

import sys

from rich.console import Console
from rich.table import Table

from rsdl.commands.report import write_report
from rsdl.config.load import read_tree, resolve, validate
from rsdl.config.run import RunConfig
from rsdl.core.errors import ConfigError, DataError
from rsdl.data.dataset import DataSet
from rsdl.evaluate.evaluator import evaluate_checkpoint
from rsdl.records.evaluation import Evaluation
from rsdl.records.run_record import BEST, CONFIG, LAST
from rsdl.storage.connect import connect, join
from rsdl.train.build import open_evaluation
from rsdl.train.run_folder import RunFolder


def evaluate(
    target: str, *, split: str | None = None, tta: bool = False, data_url: str | None = None
) -> int:
    """Evaluate a run's best weights, or one checkpoint, and rewrite the run's report.

    Args:
        target: Folder of a run, or a checkpoint in its ``checkpoints`` folder.
        split: Split to evaluate on; ``None`` takes the config's test split, else validation.
        tta: Whether to average over the 8 flips and rotations of the square.
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
    dataset = DataSet(config.data, config.storage)
    check_same_data(folder, dataset.manifest.digest)
    splits = dataset.manifest.splits
    if split is None:
        split = next(
            (s for s in (config.data.test_split, config.data.val_split) if s in splits), "test"
        )
    dataset.manifest.split(split, where="--split")
    record = folder.read_record()
    devices = record.device_count if record is not None else 1
    parts = open_evaluation(config, folder, dataset, devices=devices, tta=tta)
    evaluation = evaluate_checkpoint(parts, checkpoint, split)
    return evaluation, write_report(folder, evaluation)


def find_run(target: str) -> tuple[RunFolder, str]:
    """Return the run's folder and the checkpoint's name within it."""
    if target.endswith(".ckpt"):
        place, _, file = target.rpartition("/")
        root, _, checkpoints = place.rpartition("/")
        if checkpoints != "checkpoints":
            raise DataError(
                target, "does not lie in a run", "name RUN/checkpoints/FILE.ckpt, or the run itself"
            )
        folder = RunFolder(connect(root or ("/" if place.startswith("/") else ".")))
        name = f"{checkpoints}/{file}"
    else:
        folder = RunFolder(connect(target))
        name = next((n for n in (BEST, LAST) if folder.store.size(n) is not None), BEST)
    if folder.store.size(CONFIG) is None:
        raise DataError(
            folder.store.url,
            f"is no run: it has no {CONFIG}",
            "name a folder that rsdl train wrote",
        )
    if folder.store.size(name) is None:
        raise DataError(join(folder.store.url, name), "no such checkpoint", "train the run first")
    return folder, name


def read_config(folder: RunFolder, data_url: str | None = None) -> RunConfig:
    """Return the config of a run."""
    path = folder.store.local(CONFIG)
    tree = resolve(read_tree(path), str(path))
    if data_url is not None:
        tree["data"] = dict(tree["data"]) | {"url": data_url}
    return validate(tree)


def check_same_data(folder: RunFolder, manifest_digest: str) -> None:
    """Check that the data set is the one that the run was trained on."""
    record = folder.read_record()
    if record is not None and record.manifest_digest != manifest_digest:
        raise ConfigError(
            "data.url",
            "is not the data set that the run was trained on (its manifest differs)",
            "name the right one with --data URL",
        )


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
