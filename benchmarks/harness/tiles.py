"""A packed data set of JPEGs for training and validation, with exact image counts."""

from collections.abc import Mapping
from pathlib import Path

from benchmarks.harness.imagery import cut_images
from rsdl.data.manifest import MANIFEST
from rsdl.data.packing.pack import PackOptions, pack
from rsdl.data.sources.folder import FolderSource
from rsdl.storage.connect import connect

SHARD_BYTES = 16 << 20
MIN_IMAGES = 10  # of a split, so that each class has one


def pack_tiles(work: Path, size: int, counts: Mapping[str, int]) -> str:
    """Pack synthetic tiles, unless that is done already.

    Args:
        work: Folder for all files.
        size: Side of a tile in pixels.
        counts: Images of each split.

    Returns:
        URL of the data set.

    Raises:
        SystemExit: If a split would have fewer than ``MIN_IMAGES``.
    """
    for split, count in counts.items():
        if count < MIN_IMAGES:
            wanted = f"{split} would have {count} images, but takes {MIN_IMAGES} at least"
            raise SystemExit(f"{wanted}: pass larger --steps, --batch-size or --images")
    name = "-".join([f"tiles-{size}px", *(f"{split}{count}" for split, count in counts.items())])
    tree, shards = work / name, work / f"{name}-packed"
    if (shards / MANIFEST).exists():
        return str(shards)
    tree.mkdir(parents=True, exist_ok=True)
    for number, (split, count) in enumerate(counts.items()):
        images = cut_images(work / split, size=size, count=count, seed=number)
        link = tree / split
        link.unlink(missing_ok=True)
        link.symlink_to(images)
    pack(FolderSource(tree), connect(str(shards)), PackOptions(shard_bytes=SHARD_BYTES))
    return str(shards)
