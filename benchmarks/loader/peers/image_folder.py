"""torchvision's ImageFolder with PyTorch's DataLoader, after PyTorch's ImageNet example."""

from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder

from benchmarks.harness.task import Counter, Task, Workload
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

    def run_epoch(take: Counter) -> None:
        for images, labels in loader:
            take(images, labels)

    return Workload(run_epoch, note="worker processes, Pillow")
