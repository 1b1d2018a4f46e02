"""The network, and its initial weights."""

from pydantic import BaseModel, ConfigDict, Field

# The nine of the study; rsdl/models/catalog.py has their names in timm.
NINE = (
    "resnet50", "resnext101", "densenet161", "efficientnet_b5", "convnext_base", "vit_base",
    "swin_base", "pvt_v2_b5", "maxvit_small",
)  # fmt: skip


class ModelConfig(BaseModel):
    """Which network is trained, and from which weights."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(
        min_length=1,
        description=f"One of {', '.join(NINE)}, or the name of any other timm model.",
        examples=list(NINE),
    )
    weights: str = Field(
        default="none",
        min_length=1,
        description=(
            'Where training starts from: "pretrained" (timm\'s published weights), "none" '
            '(random), a name of "rsdl models --weights" (pretrained on remote-sensing imagery), '
            "the path or URL of a .pth, .pt, .bin or .safetensors file or of a checkpoint of rsdl, "
            "or a folder or s3:// that rsdl models fetch has filled."
        ),
        examples=["pretrained", "none", "resnet50_sentinel2_all_moco", "s3://bucket/weights"],
    )
    drop_rate: float | None = Field(
        default=None, ge=0, lt=1, description="Dropout before the classifier; timm's own if absent."
    )
    drop_path_rate: float | None = Field(
        default=None, ge=0, lt=1, description="Stochastic depth; timm's own if absent."
    )
