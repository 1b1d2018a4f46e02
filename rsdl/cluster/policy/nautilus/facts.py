"""What the cluster has and asks for: GPUs, priorities, storage, regions, numbers.

From its user documentation, https://nrp.ai/documentation, as of January 2026.
"""

GIB = 2**30

MAX_RATIO_PERCENT = 120  # of limits to requests
MANY_PODS = 100  # from here on limits equal requests
MAX_JOBS = 400
PLANNED_GPUS = 50  # more at once want a plan presented first
MAX_POD_GPUS = 8  # of a node

BARE_POD_GPUS = 2
BARE_POD_MEMORY = 32 * GIB
BARE_POD_CORES = 16
BARE_POD_S = 6 * 3600

GPU = "nvidia.com/gpu"
PRODUCT_LABEL = "nvidia.com/gpu.product"
# Resource name -> products that are asked for by it alone.
OWN_RESOURCES = {
    "nvidia.com/a40": ("NVIDIA-A40",),
    "nvidia.com/a100": ("NVIDIA-A100-PCIE-40GB", "NVIDIA-A100-80GB-PCIe", "NVIDIA-A100-SXM4-80GB"),
    "nvidia.com/rtxa6000": ("NVIDIA-RTX-A6000",),
    "nvidia.com/rtx8000": ("Quadro-RTX-8000",),
    "nvidia.com/gh200": ("NVIDIA-GH200-480GB",),
    "nvidia.com/mig-small": ("NVIDIA-A100-80GB-PCIe-MIG-1g.10gb",),
}
SHARED_PRODUCTS = (
    "NVIDIA-A10",
    "NVIDIA-GeForce-GTX-1070",
    "NVIDIA-GeForce-GTX-1080",
    "NVIDIA-GeForce-GTX-1080-Ti",
    "NVIDIA-GeForce-RTX-2080-Ti",
    "NVIDIA-GeForce-RTX-3070",
    "NVIDIA-GeForce-RTX-3080",
    "NVIDIA-GeForce-RTX-3090",
    "NVIDIA-GeForce-RTX-4090",
    "NVIDIA-H100-80GB-HBM3",
    "NVIDIA-H200",
    "NVIDIA-L4",
    "NVIDIA-L40",
    "NVIDIA-L40S",
    "NVIDIA-RTX-6000-Ada-Generation",
    "NVIDIA-RTX-A4000",
    "NVIDIA-RTX-A5000",
    "NVIDIA-TITAN-RTX",
    "NVIDIA-TITAN-V",
    "Quadro-M4000",
    "Quadro-RTX-6000",
    "Tesla-T4",
    "Tesla-V100-PCIE-16GB",
    "Tesla-V100-SXM2-32GB",
)
# Quota is zero unless granted.
GRANTED = ("A100", "H100", "GH200", "H200")

PRIORITIES = ("armada-default", "owner-no-preempt", "opportunistic2", "opportunistic")
OPPORTUNISTIC = ("opportunistic2", "opportunistic")
ENTITLED_TAINTS = ("nautilus.io/reservation", "nautilus.io/hardware")
CLOSED_TAINTS = ("system", "issue")

REGION_LABEL = "topology.kubernetes.io/region"
WEST, CENTRAL, EAST = "West", "Central", "East"
SOUTH_EAST, PACIFIC = "South East", "Pacific"

CEPHFS, BLOCK = "rook-cephfs", "rook-ceph-block"
CEPHFS_CLASSES = {
    CEPHFS: WEST,
    f"{CEPHFS}-central": CENTRAL,
    f"{CEPHFS}-east": EAST,
    f"{CEPHFS}-south-east": SOUTH_EAST,
    f"{CEPHFS}-pacific": PACIFIC,
}
BLOCK_CLASSES = {
    BLOCK: WEST,
    f"{BLOCK}-central": CENTRAL,
    f"{BLOCK}-east": EAST,
    f"{BLOCK}-south-east": SOUTH_EAST,
    f"{BLOCK}-pacific": PACIFIC,
}
LOCAL_BLOCK = ("linstor-ha",)

# Hosts of the S3 services, from within the cluster and from outside.
INSIDE = {
    "rook-ceph-rgw-nautiluss3.rook": WEST,
    "rook-ceph-rgw-centrals3.rook-central": CENTRAL,
    "rook-ceph-rgw-easts3.rook-east": EAST,
}
OUTSIDE = {
    "s3-west.nrp-nautilus.io": WEST,
    "s3-central.nrp-nautilus.io": CENTRAL,
    "s3-east.nrp-nautilus.io": EAST,
}


def region_named(label: str) -> str | None:
    """Return the region that a node's label such as ``us-west`` means, if it is one we know."""
    words = label.lower().replace("_", "-")
    if "south-east" in words or "southeast" in words:
        return SOUTH_EAST
    return next((r for r in (WEST, CENTRAL, EAST, PACIFIC) if r.lower() in words), None)


def region_of_class(name: str) -> str | None:
    """Return the region that a storage class keeps its data in, if it is one we know."""
    return CEPHFS_CLASSES.get(name) or BLOCK_CLASSES.get(name)
