"""MosaicML Streaming from a local MDS data set, after its quick start."""

from typing import Any

from PIL import Image
from streaming import MDSWriter, StreamingDataset
from streaming.base.util import clean_stale_shared_memory
from torch.utils.data import DataLoader

from benchmarks.harness.task import Task, Workload, workload_of
from benchmarks.loader.peers.transform import build_transform

NAME = "mds"


def prepare(task: Task) -> None:
    """Write the original JPEG bytes to MDS shards."""
    folder = task.folder(NAME)
    if (folder / "index.json").exists():
        return
    with MDSWriter(out=str(folder), columns={"image": "jpeg", "label": "int"}) as writer:
        for path, label in task.list_images():
            writer.write({"image": Image.open(path), "label": label})


class Images(StreamingDataset):  # type: ignore[misc]
    """The shards, with the transform where the documentation puts it."""

    def __init__(self, task: Task) -> None:
        super().__init__(
            local=str(task.folder(NAME)),
            shuffle=True,
            shuffle_seed=task.seed,
            batch_size=task.batch_size,
        )
        self._transform = build_transform(task)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        """Return one sample."""
        sample = super().__getitem__(index)
        return self._transform(sample["image"]), sample["label"]


def build(task: Task) -> Workload:
    """Return the loader."""
    prepare(task)
    clean_stale_shared_memory()
    loader: DataLoader[Any] = DataLoader(
        Images(task),
        batch_size=task.batch_size,
        num_workers=task.workers,
        drop_last=True,
        persistent_workers=True,
    )
    return workload_of(loader, "worker processes, Pillow")
