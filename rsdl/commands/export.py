"""``rsdl export``: write a trained network in a format of others, after checking that it agrees."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from rsdl.commands.report import read_evaluation
from rsdl.config.run import RunConfig
from rsdl.core.errors import ConfigError
from rsdl.core.pixels import Pixels
from rsdl.data.dataset import DataSet
from rsdl.export.card import write_card
from rsdl.export.formats import FORMATS, Parity, check_parity
from rsdl.export.load import load_run
from rsdl.export.model import TrainedModel
from rsdl.records.model_spec import MODEL
from rsdl.storage.connect import connect
from rsdl.storage.store import Store
from rsdl.train.run_folder import RunFolder
from rsdl.train.saved_run import check_same_data, find_run, read_config

LABELS, CARD = "labels.json", "README.md"


def export(
    target: str,
    *,
    to: str,
    out: str,
    data_url: str | None = None,
    samples: int = 32,
    tolerance: float = 1e-3,
    licence: str | None = None,
) -> int:
    """Write a run's network to a folder or bucket, and print how far it is from the run.

    Args:
        target: Folder of a run, or a checkpoint in its ``checkpoints`` folder.
        to: A name of ``FORMATS``.
        out: Folder or URL to write to.
        data_url: New location of the data, if it has moved.
        samples: Samples of the evaluated split to compare on.
        tolerance: Largest difference of a logit.
        licence: SPDX identifier of the licence for the model card.

    Returns:
        0; 1 if the difference exceeds the tolerance, and then nothing is written.

    Raises:
        InputError: If the run, its data or ``out`` cannot be used, or the network not exported.
    """
    kind = FORMATS[to]
    kind.require()
    store = connect(out)
    check_free(store)
    folder, checkpoint = find_run(target)
    config = read_config(folder, data_url)
    model = load_run(target, data_url=data_url)
    if model.finds_objects and to != "safetensors":
        problem = f"{to} has no form for a detector's logits and boxes"
        raise ConfigError("--to", problem, "use safetensors, for rsdl.load and rsdl predict")
    with TemporaryDirectory(prefix="rsdl-export-") as name:
        work = Path(name)
        kind.write(model, work)
        images = read_samples(config, folder, samples)
        parity = check_parity(kind.open(model, work), model, images)
        print(parity)
        if not parity.difference <= tolerance:
            print(f"--tolerance: {tolerance:g} is exceeded; nothing is written")
            return 1
        (work / CARD).write_text(card(folder, checkpoint, model, parity, to=to, licence=licence))
        labels = {str(number): name for number, name in enumerate(model.classes)}
        (work / LABELS).write_text(json.dumps(labels, indent=2, ensure_ascii=False) + "\n")
        (work / MODEL).write_bytes(model.spec.to_json())
        publish(work, store)
    print(f"written to {store.url}")
    return 0


def check_free(store: Store) -> None:
    """Check that a folder is empty or holds an export.

    Raises:
        ConfigError: If it holds something else, such as a run.
    """
    first = next(iter(store.list()), None)
    if first is not None and store.size(LABELS) is None:
        problem = f"{store.url} holds something else ({first.name})"
        raise ConfigError("--out", problem, "name a new folder")


def read_samples(config: RunConfig, folder: RunFolder, count: int) -> Iterator[Pixels]:
    """Yield decoded images ``[H, W, C]``, spread evenly over the evaluated split."""
    dataset = DataSet(config.data, config.storage, seed=config.seed)
    check_same_data(folder, dataset.manifest.digest)
    data = dataset.split(dataset.evaluated_split, "data.test_split")
    reader = data.open_reader(shrink=False)
    chosen = np.linspace(0, len(data.index) - 1, min(count, len(data.index)))
    try:
        for sample in chosen.round().astype(int).tolist():
            yield reader.pixels(reader.locate(sample))
    finally:
        reader.close()


def card(
    folder: RunFolder,
    checkpoint: str,
    model: TrainedModel,
    parity: Parity,
    *,
    to: str,
    licence: str | None,
) -> str:
    """Return the model card of a checkpoint, with its metrics if it was evaluated."""
    evaluation = read_evaluation(folder)
    if evaluation is not None and evaluation.checkpoint != checkpoint:
        evaluation = None  # of other weights
    record = folder.read_record()
    return write_card(model, record, evaluation, parity, to=to, licence=licence)


def publish(work: Path, store: Store) -> None:
    """Copy the files of an export to a store, the card last."""
    names = sorted((path.name for path in work.iterdir()), key=lambda name: name == CARD)
    for name in names:
        with store.create(name) as part:
            shutil.copyfile(work / name, part)
