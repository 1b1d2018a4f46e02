from functools import partial
from pathlib import Path

import timm
import torch
from torch import nn
from torchvision.models import SwinTransformer
from torchvision.models.swin_transformer import PatchMergingV2, SwinTransformerBlockV2

from rsdl.models.sources import WeightsSource
from rsdl.models.weights import load_weights


def test_timm_s_network_computes_what_torchvision_s_does(tmp_path: Path):
    torch.manual_seed(0)
    theirs = SwinTransformer(
        patch_size=[4, 4], embed_dim=16, depths=[2, 2, 2, 2], num_heads=[1, 2, 2, 4],
        window_size=[8, 8], num_classes=5, block=SwinTransformerBlockV2,
        downsample_layer=PatchMergingV2, norm_layer=partial(nn.LayerNorm, eps=1e-5),
    ).eval()  # fmt: skip
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.3)
    ours = timm.create_model(
        "swinv2_tiny_window8_256", embed_dim=16, depths=(2, 2, 2, 2), num_heads=(1, 2, 2, 4),
        num_classes=5,
    ).eval()  # fmt: skip
    tensors = {f"backbone.backbone.{name}": one for name, one in theirs.state_dict().items()}
    torch.save(tensors, tmp_path / "w.pth")
    load_weights(ours, WeightsSource("w.pth", lambda: tmp_path / "w.pth"))
    images = torch.rand(2, 3, 256, 256)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs(images), atol=1e-4, rtol=1e-4)
