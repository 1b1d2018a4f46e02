"""What a task must know of a head of detection, whose outputs are of any structure."""

from typing import Any, Protocol

from torch import Tensor


class DetectionHead(Protocol):
    """What the outputs of a head mean: how wrong they are, and what they have found.

    It is built from the config of the task, height and width of the images, and the mean number of
    objects of a train image.

    Attributes:
        needs_nms: Whether an image's candidates have duplicates.
        places: What has an output each, for people.
        boxes: What it says of a box beside its logits, for people.
    """

    needs_nms: bool
    places: str
    boxes: str

    def losses(self, outputs: Any, targets: Tensor) -> Tensor:  # noqa: ANN401 - of any structure
        """Return the loss of each image, ``[B]`` float32, which no other image changes.

        Args:
            outputs: What the head returned.
            targets: Objects, ``[B, G, 11]``; see ``rsdl.data.targets.objects``.
        """

    def candidates(self, outputs: Any) -> Tensor:  # noqa: ANN401
        """Return what may be a detection in each image, ``[B, K, 7]`` float32.

        A row is a detection as in :mod:`rsdl.tasks.detection`, in any order.
        """
