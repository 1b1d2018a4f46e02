"""Loaders by name: their modules, requirements, and the documentation they follow."""

from benchmarks.harness.worker_process import Peer, our_peer

MODULES = "benchmarks.loader.peers"
FFCV_DOCS = "https://github.com/libffcv/ffcv-imagenet/blob/main/train_imagenet.py"
FFCV_INSTALL = (
    "apt-get install libopencv-dev libturbojpeg0-dev pkg-config g++, then pip install ffcv"
)

LOADERS: dict[str, Peer] = {
    "rsdl": our_peer(f"{MODULES}.ours"),
    "rsdl, first epoch of the decoded cache": our_peer(f"{MODULES}.ours", decoded=True, first=True),
    "rsdl, decoded cache": our_peer(f"{MODULES}.ours", decoded=True),
    "decoder alone": our_peer(f"{MODULES}.decoder"),
    "decoder, crop and resize alone": our_peer(f"{MODULES}.decoder", resize=True),
    "torchvision ImageFolder": Peer(
        f"{MODULES}.image_folder",
        ("torchvision", "pillow"),
        "https://github.com/pytorch/examples/blob/main/imagenet/main.py",
    ),
    "WebDataset": Peer(
        f"{MODULES}.webdataset_stock",
        ("webdataset", "pillow"),
        "https://github.com/webdataset/webdataset/blob/main/README.md",
    ),
    "MosaicML Streaming": Peer(
        f"{MODULES}.mosaicml_streaming",
        ("mosaicml-streaming", "pillow"),
        "https://docs.mosaicml.com/projects/streaming/en/stable/getting_started/quick_start.html",
    ),
    "LitData": Peer(
        f"{MODULES}.litdata_streaming",
        ("litdata",),
        "https://github.com/Lightning-AI/litData/blob/main/README.md",
    ),
    "DALI on CPU": Peer(
        f"{MODULES}.dali_cpu",
        ("nvidia-dali-cuda130",),
        "https://docs.nvidia.com/deeplearning/dali/user-guide/docs/examples/use_cases/pytorch/"
        "resnet50/pytorch-resnet50.html",
    ),
    **{
        f"FFCV, {words}": Peer(
            f"{MODULES}.ffcv_loader", ("ffcv", "numba"), FFCV_DOCS, FFCV_INSTALL, {"mode": mode}
        )
        for words, mode in (("JPEG", "jpg"), ("raw", "raw"))
    },
}
