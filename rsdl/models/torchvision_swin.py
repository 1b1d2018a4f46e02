"""Names of torchvision's Swin Transformer V2 -> timm's; the networks compute the same.

Satlas publishes its weights under torchvision's names (torchvision/models/swin_transformer.py,
timm/models/swin_transformer_v2.py).
"""

import re

from timm.models.swin_transformer_v2 import SwinTransformerV2
from torch import Tensor, nn

STEM = "features.0.0.weight"
RENAMED = (
    (r"^features\.0\.0\.", "patch_embed.proj."),
    (r"^features\.0\.2\.", "patch_embed.norm."),
    (r"^head\.", "head.fc."),
    (r"\.mlp\.0\.", ".mlp.fc1."),
    (r"\.mlp\.3\.", ".mlp.fc2."),
)


def from_torchvision(tensors: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Return tensors under timm's names; those that are not torchvision's are left alone."""
    if not isinstance(model, SwinTransformerV2) or STEM not in tensors:
        return tensors
    renamed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        name = re.sub(r"^features\.([1-9])\.", _stage, name)
        for pattern, new in RENAMED:
            name = re.sub(pattern, new, name)
        if name.endswith(".attn.qkv.bias"):  # the bias of the keys is 0 in both
            query, _, value = tensor.chunk(3)
            renamed[name.replace("qkv.bias", "q_bias")] = query
            renamed[name.replace("qkv.bias", "v_bias")] = value
        else:
            renamed[name] = tensor
    return renamed


def _stage(found: re.Match[str]) -> str:
    """Return the prefix of a stage's blocks (odd numbers) or of the merging before it (even)."""
    number = int(found[1])
    part = "blocks." if number % 2 else "downsample."
    return f"layers.{number // 2}.{part}"
