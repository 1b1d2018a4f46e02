"""What the cluster offers, as far as manifests name it: kinds of GPUs, and regions with storage.

Plain facts of Nautilus, in one place; ``k8s/components/`` has a component for each.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Gpu:
    """A choice of GPUs.

    Attributes:
        resource: What a pod asks for; some types have a resource name of their own.
        products: Values of the node label ``nvidia.com/gpu.product``; empty where the resource
            name says it all.
        memory_gb: Memory of the smallest among them.
        reason: What somebody should know who chooses it.
    """

    resource: str
    products: tuple[str, ...]
    memory_gb: int
    reason: str


GPUS: dict[str, Gpu] = {
    "rtx3090": Gpu("nvidia.com/gpu", ("NVIDIA-GeForce-RTX-3090",), 24, "the most numerous type"),
    "a40": Gpu("nvidia.com/a40", (), 48, "has a resource name of its own"),
    "a100": Gpu(
        "nvidia.com/a100", (), 40,
        "has a resource name of its own; the quota is zero unless granted, or opportunistic",
    ),
    "any-24gb": Gpu(
        "nvidia.com/gpu",
        (
            "NVIDIA-GeForce-RTX-3090", "NVIDIA-GeForce-RTX-4090", "NVIDIA-A10", "NVIDIA-L4",
            "NVIDIA-L40", "NVIDIA-L40S", "Tesla-V100-SXM2-32GB",
        ),
        24,
        "whichever is free first",
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Region:
    """A part of the cluster with its own storage.

    Attributes:
        label: Value of the node label ``topology.kubernetes.io/region``.
        inside: S3 endpoint for pods.
        outside: S3 endpoint for everybody else.
        storage_class: Of volumes that several pods mount at once.
    """

    label: str
    inside: str
    outside: str
    storage_class: str


REGIONS: dict[str, Region] = {
    "west": Region(
        "us-west",
        "http://rook-ceph-rgw-nautiluss3.rook",
        "https://s3-west.nrp-nautilus.io",
        "rook-cephfs",
    ),
    "central": Region(
        "us-central",
        "http://rook-ceph-rgw-centrals3.rook-central",
        "https://s3-central.nrp-nautilus.io",
        "rook-cephfs-central",
    ),
    "east": Region(
        "us-east",
        "http://rook-ceph-rgw-easts3.rook-east",
        "https://s3-east.nrp-nautilus.io",
        "rook-cephfs-east",
    ),
}

GPU_COUNTS = (1, 2, 4, 8)
