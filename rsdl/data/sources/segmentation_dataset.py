"""How a published segmentation set is described: its files' paths, its classes, its split."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from rsdl.data.sources.image_layout import RGB
from rsdl.data.sources.listing import SPLIT_NAMES
from rsdl.raster.picture import PLAIN, PictureRules

TILE = 512
Groups = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MaskClasses:
    """What masks hold; see :class:`rsdl.data.sources.mask_folder.MaskOptions`."""

    classes: tuple[str, ...] | None = None
    colours: str | None = None
    ignore: tuple[str, ...] = ()
    nearest_colour: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PairRule:
    """One arrangement of a set's files.

    Attributes:
        image: Regular expression of the end of an image's path, case ignored.
        mask: Likewise of a mask's; its groups are those of its image.
        example: Path of an image, for errors.
        masks: What the masks hold.
        bands: Band names of the images.
        tile: Side of the tiles to cut, in pixels; ``None`` keeps images whole.
        split: The published split of the groups of ``image``, ``None`` for an image in no split.
            Without this or ``listed`` there is none, and splits are drawn.
        listed: What ``train.txt``, ``val.txt`` and ``test.txt`` above the images name; tiles are
            those of :func:`rsdl.data.sources.listed_tiles.pick_listed_tiles`.
        group_by: Regular expression for the scene of an image that is a tile of one, in its path;
            a draw keeps scenes whole.
        block_m: Side in metres of the blocks of ground by which splits are drawn if none are
            published; ``None`` draws image by image, or by ``group_by``.
        num_pairs: Published number of pairs; ``None`` if it is unknown.
    """

    image: str
    mask: str
    example: str
    masks: MaskClasses
    bands: tuple[str, ...] = RGB
    tile: int | None = TILE
    split: Callable[[Groups], str | None] | None = None
    listed: Literal["images", "tiles"] | None = None
    group_by: str | None = None
    block_m: float | None = None
    num_pairs: int | None = None


class Archive(NamedTuple):
    """A published archive: its URL, and its MD5 in hex."""

    url: str
    md5: str


class Other(NamedTuple):
    """Files that look like those of a set and are not taken: what is in their paths, and why."""

    pattern: str
    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentationDataset:
    """One published segmentation set.

    Attributes:
        name: Short name, as on the command line.
        title: Full name with its paper.
        homepage: Web page for a manual download.
        rules: Arrangements of its files; the first that finds a pair is used.
        archives: Its archives; none if it must be obtained by hand.
        pictures: Options for the images.
        mask_suffixes: Suffixes of masks that are no images.
        others: Files for which the user is told why nothing is found.
    """

    name: str
    title: str
    homepage: str
    rules: tuple[PairRule, ...]
    archives: tuple[Archive, ...] = ()
    pictures: PictureRules = PLAIN
    mask_suffixes: tuple[str, ...] = ()
    others: tuple[Other, ...] = ()


def split_of_folder(groups: Groups) -> str:
    """Return the split that the first group, a folder's name, stands for."""
    return SPLIT_NAMES[groups[0].casefold()]


def split_of_tile(train: str, test: str) -> Callable[[Groups], str | None]:
    """Return a function from the first group, a tile's name, to its split.

    Args:
        train: Names of the tiles of train, divided by spaces.
        test: Likewise of test.
    """
    splits = dict.fromkeys(train.split(), "train") | dict.fromkeys(test.split(), "test")
    return lambda groups: splits.get(groups[0])
