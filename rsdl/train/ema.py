"""The exponential moving average of a network's weights, in a few kernels a step.

timm's :class:`ModelEmaV3` looks all weights up by name at every step and copies each batch norm
counter separately: 161 kernels a step in densenet161. This class overrides the update: it looks
weights up once and copies all counters together. Lightning's ``WeightAveraging`` is no substitute:
it swaps the weights for validation, and its checkpoints hold the average as the network's weights,
so that older runs would not resume.
"""

import torch
from timm.utils.model_ema import ModelEmaV3
from torch import Tensor, nn


class WeightEma(ModelEmaV3):
    """Moving average of weights, bit-equal to timm's with ``use_warmup``.

    Args:
        network: Network whose weights are averaged.
        decay: Share of the average that a step keeps after warm-up.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        super().__init__(network, decay=decay, use_warmup=True, foreach=True)
        self.requires_grad_(False)
        self._pairs: tuple[list[Tensor], ...] | None = None

    def forget(self) -> None:
        """Look the weights up again at the next update, after they were moved or sharded."""
        self._pairs = None

    @torch.no_grad()
    def apply_update_(self, model: nn.Module, decay: float) -> None:
        """Update the average; copy integer tensors, such as counters."""
        if self._pairs is None:
            self._pairs = _pair(self.module, model)
        averages, weights, copies, counters = self._pairs
        torch._foreach_lerp_(averages, weights, weight=1.0 - decay)
        if copies:
            torch._foreach_copy_(copies, counters)


def _pair(average: nn.Module, model: nn.Module) -> tuple[list[Tensor], ...]:
    """Return averages and their weights, then copied tensors and their sources."""
    lists: tuple[list[Tensor], ...] = ([], [], [], [])
    own, others = average.state_dict().values(), model.state_dict().values()
    for mine, theirs in zip(own, others, strict=True):
        first = 0 if mine.is_floating_point() else 2
        lists[first].append(mine)
        lists[first + 1].append(theirs)
    return lists
