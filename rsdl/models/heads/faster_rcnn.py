"""The two stages of Faster R-CNN with torchvision's layers, for comparison with the dense head.

Sources: Ren et al. 2015, "Faster R-CNN"; Lin et al. 2017, "Feature Pyramid Networks". The network
sees images alone, in training too: its second stage looks at the proposals of its first, as many
in training as in use.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.rpn import RPNHead, concat_box_prediction_layers
from torchvision.ops import MultiScaleRoIAlign, batched_nms, roi_align
from torchvision.ops.poolers import LevelMapper

from rsdl.models.heads.anchors import RATIOS, build_anchors, clip, decode, lay_anchors, to_sides

NUM_PROPOSALS = 512  # of an image
BEFORE_NMS, PROPOSAL_IOU = 1000, 0.7  # best anchors of a map, and what the RPN calls a duplicate
LEAST_SIDE = 1e-3  # px, of a proposal
ANCHOR_SCALES = (8.0,)  # in cells
COARSEST_STRIDE = 32  # of the maps that proposals are cut from
SIDE, HIDDEN = 7, 1024  # of what is cut out, and of the layers that look at it


class FasterRcnnHead(nn.Module):
    """Maps of a pyramid to what two stages say: of each anchor, and of each proposal.

    Args:
        width: Channels of the maps.
        num_classes: Classes of the data set.
        strides: Side of the cells of each map in pixels, fine to coarse.
    """

    def __init__(self, width: int, num_classes: int, strides: Sequence[int]) -> None:
        super().__init__()
        self.anchors = build_anchors(strides, ANCHOR_SCALES, RATIOS)
        self.rpn = RPNHead(width, len(ANCHOR_SCALES) * len(RATIOS))
        pooled = [stride for stride in strides if stride <= COARSEST_STRIDE]
        self.pool = MultiScaleRoIAlign([str(stride) for stride in pooled], SIDE, 2)
        # torchvision would guess them from the sizes of maps, which were rounded up.
        self.pool.scales = [1 / stride for stride in pooled]
        levels = [stride.bit_length() - 1 for stride in (pooled[0], pooled[-1])]
        self.pool.map_levels = LevelMapper(*levels)
        self.layers = TwoMLPHead(width * SIDE**2, HIDDEN)
        self.predictor = FastRCNNPredictor(HIDDEN, num_classes + 1)

    def forward(
        self, maps: Sequence[Tensor], strides: Sequence[int], image_size: tuple[int, int]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return what is said of anchors and of P proposals.

        Args:
            maps: Maps of the pyramid, fine to coarse.
            strides: Pixels between two cells of each.
            image_size: Height and width of the images.

        Returns:
            Logits ``[B, N]`` and codes ``[B, N, 4]`` of the anchors; the proposals
            ``[B, P, 4]`` as centre, width and height, 0 for padding; their logits
            ``[B, P, 1 + num_classes]``, background first, and codes
            ``[B, P, 1 + num_classes, 4]``.
        """
        objectness, codes = self.rpn(list(maps))
        grids = [(each.shape[2], each.shape[3]) for each in maps]
        anchors = lay_anchors(self.anchors, grids, strides, maps[0].device)
        numbers = [each[0].numel() for each in objectness]
        flat, coded = concat_box_prediction_layers(objectness, codes)
        batch = len(maps[0])
        logits, coded = flat.view(batch, -1).float(), coded.view(batch, -1, 4).float()
        with torch.no_grad():
            proposals = propose(logits, decode(coded, anchors), numbers, image_size)
        cut = self.cut(maps, strides, to_sides(proposals))
        classes, moved = self.predictor(self.layers(cut))
        shape = (*proposals.shape[:2], -1)
        classes, moved = classes.float().view(shape), moved.float().view(*shape, 4)
        return logits, coded, proposals, classes, moved

    def cut(self, maps: Sequence[Tensor], strides: Sequence[int], proposals: Tensor) -> Tensor:
        """Return what the maps show in proposals ``[B, P, 4]``, ``[B * P, D, 7, 7]``.

        A proposal is cut from the map whose cells fit its size.
        """
        if proposals.is_meta:  # shapes alone: no values say which map
            cut: Tensor = roi_align(maps[0], list(proposals), SIDE, 1 / strides[0], 2)
            return cut
        named = {str(stride): each for stride, each in zip(strides, maps, strict=True)}
        cut = self.pool(named, list(proposals), [])
        return cut


def propose(
    logits: Tensor, boxes: Tensor, numbers: Sequence[int], image_size: tuple[int, int]
) -> Tensor:
    """Return the best boxes of the first stage, ``[B, P, 4]``, 0 for padding.

    P is ``NUM_PROPOSALS``, or the number of anchors if they are fewer. NMS waits for the device,
    since it alone knows how many are left.

    Args:
        logits: Of each anchor, ``[B, N]``.
        boxes: As centre, width and height, ``[B, N, 4]``.
        numbers: Anchors of each map.
        image_size: Height and width of the images.
    """
    best, maps = [], []
    first = 0
    for level, number in enumerate(numbers):
        chosen = logits.narrow(1, first, number).topk(min(BEFORE_NMS, number), 1).indices
        best.append(first + chosen)
        maps.append(torch.full_like(chosen[0], level))
        first += number
    places, level_of = torch.cat(best, 1), torch.cat(maps)
    scores = logits.gather(1, places)
    boxes = clip(boxes.gather(1, places[..., None].expand(-1, -1, 4)), image_size)
    proposals = boxes.new_zeros(len(boxes), min(NUM_PROPOSALS, boxes.shape[1]), 4)
    if boxes.is_meta:  # shapes alone: nothing to compare
        return proposals
    sides = to_sides(boxes)
    for row, centred, corners, score in zip(proposals, boxes, sides, scores, strict=True):
        real = (centred[:, 2:] >= LEAST_SIDE).all(1)
        # Those that are too small come last, as padding.
        score = score.masked_fill(~real, -torch.inf)
        kept = batched_nms(corners, score, level_of, PROPOSAL_IOU)[:NUM_PROPOSALS]
        row[: len(kept)] = centred[kept] * real[kept][:, None]
    return proposals
