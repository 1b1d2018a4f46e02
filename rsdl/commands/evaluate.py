"""``rsdl evaluate``: metrics of a run or checkpoint on a split, and its report."""

import sys
from functools import partial
from typing import Literal

from rich.console import Console
from rich.table import Table

from rsdl.commands.bars import sample_bar
from rsdl.commands.predict import PredictOptions, window_rule
from rsdl.commands.report import write_report
from rsdl.config.run import RunConfig
from rsdl.config.task import DetectionConfig
from rsdl.core.errors import ConfigError
from rsdl.core.image_size import show_size
from rsdl.data.dataset import DataSet, SplitData
from rsdl.evaluate.detection_files import check_places, coco_results, dota_files
from rsdl.evaluate.evaluator import Evaluated, evaluate_checkpoint
from rsdl.evaluate.whole_images import evaluate_images
from rsdl.export.load import load
from rsdl.predict.image import predict_image
from rsdl.records.detection import DetectionEvaluation
from rsdl.records.evaluation_base import Evaluation
from rsdl.storage.connect import join
from rsdl.train.accelerator import choose_device
from rsdl.train.build import open_evaluation
from rsdl.train.saved_run import check_same_data, find_run, read_config
from rsdl.train.session import RunParts

Export = Literal["coco", "dota"]


def evaluate(
    target: str,
    *,
    split: str | None = None,
    tta: bool = False,
    windows: bool = False,
    data_url: str | None = None,
    export: Export | None = None,
) -> int:
    """Evaluate a run's best weights, or one checkpoint, and rewrite the run's report.

    Args:
        target: Folder of a run, or a checkpoint in its ``checkpoints`` folder.
        split: Split to evaluate on; ``None`` takes the config's test split, else validation.
        tta: Whether to average over flips and rotations.
        windows: Whether to predict whole images by windows as ``rsdl predict`` does scenes.
        data_url: New location of the data, if it has moved.
        export: Format in which detections are written into the run's folder, too.
    """
    console = Console(file=sys.stdout, soft_wrap=True)
    evaluation, page = evaluate_run(
        target, split=split, tta=tta, windows=windows, data_url=data_url, export=export
    )
    console.print(summary_table(evaluation))
    console.print(f"report: {page}", highlight=False)
    return 0


def evaluate_run(
    target: str,
    *,
    split: str | None = None,
    tta: bool = False,
    windows: bool = False,
    data_url: str | None = None,
    export: Export | None = None,
) -> tuple[Evaluation, str]:
    """Return what :func:`evaluate` prints: the evaluation and where the rewritten report lies."""
    folder, checkpoint = find_run(target)
    config = read_config(folder, data_url)
    dataset = DataSet(config.data, config.storage, seed=config.seed)
    check_same_data(folder, dataset.manifest.digest)
    split = split or dataset.evaluated_split
    dataset.check_split(split, "--split")
    if export is not None and config.task.name != "detection":
        problem = f"is for detections, and the task of {config.name} is {config.task.name}"
        raise ConfigError("--export", problem, "leave it out")
    if windows:
        data = dataset.split(split, "--split")
        evaluation = evaluate_whole(
            target, data, config, tta=tta, split=split, checkpoint=checkpoint
        )
        return evaluation, write_report(folder, evaluation)
    record = folder.read_record()
    devices = record.device_count if record is not None else 1
    parts = open_evaluation(config, folder, dataset, devices=devices, tta=tta)
    evaluated = evaluate_checkpoint(parts, checkpoint, split)
    page = write_report(folder, evaluated.evaluation)
    if export is not None:
        write_detections(export, parts, f"detections-{split}", evaluated)
    return evaluated.evaluation, page


def write_detections(export: Export, parts: RunParts, name: str, evaluated: Evaluated) -> None:
    """Write the detections of a split into the run's folder.

    Args:
        export: The format.
        parts: The run.
        name: Folder or file to write, without its ending.
        evaluated: The split's evaluation.

    Raises:
        ConfigError: If the network saw parts of the samples.
        DataError: If the format cannot tell two images apart.
    """
    task, columns = parts.config.task, evaluated.columns
    assert isinstance(task, DetectionConfig), "checked before"
    found, samples = columns["predictions"], columns["samples"].tolist()
    places = evaluated.lookup.places(samples)
    check_places(places)
    if export == "coco":
        text = coco_results(found, places, samples, oriented=task.is_oriented)
        files = {f"{name}.json": text}
    else:
        texts = dota_files(
            found, places, parts.data.data.manifest.classes,
            nms_iou=task.iou_of_nms, oriented=task.is_oriented,
        )  # fmt: skip
        files = {f"{name}/{file}": text for file, text in texts.items()}
    store = parts.folder.store
    for file, text in files.items():
        store.write(file, text.encode())
    shown = f"{name}.json" if export == "coco" else f"{name}: {len(files)} files"
    print(f"detections: {join(store.url, shown)}")


def evaluate_whole(
    target: str, data: SplitData, config: RunConfig, *, tta: bool, **about: str
) -> Evaluation:
    """Return the evaluation of a run on the whole images of a split.

    Raises:
        ConfigError: If its network says nothing of single pixels.
    """
    device = config.trainer.accelerator.replace("gpu", "cuda")
    model = load(target, device=choose_device(device, "trainer.accelerator"))
    if not model.is_dense:
        problem = f"are for networks that label pixels, {config.name} does not"
        raise ConfigError("--windows", problem, "evaluate without it")
    rule, said = window_rule(model, PredictOptions(), judged=False)
    print(f"whole images, {said}")
    predict = partial(
        predict_image,
        network=partial(model.predict_windows, tta=tta),
        rule=rule,
        num_classes=len(model.classes),
        batch_size=config.data.eval_batch_size or config.data.batch_size,
    )
    with sample_bar("evaluate") as bar:
        return evaluate_images(
            model.task,
            data,
            predict,
            skip_corrupt=config.data.on_corrupt == "skip",
            progress=bar,
            run=config.name,
            weights="raw" if config.optim.ema_decay is None else "ema",
            tta=tta,
            windows=rule.size,
            **about,
        )


def summary_table(evaluation: Evaluation) -> Table:
    """Return a table of the metrics for the terminal."""
    how = ", test-time augmentation" if evaluation.tta else ""
    if evaluation.windows is not None:
        how += f", whole, by windows of {show_size(evaluation.windows)} px"
    title = f"{evaluation.run}: {evaluation.split}, {evaluation.num_samples} images{how}"
    table = Table(title=title)
    table.add_column("metric")
    merged = evaluation.merged if isinstance(evaluation, DetectionEvaluation) else None
    table.add_column("value" if merged is None else "tiles", justify="right")
    columns = [evaluation.metrics]
    if merged is not None:
        table.add_column(f"whole images ({merged.num_images})", justify="right")
        columns.append(merged.metrics)
    for name in evaluation.metrics:
        values = [column.get(name) for column in columns]
        table.add_row(name, *("-" if value is None else f"{value:.4f}" for value in values))
    return table
