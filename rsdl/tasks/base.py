"""The Task protocol: all that training, evaluation and commands know of a task.

Outputs, targets and predictions are of any structure: a task alone looks into them. What leaves it
is plain: a loss for each row, metrics by name, columns by sample, an :class:`Evaluation`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from rsdl.config.model import ModelConfig
from rsdl.config.task import TaskFacts
from rsdl.core.image_size import ImageSize
from rsdl.data.augment import Mix
from rsdl.records.evaluation_base import Evaluation
from rsdl.storage.s3.endpoint import StorageConfig

# Columns over the valid samples of a split, ``[N, ...]`` each, in the order of the index.
Columns = dict[str, NDArray[Any]]

# Sample numbers -> for each the fields of a report's picture that are not the task's: key, source,
# image, crs, bounds.
Show = Callable[[Sequence[int]], list[dict[str, Any]]]

# Sample numbers -> for each the image as the network saw it, in colours ``[H, W, 3]``, the
# prediction of its row, and its target.
Predict = Callable[[Sequence[int]], Iterator[tuple[NDArray[np.uint8], Any, Any]]]


class Place(NamedTuple):
    """Where in an image a tile lies; a whole image is a tile of itself.

    Attributes:
        image: Name of the image.
        corner: Row and column of the tile in it.
        scale: Pixels of the image for each pixel that the network saw, across and down.
        target: The tile's target as it is stored.
    """

    image: str
    corner: tuple[int, int]
    scale: tuple[float, float]
    target: Any


@dataclass(frozen=True, slots=True)
class Lookup:
    """What an evaluation may ask of single samples of its split, by their numbers.

    Attributes:
        show: Returns what a report shows of them.
        predict: Runs the network on them once more.
        scenes: Returns the name of the scene that each was cut from, or of its file.
        places: Returns where in its image each lies; nothing if the network saw parts of them.
    """

    show: Show
    predict: Predict
    scenes: Callable[[Sequence[int]], list[str]]
    places: Callable[[Sequence[int]], list[Place]] = lambda samples: []


@dataclass(frozen=True, slots=True)
class CardFacts:
    """What the model card of an exported network says of its task.

    Attributes:
        pipeline: The task's name on the Hugging Face Hub, its ``pipeline_tag``.
        outputs: What the network returns for an image.
        caution: What a prediction does not tell, in a sentence.
    """

    pipeline: str
    outputs: str
    caution: str


class MetricValues(Protocol):
    """Results of a task's metrics; further attributes are the task's own."""

    @property
    def metrics(self) -> dict[str, float]:
        """The metrics by name, in the order of ``metrics.csv``; NaN if undefined."""


class TaskMetrics(Protocol):
    """Metrics kept as sums over samples, so that any number of ranks gives the same values."""

    def reset(self) -> None:
        """Set all sums to zero."""

    def update(self, prediction: Any, targets: Any, valid: Tensor, losses: Tensor) -> None:  # noqa: ANN401
        """Add a batch.

        Args:
            prediction: Result of :meth:`Task.predict`.
            targets: ``Batch.targets``.
            valid: Whether each row counts, ``[B]`` bool.
            losses: Loss of each row, ``[B]``.
        """

    def values(self) -> MetricValues:
        """Return every metric over all ranks; a collective that every rank must call."""


class Task(Protocol):
    """What a network learns: its head, loss, predictions, metrics and evaluation.

    Attributes:
        facts: ``config.facts``, of ``rsdl.config.task``: kind of target, primary metric.
    """

    facts: TaskFacts

    def build_network(
        self,
        config: ModelConfig,
        *,
        in_chans: int,
        image_size: ImageSize,
        storage: StorageConfig,
        bands: Sequence[str],
    ) -> nn.Module:
        """Return the backbone of a config with this task's head, and its weights loaded.

        Raises:
            ConfigError: As :func:`rsdl.models.catalog.build_model`.
        """

    def head(self, network: nn.Module) -> nn.Module:
        """Return the part of a network that ``optim.freeze_epochs`` does not freeze."""

    def loss(
        self,
        outputs: Any,  # noqa: ANN401 - of any structure
        targets: Any,  # noqa: ANN401
        *,
        training: bool,
        mix: Mix | None = None,
    ) -> Tensor:
        """Return the loss of each row, ``[B]`` float32.

        A row's loss is a sum over what counts in it, divided by a constant that does not depend on
        the batch. The caller adds the valid rows up and divides by the planned rows of the global
        batch, so that ranks and micro-batches add up to one loss.

        Args:
            outputs: The network's outputs.
            targets: ``Batch.targets``.
            training: Whether to regularize the targets as in training.
            mix: How rows were mixed with each other; ``None`` without mixing.
        """

    def predict(self, outputs: Any) -> Any:  # noqa: ANN401
        """Return the prediction of each row from the network's outputs."""

    def labels(self, prediction: Any) -> list[Any]:  # noqa: ANN401
        """Return what each row was predicted to be, in the data set's names."""

    def merge_views(self, views: Iterable[Any]) -> tuple[Any, Any]:
        """Return outputs and prediction that stand for those of all turned views of a batch.

        Args:
            views: The network's outputs for each of :func:`turned_views`, computed one at a time.
        """

    def columns(self, prediction: Any, targets: Any) -> dict[str, Tensor]:  # noqa: ANN401
        """Return what an evaluation keeps of each sample, ``[B, ...]`` by name.

        Their sizes do not depend on the batch: a ragged prediction is cut or padded to a size.
        """

    def metrics(self) -> TaskMetrics:
        """Return new, empty metrics."""

    def describe(self, metrics: dict[str, Any]) -> str:
        """Return the most important metrics in one line, without the loss."""

    def evaluation(
        self,
        values: Any,  # noqa: ANN401 - of this task's own metrics
        columns: Columns,
        lookup: Lookup,
        *,
        planned: int,
        **about: Any,  # noqa: ANN401
    ) -> Evaluation:
        """Return the content of ``report.json``.

        Args:
            values: Result of :meth:`TaskMetrics.values`.
            columns: Those of :meth:`columns`, and ``samples``, the numbers of the samples.
            lookup: What may be asked of single samples.
            planned: Samples of the split, those that could not be decoded included.
            about: Fields that every task's evaluation has: run, split, checkpoint, weights, tta,
                windows.
        """

    def card(self) -> CardFacts:
        """Return what a model card says of the task."""


def show_share(value: float | None) -> str:
    """Return a metric in percent, and ``-`` where it is undefined, as AP without an object is."""
    return "-" if value is None else f"{value:.2%}"


def turned_views(images: Tensor) -> Iterator[Tensor]:
    """Yield the flips and quarter turns of images ``[B, C, H, W]``, one at a time.

    First the image, flipped over y, over x and over both; then, if it is square, the same of its
    transpose: 8 views, or 4.
    """
    is_square = images.shape[2] == images.shape[3]
    for turned in (images, images.transpose(2, 3)) if is_square else (images,):
        yield turned
        yield turned.flip(2)
        yield turned.flip(3)
        yield turned.flip(2, 3)
