"""``rsdl data prepare``: published data sets, downloaded or from a path, into shards."""

from dataclasses import dataclass
from pathlib import Path

from rsdl.commands.bars import download_bar
from rsdl.commands.data import SplitChoice, pack_source
from rsdl.core.errors import ConfigError
from rsdl.data.packing.pack import PackOptions
from rsdl.data.sample import Source
from rsdl.data.sources.catalog import DATASETS
from rsdl.data.sources.detection_catalog import DETECTION_DATASETS
from rsdl.data.sources.download import Progress
from rsdl.data.sources.folder import FRACTIONS
from rsdl.data.sources.published import PublishedChoice, fetch_lists, prepare_source
from rsdl.data.sources.published_masks import prepare_masks
from rsdl.data.sources.published_objects import ObjectChoice, prepare_objects
from rsdl.data.sources.segmentation_catalog import SEGMENTATION_DATASETS


@dataclass(frozen=True, slots=True, kw_only=True)
class PrepareOptions:
    """How a published data set is prepared.

    Attributes:
        origin: An archive or folder that is already here; ``None`` downloads.
        work: Where archives are kept and unpacked.
        split: How train, val and test are chosen.
        seed: Seed of the split and the order.
        tile: Side of the tiles of a segmentation or detection set in pixels, 0 for whole images;
            ``None`` for the set's own.
        overlap: Pixels two neighbouring tiles of a detection set share; ``None`` for its own.
        class_from: Attribute of an object that is its class, of a detection set.
    """

    origin: str | None
    work: str
    split: SplitChoice
    seed: int = 0
    tile: int | None = None
    overlap: int | None = None
    class_from: str | None = None


def prepare(name: str, asked: PrepareOptions, *, out: str, options: PackOptions) -> int:
    """Download a published data set unless it is already there, and pack it."""
    known = [*DATASETS, *SEGMENTATION_DATASETS, *DETECTION_DATASETS]
    if name not in known:
        raise ConfigError("data set", f'no data set "{name}"', f"use one of {', '.join(known)}")
    if name in DATASETS and asked.tile is not None:
        raise ConfigError("--tile", f"the images of {name} are not cut", "leave it out")
    if name not in DATASETS and asked.split.published is not None:
        remedy = "leave it out for the published one, or give shares"
        raise ConfigError("--split", f'{name} has no split "{asked.split.published}"', remedy)
    for option, value in (("--overlap", asked.overlap), ("--class-from", asked.class_from)):
        if name not in DETECTION_DATASETS and value is not None:
            raise ConfigError(option, f"{name} is no detection set", "leave it out")
    with download_bar(name) as progress:
        source = _published_source(name, asked, progress)
    return pack_source(source, out, options)


def _published_source(name: str, asked: PrepareOptions, progress: Progress) -> Source:
    origin = Path(asked.origin) if asked.origin is not None else None
    split, work, lists = asked.split, Path(asked.work), asked.split.read_lists()
    if name in SEGMENTATION_DATASETS:
        choice = PublishedChoice(
            fractions=split.fractions, lists=lists, seed=asked.seed, tile=asked.tile
        )
        dataset = SEGMENTATION_DATASETS[name]
        return prepare_masks(dataset, choice, origin=origin, work=work, progress=progress)
    if name in DETECTION_DATASETS:
        objects = ObjectChoice(
            fractions=split.fractions,
            lists=lists,
            seed=asked.seed,
            tile=asked.tile,
            overlap=asked.overlap,
            class_from=asked.class_from,
        )
        return prepare_objects(DETECTION_DATASETS[name], objects, origin=origin, work=work)
    if split.published is not None:
        lists = fetch_lists(DATASETS[name], split.published, work, progress)
    return prepare_source(
        DATASETS[name],
        origin=origin,
        work=work,
        progress=progress,
        fractions=split.fractions or FRACTIONS,
        seed=asked.seed,
        lists=lists,
    )
