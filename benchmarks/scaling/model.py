"""Cost of a study and of a large run on a cluster: the numbers behind ``docs/scaling.md``.

It combines four kinds of numbers, and the page labels each. Measured: CPU time of loading and
fetching, from the JSON files of ``results/``. Computed: operations and parameters of the networks,
the bytes that a plan reads. Published: the GPUs' peaks, the data sets. Assumed: the share of its
peak that a GPU reaches, and link bandwidths; these are the constants in capitals below.
"""

import json
import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.scaling.cluster import Cluster, Epoch, Imagery, simulate
from benchmarks.trainer.mfu import TRAIN_FLOPS
from rsdl.cluster.resources import ENCODED_GB, PIXEL_BYTES, TRAIN_SHARE, estimate_sizes
from rsdl.cluster.settings import Settings
from rsdl.commands.models import describe_model
from rsdl.config.load import load_config
from rsdl.data.sources.catalog import DATASETS
from rsdl.models.catalog import ARCHITECTURES

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
STUDY = ("ucm", "aid", "resisc45")
VAL_SHARE = 0.1
IMAGE_SIZE = 224

# Published: dense bf16 peak with fp32 sums, in TFLOP/s, as in NVIDIA's data sheets.
CARDS = {"rtx3090": 71.0, "a40": 149.7, "a100": 312.0}
# Assumed: share of the peak that training reaches, in bf16, at batches of 64 and 224 px.
UTILIZATION = {
    "resnet50": 0.25, "resnext101": 0.20, "densenet161": 0.15, "efficientnet_b5": 0.10,
    "convnext_base": 0.30, "vit_base": 0.40, "swin_base": 0.30, "pvt_v2_b5": 0.20,
    "maxvit_small": 0.20,
}  # fmt: skip
BACKWARD_SHARE = 2 / 3  # of a step, during which gradients can be exchanged
STARTS = 4  # assumed: starts of a pod in a run, including three preemptions


@dataclass(frozen=True, slots=True)
class LargeRun:
    """One run over many GPUs; all values are assumptions.

    Attributes:
        nodes: Nodes.
        gpus: GPUs on each.
        batch: Images per GPU and step.
        shards: Shards of the data set.
        shard_samples: Images in each.
        shard_bytes: Bytes of each.
        side_px: Side of an image.
        epochs: Epochs.
        node_gbit: Bandwidth of a node's link, Gbit/s.
        store_gbit: Total bandwidth of the store, Gbit/s.
    """

    nodes: int = 8
    gpus: int = 8
    batch: int = 64
    shards: int = 4000
    shard_samples: int = 1000
    shard_bytes: int = 250_000_000
    side_px: int = 600
    epochs: int = 90
    node_gbit: float = 25.0
    store_gbit: float = 80.0

    @property
    def world(self) -> int:
        """Number of all GPUs."""
        return self.nodes * self.gpus

    @property
    def images(self) -> int:
        """Number of images in the data set."""
        return self.shards * self.shard_samples

    @property
    def image_bytes(self) -> float:
        """Encoded bytes of an image."""
        return self.shard_bytes / self.shard_samples


@dataclass(frozen=True, slots=True)
class Network:
    """Cost of one of the nine networks; computed.

    Attributes:
        name: Its config name.
        parameters: Number of parameters, with 21 classes.
        gflops: Operations to classify one 224 px image.
    """

    name: str
    parameters: int
    gflops: float

    def step_s(self, card: str, batch: int, *, factor: float = 1.0) -> float:
        """Return seconds of a training step at ``factor`` times the assumed utilization."""
        return batch * TRAIN_FLOPS * self.gflops / (1e3 * CARDS[card] * self._share(factor))

    def images_per_s(self, card: str) -> float:
        """Return images per second of one training GPU."""
        return 1 / self.step_s(card, 1)

    def gpu_hours(
        self, card: str, trained: float, validated: float, *, factor: float = 1.0
    ) -> float:
        """Return GPU-hours for the given numbers of images."""
        work = (trained * TRAIN_FLOPS + validated) * self.gflops
        return work / (1e3 * CARDS[card] * self._share(factor)) / 3600

    def _share(self, factor: float) -> float:
        return min(UTILIZATION[self.name] * factor, 1.0)

    def gradient_bytes(self, *, compressed: bool) -> int:
        """Return the bytes of all gradients; ``trainer.compress_gradients`` halves them."""
        return self.parameters * (2 if compressed else 4)


@cache
def networks() -> tuple[Network, ...]:
    """Return the nine networks."""
    rows = [describe_model(n, num_classes=21, image_size=IMAGE_SIZE) for n in ARCHITECTURES]
    return tuple(Network(row.name, row.parameters, row.gflops) for row in rows)


