"""Estimate the size of a pod that trains a config, and check that its GPU is large enough.

The cluster demands limits equal to requests, and pods that use their requests, so the estimate errs
on the large side by tens of per cent, not by factors. It counts the network with its optimizer,
activations, the images that a node caches, and copies of the state that wait for upload.
"""

import math
from dataclasses import dataclass

from rsdl.cluster.nautilus import GPUS
from rsdl.cluster.settings import Settings
from rsdl.config.run import RunConfig
from rsdl.core.errors import ConfigError
from rsdl.core.image_size import height_width, show_size
from rsdl.data.sources.catalog import DATASETS

GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Network:
    """Memory of a network.

    Attributes:
        parameters: In millions.
        activations_mb: Kept for the backward pass in mixed precision, for one 224 px image.
    """

    parameters: float
    activations_mb: float


# As tests/unit/cluster/test_resources.py counts them.
NETWORKS: dict[str, Network] = {
    "resnet50": Network(23.6, 44),
    "resnext101": Network(86.8, 124),
    "densenet161": Network(26.5, 123),
    "efficientnet_b5": Network(28.4, 155),
    "convnext_base": Network(87.6, 118),
    "vit_base": Network(85.8, 66),
    "swin_base": Network(86.8, 132),
    "pvt_v2_b5": Network(81.5, 145),
    "maxvit_small": Network(68.2, 254),
}
UNKNOWN_NETWORK = Network(100, 260)
TINY_NETWORK = Network(1, 10)  # timm's test_* models
# What a head adds: that of the configs on the backbone where it is the largest; counted likewise.
SEGMENTATION = Network(20, 40)
DETECTION = {
    "dense": Network(10, 48),
    "fcos": Network(10, 56),
    "retinanet": Network(10, 40),
    "faster_rcnn": Network(22, 44),
    "deformable_detr": Network(22, 1_200),
    "rt_detr_v2": Network(24, 280),
}
FINEST = 2  # level of the map that detection's figures are for; a coarser one has a quarter


@dataclass(frozen=True, slots=True)
class Imagery:
    """Size of a data set's images, in GB.

    Attributes:
        encoded: All shards.
        decoded: All decoded pixels.
    """

    encoded: float
    decoded: float


# Image sides and bands as published; shards hold the original files.
PIXEL_BYTES = {"ucm": 256**2 * 3, "aid": 600**2 * 3, "resisc45": 256**2 * 3, "eurosat": 64**2 * 26}
ENCODED_GB = {"ucm": 0.42, "aid": 2.6, "resisc45": 0.43, "eurosat": 2.9}
QUICKSTART = Imagery(0.05, 0.05)
# Sets in tiles. Tiles are stored without loss, so that no set is larger than its pixels; a mask is
# one more band.
TILES = {
    # 4,191 images of 1,024 px in RGB; Train.zip and Val.zip (https://zenodo.org/records/5706578).
    "loveda": Imagery(6.5, 4_191 * 1_024**2 * 4 / 1e9),
    # 38 images of 6,000 px in RGB and infrared, each in 12 x 12 tiles of 512 px
    # (https://www.isprs.org/education/benchmarks/UrbanSemLab/2d-sem-label-potsdam.aspx).
    "potsdam": Imagery(7.2, 38 * (12 * 512) ** 2 * 5 / 1e9),
    # Some 40 images of about 225 px (https://github.com/Runan-Duan/Wildfire_Detection).
    "burned": Imagery(0.1, 0.1),
    # 21,046 tiles of 1,024 px, as papers cut train and val of v1.0 with an overlap of 200
    # (https://captain-whu.github.io/DOTA).
    "dota": Imagery(66.2, 21_046 * 1_024**2 * 3 / 1e9),
    # Train is 60% of 1,400 km2 at 0.3 m (arXiv 1802.07856), in tiles of 512 px at each 384.
    "xview": Imagery(49.8, 0.6 * 1_400e6 / 0.3**2 * (512 / 384) ** 2 * 3 / 1e9),
    # 8,525 published tiles of 512 px of the real images (arXiv 2006.02963).
    "rareplanes": Imagery(6.7, 8_525 * 512**2 * 3 / 1e9),
}

TRAIN_SHARE = 0.8
# A node caches the pixels of a split if they fit into half of its memory.
MEMORY_OF_PIXELS = 2.1
MOST_PIXELS_GB = 64.0  # of memory for them; without, images are decoded each time
HOST_GB = 6.0  # torch, CUDA and its libraries, for each process
CPU_HOST_GB = 2.0  # torch without CUDA, and file buffers
SPARE_GB = 3.0  # of the memory, for shared memory and file buffers
STATE_BYTES = 12  # per parameter: weights and two moments
WORKING_BYTES = 18  # per parameter on the device: also gradients and a half-precision copy
DEVICE_GB = 1.5  # context and workspaces
SLACK = 1.25
UPLOAD_MB_S = 20.0
TMP_GIB = 4
LOGS_GIB = 2
WINDOW_GB = 30  # for a data set of unknown size, as the cluster advises


@dataclass(frozen=True, slots=True)
class Sizes:
    """Requests of a pod; limits are equal.

    Attributes:
        cpu: Cores.
        memory_gib: Memory.
        cache_gb: ``data.cache.size``.
        cache_gib: The volume for the cache and for files that wait for upload.
        shm_gib: ``/dev/shm``.
        grace_s: Seconds from SIGTERM to SIGKILL.
    """

    cpu: int
    memory_gib: int
    cache_gb: int
    cache_gib: int
    shm_gib: int
    grace_s: int

    @property
    def tmp_gib(self) -> int:
        """Size of ``/tmp``."""
        return TMP_GIB

    @property
    def ephemeral_gib(self) -> int:
        """Total ephemeral storage of the pod."""
        return self.cache_gib + TMP_GIB + LOGS_GIB


