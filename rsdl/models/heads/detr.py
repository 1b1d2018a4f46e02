"""Deformable DETR and RT-DETRv2 of ``transformers``, an optional package, on backbones built here.

Only the part after the backbone is taken: the backbone stays one of ours, with its weights, bands
and layers, and a model gets the maps of its pyramid. Input projections, encoder and decoder are
those of ``transformers``, with random weights; class and box predictions of each decoder layer are
set here, since their start and their sharing among layers differ from release to release.
"""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rsdl.config.task import DetectionConfig
from rsdl.core.errors import ConfigError

PACKAGES = ("transformers", "scipy")
HEAD_CHANNELS = 32  # of each attention head, as in the papers: 8 heads of 256 channels
EXPANSION = 4  # of the feed-forward layers, as in the papers: 1,024 of 256 channels
PRIOR = 0.01  # probability of every class at the start (Lin et al. 2017, "Focal Loss", section 4.1)
LEAST = 1e-5  # of a coordinate, before the inverse of the sigmoid, as in the papers' code


@dataclass(frozen=True, slots=True)
class GivenMaps:
    """Maps of a pyramid, in place of the images that a model of ``transformers`` takes.

    Attributes:
        maps: Maps ``[B, D, h, w]``, fine to coarse.
        dtype: Of position encodings, which half types are too coarse for.
    """

    maps: Sequence[Tensor]
    dtype: torch.dtype = torch.float32

    @property
    def shape(self) -> torch.Size:
        """Shape of the finest map."""
        return self.maps[0].shape

    @property
    def device(self) -> torch.device:
        """Where the maps are."""
        return self.maps[0].device


