"""Loaders and packers by name: their modules, requirements, and the documentation they follow."""

from collections import ChainMap
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Peer:
    """One loader or packer.

    Attributes:
        module: File beside this one; has ``build(task, ...)``, which does one-time conversions.
        packages: Distributions whose versions are recorded.
        install: How to install it.
        docs: The page that its set-up follows.
        arguments: Further arguments of ``build``.
        ours: Whether it is rsdl or uses its decoder, and so runs in its environment.
    """

    module: str
    packages: tuple[str, ...]
    install: str
    docs: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    ours: bool = False


EXTRA = 'pip install "rsdl-train[bench]"'


def _ours(module: str, docs: str = "README.md", **arguments: bool) -> Peer:
    packages = ("rsdl-train", "simplejpeg", "opencv-python-headless", "rasterio")
    return Peer(module, packages, 'pip install -e ".[bench]"', docs, arguments, ours=True)


PEERS: dict[str, Peer] = {
    "rsdl": _ours("ours"),
    "rsdl, first epoch of the decoded tier": _ours("ours", decoded=True, first=True),
    "rsdl, decoded tier": _ours("ours", decoded=True),
    "decoder alone": _ours("decoder"),
    "decoder, crop and resize alone": _ours("decoder", resize=True),
    "torchvision ImageFolder": Peer(
        "image_folder",
        ("torchvision", "pillow"),
        EXTRA,
        "https://github.com/pytorch/examples/blob/main/imagenet/main.py",
    ),
    "WebDataset": Peer(
        "webdataset_stock",
        ("webdataset", "pillow"),
        EXTRA,
        "https://github.com/webdataset/webdataset/blob/main/README.md",
    ),
    "MosaicML Streaming": Peer(
        "mosaicml_streaming",
        ("mosaicml-streaming", "pillow"),
        EXTRA,
        "https://docs.mosaicml.com/projects/streaming/en/stable/getting_started/quick_start.html",
    ),
    "LitData": Peer(
        "litdata_streaming",
        ("litdata",),
        EXTRA,
        "https://github.com/Lightning-AI/litData/blob/main/README.md",
    ),
    "DALI on CPU": Peer(
        "dali_cpu",
        ("nvidia-dali-cuda130",),
        EXTRA,
        "https://docs.nvidia.com/deeplearning/dali/user-guide/docs/examples/use_cases/pytorch/"
        "resnet50/pytorch-resnet50.html",
    ),
    "FFCV, JPEG": Peer(
        "ffcv_loader",
        ("ffcv", "numba"),
        "apt-get install libopencv-dev libturbojpeg0-dev pkg-config g++, then pip install ffcv",
        "https://github.com/libffcv/ffcv-imagenet/blob/main/train_imagenet.py",
        {"mode": "jpg"},
    ),
    "FFCV, raw": Peer(
        "ffcv_loader",
        ("ffcv", "numba"),
        "apt-get install libopencv-dev libturbojpeg0-dev pkg-config g++, then pip install ffcv",
        "https://github.com/libffcv/ffcv-imagenet/blob/main/train_imagenet.py",
        {"mode": "raw"},
    ),
}

STREAMING_DOCS = "https://docs.mosaicml.com/projects/streaming/en/stable"
PACKERS: dict[str, Peer] = {
    "rsdl data pack, --decode sample": _ours("pack_ours", sampled=True),
    "rsdl data pack": _ours("pack_ours"),
    "decoder alone": PEERS["decoder alone"],
    "MosaicML MDSWriter": Peer(
        "pack_mds",
        ("mosaicml-streaming", "pillow"),
        EXTRA,
        f"{STREAMING_DOCS}/preparing_datasets/parallel_dataset_conversion.html",
    ),
    "MosaicML MDSWriter, SHA-256": Peer(
        "pack_mds",
        ("mosaicml-streaming", "pillow"),
        EXTRA,
        f"{STREAMING_DOCS}/preparing_datasets/parallel_dataset_conversion.html",
        {"hashed": True},
    ),
    "LitData optimize": Peer(
        "pack_litdata",
        ("litdata",),
        EXTRA,
        "https://github.com/Lightning-AI/litData/blob/main/README.md",
    ),
    "webdataset ShardWriter": Peer(
        "pack_webdataset",
        ("webdataset",),
        EXTRA,
        "https://github.com/webdataset/webdataset/blob/main/README.md",
    ),
}
WINDOWS_DOCS = "https://rasterio.readthedocs.io/en/stable/topics/windowed-rw.html"
TILERS: dict[str, Peer] = {
    "rsdl data pack geotiff": _ours("tile_ours"),
    "rasterio windows, saved": _ours("tile_rasterio", WINDOWS_DOCS, save=True),
    "rasterio windows, dropped": _ours("tile_rasterio", WINDOWS_DOCS),
}

ALL: Mapping[str, Peer] = ChainMap(PEERS, PACKERS, TILERS)
