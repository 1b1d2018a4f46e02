"""``rsdl evaluate``: metrics of a run or checkpoint on a split, and its report."""

import base64
import json
import sys
from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
from rich.console import Console
from rich.table import Table

from rsdl.commands.network import build_module, build_network
from rsdl.commands.report import write_report
from rsdl.config.load import read_tree, resolve, validate
from rsdl.config.run import RunConfig
from rsdl.config.trainer import TrainerConfig
from rsdl.core.errors import ConfigError, DataError
from rsdl.data.datamodule import DataModule
from rsdl.data.dataset import DataSet, SplitData
from rsdl.data.preview import encode_jpeg, read_pictures
from rsdl.data.reader import ShardReader
from rsdl.evaluate.scores import scores_from_confusion
from rsdl.records.evaluation import CalibrationBin, Evaluation, Picture, RunnerUp
from rsdl.records.run_record import CONFIG
from rsdl.storage.connect import connect, join
from rsdl.storage.store import Store
from rsdl.train.checkpoint import BEST, LAST, load_weights, read_checkpoint
from rsdl.train.module import TrainingModule
from rsdl.train.predictions import PredictionCollector, Predictions
from rsdl.train.run_folder import RunFolder
from rsdl.train.trainer import build_trainer

NUM_PICTURES = 12
PICTURE_SIDE = 160


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
    # No second network for the average: evaluation uses one set of weights only.
    optim = config.optim.model_copy(update={"ema_decay": None})
    plain = config.model_copy(update={"optim": optim})
    module = build_module(plain, dataset, build_network(config, dataset, load_weights=False))
    module.tta = tta
    record = folder.read_record()
    devices = record.device_count if record is not None else 1
    data = DataModule(dataset, seed=config.seed, accumulate=config.trainer.accumulate * devices)
    trainer = build_trainer(
        TrainerConfig(accelerator=config.trainer.accelerator, devices=1,
                      precision=config.trainer.precision),
        folder.uploads, clip_grad=None, callbacks=[], loggers=[],
    )  # fmt: skip
    evaluation = evaluate_checkpoint(
        config, module, data, trainer, split=split, checkpoint=checkpoint, store=folder.store
    )
    console.print(summary_table(evaluation))
    console.print(f"report: {write_report(folder, evaluation)}", highlight=False)
    return 0


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


def evaluate_checkpoint(
    config: RunConfig,
    module: TrainingModule,
    data: DataModule,
    trainer: pl.Trainer,
    *,
    split: str,
    checkpoint: str,
    store: Store,
) -> Evaluation:
    """Return the evaluation of a checkpoint on a split; every rank must call this."""
    content = read_checkpoint(store.local(checkpoint), join(store.url, checkpoint))
    is_average = config.optim.ema_decay is not None
    lone = is_average and module.averaged is None
    load_weights(module, content, join(store.url, checkpoint), averaged=lone)
    collector = PredictionCollector()
    trainer.callbacks.append(collector)  # type: ignore[attr-defined]
    data.evaluation_split = split
    trainer.test(module, datamodule=data, verbose=False)
    trainer.callbacks.remove(collector)  # type: ignore[attr-defined]
    predictions = collector.collect()
    values = module.metrics.values()
    split_data = data.data.split(split, "data.test_split")
    confusion = values.confusion
    scores = scores_from_confusion(confusion, split_data.manifest.classes)
    more = {name: values.metrics[name] for name in ("top5", "ece", "loss")}
    planned = len(split_data.index)
    return Evaluation(
        run=config.name,
        split=split,
        checkpoint=checkpoint,
        weights="ema" if is_average else "raw",
        tta=module.tta,
        classes=split_data.manifest.classes,
        num_samples=int(confusion.sum()),
        num_skipped=planned - int(confusion.sum()),
        metrics={**scores.metrics, **more},
        per_class=scores.per_class,
        confusion=tuple(map(tuple, confusion.tolist())),
        calibration=tuple(CalibrationBin(**row) for row in values.calibration),
        mistakes=describe(split_data, predictions, predictions.worst_mistakes(NUM_PICTURES)),
        uncertain=describe(split_data, predictions, predictions.least_certain(NUM_PICTURES)),
    )


def describe(
    data: SplitData,
    predictions: Predictions,
    rows: Sequence[int] | Any,  # noqa: ANN401 - or an array of them
) -> tuple[Picture, ...]:
    """Return rows of an evaluation as pictures with their predictions and metadata."""
    classes = data.manifest.classes
    samples = [int(predictions.samples[row]) for row in rows]
    images = read_pictures(data, samples, PICTURE_SIDE)
    reader = data.open_reader()
    pictures = []
    for row, sample, image in zip(rows, samples, images, strict=True):
        meta = read_meta(data, reader, sample)
        coded = None if image is None else base64.b64encode(encode_jpeg(image)).decode()
        bounds = meta.get("bounds")
        pictures.append(
            Picture(
                key=data.index.rows["key"][sample].decode(),
                source=str(meta.get("source", "")),
                label=classes[int(predictions.targets[row])],
                predicted=classes[int(predictions.predicted[row])],
                confidence=min(float(predictions.confidence[row]), 1.0),
                runner_up=RunnerUp(
                    name=classes[int(predictions.runner_up[row])],
                    probability=min(float(predictions.runner_up_probability[row]), 1.0),
                ),
                image=None if coded is None else f"data:image/jpeg;base64,{coded}",
                crs=meta.get("crs"),
                bounds=tuple(bounds) if bounds is not None and len(bounds) == 4 else None,
            )
        )
    reader.close()
    return tuple(pictures)


def read_meta(data: SplitData, reader: ShardReader, sample: int) -> dict[str, Any]:
    """Return the ``json`` member of a sample; empty if there is none."""
    row = data.index.rows[sample]
    if not row["meta_length"]:
        return {}
    shard = int(data.index.shards_of([sample])[0])  # type: ignore[arg-type]
    try:
        page = json.loads(reader.read(shard, int(row["meta_offset"]), int(row["meta_length"])))
    except (ValueError, DataError):
        return {}
    return page if isinstance(page, dict) else {}


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
