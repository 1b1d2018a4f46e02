"""How a published detection set is described: its files' paths, its classes, its split."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from rsdl.data.sources.annotation_formats import Reader
from rsdl.data.sources.annotations import AnnotationReader, AnnotationRules
from rsdl.data.sources.segmentation_dataset import Groups, Other

FileReader = Callable[[Path, Path, AnnotationReader], tuple[int, int] | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectRule:
    """One arrangement of a set's files; either ``read`` or ``read_all`` is given.

    Attributes:
        image: Regular expression of the end of an image's path, case ignored.
        labels: Likewise of the annotations: of those of an image, whose groups are its own, or of
            all images, whose group, if there is one, is their split.
        example: Path of an image, for errors.
        labels_example: Path of the annotations, for errors.
        read: Reads the annotations of an image.
        read_all: Reads the annotations of all images.
        empty: Regular expression of images in which there are no objects, and which have no
            annotations.
        split: The published split of the groups of ``image``. Without this, ``lists`` or a split in
            ``labels`` there is none, and splits are drawn.
        lists: Regular expression of the lists of the images of each split, whose group is the
            split; or of a table of torchgeo's.
        lists_example: Path of a list, for errors.
        tile: Side of the tiles to cut, in pixels; ``None`` keeps images whole.
        overlap: Pixels two neighbouring tiles share.
        group_by: Regular expression for the scene of an image that is a tile of one, in its path;
            a draw keeps scenes whole.
        num_images: Published number of images with annotations; ``None`` if it is unknown.
    """

    image: str
    labels: str
    example: str
    labels_example: str
    read: FileReader | None = None
    read_all: Reader | None = None
    empty: str | None = None
    split: Callable[[Groups], str | None] | None = None
    lists: str | None = None
    lists_example: str = ""
    tile: int | None = None
    overlap: int = 0
    group_by: str | None = None
    num_images: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectionDataset:
    """One published detection set.

    Attributes:
        name: Short name, as on the command line.
        title: Full name with its paper.
        homepage: Web page for a download.
        rules: Arrangements of its files; the first that finds an image with annotations is used.
        objects: Which objects are taken, by which names.
        attributes: Whether the user may choose the attribute of objects that is their class.
        others: Files for which the user is told why nothing is found.
    """

    name: str
    title: str
    homepage: str
    rules: tuple[ObjectRule, ...]
    objects: AnnotationRules = field(default_factory=AnnotationRules)
    attributes: bool = False
    others: tuple[Other, ...] = ()
