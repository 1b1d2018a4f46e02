"""FFCV in its JPEG and raw modes, after the authors' ImageNet training script."""

from pathlib import Path

import numpy as np
from ffcv.fields import IntField, RGBImageField
from ffcv.fields.decoders import IntDecoder, RandomResizedCropRGBImageDecoder
from ffcv.loader import Loader, OrderOption
from ffcv.transforms import NormalizeImage, Squeeze, ToTensor, ToTorchImage
from ffcv.writer import DatasetWriter
from torchvision.datasets import ImageFolder

from benchmarks.harness.task import Task, Workload, workload_of

# FFCV re-encodes; at this quality its file is about as large as the original images.
JPEG_QUALITY = 90


def prepare(task: Task, mode: str) -> Path:
    """Write the images to the single file of a mode, and return its path."""
    path = task.folder("ffcv") / f"{mode}.beton"
    if not path.exists():
        part = path.with_suffix(".part")
        fields = {
            "image": RGBImageField(write_mode=mode, jpeg_quality=JPEG_QUALITY),
            "label": IntField(),
        }
        writer = DatasetWriter(str(part), fields, num_workers=1)
        writer.from_indexed_dataset(ImageFolder(task.images))
        part.rename(path)
    return path


def build(task: Task, mode: str) -> Workload:
    """Return the loader of one mode; a file that fits the memory stays in the page cache."""
    image = [
        RandomResizedCropRGBImageDecoder(
            (task.image_size, task.image_size), scale=task.scale, ratio=task.ratio
        )
    ]
    if task.delivery == "float32":
        image.append(NormalizeImage(np.array(task.mean), np.array(task.std), np.float32))
    loader = Loader(
        str(prepare(task, mode)),
        batch_size=task.batch_size,
        num_workers=task.workers,
        order=OrderOption.RANDOM,
        os_cache=True,
        drop_last=True,
        seed=task.seed,
        pipelines={
            "image": [*image, ToTensor(), ToTorchImage()],
            "label": [IntDecoder(), ToTensor(), Squeeze()],
        },
    )

    return workload_of(loader, "threads, compiled" + ("; no decoding" if mode == "raw" else ""))
