"""Run + split -> Evaluation over whole images, each predicted by windows as a scene is."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rsdl.core.errors import CorruptSampleError, DataError
from rsdl.data.dataset import SplitData
from rsdl.data.preview import to_rgb
from rsdl.data.sample_reader import SampleReader
from rsdl.data.targets import KINDS
from rsdl.evaluate.evaluator import name_scenes, show_samples
from rsdl.records.evaluation_base import Evaluation
from rsdl.tasks.base import Lookup, Task

# Stored pixels [H, W, C] -> class probabilities [K, H, W].
PredictImage = Callable[[NDArray[Any]], NDArray[np.float32]]
Progress = Callable[[int, int], None]


def evaluate_images(
    task: Task,
    data: SplitData,
    predict_image: PredictImage,
    *,
    skip_corrupt: bool,
    progress: Progress = lambda done, total: None,
    **about: Any,  # noqa: ANN401 - fields of Evaluation
) -> Evaluation:
    """Return the evaluation of a dense network on the whole images of a split, one at a time.

    Args:
        task: The network's task, of which every pixel has a class.
        data: The split.
        predict_image: Returns the class probabilities of an image.
        skip_corrupt: Whether images that cannot be decoded are left out.
        progress: Called with the samples that are done and all of them.
        about: As of :meth:`Task.evaluation`.

    Raises:
        CorruptSampleError: If an image cannot be decoded, unless those are left out.
    """
    metrics, parts, samples = task.metrics(), [], []
    valid = torch.ones(1, dtype=torch.bool)
    with closing(data.open_reader(shrink=False)) as reader:
        for sample in range(len(data.index)):
            try:
                seen = see(task, data, reader, predict_image, sample)
            except CorruptSampleError:
                if not skip_corrupt:
                    raise
            else:
                loss = task.loss(seen.outputs, seen.target, training=False)
                metrics.update(seen.prediction, seen.target, valid, loss)
                parts.append(task.columns(seen.prediction, seen.target))
                samples.append(sample)
            progress(sample + 1, len(data.index))
    if not parts:
        raise DataError(data.url, "no image of the split can be decoded", "restore the data set")
    columns = {name: torch.cat([part[name] for part in parts]).numpy() for name in parts[0]}
    return task.evaluation(
        metrics.values(),
        columns | {"samples": np.array(samples)},
        Lookup(
            partial(show_samples, data),
            partial(_see_again, task, data, predict_image),
            partial(name_scenes, data),
        ),
        planned=len(data.index),
        **about,
    )


class Seen(NamedTuple):
    """A sample that was predicted, as a batch of one.

    Attributes:
        pixels: Stored pixels, ``[H, W, C]``.
        outputs: What stands for the network's outputs, ``[1, K, H, W]``.
        prediction: Of the task, from the outputs.
        target: The sample's target.
    """

    pixels: NDArray[Any]
    outputs: Tensor
    prediction: Any
    target: Tensor


def see(
    task: Task, data: SplitData, reader: SampleReader, predict_image: PredictImage, sample: int
) -> Seen:
    """Read a sample, and predict it.

    Raises:
        CorruptSampleError: If it cannot be decoded.
    """
    pixels = reader.pixels(reader.locate(sample))
    target = torch.as_tensor(reader.target(sample, KINDS[data.manifest.target]))[None]
    shares = torch.from_numpy(predict_image(pixels))[None]
    # The softmax of the logarithm of shares are the shares.
    outputs = shares.clamp_min(1e-12).log()
    return Seen(pixels, outputs, task.predict(outputs), target)


def _see_again(
    task: Task, data: SplitData, predict_image: PredictImage, samples: Sequence[int]
) -> Iterator[tuple[NDArray[np.uint8], Any, Any]]:
    """Yield colours ``[H, W, 3]``, prediction and target of samples."""
    with closing(data.open_reader(shrink=False)) as reader:
        for sample in samples:
            seen = see(task, data, reader, predict_image, sample)
            picture = to_rgb(seen.pixels, data.manifest)
            yield picture, seen.prediction[0].numpy(), seen.target[0].numpy()
