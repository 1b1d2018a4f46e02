"""Facts of the Nautilus cluster: GPUs, regions, storage, limits. The only place that states them.

From its user documentation, https://nrp.ai/documentation, as of January 2026, with the resource
names of October 2026; compute capabilities from https://developer.nvidia.com/cuda-gpus.
``k8s/components/`` has a component for each GPU choice and each region with an S3 service.
"""

from dataclasses import dataclass

GIB = 2**30

MAX_RATIO_PERCENT = 120  # of limits to requests
MANY_PODS = 100  # above this, limits must equal requests
MAX_JOBS = 400
MIN_GPU_USE = 0.4  # of a pod over its life; with over four pods below it, new Jobs are refused
PLANNED_GPUS = 50  # to use more at once, present a plan first
MAX_POD_GPUS = 8  # GPUs of a node
GPU_COUNTS = (1, 2, 4, 8)

BARE_POD_GPUS = 2
BARE_POD_MEMORY = 32 * GIB
BARE_POD_CORES = 16
BARE_POD_S = 6 * 3600

GPU = "nvidia.com/gpu"
PRODUCT_LABEL = "nvidia.com/gpu.product"
DRIVER_LABEL = "nvidia.com/cuda.driver.major"
REGION_LABEL = "topology.kubernetes.io/region"
HOST_LABEL = "kubernetes.io/hostname"
ZONE_LABEL = "topology.kubernetes.io/zone"

# The default quota is zero: an A100 quota is granted through a form; the others have no form.
FORM = ("A100",)
GRANTED = (*FORM, "H100", "GH200", "H200")

PRIORITIES = ("armada-default", "owner-no-preempt", "opportunistic2", "opportunistic")
OPPORTUNISTIC = ("opportunistic2", "opportunistic")
ENTITLED_TAINTS = ("nautilus.io/reservation", "nautilus.io/hardware")
CLOSED_TAINTS = ("system", "issue")


@dataclass(frozen=True, slots=True)
class Card:
    """A type of GPU.

    Attributes:
        product: Value of the node label ``nvidia.com/gpu.product``.
        memory_gb: Its memory.
        capability: Compute capability, major and minor.
        resource: Resource name in a pod's requests.
    """

    product: str
    memory_gb: int
    capability: tuple[int, int]
    resource: str = GPU


CARDS = (
    Card("NVIDIA-A10", 24, (8, 6)),
    Card("NVIDIA-GeForce-GTX-1070", 8, (6, 1)),
    Card("NVIDIA-GeForce-GTX-1080", 8, (6, 1)),
    Card("NVIDIA-GeForce-GTX-1080-Ti", 11, (6, 1)),
    Card("NVIDIA-GeForce-RTX-2080-Ti", 11, (7, 5)),
    Card("NVIDIA-GeForce-RTX-3070", 8, (8, 6)),
    Card("NVIDIA-GeForce-RTX-3080", 10, (8, 6)),
    Card("NVIDIA-GeForce-RTX-3090", 24, (8, 6)),
    Card("NVIDIA-GeForce-RTX-4090", 24, (8, 9)),
    Card("NVIDIA-L4", 24, (8, 9)),
    Card("NVIDIA-L40", 48, (8, 9)),
    Card("NVIDIA-L40S", 48, (8, 9)),
    Card("NVIDIA-RTX-6000-Ada-Generation", 48, (8, 9)),
    Card("NVIDIA-RTX-A4000", 16, (8, 6)),
    Card("NVIDIA-RTX-A5000", 24, (8, 6)),
    Card("NVIDIA-TITAN-RTX", 24, (7, 5)),
    Card("NVIDIA-TITAN-V", 12, (7, 0)),
    Card("Quadro-M4000", 8, (5, 2)),
    Card("Quadro-RTX-6000", 24, (7, 5)),
    Card("Tesla-T4", 16, (7, 5)),
    Card("Tesla-V100-PCIE-16GB", 16, (7, 0)),
    Card("Tesla-V100-SXM2-32GB", 32, (7, 0)),
    Card("NVIDIA-A40", 48, (8, 6), "nvidia.com/a40"),
    Card("NVIDIA-A100-PCIE-40GB", 40, (8, 0), "nvidia.com/a100"),
    Card("NVIDIA-A100-80GB-PCIe", 80, (8, 0), "nvidia.com/a100"),
    Card("NVIDIA-A100-SXM4-80GB", 80, (8, 0), "nvidia.com/a100"),
    Card("NVIDIA-RTX-A6000", 48, (8, 6), "nvidia.com/rtxa6000"),
    Card("Quadro-RTX-8000", 48, (7, 5), "nvidia.com/rtx8000"),
    Card("NVIDIA-H100-80GB-HBM3", 80, (9, 0), "nvidia.com/h100"),
    Card("NVIDIA-H200", 141, (9, 0), "nvidia.com/h200"),
    Card("NVIDIA-RTX-PRO-6000-Blackwell-Server-Edition", 96, (12, 0), "nvidia.com/rtx6000bw"),
    Card("NVIDIA-GH200-480GB", 96, (9, 0), "nvidia.com/gh200"),
    Card("NVIDIA-A100-80GB-PCIe-MIG-1g.10gb", 10, (8, 0), "nvidia.com/mig-small"),
)

