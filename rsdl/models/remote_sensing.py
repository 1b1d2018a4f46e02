"""Weights that were pretrained on remote-sensing imagery, by name.

Files, bands and normalisation are as in torchgeo (torchgeo/models/{resnet,vit,swin}.py),
licences as in its docs/api/weights/*.csv, unless another source is named. Landsat is left out: its
bands have names of Sentinel-2's bands and another meaning.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from rsdl.core.bands import RGB_BANDS
from rsdl.models.published import TrainedOn, rgb_trained_on


@dataclass(frozen=True, slots=True)
class RemoteSensingWeights:
    """Published weights.

    Attributes:
        architecture: Name of the model in timm.
        address: ``hub:REPOSITORY@REVISION/FILE`` on the Hugging Face Hub, or a URL.
        trained_on: The images that they were trained on.
        license: SPDX identifier; ``not stated`` where the authors name none.
        paper: URL.
    """

    architecture: str
    address: str
    trained_on: TrainedOn
    license: str
    paper: str


SENTINEL2 = (
    "B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12",
)  # fmt: skip
SENTINEL2_RGB = ("B04", "B03", "B02")


def _scaled(bands: tuple[str, ...], dtype: str, top: float) -> TrainedOn:
    return TrainedOn(bands, dtype, (0.0,) * len(bands), (top,) * len(bands))


# Sentinel-2 L1C, divided by 10,000.
L1C = _scaled(SENTINEL2, "uint16", 10_000)
L1C_RGB = _scaled(SENTINEL2_RGB, "uint16", 10_000)
# Decibels; https://github.com/zhu-xlab/DeCUR, linear_BE_resnet.py.
SENTINEL1 = TrainedOn(("VV", "VH"), "float32", (-12.59, -20.26), (5.26, 5.91))
# https://github.com/allenai/satlas/blob/main/Normalization.md
TCI = _scaled(SENTINEL2_RGB, "uint8", 255)
AERIAL = _scaled(RGB_BANDS, "uint8", 255)
SATLAS_MS = TrainedOn(
    (*SENTINEL2_RGB, "B05", "B06", "B07", "B08", "B11", "B12"),
    "uint16",
    (0.0,) * 9,
    (255.0,) * 3 + (8160.0,) * 6,
    "8-bit true colour (TCI) in B04, B03 and B02, beside 16-bit bands",
)
IMAGENET = rgb_trained_on((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
# Stretched between these quantiles, then as ImageNet; of reflectance in 8 bits. Minima and maxima
# are those of https://github.com/ServiceNow/seasonal-contrast, datasets/seco_dataset.py, since
# torchgeo has red's and blue's the other way round.
SECO_QUANTILES = ((0.0, 129.0), (2.0, 103.0), (3.0, 88.0))
SECO = TrainedOn(
    SENTINEL2_RGB,
    "uint8",
    tuple(
        low + mean / 255 * (high - low)
        for (low, high), mean in zip(SECO_QUANTILES, IMAGENET.mean, strict=True)
    ),
    tuple(
        std / 255 * (high - low)
        for (low, high), std in zip(SECO_QUANTILES, IMAGENET.std, strict=True)
    ),
    "reflectance times 255",
)
# https://github.com/sustainlab-group/SatMAE, util/datasets.py, CustomDatasetFromImages.
FMOW = rgb_trained_on(
    (0.4182007312774658, 0.4214799106121063, 0.3991275727748871),
    (0.28774282336235046, 0.27541765570640564, 0.2764017581939697),
)

SSL4EO = "https://arxiv.org/abs/2211.07044"
DECUR = "https://arxiv.org/abs/2309.05300"
FGMAE = "https://arxiv.org/abs/2310.18653"
SATLAS = "https://arxiv.org/abs/2211.15660"
SECO_PAPER = "https://arxiv.org/abs/2103.16607"
SATLAS_FILES = "hub:torchgeo/satlas@081d6607431bf36bdb59c223777cbb267131b8f2"
FGMAE_FILES = "hub:wangyi111/FGMAE@24dd3077d7a99ecd454eaec7adb83d045d7fa122"


def _ssl4eo(architecture: str, address: str, trained_on: TrainedOn = L1C) -> RemoteSensingWeights:
    return RemoteSensingWeights(
        architecture, f"hub:torchgeo/{address}", trained_on, "CC-BY-4.0", SSL4EO
    )


def _satlas(architecture: str, file: str, trained_on: TrainedOn) -> RemoteSensingWeights:
    return RemoteSensingWeights(
        architecture, f"{SATLAS_FILES}/{file}", trained_on, "ODC-By-1.0", SATLAS
    )


def _fgmae(architecture: str, file: str, trained_on: TrainedOn) -> RemoteSensingWeights:
    return RemoteSensingWeights(
        architecture, f"{FGMAE_FILES}/{file}", trained_on, "CC-BY-4.0", FGMAE
    )


RESNET18, RESNET50, RESNET152 = "resnet18", "resnet50", "resnet152"
VIT_S, VIT_B, VIT_L = (f"vit_{size}_patch16_224" for size in ("small", "base", "large"))
SWIN_T, SWIN_B = "swinv2_tiny_window8_256", "swinv2_base_window8_256"

WEIGHTS: dict[str, RemoteSensingWeights] = {
    "resnet18_sentinel2_all_moco": _ssl4eo(
        RESNET18,
        "resnet18_sentinel2_all_moco@5b8cddc9a14f3844350b7f40b85bcd32aed75918/"
        "resnet18_sentinel2_all_moco-59bfdff9.pth",
    ),
    "resnet18_sentinel2_rgb_moco": _ssl4eo(
        RESNET18,
        "resnet18_sentinel2_rgb_moco@e1c032e7785fd0625224cdb6699aa138bb304eec/"
        "resnet18_sentinel2_rgb_moco-e3a335e3.pth",
        L1C_RGB,
    ),
    "resnet18_sentinel2_rgb_seco": RemoteSensingWeights(
        RESNET18,
        "hub:torchgeo/resnet18_sentinel2_rgb_seco@f8dcee692cf7142163b55a5c197d981fe0e717a0/"
        "resnet18_sentinel2_rgb_seco-cefca942.pth",
        SECO, "Apache-2.0", SECO_PAPER,
    ),
    "resnet50_fmow_rgb_gassl": RemoteSensingWeights(
        RESNET50,
        "hub:torchgeo/resnet50_fmow_rgb_gassl@fe8a91026cf9104f1e884316b8e8772d7af9052c/"
        "resnet50_fmow_rgb_gassl-da43d987.pth",
        IMAGENET, "not stated", "https://arxiv.org/abs/2011.09980",
    ),
    "resnet50_sentinel1_all_decur": RemoteSensingWeights(
        RESNET50,
        "hub:torchgeo/decur@9328eeb90c686a88b30f8526ed757b4bc0f12027/"
        "rn50_ssl4eo-s12_sar_decur_ep100-f0e69ba2.pth",
        SENTINEL1, "Apache-2.0", DECUR,
    ),
    "resnet50_sentinel1_all_moco": _ssl4eo(
        RESNET50,
        "resnet50_sentinel1_all_moco@e79862c667853c10a709bdd77ea8ffbad0e0f1cf/"
        "resnet50_sentinel1_all_moco-906e4356.pth",
        SENTINEL1,
    ),
    "resnet50_sentinel2_all_decur": RemoteSensingWeights(
        RESNET50,
        "hub:torchgeo/decur@eba7ae5945d482a4319be046d34b552db5dd9950/"
        "rn50_ssl4eo-s12_ms_decur_ep100-fc6b09ff.pth",
        L1C, "Apache-2.0", DECUR,
    ),
    "resnet50_sentinel2_all_dino": _ssl4eo(
        RESNET50,
        "resnet50_sentinel2_all_dino@d7f14bf5530d70ac69d763e58e77e44dbecfec7c/"
        "resnet50_sentinel2_all_dino-d6c330e9.pth",
    ),
    "resnet50_sentinel2_all_moco": _ssl4eo(
        RESNET50,
        "resnet50_sentinel2_all_moco@da4f3c9dbe09272eb902f3b37f46635fa4726879/"
        "resnet50_sentinel2_all_moco-df8b932e.pth",
    ),
    "resnet50_sentinel2_rgb_moco": _ssl4eo(
        RESNET50,
        "resnet50_sentinel2_rgb_moco@efd9723b59a88e9dc1420dc1e96afb25b0630a3c/"
        "resnet50_sentinel2_rgb_moco-2b57ba8b.pth",
        L1C_RGB,
    ),
    "resnet50_sentinel2_rgb_seco": RemoteSensingWeights(
        RESNET50,
        "hub:torchgeo/resnet50_sentinel2_rgb_seco@fbd07b02a8edb8fc1035f7957160deed4321c145/"
        "resnet50_sentinel2_rgb_seco-018bf397.pth",
        SECO, "Apache-2.0", SECO_PAPER,
    ),
    "resnet50_sentinel2_mi_ms_satlas": _satlas(
        RESNET50, "sentinel2_resnet50_mi_ms-da5413d2.pth", SATLAS_MS
    ),
    "resnet50_sentinel2_mi_rgb_satlas": _satlas(
        RESNET50, "sentinel2_resnet50_mi_rgb-e79bb7fe.pth", TCI
    ),
    "resnet50_sentinel2_si_ms_satlas": _satlas(
        RESNET50, "sentinel2_resnet50_si_ms-1f454cc6.pth", SATLAS_MS
    ),
    "resnet50_sentinel2_si_rgb_satlas": _satlas(
        RESNET50, "sentinel2_resnet50_si_rgb-45fc6972.pth", TCI
    ),
    "resnet152_sentinel2_si_ms_satlas": _satlas(
        RESNET152, "sentinel2_resnet152_si_ms-4500c6cb.pth", SATLAS_MS
    ),
    "resnet152_sentinel2_si_rgb_satlas": _satlas(
        RESNET152, "sentinel2_resnet152_si_rgb-f4d24c3c.pth", TCI
    ),
    "swinv2_tiny_sentinel2_si_ms_satlas": _satlas(
        SWIN_T, "sentinel2_swint_si_ms-bc68e396.pth", SATLAS_MS
    ),
    "swinv2_tiny_sentinel2_si_rgb_satlas": _satlas(
        SWIN_T, "sentinel2_swint_si_rgb-0c1a96e0.pth", TCI
    ),
    "swinv2_base_aerial_mi_satlas": _satlas(SWIN_B, "aerial_swinb_mi-326d69e1.pth", AERIAL),
    "swinv2_base_aerial_si_satlas": _satlas(SWIN_B, "aerial_swinb_si-e4169eb1.pth", AERIAL),
    "swinv2_base_sentinel2_mi_ms_satlas": _satlas(
        SWIN_B, "sentinel2_swinb_mi_ms-39c86721.pth", SATLAS_MS
    ),
    "swinv2_base_sentinel2_mi_rgb_satlas": _satlas(
        SWIN_B, "sentinel2_swinb_mi_rgb-4efa210c.pth", TCI
    ),
    "swinv2_base_sentinel2_si_ms_satlas": _satlas(
        SWIN_B, "sentinel2_swinb_si_ms-fe22a12c.pth", SATLAS_MS
    ),
    "swinv2_base_sentinel2_si_rgb_satlas": _satlas(
        SWIN_B, "sentinel2_swinb_si_rgb-156a98d5.pth", TCI
    ),
    "vit_small_sentinel1_all_fgmae": _fgmae(VIT_S, "B2_vits16_fgmae_ep99_enc.pth", SENTINEL1),
    "vit_small_sentinel2_all_dino": _ssl4eo(
        VIT_S,
        "vit_small_patch16_224_sentinel2_all_dino@5b41dd418a79de47ac9f5be3e035405a83818a62/"
        "vit_small_patch16_224_sentinel2_all_dino-36bcc127.pth",
    ),
    "vit_small_sentinel2_all_fgmae": _fgmae(VIT_S, "B13_vits16_fgmae_ep99_enc.pth", L1C),
    "vit_small_sentinel2_all_moco": _ssl4eo(
        VIT_S,
        "vit_small_patch16_224_sentinel2_all_moco@1cb683f6c14739634cdfaaceb076529adf898c74/"
        "vit_small_patch16_224_sentinel2_all_moco-67c9032d.pth",
    ),
    "vit_base_sentinel1_all_fgmae": _fgmae(VIT_B, "B2_vitb16_fgmae_ep99_enc.pth", SENTINEL1),
    "vit_base_sentinel2_all_fgmae": _fgmae(VIT_B, "B13_vitb16_fgmae_ep99_enc.pth", L1C),
    "vit_large_sentinel2_all_fgmae": _fgmae(VIT_L, "B13_vitl16_fgmae_ep99_enc.pth", L1C),
    "vit_large_sentinel2_all_mae": RemoteSensingWeights(
        VIT_L,
        "hub:wangyi111/SSL4EO-S12@75c72195d35201dc1fb210818993518c25da566b/"
        "B13_vitl16_mae_ep99_enc.pth",
        L1C, "CC-BY-4.0", SSL4EO,
    ),
    "vit_large_fmow_rgb_satmae": RemoteSensingWeights(
        VIT_L, "https://zenodo.org/record/7369797/files/fmow_pretrain.pth",
        FMOW, "not stated", "https://arxiv.org/abs/2207.08051",
    ),
}  # fmt: skip


def names_for(architecture: str) -> Sequence[str]:
    """Return the names of the weights for a timm model."""
    return [name for name, row in WEIGHTS.items() if row.architecture == architecture]
