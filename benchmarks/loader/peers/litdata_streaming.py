"""LitData from a local optimized data set, after its README."""

import random
from typing import Any

from litdata import StreamingDataLoader, StreamingDataset, optimize
from PIL import Image

from benchmarks.harness.task import Task, Workload, workload_of
from benchmarks.loader.peers.transform import build_transform

NAME = "litdata"


def read_sample(item: tuple[str, int]) -> dict[str, Any]:
    """Return one sample; LitData stores an opened JPEG as its original bytes."""
    return {"image": Image.open(item[0]), "label": item[1]}


def prepare(task: Task) -> None:
    """Optimize the images into chunks."""
    folder = task.folder(NAME)
    if (folder / "index.json").exists():
        return
    # Its shuffle mixes little across chunks, so images sorted by class would stay sorted.
    images = [(str(path), label) for path, label in task.list_images()]
    random.Random(task.seed).shuffle(images)
    optimize(
        fn=read_sample,
        inputs=images,
        output_dir=str(folder),
        chunk_bytes="64MB",
        num_workers=1,
    )


class Images(StreamingDataset):  # type: ignore[misc]
    """The chunks, with the transform where the documentation puts it."""

    def __init__(self, task: Task) -> None:
        super().__init__(str(task.folder(NAME)), shuffle=True, seed=task.seed, drop_last=True)
        self._transform = build_transform(task)

    def __getitem__(self, index: Any) -> tuple[Any, int]:  # noqa: ANN401 - theirs
        """Return one sample."""
        sample = super().__getitem__(index)
        return self._transform(sample["image"]), sample["label"]


def build(task: Task) -> Workload:
    """Return the loader."""
    prepare(task)
    loader = StreamingDataLoader(
        Images(task),
        batch_size=task.batch_size,
        num_workers=task.workers,
        drop_last=True,
        persistent_workers=True,
    )
    return workload_of(loader, "worker processes, torchvision's decoder")
