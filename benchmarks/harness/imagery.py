"""Imagery for the benchmarks: tiles cut from synthetic scenes, in class folders of JPEGs.

The amount of detail decides the cost of decoding, so tiles come from scenes with the texture of
land use and not from noise or flat colours. Labels are arbitrary.
"""

import glob
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from rsdl.data.kinds import SUFFIXES
from rsdl.data.manifest import MANIFEST
from rsdl.data.packing.pack import PackOptions, pack
from rsdl.data.sample import Sample, Source
from rsdl.data.sources.folder import FolderSource
from rsdl.data.sources.mask_folder import MaskOptions, MaskSource
from rsdl.data.sources.mask_pairs import pair_folders
from rsdl.data.sources.synthetic import draw_parcels, paint_scene
from rsdl.data.targets.objects import Objects, make_objects, rectangle_corners
from rsdl.storage.connect import connect

NUM_CLASSES = 10
NUM_SCENES = 4
SCENE_PX = 1024
JPEG_QUALITY = 90
DONE = "complete"
SHARD_BYTES = 16 << 20
MIN_IMAGES = 10  # of a split, so that each class has one


def list_images(folder: Path) -> list[Path]:
    """Return the images of a tree of class folders, ordered by name."""
    return sorted(path for path in folder.glob("*/*") if path.suffix.lower() in SUFFIXES)


def cut_images(folder: Path, *, size: int, count: int, seed: int = 0) -> Path:
    """Write ``count`` tiles of ``size`` x ``size`` pixels as JPEGs, unless they exist already.

    Args:
        folder: Where to make the tree.
        size: Side of a tile in pixels.
        count: Number of tiles.
        seed: Random seed.

    Returns:
        The tree of class folders.
    """
    tree = folder / f"tiles-{size}px-{count}"
    mark = tree.with_suffix("." + DONE)
    if mark.exists():
        return tree
    pictures = list(paint_scenes(folder, seed))
    random = np.random.default_rng(seed)
    for number in range(count):
        picture = pictures[number % len(pictures)]
        top, left = (int(random.integers(side - size + 1)) for side in picture.shape[:2])
        tile = np.ascontiguousarray(picture[top : top + size, left : left + size])
        place = tree / f"class{number % NUM_CLASSES}"
        place.mkdir(parents=True, exist_ok=True)
        image = simplejpeg.encode_jpeg(
            tile, quality=JPEG_QUALITY, colorspace="RGB", colorsubsampling="420"
        )
        (place / f"tile{number:05}.jpg").write_bytes(image)
    mark.touch()
    return tree


def paint_scenes(folder: Path, seed: int) -> Iterator[NDArray[np.uint8]]:
    """Yield synthetic scenes, cached in ``folder``: each takes some seconds to make."""
    for number in range(NUM_SCENES):
        path = folder / f"painted-{seed}-{number}.npy"
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            random = np.random.default_rng((seed, number))
            pixels = paint_scene(draw_parcels(SCENE_PX, random), SCENE_PX, 0.6, random)
            part = path.with_suffix(".part.npy")
            np.save(part, pixels)
            part.replace(path)
        yield np.load(path)


def copy_as_png(images: Path) -> Path:
    """Write each JPEG of a tree as a PNG, as sets with masks often have them; return the tree."""
    tree = images.with_name(f"{images.name}-png")
    for image in list_images(images):
        path = tree / image.relative_to(images).with_suffix(".png")
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            pixels = simplejpeg.decode_jpeg(image.read_bytes(), colorspace="BGR")
            cv2.imwrite(str(path), pixels)
    return tree


def masks_of(images: Path) -> Path:
    """Return the tree of the masks of a tree of images."""
    return images.with_name(f"{images.name}-drawn")


def draw_masks(images: Path, *, size: int, seed: int = 0) -> Path:
    """Write a mask of ten classes, in patches of some 50 px, of each image that has none.

    Args:
        images: A tree of images, links to folders included.
        size: Side of an image in pixels.
        seed: Random seed.

    Returns:
        The tree of masks, :func:`masks_of`.
    """
    masks = masks_of(images)
    random = np.random.default_rng(seed)
    noise = random.standard_normal((NUM_CLASSES, SCENE_PX, SCENE_PX), np.float32)
    scene = np.stack([cv2.GaussianBlur(plane, (0, 0), 24) for plane in noise]).argmax(0)
    for image in sorted(map(Path, glob.glob(f"{images}/**/*.[jp][pn]g", recursive=True))):
        path = masks / image.relative_to(images).with_suffix(".png")
        path.parent.mkdir(parents=True, exist_ok=True)
        top, left = (int(corner) for corner in random.integers(SCENE_PX - size + 1, size=2))
        if not path.exists():
            cv2.imwrite(str(path), scene[top : top + size, left : left + size].astype(np.uint8))
    return masks


class ObjectTiles(FolderSource):
    """The images of a tree with drawn objects, whatever they show."""

    def __init__(self, tree: Path) -> None:
        super().__init__(tree)
        self.target = "objects"

    def read(self, item: Any) -> Sample:  # noqa: ANN401
        """Return an image with objects that its name draws."""
        sample = super().read(item)
        assert sample.pixels is not None
        seed = int.from_bytes(sample.key.encode()[-8:], "little")
        objects = draw_objects(sample.pixels.shape[:2], len(self.classes), seed)
        return sample._replace(target=objects)


def draw_objects(size: tuple[int, int], num_classes: int, seed: int, count: int = 40) -> Objects:
    """Return objects of any angle in an image of a height and width."""
    random, (height, width) = np.random.default_rng(seed), size
    sides = random.uniform(0.02, 0.12, (2, count)) * min(size)
    x, y = random.uniform(0.1, 0.9, (2, count)) * np.array([[width], [height]])
    angles = random.uniform(-np.pi / 2, np.pi / 2, count)
    corners = rectangle_corners(np.stack([x, y, *sides, angles], axis=1))
    return make_objects(corners, random.integers(0, num_classes, count), size)


def pack_tiles(
    work: Path, size: int, counts: Mapping[str, int], *, target: str = "class_index"
) -> str:
    """Pack synthetic tiles, unless that is done already.

    Args:
        work: Folder for all files.
        size: Side of a tile in pixels.
        counts: Images of each split.
        target: Kind of target that each has.

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
    tree, shards = work / name, work / f"{name}-{target}"
    if (shards / MANIFEST).exists():
        return str(shards)
    tree.mkdir(parents=True, exist_ok=True)
    for number, (split, count) in enumerate(counts.items()):
        images = cut_images(work / split, size=size, count=count, seed=number)
        link = tree / split
        link.unlink(missing_ok=True)
        link.symlink_to(images)
    source: Source = ObjectTiles(tree) if target == "objects" else FolderSource(tree)
    if target == "mask":
        source = MaskSource(pair_folders(tree, draw_masks(tree, size=size)), MaskOptions())
    pack(source, connect(str(shards)), PackOptions(shard_bytes=SHARD_BYTES))
    return str(shards)
