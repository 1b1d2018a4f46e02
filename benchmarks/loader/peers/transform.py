"""The transforms of peers that use torchvision's."""

from torchvision.transforms import v2

from benchmarks.harness.task import Task


def build_transform(task: Task) -> v2.Compose:
    """Return random resized crop and delivery, for a PIL image or a ``[3, H, W]`` uint8 tensor.

    On PIL images, as in the reference training scripts: Pillow resizes, and only the crop becomes a
    tensor.
    """
    import torch

    steps: list[object] = [
        v2.RandomResizedCrop(task.image_size, task.scale, task.ratio, antialias=True),
        v2.ToImage(),
    ]
    if task.delivery == "float32":
        mean = [band / 255 for band in task.mean]
        std = [band / 255 for band in task.std]
        steps += [v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std)]
    return v2.Compose([*steps, v2.ToPureTensor()])
