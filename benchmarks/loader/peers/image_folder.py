"""torchvision's ImageFolder with PyTorch's DataLoader, after PyTorch's ImageNet example."""

from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder

from benchmarks.harness.task import Task, Workload, workload_of
from benchmarks.loader.peers.transform import build_transform


def build(task: Task) -> Workload:
    """Return the loader; its workers persist across epochs."""
    loader = DataLoader(
        ImageFolder(task.images, build_transform(task)),
        batch_size=task.batch_size,
        shuffle=True,
        num_workers=task.workers,
        drop_last=True,
        persistent_workers=True,
    )
    return workload_of(loader, "worker processes, Pillow")
