"""What the dense head says: class logits and one box for each cell of the pyramid."""

from torch import Tensor

from rsdl.config.task import DetectionConfig
from rsdl.models.detector import strides_of
from rsdl.tasks.assignment import levels_of, num_cells, read_truth
from rsdl.tasks.box_losses import detection_losses
from rsdl.tasks.heads.candidates import best_pairs, num_candidates, take_rows, to_candidates


class DenseDetection:
    """Outputs of :class:`rsdl.models.heads.dense.DenseHead`; see :class:`DetectionHead`.

    A row's loss is divided by the mean number of objects in a train image, a constant of the data
    set, so that the losses of ranks and micro-batches add up.
    """

    needs_nms = True
    places = "cell of the pyramid"

    def __init__(
        self, config: DetectionConfig, image_size: tuple[int, int], mean_objects: float
    ) -> None:
        self.levels = levels_of(image_size, strides_of(config))
        self.oriented = config.is_oriented
        angle = "angle in radians" if self.oriented else "angle 0"
        self.boxes = f"a box: centre, width and height in pixels, {angle}"
        self.kept = num_candidates(config)
        self.divisor = max(mean_objects, 1.0)

    def losses(self, outputs: tuple[Tensor, Tensor], targets: Tensor) -> Tensor:
        """Return the loss of classes and boxes of each image; see :class:`DetectionHead`.

        Args:
            outputs: Logits ``[B, N, num_classes]`` and boxes ``[B, N, 5]``.
            targets: Objects, ``[B, G, 11]``.
        """
        logits, boxes = outputs
        assert boxes.shape[1] == num_cells(self.levels), "of another network"
        truth = read_truth(targets, oriented=self.oriented)
        losses = detection_losses(logits, boxes, truth, self.levels, oriented=self.oriented)
        return losses / self.divisor

    def candidates(self, outputs: tuple[Tensor, Tensor]) -> Tensor:
        """Return the best pairs of a cell and a class; see :class:`DetectionHead`."""
        logits, boxes = outputs[0].float(), outputs[1].float()
        best, cells, labels = best_pairs(logits, self.kept)
        return to_candidates(take_rows(boxes, cells), best.sigmoid(), labels)
