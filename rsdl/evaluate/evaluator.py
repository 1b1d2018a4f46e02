"""Checkpoint + split -> Evaluation, for ``rsdl train`` and ``rsdl evaluate`` alike."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from rsdl.config.data import DataConfig
from rsdl.core.image_size import height_width
from rsdl.data.crop import central_box
from rsdl.data.datamodule import load_rule
from rsdl.data.dataset import SplitData
from rsdl.data.preview import data_uri, read_pictures, to_rgb
from rsdl.data.targets import KINDS
from rsdl.records.evaluation_base import Evaluation
from rsdl.storage.connect import join
from rsdl.tasks.base import Columns, Lookup, Place
from rsdl.train.checkpoint import load_weights, read_checkpoint
from rsdl.train.session import RunParts

PICTURE_SIDE = 160


class Evaluated(NamedTuple):
    """An evaluation, what the task kept of each sample for it, and what may be asked of them."""

    evaluation: Evaluation
    columns: Columns
    lookup: Lookup


def evaluate_checkpoint(parts: RunParts, checkpoint: str, split: str) -> Evaluated:
    """Return the evaluation of a checkpoint on a split; every rank must call this.

    The average of the weights is evaluated if the run keeps one.

    Args:
        parts: What evaluates the run.
        checkpoint: Name of the checkpoint in the run's folder.
        split: Name of the split.

    Raises:
        DataError: If the checkpoint is damaged or belongs to another network.
    """
    module, store = parts.module, parts.folder.store
    content = read_checkpoint(store, checkpoint)
    is_average = parts.config.optim.ema_decay is not None
    lone = is_average and module.averaged is None
    load_weights(module, content, join(store.url, checkpoint), averaged=lone)
    parts.data.evaluation_split = split
    parts.trainer.test(module, datamodule=parts.data, verbose=False)
    data = parts.data.data.split(split, "data.test_split")
    columns = module.collector.collect()
    places = cache(lambda samples: place_tiles(data, parts.config.data, samples))  # asked twice
    lookup = Lookup(
        partial(show_samples, data),
        partial(predict_samples, parts, data),
        partial(name_scenes, data),
        lambda samples: places(tuple(samples)),
    )
    evaluation = module.task.evaluation(
        module.metrics.values(),
        columns,
        lookup,
        planned=len(data.index),
        run=parts.config.name,
        split=split,
        checkpoint=checkpoint,
        weights="ema" if is_average else "raw",
        tta=module.tta,
    )
    return Evaluated(evaluation, columns, lookup)


@torch.inference_mode()
def predict_samples(
    parts: RunParts, data: SplitData, samples: Sequence[int]
) -> Iterator[tuple[NDArray[np.uint8], Any, Any]]:
    """Yield samples as the network saw them: RGB image ``[H, W, 3]``, prediction and target."""
    module = parts.module.eval()
    for batch in parts.data.read_samples(data, samples):
        _, prediction = module.predict_batch(batch.to(module.device))
        picture = to_rgb(batch.images[0].numpy(), data.manifest)
        yield picture, prediction[0].cpu().numpy(), batch.targets[0].numpy()


def name_scenes(data: SplitData, samples: Sequence[int]) -> list[str]:
    """Return the name of the scene or file that each sample was made from, or its key."""
    keys = data.index.rows["key"]
    with closing(data.open_reader()) as reader:
        return [str(reader.meta(one).get("source") or keys[one].decode()) for one in samples]


def place_tiles(data: SplitData, config: DataConfig, samples: Sequence[int]) -> list[Place]:
    """Return where in its image each sample lies; nothing if ``data.eval_crop`` cuts one.

    A sample that does not tell its row and column is an image of its own: it has the name of its
    file, or its key where several are of one file.

    Args:
        data: The split.
        config: How samples were loaded.
        samples: Sample numbers.
    """
    kind, keys = KINDS[data.manifest.target], data.index.rows["key"]
    crop = load_rule(config, training=False, pin_memory=False, processes=1).crop
    height, width = height_width(config.image_size)
    places: list[Place] = []
    told: list[tuple[str | None, bool]] = []  # the name of its file, and whether it is a tile
    with closing(data.open_reader(shrink=False)) as reader:
        for sample in samples:
            meta = reader.meta(sample)
            target: Any = reader.target(sample, kind)
            if central_box(crop, *target.size) != (0, 0, *target.size):
                return []
            scale = target.size[1] / width, target.size[0] / height
            row, col = meta.get("row"), meta.get("col")
            corner = (row, col) if isinstance(row, int) and isinstance(col, int) else None
            source = meta.get("source")
            told.append((None if source is None else str(source), corner is not None))
            places.append(Place(keys[sample].decode(), corner or (0, 0), scale, target))
    times = Counter(source for source, _ in told)
    return [
        place._replace(image=source)
        if source is not None and (is_tile or times[source] == 1)
        else place
        for place, (source, is_tile) in zip(places, told, strict=True)
    ]


def show_samples(data: SplitData, samples: Sequence[int]) -> list[dict[str, Any]]:
    """Return samples as fields of :class:`rsdl.records.evaluation.Picture`."""
    images = read_pictures(data, samples, PICTURE_SIDE)
    shown = []
    with closing(data.open_reader()) as reader:
        for sample, image in zip(samples, images, strict=True):
            meta = reader.meta(sample)
            bounds = meta.get("bounds")
            shown.append(
                {
                    "key": data.index.rows["key"][sample].decode(),
                    "source": str(meta.get("source", "")),
                    "image": None if image is None else data_uri(image),
                    "crs": meta.get("crs"),
                    "bounds": tuple(bounds) if bounds is not None and len(bounds) == 4 else None,
                }
            )
    return shown