def estimate_sizes(config: RunConfig, settings: Settings) -> Sizes:
    """Return the size of a pod that trains ``config``.

    Args:
        config: The run.
        settings: The settings for this config.

    Raises:
        ConfigError: If the GPU has too little memory for the network and the batch.
    """
    network, imagery = network_of(config), imagery_of(config)
    check_gpu(config, settings)
    state_gb = network.parameters * STATE_BYTES / 1e3
    # Of a number of nodes that changes, the fewest have the largest shares of a batch.
    batch = config.data.batch_size / settings.fewest_nodes
    batches_gb = (config.data.prefetch + 2) * batch * _pixels(config) * 3 * 4 / 1e9
    on_cpu = config.trainer.accelerator == "cpu"
    host_gb = CPU_HOST_GB if on_cpu else HOST_GB * settings.gpus + SPARE_GB
    process_gb = host_gb + 2 * state_gb + batches_gb
    if imagery is None:
        memory_gb, cache_gb = process_gb - SPARE_GB + 8 * settings.gpus, WINDOW_GB
    else:
        pixels_gb = imagery.decoded * TRAIN_SHARE * MEMORY_OF_PIXELS
        fits = pixels_gb <= MOST_PIXELS_GB
        memory_gb = max(process_gb, pixels_gb + 1 if fits else 0)
        cache_gb = math.ceil(1.1 * (imagery.encoded + imagery.decoded * fits) + 1)
    # last.ckpt, best.ckpt and the next of each, staged before their upload.
    spool_gb = 4 * state_gb + 1
    return Sizes(
        cpu=_cores(config) * settings.gpus,
        memory_gib=_round_up(memory_gb * 1e9 / GIB, 4),
        cache_gb=cache_gb,
        cache_gib=math.ceil((cache_gb + spool_gb) * 1e9 / GIB),
        shm_gib=min(max(2 * settings.gpus, math.ceil(batches_gb)), 8),
        grace_s=_round_up(60 + state_gb * 1e3 / UPLOAD_MB_S, 30),
    )


def check_gpu(config: RunConfig, settings: Settings) -> None:
    """Raise an error if the GPU is too small.

    Raises:
        ConfigError: With the GPUs or settings that would do.
    """
    if config.trainer.accelerator == "cpu":
        return
    needed, here = device_gb(config, settings), GPUS[settings.gpu].memory_gb
    if needed > here:
        raise ConfigError(
            f"{config.name}: data.batch_size",
            f"{config.data.batch_size} images of {show_size(config.data.image_size)} px take about "
            f"{needed:.0f} GB on each GPU, {settings.gpu} has {here}",
            f"set trainer.accumulate={2 * config.trainer.accumulate}, or render it with "
            "--set gpus=2 or a larger --set gpu",
        )


def device_gb(config: RunConfig, settings: Settings) -> float:
    """Return the estimated GPU memory of the training, in GB."""
    network = network_of(config)
    # With fewer nodes each accumulates more micro-batches, and none is larger.
    devices = settings.gpus * settings.most_nodes
    micro = config.data.batch_size / (devices * config.trainer.accumulate)
    area = _pixels(config) / 224**2
    precision = 2 if config.trainer.precision == "fp32" else 1
    activations = network.activations_mb * micro * area * precision / 1e3
    return DEVICE_GB + SLACK * (network.parameters * WORKING_BYTES / 1e3 + activations)


def network_of(config: RunConfig) -> Network:
    """Return the memory figures of a config's network; large ones if it is unknown."""
    name = config.model.name
    if name.startswith("test_"):
        return TINY_NETWORK
    backbone = NETWORKS.get(name, UNKNOWN_NETWORK)
    head, share = Network(0, 0), 1.0
    if config.task.name == "segmentation":
        head = SEGMENTATION
    elif config.task.name == "detection":
        head, share = DETECTION[config.task.head], 4 ** (FINEST - config.task.levels[0])
    return Network(
        backbone.parameters + head.parameters,
        backbone.activations_mb + head.activations_mb * share,
    )


def imagery_of(config: RunConfig) -> Imagery | None:
    """Return the size of a config's images; ``None`` if it is unknown."""
    name = dataset_of(config)
    if config.model.name.startswith("test_"):
        return QUICKSTART
    if name not in PIXEL_BYTES:
        return TILES.get(name)
    return Imagery(ENCODED_GB[name], DATASETS[name].num_images * PIXEL_BYTES[name] / 1e9)


def dataset_of(config: RunConfig) -> str:
    """Return the name of the data set: the last part of its URL."""
    return config.data.url.rstrip("/").rpartition("/")[2]


def _pixels(config: RunConfig) -> int:
    """Return the pixels of an image that the network sees."""
    height, width = height_width(config.data.image_size)
    return height * width


def _cores(config: RunConfig) -> int:
    """Return the cores per GPU: larger images need more for loading."""
    if config.model.name.startswith("test_"):
        return 2
    return min(2 + 2 * math.ceil(_pixels(config) / 256**2), 12)


def _round_up(value: float, step: int) -> int:
    return math.ceil(value / step) * step
