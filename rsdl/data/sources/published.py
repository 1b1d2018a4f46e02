"""Published class-per-folder datasets: location, expected content, download and unpacking.

A dataset is recognized by its class names, not by its path: archives are repacked, unpacked by hand
and moved, and users keep subsets. A difference from the publication is a warning, not an error.
"""

import logging
import os
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rsdl.core.errors import ConfigError, DataError
from rsdl.data.sources.archive import is_archive, unpack
from rsdl.data.sources.download import Progress, download, md5_of
from rsdl.data.sources.folder import FRACTIONS, FolderSource
from rsdl.data.sources.listing import SPLIT_NAMES, is_litter
from rsdl.data.sources.split_files import SplitFile, read_split_files
from rsdl.storage.local import translate

MAX_DEPTH = 8

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PublishedDataset:
    """One published dataset.

    Attributes:
        name: Short name, as on the command line.
        title: Full name with its paper.
        archive: File name of the published archive.
        url: URL of the archive, ``None`` if it must be obtained by hand.
        md5: Checksum of the archive in hex, ``None`` if none is published.
        homepage: Web page for a manual download.
        classes: Names of the class folders.
        num_images: Total number of images.
        bands: Band names, in stored order.
        lists: Published splits by name: for each of train, val and test the URL of a list of
            images, and its MD5 in hex.
    """

    name: str
    title: str
    archive: str
    url: str | None
    md5: str | None
    homepage: str
    classes: tuple[str, ...]
    num_images: int
    bands: tuple[str, ...] = ("red", "green", "blue")
    lists: Mapping[str, tuple[tuple[str, str], ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedChoice:
    """The user's choice of the splits and tiles of a published data set.

    Attributes:
        fractions: Shares of train, val and test for a draw instead of the published split.
        lists: Lists of the images of each split instead of it.
        seed: Seed of the draw and of the order within each split.
        tile: Side of the tiles in pixels instead of the set's own; 0 keeps images whole.
    """

    fractions: tuple[float, float, float] | None = None
    lists: Mapping[str, SplitFile] | None = None
    seed: int = 0
    tile: int | None = None

    @property
    def is_published(self) -> bool:
        """Whether the published split is wanted."""
        return self.fractions is None and self.lists is None


def prepare_source(
    dataset: PublishedDataset,
    *,
    origin: Path | None,
    work: Path,
    progress: Progress = lambda received, total: None,
    fractions: tuple[float, float, float] = FRACTIONS,
    seed: int = 0,
    lists: Mapping[str, SplitFile] | None = None,
) -> FolderSource:
    """Return the dataset as a source, after downloading and unpacking it if needed.

    Args:
        dataset: The dataset to prepare.
        origin: An archive, or a folder that holds the class folders at any depth; ``None``
            downloads the published archive.
        work: Folder for the archive and its unpacked files; the next run reuses it.
        progress: Called while downloading; see :func:`rsdl.data.sources.download.download`.
        fractions: Shares of train, val and test.
        seed: Seed of the split and the order.
        lists: Lists of the images of each split, instead of a draw by ``fractions``.

    Raises:
        DataError: If the data cannot be fetched, unpacked or recognised.
        StorageError: If ``work`` cannot be written.
    """
    provenance: dict[str, object] = {"title": dataset.title, "homepage": dataset.homepage}
    if origin is None:
        origin = _fetch(dataset, work, progress)
        provenance["url"] = dataset.url
    published = (dataset.md5,) if dataset.md5 is not None else ()
    folder, found = unpack_origin(dataset.name, origin, work, published)
    provenance |= found
    tree = find_class_tree(folder, dataset)
    source = FolderSource(
        tree,
        fractions=fractions,
        seed=seed,
        lists=lists,
        name=dataset.name,
        bands=dataset.bands,
        provenance=provenance,
    )
    _compare(dataset, source)
    return source


def unpack_origin(
    name: str, origin: Path, work: Path, published: Sequence[str]
) -> tuple[Path, dict[str, str]]:
    """Return the folder of a data set, and the MD5 of its archive if it was unpacked from one.

    Args:
        name: Name of the data set.
        origin: A folder, or an archive.
        work: Folder for the unpacked files.
        published: MD5s of the published archives in hex; others give a warning.

    Raises:
        DataError: If ``origin`` does not exist, or is a damaged archive or none.
        StorageError: If ``work`` cannot be written.
    """
    if not origin.exists():
        raise DataError(str(origin), "no such file or folder", 'check the path after "--from"')
    if origin.is_dir():
        return origin, {}
    md5 = _checksum(origin, published)
    return unpack(origin, work / f"{name}-{md5[:12]}"), {"md5": md5}


def fetch_lists(
    dataset: PublishedDataset, split: str, work: Path, progress: Progress
) -> dict[str, SplitFile]:
    """Return the lists of a published split, downloaded to ``work`` unless they are there.

    Raises:
        ConfigError: If none is published under this name.
        DataError: If a list cannot be fetched.
    """
    if split not in dataset.lists:
        known = ", ".join(dataset.lists) or "shares or --split-files"
        raise ConfigError("--split", f'{dataset.name} has no split "{split}"', f"use {known}")
    make_folder(work)
    paths = [
        download(url, work / url.rpartition("/")[2], md5=md5, progress=progress)
        for url, md5 in dataset.lists[split]
    ]
    return read_split_files([str(path) for path in paths])


def find_class_tree(folder: Path, dataset: PublishedDataset) -> Path:
    """Return the folder at or below ``folder`` that holds most of the dataset's class folders.

    Raises:
        DataError: If no class folder is found.
    """
    best, most = None, 0
    expected = set(dataset.classes)
    queue = deque([(folder, 0)])
    while queue:
        place, depth = queue.popleft()
        names = _folders(place)
        if (num_found := len(expected.intersection(names))) > most:
            best, most = place, num_found
        if depth < MAX_DEPTH:
            queue += ((place / name, depth + 1) for name in names if name not in expected)
    if best is None:
        raise DataError(
            str(folder),
            f"holds no class folder of {dataset.name} ({', '.join(dataset.classes[:3])}, ...)",
            'name the right archive or folder, or use "rsdl data pack folder" for other classes',
        )
    # SPLIT/CLASS layout: use the splits that come with the data.
    in_split = best != folder and best.name.casefold() in SPLIT_NAMES
    return best.parent if in_split else best


def _fetch(dataset: PublishedDataset, work: Path, progress: Progress) -> Path:
    if dataset.url is None or dataset.md5 is None:
        raise by_hand(dataset.name, dataset.homepage)
    make_folder(work)
    return download(dataset.url, work / dataset.archive, md5=dataset.md5, progress=progress)


def by_hand(name: str, homepage: str) -> DataError:
    """Return the error for a data set that has no stable address."""
    return DataError(
        name,
        f"is only given out by hand ({homepage})",
        'get it there and name the archive or folder with "--from PATH"',
    )


def make_folder(work: Path) -> None:
    """Make a folder for downloads, unless it is there."""
    try:
        work.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise translate(error, work) from error


def _checksum(archive: Path, published: Sequence[str]) -> str:
    if not is_archive(archive):
        raise DataError(str(archive), "is no zip or tar archive", "name an archive or a folder")
    md5 = md5_of(archive)
    if published and md5 not in published:
        shown = " or ".join(published)
        log.warning("%s: MD5 is %s, the published archive's is %s", archive, md5, shown)
    return md5


def _compare(dataset: PublishedDataset, source: FolderSource) -> None:
    published = (set(dataset.classes), dataset.num_images)
    if (set(source.classes), source.num_images) != published:
        log.warning(
            "%s: %d classes with %d images in all; the publication has %d with %d",
            dataset.name,
            len(source.classes),
            source.num_images,
            len(dataset.classes),
            dataset.num_images,
        )


def _folders(place: Path) -> list[str]:
    try:
        with os.scandir(place) as entries:
            names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=True)]
    except OSError as error:
        raise translate(error, place) from error
    return sorted(name for name in names if not is_litter(name))
