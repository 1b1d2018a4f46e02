"""How large a pod must be to train a config, and whether its GPU is large enough.

The cluster wants limits that equal requests and pods that use what they ask for, so this errs on
the large side by tens of per cent, not by factors. What it counts: the network with its optimizer,
activations, the imagery that a node keeps, and copies of the state on their way to the bucket.
"""

import math
from dataclasses import dataclass

from rsdl.cluster.nautilus import GPUS
from rsdl.cluster.settings import Settings
from rsdl.config.run import RunConfig
from rsdl.core.errors import ConfigError
from rsdl.data.sources.catalog import DATASETS

GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Network:
    """What a network takes.

    Attributes:
        parameters: In millions.
        activations_mb: Kept for the backward pass in mixed precision, for one image of 224 px.
    """

    parameters: float
    activations_mb: float


# As tests/unit/cluster/test_sizes.py counts them.
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


@dataclass(frozen=True, slots=True)
class Imagery:
    """What the images of a data set take, in GB.

    Attributes:
        encoded: All shards.
        decoded: All pixels.
    """

    encoded: float
    decoded: float


# Sides and bands as published; shards hold the images as they came.
PIXEL_BYTES = {"ucm": 256**2 * 3, "aid": 600**2 * 3, "resisc45": 256**2 * 3, "eurosat": 64**2 * 26}
ENCODED_GB = {"ucm": 0.42, "aid": 2.6, "resisc45": 0.43, "eurosat": 2.9}
QUICKSTART = Imagery(0.05, 0.05)

TRAIN_SHARE = 0.8
# A node takes the pixels of a split into its cache if half of the memory holds them.
MEMORY_OF_PIXELS = 2.1
HOST_GB = 6.0  # torch, CUDA and its libraries, for each process
CPU_HOST_GB = 2.0  # torch without CUDA, and what is read and written
SPARE_GB = 3.0  # of the memory, for shared memory and files that are read and written
STATE_BYTES = 12  # of a parameter: weights and two moments
WORKING_BYTES = 18  # of a parameter on the device: also gradients and a copy in half precision
DEVICE_GB = 1.5  # context and workspaces
SLACK = 1.25
UPLOAD_MB_S = 20.0
TMP_GIB = 4
LOGS_GIB = 2
WINDOW_GB = 30  # of a data set whose size is not known, as the cluster advises


@dataclass(frozen=True, slots=True)
class Sizes:
    """What a pod asks for; limits are the same.

    Attributes:
        cpu: Cores.
        memory_gib: Memory.
        cache_gb: ``data.cache.size``.
        cache_gib: The volume that holds the cache, and what is on its way to the bucket.
        shm_gib: ``/dev/shm``.
        grace_s: Seconds from being asked to stop to being killed.
    """

    cpu: int
    memory_gib: int
    cache_gb: int
    cache_gib: int
    shm_gib: int
    grace_s: int

    @property
    def tmp_gib(self) -> int:
        """``/tmp``."""
        return TMP_GIB

    @property
    def ephemeral_gib(self) -> int:
        """All that is written on the node."""
        return self.cache_gib + TMP_GIB + LOGS_GIB


def measure(config: RunConfig, settings: Settings) -> Sizes:
    """Return the size of a pod that trains ``config``.

    Args:
        config: What is trained.
        settings: As they are for this config.

    Raises:
        ConfigError: If the GPU has too little memory for the network and the batch.
    """
    network, imagery = network_of(config), imagery_of(config)
    check_gpu(config, settings)
    state_gb = network.parameters * STATE_BYTES / 1e3
    batch = config.data.batch_size / settings.nodes
    batches_gb = (config.data.prefetch + 2) * batch * config.data.image_size**2 * 3 * 4 / 1e9
    on_cpu = config.trainer.accelerator == "cpu"
    host_gb = CPU_HOST_GB if on_cpu else HOST_GB * settings.gpus + SPARE_GB
    process_gb = host_gb + 2 * state_gb + batches_gb
    if imagery is None:
        memory_gb, cache_gb = process_gb - SPARE_GB + 8 * settings.gpus, WINDOW_GB
    else:
        pixels_gb = imagery.decoded * TRAIN_SHARE * MEMORY_OF_PIXELS
        memory_gb = max(process_gb, pixels_gb + 1)
        cache_gb = math.ceil(1.1 * (imagery.encoded + imagery.decoded) + 1)
    # last.ckpt, best.ckpt and the next of each, as spooled before they are uploaded.
    spool_gb = 4 * state_gb + 1
    return Sizes(
        cpu=_cores(config) * settings.gpus,
        memory_gib=_round_up(memory_gb * 1e9 / GIB, 4),
        cache_gb=cache_gb,
        cache_gib=math.ceil((cache_gb + spool_gb) * 1e9 / GIB),
        shm_gib=min(2 * settings.gpus, 8),
        grace_s=_round_up(60 + state_gb * 1e3 / UPLOAD_MB_S, 30),
    )


def check_gpu(config: RunConfig, settings: Settings) -> None:
    """Refuse a GPU that is too small.

    Raises:
        ConfigError: It says what would do.
    """
    if config.trainer.accelerator == "cpu":
        return
    needed, here = device_gb(config, settings), GPUS[settings.gpu].memory_gb
    if needed > here:
        raise ConfigError(
            f"{config.name}: data.batch_size",
            f"{config.data.batch_size} images of {config.data.image_size} px take about "
            f"{needed:.0f} GB on each GPU, {settings.gpu} has {here}",
            f"set trainer.accumulate={2 * config.trainer.accumulate}, or render it with "
            "--set gpus=2 or a larger --set gpu",
        )


def device_gb(config: RunConfig, settings: Settings) -> float:
    """Return about how much memory of a GPU the training takes, in GB."""
    network = network_of(config)
    micro = config.data.batch_size / (settings.gpus * settings.nodes * config.trainer.accumulate)
    area = (config.data.image_size / 224) ** 2
    precision = 2 if config.trainer.precision == "fp32" else 1
    activations = network.activations_mb * micro * area * precision / 1e3
    return DEVICE_GB + SLACK * (network.parameters * WORKING_BYTES / 1e3 + activations)


def network_of(config: RunConfig) -> Network:
    """Return what a config's network takes; much, where it is not known."""
    name = config.model.name
    return NETWORKS.get(name, TINY_NETWORK if name.startswith("test_") else UNKNOWN_NETWORK)


def imagery_of(config: RunConfig) -> Imagery | None:
    """Return what a config's images take; ``None`` where that is not known."""
    name = dataset_of(config)
    if config.model.name.startswith("test_"):
        return QUICKSTART
    if name not in PIXEL_BYTES:
        return None
    return Imagery(ENCODED_GB[name], DATASETS[name].num_images * PIXEL_BYTES[name] / 1e9)


def dataset_of(config: RunConfig) -> str:
    """Return the name of the data set: the last part of its URL."""
    return config.data.url.rstrip("/").rpartition("/")[2]


def _cores(config: RunConfig) -> int:
    """Return the cores for one GPU: loading takes more of them for larger images."""
    if config.model.name.startswith("test_"):
        return 2
    return min(2 + 2 * math.ceil((config.data.image_size / 256) ** 2), 12)


def _round_up(value: float, step: int) -> int:
    return math.ceil(value / step) * step
