"""What torchvision's FCOS says: class logits, a box and its centreness of each cell.

Source: Tian et al. 2019, "FCOS", with its later choices that torchvision took: cells near an
object's centre learn it, the boxes by GIoU, and centreness beside them. All three losses are
divided by the number of the image's own cells that have an object.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss

from rsdl.config.task import DetectionConfig
from rsdl.models.detector import strides_of
from rsdl.models.heads.anchors import clip, to_centres, to_sides
from rsdl.models.heads.dense import cell_centres
from rsdl.tasks.assignment import levels_of
from rsdl.tasks.boxes import aligned_giou
from rsdl.tasks.heads.candidates import best_pairs, num_candidates, take_rows, to_candidates
from rsdl.tasks.heads.matching import (
    NOTHING,
    ImageTruth,
    in_ignored,
    one_hot,
    read_images,
)  # fmt: skip

RADIUS = 1.5  # cells from an object's centre
LEAST, MOST = 4, 8  # cells from a cell to its box's farthest side
SMALL = 1e-6  # no division by 0, and no root of it


class FcosDetection:
    """Outputs of :class:`rsdl.models.heads.one_stage.FcosHead`; see :class:`DetectionHead`.

    Memory of the assignment is O(cells x objects), one image at a time.
    """

    needs_nms = True
    places = "cell of the pyramid"
    boxes = "the distances to the sides of a box, in cells, and how central the cell is in it"

    def __init__(
        self, config: DetectionConfig, image_size: tuple[int, int], mean_objects: float
    ) -> None:
        self.image_size, self.kept = image_size, num_candidates(config)
        self.levels = levels_of(image_size, strides_of(config))

    def losses(self, outputs: tuple[Tensor, Tensor, Tensor], targets: Tensor) -> Tensor:
        """Return the loss of each image; see :class:`DetectionHead`.

        Args:
            outputs: Logits ``[B, N, num_classes]``, distances ``[B, N, 4]`` and centreness
                ``[B, N, 1]``.
            targets: Objects, ``[B, G, 11]``.
        """
        logits, distances, centreness = (each.float() for each in outputs)
        cells = self._cells(logits)
        reach = self._reach(cells)
        rows = zip(logits, distances, centreness[..., 0], read_images(targets), strict=True)
        return torch.stack([_loss(*row, cells, reach) for row in rows])

    def candidates(self, outputs: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """Return the best pairs of a cell and a class; see :class:`DetectionHead`.

        A score is the root of the class's probability times the centreness, as in torchvision.
        """
        logits, distances, centreness = (each.float() for each in outputs)
        scores = (logits.sigmoid() * centreness.sigmoid()).sqrt()
        best, places, labels = best_pairs(scores, self.kept)
        sides = _sides(take_rows(distances, places), self._cells(logits)[places])
        return to_candidates(clip(to_centres(sides), self.image_size), best, labels)

    def _cells(self, logits: Tensor) -> Tensor:
        """Return centre and side of each cell, ``[N, 3]``."""
        cells = []
        for _, rows, columns, stride in self.levels:
            centres = cell_centres(rows, columns, stride, device=logits.device)
            cells.append(F.pad(centres, (0, 1), value=float(stride)))
        found = torch.cat(cells)
        assert logits.shape[1] == len(found), "of another network"
        return found

    def _reach(self, cells: Tensor) -> Tensor:
        """Return least and greatest distance from each cell to its farthest side, ``[N, 2]``.

        The finest map has also what is smaller, and the coarsest what is larger.
        """
        stride = cells[:, 2]
        least, most = stride * LEAST, stride * MOST
        least[: self.levels[1].first] = 0
        most[self.levels[-1].first :] = torch.inf
        return torch.stack([least, most], 1)


@torch.no_grad()
def match(cells: Tensor, reach: Tensor, truth: ImageTruth) -> Tensor:
    """Return the object of each cell, ``NOTHING`` for none, ``[N]`` int64.

    An object's cells are near its centre and inside of it, on the map of its size. A cell that
    several objects want gets the smallest.

    Args:
        cells: Centre and side of each cell, ``[N, 3]``.
        reach: Least and greatest distance to the farthest side, ``[N, 2]``.
        truth: The objects.
    """
    corners = to_sides(truth.boxes)
    low, high = corners[:, :2], corners[:, 2:]
    centres, sides = cells[:, None, :2], cells[:, 2:]
    near = (centres - truth.boxes[:, :2]).abs().amax(2) < RADIUS * sides
    distances = torch.cat([centres - low, high - centres], 2)  # [N, G, 4]
    far = distances.amax(2)
    fits = near & (distances.amin(2) > 0) & (far > reach[:, :1]) & (far < reach[:, 1:])
    area = truth.boxes[:, 2:].prod(1).expand_as(far)
    area = torch.where(fits & truth.counts, area, torch.full_like(area, torch.inf))
    least, owners = area.min(1)
    return torch.where(least.isfinite(), owners, torch.full_like(owners, NOTHING))


def _loss(
    logits: Tensor,
    distances: Tensor,
    centreness: Tensor,
    truth: ImageTruth,
    cells: Tensor,
    reach: Tensor,
) -> Tensor:
    owners = match(cells, reach, truth)
    owned = owners >= 0
    counted = owned | ~in_ignored(cells, truth)
    classes = sigmoid_focal_loss(logits, one_hot(owners, truth, logits)).sum(1)
    classes = torch.where(counted, classes, torch.zeros_like(classes))
    # Cells without an object are compared with a box of their own: no gradient, and none of NaN.
    own = _sides(torch.ones_like(distances), cells)
    wanted = torch.where(owned[:, None], to_sides(truth.boxes[owners.clamp(min=0)]), own)
    said = torch.where(owned[:, None], _sides(distances, cells), own)
    # torchvision's own GIoU waits for the device.
    apart = 1 - aligned_giou(to_centres(said), to_centres(wanted))
    central = _centreness(wanted, cells)
    unsure = F.binary_cross_entropy_with_logits(centreness, central, reduction="none")
    unsure = torch.where(owned, unsure, torch.zeros_like(unsure))
    loss: Tensor = (classes + apart + unsure).sum() / owned.sum().clamp(min=1)
    return loss


def _sides(distances: Tensor, cells: Tensor) -> Tensor:
    """Return left, top, right, bottom of the boxes that cells say, ``[..., 4]``."""
    reach = distances * cells[..., 2:]
    return torch.cat([cells[..., :2] - reach[..., :2], cells[..., :2] + reach[..., 2:]], -1)


def _centreness(sides: Tensor, cells: Tensor) -> Tensor:
    """Return how central cells are in the boxes around them, 0 to 1; see FCOS, equation 3."""
    before, after = cells[:, :2] - sides[:, :2], sides[:, 2:] - cells[:, :2]
    ratios = torch.minimum(before, after) / torch.maximum(before, after).clamp(min=SMALL)
    return ratios.prod(1).clamp(0, 1).sqrt()