@dataclass(frozen=True, slots=True)
class Part:
    """One data set of the study, for one network.

    Attributes:
        name: Name of the data set.
        images: Images in all splits.
        epochs: Epochs, from the configs.
        batch: Batch size, from the configs.
        cores: Cores requested by a pod of one GPU.
    """

    name: str
    images: int
    epochs: int
    batch: int
    cores: int

    @property
    def trained(self) -> float:
        """Number of images trained on over all epochs."""
        return self.images * TRAIN_SHARE * self.epochs

    @property
    def validated(self) -> float:
        """Number of images validated on over all epochs."""
        return self.images * VAL_SHARE * self.epochs

    @property
    def steps(self) -> int:
        """Number of optimizer steps."""
        steps: int = int(self.images * TRAIN_SHARE) // self.batch * self.epochs
        return steps

    @property
    def encoded_gb(self) -> float:
        """Encoded GB that an epoch reads."""
        return ENCODED_GB[self.name] * (TRAIN_SHARE + VAL_SHARE)

    @property
    def decoded_gb(self) -> float:
        """GB of pixels that an epoch decodes."""
        return self.images * (TRAIN_SHARE + VAL_SHARE) * PIXEL_BYTES[self.name] / 1e9

    @property
    def side_px(self) -> int:
        """Side of an image."""
        return math.isqrt(PIXEL_BYTES[self.name] // 3)


@cache
def parts() -> tuple[Part, ...]:
    """Return the data sets of the study, with the values of the committed configs."""
    found = []
    for name in STUDY:
        config = load_config(str(ROOT / "configs" / f"resnet50_{name}.yaml"), environment={})
        cores = estimate_sizes(config, Settings()).cpu
        found.append(
            Part(name, DATASETS[name].num_images, config.trainer.max_epochs,
                 config.data.batch_size, cores)
        )  # fmt: skip
    return tuple(found)


def read_result(name: str) -> dict[str, Any]:
    """Return a measured result."""
    return dict(json.loads((RESULTS / f"{name}.json").read_text()))


def loading_ms(row: str, side_px: int) -> float:
    """Return CPU ms to load an image, interpolated by pixel count between measured sizes."""
    known = []
    for path in RESULTS.glob("loader_*.json"):
        rows = {each["name"]: each for each in read_result(path.stem)["tables"][0]["rows"]}
        known.append((int(path.stem.rpartition("_")[2]) ** 2, rows[row]["facts"]["CPU ms/image"]))
    pixels, times = zip(*sorted(known), strict=True)
    return float(np.interp(side_px**2, pixels, times))


def fetching_cpu_s() -> float:
    """Return CPU seconds to fetch, verify and store a GB of shards."""
    rows = read_result("store")["tables"][0]["rows"]
    return float(next(r["median"] for r in rows if r["name"].startswith("rsdl, verified")))


def ring_bytes(network: Network, world: int, *, compressed: bool) -> float:
    """Return the bytes that each GPU, and so each node's link, sends in a step's all-reduce.

    A ring enters and leaves each node once. Source: Patarasuk and Yuan 2009.
    """
    return 2 * (world - 1) / world * network.gradient_bytes(compressed=compressed)


def exchange_s(network: Network, world: int, gbit: float, *, compressed: bool) -> float:
    """Return seconds that a step's gradients take over a link."""
    return ring_bytes(network, world, compressed=compressed) * 8 / (gbit * 1e9)


def efficiency(
    network: Network, card: str, run: LargeRun, gbit: float, *, overlap: float = 1.0
) -> float:
    """Return the share of a step spent computing, with bf16 gradients.

    Args:
        network: The network.
        card: The GPU type.
        run: The run.
        gbit: Bandwidth of a node's link, Gbit/s.
        overlap: Share of the backward pass that hides the exchange.
    """
    step = network.step_s(card, run.batch)
    exchange = exchange_s(network, run.world, gbit, compressed=True)
    return step / (step + max(0.0, exchange - overlap * BACKWARD_SHARE * step))


def link_needed(network: Network, card: str, run: LargeRun, *, compressed: bool) -> float:
    """Return the bandwidth in Gbit/s at which the backward pass hides the exchange."""
    hidden = BACKWARD_SHARE * network.step_s(card, run.batch)
    return ring_bytes(network, run.world, compressed=compressed) * 8 / hidden / 1e9


@cache
def draw(run: LargeRun, *, partitions: int, cache_gb: float, epochs: int) -> tuple[Epoch, ...]:
    """Return simulated epochs of a large run; their compute time is not meaningful."""
    imagery = Imagery(run.shards, run.shard_samples, run.shard_bytes, 16, partitions, run.batch)
    cluster = Cluster(
        run.nodes, run.gpus, 1.0, run.node_gbit * 1e9 / 8, run.store_gbit * 1e9 / 8,
        int(cache_gb * 1e9),
    )  # fmt: skip
    return tuple(simulate(cluster, imagery, seed=0, epochs=epochs))