class GivenBackbone(nn.Module):
    """In place of a model's backbone: returns the maps that it is given, and that none is padding.

    Images of a batch are of one size, which a backbone's padding hardly exceeds.
    """

    def forward(self, images: GivenMaps, mask: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Return each map with its mask of what is not padding."""
        whole = torch.ones((), dtype=torch.bool, device=images.device)
        return [(each, whole.expand(len(each), *each.shape[2:])) for each in images.maps]


class BoxPredictor(nn.Module):
    """Three layers that say how a box moves, in float32: half types are too coarse for places.

    At the start no box moves.

    Args:
        width: Channels of a query.
        sides: Starting logarithm of the odds of width and height.
    """

    def __init__(self, width: int, sides: float = 0.0) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()
        )
        self.last = nn.Linear(width, 4)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)
        nn.init.constant_(self.last.bias[2:], sides)

    def forward(self, queries: Tensor) -> Tensor:
        """Return what is added to the odds of centre and sides, ``[..., 4]`` float32."""
        kind = "cpu" if queries.is_meta else queries.device.type
        with torch.autocast(kind, enabled=False):
            moved: Tensor = self.last(self.layers(queries.float()))
        return moved


class DeformableDetr(nn.Module):
    """Maps of a pyramid to logits and boxes of queries, layer by layer (Zhu et al. 2021).

    Boxes are refined iteratively (section 4.2); there is one stage, whose queries are learnt.
    Coarser maps than the backbone's are made by convolutions of stride 2, as in section 4.1.

    Args:
        options: Levels, width and depth; as many queries as ``max_detections``.
        channels: Channels of each map, fine to coarse.
        num_classes: Classes of the data set.

    Raises:
        ConfigError: If transformers is not installed.
    """

    def __init__(self, options: DetectionConfig, channels: Sequence[int], num_classes: int) -> None:
        super().__init__()
        require_transformers(options.head)
        from transformers import DeformableDetrConfig, DeformableDetrModel

        width, depth, (first, last) = options.head_width, options.head_depth, options.levels
        config = DeformableDetrConfig(
            backbone_config=_stand_in(channels), num_feature_levels=last - first + 1,
            num_queries=options.max_detections, num_labels=num_classes, d_model=width,
            encoder_layers=depth, decoder_layers=depth, with_box_refine=True,
            encoder_ffn_dim=EXPANSION * width, decoder_ffn_dim=EXPANSION * width,
            encoder_attention_heads=width // HEAD_CHANNELS,
            decoder_attention_heads=width // HEAD_CHANNELS, disable_custom_kernels=True,
        )  # fmt: skip
        self.model = DeformableDetrModel(config)
        self.model.backbone = GivenBackbone()
        for _, norm in self.model.input_proj:
            # Two channels a group at least: of one channel of a 1 x 1 map nothing would be left.
            norm.num_groups = min(norm.num_groups, width // 2)
        # As theirs, but where a "with torch.device" says.
        self.model.level_embed = nn.Parameter(torch.randn(config.num_feature_levels, width))
        self.classifiers = _classifiers(width, num_classes, depth)
        # The first layer turns points into boxes, of an eighth of the image's sides at the start.
        boxes = [BoxPredictor(width, sides=-2.0 if not layer else 0.0) for layer in range(depth)]
        self.model.decoder.bbox_embed = nn.ModuleList(boxes)

    def forward(
        self, maps: Sequence[Tensor], strides: Sequence[int], image_size: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """Return logits ``[B, L, Q, num_classes]`` and boxes ``[B, L, Q, 5]``, both float32.

        There are L decoder layers, the last of which tells the detections, and Q queries. A box is
        its centre, width and height in pixels, and the angle 0.

        Args:
            maps: Maps of the pyramid, fine to coarse.
            strides: Pixels between two cells of each.
            image_size: Has no effect.
        """
        found = self.model(GivenMaps(maps))
        queries = found.intermediate_hidden_states.unbind(1)
        starts = [found.init_reference_points, *found.intermediate_reference_points.unbind(1)]
        logits, boxes = [], []
        predictors = self.model.decoder.bbox_embed
        for each, start, classifier, predictor in zip(
            queries, starts, self.classifiers, predictors, strict=False
        ):
            logits.append(classifier(each).float())
            odds = start.float().clamp(LEAST, 1 - LEAST).logit()
            # The first are points, which have no sides.
            odds = F.pad(odds, (0, 4 - odds.shape[-1]))
            boxes.append((predictor(each) + odds).sigmoid())
        return torch.stack(logits, 1), _to_pixels(torch.stack(boxes, 1), maps[0], strides[0])


class RtDetrV2(nn.Module):
    """Maps of a pyramid to logits and boxes of queries, layer by layer (Lv et al. 2024).

    Queries start at the cells that the encoder finds most like objects. There are no denoising
    queries: they are made of the true boxes, and the network takes images only, in training too.

    Args:
        options: Levels, width and depth; at most as many queries as ``max_detections``.
        channels: Channels of each map, fine to coarse.
        num_classes: Classes of the data set.

    Raises:
        ConfigError: If transformers is not installed.
    """

    def __init__(self, options: DetectionConfig, channels: Sequence[int], num_classes: int) -> None:
        super().__init__()
        require_transformers(options.head)
        from transformers import RTDetrV2Config, RTDetrV2Model

        width, depth, number = options.head_width, options.head_depth, len(channels)
        heads = width // HEAD_CHANNELS
        config = RTDetrV2Config(
            backbone_config=_stand_in(channels), encoder_in_channels=list(channels),
            feat_strides=[2**level for level in range(options.levels[0], options.levels[1] + 1)],
            encode_proj_layers=[number - 1], decoder_in_channels=[width] * number,
            num_feature_levels=number, decoder_n_levels=number, num_queries=options.max_detections,
            num_denoising=0, num_labels=num_classes, d_model=width, encoder_hidden_dim=width,
            decoder_layers=depth, encoder_ffn_dim=EXPANSION * width,
            decoder_ffn_dim=EXPANSION * width, encoder_attention_heads=heads,
            decoder_attention_heads=heads,
        )  # fmt: skip
        self.model = RTDetrV2Model(config)
        self.model.backbone = GivenBackbone()
        self.model.enc_bbox_head = BoxPredictor(width)
        self.model.decoder.class_embed = _classifiers(width, num_classes, depth)
        self.model.decoder.bbox_embed = nn.ModuleList(BoxPredictor(width) for _ in range(depth))
        self.num_queries = options.max_detections

    def forward(
        self, maps: Sequence[Tensor], strides: Sequence[int], image_size: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """Return logits ``[B, L, Q, num_classes]`` and boxes ``[B, L, Q, 5]``, both float32.

        The first of L is what the encoder says of the cells, the others are decoder layers, the
        last of which tells the detections. A box is its centre, width and height in pixels, and the
        angle 0.

        Args:
            maps: Maps of the pyramid, fine to coarse.
            strides: Pixels between two cells of each.
            image_size: Has no effect.
        """
        cells = sum(each.shape[2] * each.shape[3] for each in maps)
        self.model.config.num_queries = min(self.num_queries, cells)
        found = self.model(GivenMaps(maps))
        logits = torch.cat([found.enc_topk_logits[:, None], found.intermediate_logits], 1)
        boxes = torch.cat([found.enc_topk_bboxes[:, None], found.intermediate_reference_points], 1)
        return logits.float(), _to_pixels(boxes.float(), maps[0], strides[0])


def require_transformers(head: str) -> None:
    """Check that transformers, and SciPy for the matching, are installed.

    Raises:
        ConfigError: If not.
    """
    absent = [name for name in PACKAGES if find_spec(name) is None]
    if absent:
        raise ConfigError(
            "task.head", f"{head} needs {' and '.join(absent)}", 'pip install "rsdl-train[detr]"'
        )
    # Checks of shapes in each layer, which would wait for the device.
    os.environ.setdefault("TRANSFORMERS_DISABLE_TORCH_CHECK", "1")


def _stand_in(channels: Sequence[int]) -> Any:  # noqa: ANN401 - of an optional package
    """Return the config of a small backbone of ``transformers`` with maps of these channels.

    A model is built with it, so that it fits our maps, and it is thrown away.
    """
    from transformers import ResNetConfig

    number = len(channels)
    return ResNetConfig(
        embedding_size=channels[0], hidden_sizes=list(channels), depths=[1] * number,
        out_indices=list(range(1, number + 1)),
    )  # fmt: skip


def _classifiers(width: int, num_classes: int, number: int) -> nn.ModuleList:
    """Return class predictions of so many layers, to which every class is rare at the start."""
    every = [nn.Linear(width, num_classes) for _ in range(number)]
    for each in every:
        nn.init.constant_(each.bias, math.log(PRIOR / (1 - PRIOR)))
    return nn.ModuleList(every)


def _to_pixels(boxes: Tensor, finest: Tensor, stride: int) -> Tensor:
    """Return boxes ``[..., 5]`` in pixels of boxes ``[..., 4]`` in shares of the padded image."""
    height, width = (stride * side for side in finest.shape[2:])
    pixels = boxes * boxes.new_tensor([width, height, width, height])
    return torch.cat([pixels, torch.zeros_like(pixels[..., :1])], -1)