# The first capability with bf16 in hardware, which the recipes train in; older cards emulate it.
BF16 = (8, 0)


@dataclass(frozen=True, slots=True)
class Gpu:
    """A choice of GPU types.

    Attributes:
        resource: Resource name in a pod's requests.
        cards: Types that the pod may get.
        reason: What to know before choosing it.
    """

    resource: str
    cards: tuple[Card, ...]
    reason: str

    @property
    def products(self) -> tuple[str, ...]:
        """The types for node affinity; none where the resource name already selects them."""
        return tuple(card.product for card in self.cards) if self.resource == GPU else ()

    @property
    def memory_gb(self) -> int:
        """Memory of the smallest card."""
        return min(card.memory_gb for card in self.cards)


def _asked_as(resource: str) -> tuple[Card, ...]:
    return tuple(card for card in CARDS if card.resource == resource)


GPUS: dict[str, Gpu] = {
    "rtx3090": Gpu(
        GPU,
        tuple(card for card in CARDS if card.product.endswith("RTX-3090")),
        "the most numerous type",
    ),
    "a40": Gpu("nvidia.com/a40", _asked_as("nvidia.com/a40"), "has a resource name of its own"),
    "a100": Gpu(
        "nvidia.com/a100",
        _asked_as("nvidia.com/a100"),
        "has a resource name of its own; the quota is zero unless granted, or opportunistic",
    ),
    "h100": Gpu(
        "nvidia.com/h100",
        _asked_as("nvidia.com/h100"),
        "has a resource name of its own; its quota is zero, so be opportunistic",
    ),
    "any-24gb": Gpu(
        GPU,
        tuple(card for card in _asked_as(GPU) if card.memory_gb >= 24 and card.capability >= BF16),
        "whichever is free first, of those that train in bf16",
    ),
}

# Resource name -> products that only this resource requests.
OWN_RESOURCES: dict[str, tuple[str, ...]] = {
    name: tuple(card.product for card in _asked_as(name))
    for name in dict.fromkeys(card.resource for card in CARDS)
    if name != GPU
}
SHARED_PRODUCTS = tuple(card.product for card in _asked_as(GPU))


@dataclass(frozen=True, slots=True)
class Region:
    """A part of the cluster with its own storage.

    Attributes:
        title: Name in messages.
        label: Value of the node label ``topology.kubernetes.io/region``.
        suffix: Suffix of its storage classes.
        inside: S3 endpoint for pods; empty where it has no S3 service.
        outside: S3 endpoint for clients outside the cluster.
    """

    title: str
    label: str
    suffix: str
    inside: str = ""
    outside: str = ""

    @property
    def storage_class(self) -> str:
        """The storage class for volumes that several pods mount at once."""
        return CEPHFS + self.suffix


CEPHFS, BLOCK = "rook-cephfs", "rook-ceph-block"
ALL_REGIONS: dict[str, Region] = {
    "west": Region(
        "West", "us-west", "",
        "http://rook-ceph-rgw-nautiluss3.rook", "https://s3-west.nrp-nautilus.io",
    ),
    "central": Region(
        "Central", "us-central", "-central",
        "http://rook-ceph-rgw-centrals3.rook-central", "https://s3-central.nrp-nautilus.io",
    ),
    "east": Region(
        "East", "us-east", "-east",
        "http://rook-ceph-rgw-easts3.rook-east", "https://s3-east.nrp-nautilus.io",
    ),
    "south-east": Region("South East", "us-south-east", "-south-east"),
    "pacific": Region("Pacific", "us-pacific", "-pacific"),
}  # fmt: skip
# Regions that a study may use.
REGIONS = {name: region for name, region in ALL_REGIONS.items() if region.inside}

CEPHFS_CLASSES = {CEPHFS + region.suffix: region.title for region in ALL_REGIONS.values()}
BLOCK_CLASSES = {BLOCK + region.suffix: region.title for region in ALL_REGIONS.values()}
LOCAL_BLOCK = ("linstor-ha",)

# Hosts of the S3 services, for use inside and outside the cluster.
INSIDE = {region.inside.rpartition("/")[2]: region.title for region in REGIONS.values()}
OUTSIDE = {region.outside.rpartition("/")[2]: region.title for region in REGIONS.values()}


def region_named(label: str) -> str | None:
    """Return the region of a node label such as ``us-west``; ``None`` if unknown."""
    words = label.lower().replace("_", "-").replace("southeast", "south-east")
    # "south-east" before "east".
    by_length = sorted(ALL_REGIONS, key=len, reverse=True)
    return next((ALL_REGIONS[name].title for name in by_length if name in words), None)


def region_of_class(name: str) -> str | None:
    """Return the region of a storage class; ``None`` if unknown."""
    return CEPHFS_CLASSES.get(name) or BLOCK_CLASSES.get(name)
