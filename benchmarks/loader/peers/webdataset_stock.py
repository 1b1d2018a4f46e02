"""Stock WebDataset on the shards that rsdl reads, after its README."""

from pathlib import Path

import webdataset as wds

from benchmarks.harness.task import Task, Workload, workload_of
from benchmarks.loader.peers.transform import build_transform


def build(task: Task) -> Workload:
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
    return workload_of(loader, "worker processes, Pillow")
