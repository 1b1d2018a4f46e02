"""A dense, anchor-free head: for each cell of each map of a pyramid, class logits and one box.

Two towers of convolutions are shared by all maps (Lyu et al. 2022, "RTMDet", section 3.2). Norms
are group norms (Wu and He 2018), as in FCOS, since batches of large images are small. The angle is
predicted as ``(cos 2r, sin 2r)``: a rectangle turned by half a circle is itself, so there is no
jump at any angle.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

GROUPS = 32
PRIOR = 0.01  # probability of every class at the start (Lin et al. 2017, "Focal Loss", section 4.1)
# Exponents of a box's sides: from 1/27 to 800 of its cell's.
LEAST, MOST = -4.0, 6.0


class DenseHead(nn.Module):
    """Maps ``[B, width, H/s, W/s]`` to class logits and boxes of all of their cells.

    Args:
        width: Channels of the maps.
        num_classes: Classes of the data set.
        num_levels: Maps that it gets.
        oriented: Whether boxes have an angle.
        depth: Convolutions of each tower.
    """

    def __init__(
        self, width: int, num_classes: int, num_levels: int, *, oriented: bool, depth: int = 2
    ) -> None:
        super().__init__()
        self.oriented = oriented
        self.class_tower, self.box_tower = _tower(width, depth), _tower(width, depth)
        self.classifier = nn.Conv2d(width, num_classes, 3, padding=1)
        self.regressor = nn.Conv2d(width, 6 if oriented else 4, 3, padding=1)
        _start(self.classifier, math.log(PRIOR / (1 - PRIOR)))
        # Offsets, sides, and of oriented boxes cos 2r and sin 2r: upright at the start.
        _start(self.regressor, 0.0, 0.0, 0.0, 0.0, *((1.0, 0.0) if oriented else ()))
        self.scales = nn.Parameter(torch.ones(num_levels))

    def forward(
        self, maps: Sequence[Tensor], strides: Sequence[int], image_size: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """Return logits ``[B, N, num_classes]`` and boxes ``[B, N, 5]``, both float32.

        Cells are in rows, maps one after the other. A box is its centre, width and height in
        pixels, and its angle in radians from x towards y, 0 for aligned ones.

        Args:
            maps: Maps of the pyramid, fine to coarse.
            strides: Pixels between two cells of each.
            image_size: Has no effect.
        """
        logits, boxes = [], []
        for level, (each, stride) in enumerate(zip(maps, strides, strict=True)):
            logits.append(self.classifier(self.class_tower(each)).flatten(2).transpose(1, 2))
            raw = self.regressor(self.box_tower(each)).flatten(2).transpose(1, 2)
            points = cell_centres(each.shape[2], each.shape[3], stride, device=each.device)
            # Coordinates of large images do not fit into half precision.
            boxes.append(decode(raw.float(), points, stride, self.scales[level].float()))
        return torch.cat(logits, 1).float(), torch.cat(boxes, 1)


def _start(last: nn.Conv2d, *bias: float) -> None:
    """Let a convolution return about its bias: one number for all channels, or one for each."""
    nn.init.normal_(last.weight, std=0.01)
    assert last.bias is not None
    with torch.no_grad():
        last.bias.copy_(torch.tensor(bias))


def _tower(width: int, depth: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers += [
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            # Several channels a group: of one channel of a 1 x 1 map nothing would be left.
            nn.GroupNorm(min(GROUPS, width // 4), width),
            nn.SiLU(inplace=True),
        ]
    return nn.Sequential(*layers)


def cell_centres(rows: int, columns: int, stride: int, *, device: torch.device) -> Tensor:
    """Return x and y of the centre of every cell of a map, row by row, ``[rows * columns, 2]``."""
    x = (torch.arange(columns, device=device, dtype=torch.float32) + 0.5) * stride
    y = (torch.arange(rows, device=device, dtype=torch.float32) + 0.5) * stride
    return torch.stack((x.repeat(rows), y.repeat_interleave(columns)), 1)


def decode(raw: Tensor, points: Tensor, stride: int, scale: Tensor) -> Tensor:
    """Return boxes from the numbers that a cell predicts.

    Args:
        raw: Offset of the centre in cells, logarithms of half the sides in cells, and of oriented
            boxes cosine and sine of twice the angle, to any scale; ``[B, N, 4 or 6]`` float32.
        points: Centres of the cells, ``[N, 2]``.
        stride: Side of a cell in pixels.
        scale: Factor on the logarithms, of this map.

    Returns:
        ``[B, N, 5]``: centre x and y, width and height in pixels, angle in radians.
    """
    centres = points + raw[..., :2] * stride
    sides = (raw[..., 2:4] * scale).clamp(LEAST, MOST).exp() * (2 * stride)
    if raw.shape[-1] == 4:
        angles = torch.zeros_like(raw[..., :1])
    else:
        cosine, sine = raw[..., 4:5], raw[..., 5:6]
        # The angle of (0, 0) has no gradient.
        cosine = torch.where((cosine == 0) & (sine == 0), torch.ones_like(cosine), cosine)
        angles = 0.5 * torch.atan2(sine, cosine)
    return torch.cat((centres, sides, angles), -1)
