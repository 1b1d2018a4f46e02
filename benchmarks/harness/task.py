"""The task of every loader, its output, and the check of that output.

All deliver batches with labels to the main process of a training run, on the CPU: RGB images
cropped at random (8% to 100% of the area, 3:4 to 4:3) and resized, without flips. Either ``uint8``,
which is normalised on the training device, or ``float32``, normalised on the host.
"""

import json
import os
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

# For packers: small enough that some thousands of images make several shards.
SHARD_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Task:
    """One loading task.

    Attributes:
        images: Folder of class folders of JPEGs.
        shards: The same images as shards, in the WebDataset format, with rsdl's manifest.
        work: Folder for a loader's one-time conversions.
        delivery: ``uint8``, or ``float32`` normalised by ``mean`` and ``std``.
        batch_size: Samples in a batch; the incomplete last one is dropped.
        workers: Worker processes or threads.
        image_size: Side of the delivered images in pixels.
        scale: Smallest and largest area of a crop, as a share of the image.
        ratio: Smallest and largest aspect ratio of a crop, width over height.
        mean: Mean of each band, in ``[0, 255]``.
        std: Standard deviation of each band, likewise.
        seed: Seed of order and crops, for loaders that accept one.
        decoded_bytes: Bytes of all images decoded at full size.
    """

    images: str
    shards: str
    work: str
    delivery: str
    batch_size: int = 64
    workers: int = 2
    image_size: int = 224
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    seed: int = 0
    decoded_bytes: int = 0

    def to_json(self) -> str:
        """Return the task as one line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Task":
        """Return the task from one line of JSON."""
        fields: dict[str, Any] = json.loads(text)
        pairs: Any = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
        return cls(**pairs)

    def folder(self, name: str) -> Path:
        """Return a loader's own folder, created if missing."""
        path = Path(self.work) / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def list_images(self) -> list[tuple[Path, int]]:
        """Return every image with its class, sorted by name."""
        # Sort strings: sorting paths takes several times as long, and packers are timed meanwhile.
        with os.scandir(self.images) as entries:
            folders = sorted(entry.path for entry in entries if entry.is_dir())
        return [
            (Path(f"{folder}/{name}"), label)
            for label, folder in enumerate(folders)
            for name in sorted(os.listdir(folder))
        ]


class Counter:
    """Counts images, and validates the first batch."""

    def __init__(self, task: Task) -> None:
        self.images = 0
        self._task = task
        self._checked = False

    def __call__(self, images: Any, labels: Any) -> None:  # noqa: ANN401 - a tensor, of whatever
        """Count a batch."""
        if not self._checked:
            self._checked = True
            check_delivery(self._task, images, labels)
        self.images += len(images)

    def count(self, images: int) -> None:
        """Count images that are not delivered."""
        self.images += images


@dataclass(frozen=True, slots=True)
class Workload:
    """A loader that is ready.

    Attributes:
        run_epoch: Runs one epoch, passing images and labels of each batch to the counter.
        reset: Called before each turn, untimed; if given, a turn is one epoch, a first one.
        note: Remark on this loader.
    """

    run_epoch: Callable[[Counter], None]
    reset: Callable[[], None] | None = None
    note: str = ""


def workload_of(loader: Iterable[Any], note: str) -> Workload:
    """Return the workload of a loader that yields pairs of images and labels, an epoch a pass."""

    def run_epoch(take: Counter) -> None:
        for images, labels in loader:
            take(images, labels)

    return Workload(run_epoch, note=note)


def check_delivery(task: Task, images: Any, labels: Any) -> None:  # noqa: ANN401
    """Reject a batch that does not match the task.

    Args:
        task: The task.
        images: Should be a tensor ``[B, 3, S, S]`` of the requested type.
        labels: Should be a tensor of as many integers, not all equal.

    Raises:
        ValueError: If it does not match.
    """
    shape = (task.batch_size, 3, task.image_size, task.image_size)
    if tuple(images.shape) != shape or str(images.dtype) != f"torch.{task.delivery}":
        raise ValueError(f"delivers {tuple(images.shape)} {images.dtype}, not {shape} as asked")
    pixels = images.float()
    middle, spread = float(pixels.mean()), float(pixels.std())
    wanted = (sum(task.mean) / 3, sum(task.std) / 3) if task.delivery == "uint8" else (0.0, 1.0)
    if abs(middle - wanted[0]) > 0.5 * wanted[1] or not 0.5 < spread / wanted[1] < 1.5:
        raise ValueError(f"delivers pixels of mean {middle:.3g} and std {spread:.3g}, not {wanted}")
    if len(labels.flatten()) != task.batch_size or int(labels.min()) == int(labels.max()):
        raise ValueError("delivers labels that are not those of a shuffled batch")
