"""What the packer, the index, the loader, verify and previews know of a target.

A target is what the network should answer for one image: a class, a mask, boxes. Everything that
differs between them is in one class of this room, so that shards are written, indexed, checked,
read, cropped and turned by code that knows no task.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from rsdl.core.errors import CorruptSampleError
from rsdl.core.image_size import ImageSize
from rsdl.data.tar import Member

if TYPE_CHECKING:  # a manifest is read without loading PyTorch
    from torch import Tensor

Content = Callable[[Member], bytes]
Target = Any  # each kind has its own type


class Window(NamedTuple):
    """The part of a stored image that becomes a row of a batch, in pixels of that image.

    Attributes:
        top: First row.
        left: First column.
        height: Rows.
        width: Columns.
    """

    top: int
    left: int
    height: int
    width: int


Choices = Callable[[int, int], Iterable[Window]]  # of the height and width of an image


class Dihedral(NamedTuple):
    """One of the eight symmetries of the square for each image of a batch.

    An image is transposed first, then flipped; see ``rsdl/data/dihedral.py``.

    Attributes:
        swap: Which images are transposed, ``[B]`` bool.
        over_y: Which are flipped top to bottom, ``[B]`` bool.
        over_x: Which are flipped left to right, ``[B]`` bool.
    """

    swap: "Tensor"
    over_y: "Tensor"
    over_x: "Tensor"


class Cut(NamedTuple):
    """A target that is to be cropped with its image.

    Attributes:
        target: That of the whole image.
        window: The part of the image that was cropped.
        size: Height and width of the image.
    """

    target: Target
    window: Window
    size: tuple[int, int]


def crop_each(
    kind: "TargetKind", cuts: Sequence[Cut], image_size: ImageSize
) -> list[Target | CorruptSampleError]:
    """Crop targets one by one, for kinds that gain nothing by cropping several at once."""
    cropped: list[Target | CorruptSampleError] = []
    for cut in cuts:
        try:
            cropped.append(kind.crop(*cut, image_size))
        except CorruptSampleError as error:
            cropped.append(error)
    return cropped


class TargetKind(Protocol):
    """One kind of target.

    Attributes:
        name: Name of the kind in manifests.
        member: Extension of the target's member in a shard.
        counts: What :meth:`count` counts, for people.
        in_index: Whether the index holds the whole target as a class index, so that nothing is read
            from the shard; otherwise it holds where the member lies.
        least_classes: Fewest classes with which there is something to learn.
        composes: Whether images of several others have targets, see rsdl/data/compose.py.
    """

    name: str
    member: str
    counts: str
    in_index: bool
    least_classes: int
    composes: bool

    def encode(self, target: Target) -> bytes:
        """Return the content of the target's member."""
        ...

    def decode(self, data: bytes, where: str) -> Target:
        """Return the target that a member holds.

        Raises:
            CorruptSampleError: If it holds none.
        """
        ...

    def find(
        self, members: Mapping[str, Member], content: Content, where: str
    ) -> tuple[Target, str | None]:
        """Return the target of a sample of any WebDataset, and its class name if one is told.

        Raises:
            CorruptSampleError: If the sample has no target.
        """
        ...

    def label(self, target: Target) -> int:
        """Return the number that the index holds: the class index, or -1 where there is none."""
        ...

    def problem(self, target: Target, num_classes: int) -> str | None:
        """Return why a target does not fit the data set's classes, or ``None`` if it does."""
        ...

    def count(self, target: Target) -> Counter[int]:
        """Return how much of each class a target holds (samples, pixels or objects)."""
        ...

    def allocate(self, rows: int, image_size: ImageSize) -> Any:  # noqa: ANN401
        """Return memory for the targets of a batch: an array ``[B, ...]``, or a list of rows."""
        ...

    def aim(self, target: Target, choices: Choices) -> int:
        """Return the number of the window, of several, that a crop with foreground takes.

        Args:
            target: That of the whole image.
            choices: The windows for an image's height and width.
        """
        ...

    def crop(
        self, target: Target, window: Window, size: tuple[int, int], image_size: ImageSize
    ) -> Target:
        """Return a target after its image was cropped and resized.

        Args:
            target: That of the whole image.
            window: The part of the image that was cropped.
            size: Height and width of the image.
            image_size: What the window was resized to.

        Raises:
            CorruptSampleError: If the target does not fit the image.
        """
        ...

    def crop_all(
        self, cuts: Sequence[Cut], image_size: ImageSize
    ) -> list[Target | CorruptSampleError]:
        """Return what :meth:`crop` returns for each of several images, or its error."""
        ...

    def collate(self, targets: Any) -> NDArray[Any]:  # noqa: ANN401
        """Return the targets of a batch as one array ``[B, ...]``; ragged ones are padded."""
        ...

    def draw(
        self, picture: NDArray[np.uint8], target: Target, classes: Sequence[str]
    ) -> NDArray[np.uint8]:
        """Return a picture with its target drawn on it, for people.

        Args:
            picture: The stored image in colours, ``[H, W, 3]``; may be changed.
            target: Its target.
            classes: Names of the classes.
        """
        ...

    def turn(self, targets: "Tensor", turned: Dihedral, image_size: ImageSize) -> "Tensor":
        """Return the targets of images that were flipped and transposed."""
        ...

    def rotate(self, targets: "Tensor", angles: "Tensor", image_size: ImageSize) -> "Tensor":
        """Return the targets of images that were turned about their centres.

        Args:
            targets: Those of a batch.
            angles: From the x axis towards the y axis (down) in radians, ``[B]``.
            image_size: Size of the images.
        """
        ...
