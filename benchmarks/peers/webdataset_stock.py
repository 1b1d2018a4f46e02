"""Stock WebDataset on the shards that rsdl reads, after its README."""

from pathlib import Path

import webdataset as wds

from benchmarks.peers.task import Counter, Feed, Task
from benchmarks.peers.transform import build_transform


def build(task: Task) -> Feed:
    """Return the loader: shards are split among the workers, samples shuffled in a buffer."""
    shards = sorted(str(path) for path in Path(task.shards).glob("train-*.tar"))
    transform = build_transform(task)
    dataset = (
        wds.WebDataset(shards, shardshuffle=len(shards), seed=task.seed)
        .shuffle(1000)
        .decode("pil")
        .to_tuple("jpg", "cls")
        .map_tuple(transform, int)
        .batched(task.batch_size, partial=False)
    )
    loader = wds.WebLoader(
        dataset, batch_size=None, num_workers=task.workers, persistent_workers=True
    )

    def run_epoch(take: Counter) -> None:
        for images, labels in loader:
            take(images, labels)

    return Feed(run_epoch, note="worker processes, Pillow")
