"""Rules of the image sizes that a network accepts.

The rules of the nine architectures are constants, so that a wrong config fails at once; tests
compare them with real forward passes. A size is accepted only if every pixel is in a patch: timm's
own ViT runs on 100 pixels, but uses only 96 of them.
"""

from dataclasses import dataclass

from rsdl.core.errors import ConfigError
from rsdl.core.image_size import ImageSize, height_width, show_size


@dataclass(frozen=True, slots=True)
class SizeRule:
    """Accepted sizes: the multiples of ``step`` from ``minimum`` up.

    Attributes:
        step: Pixels between two sizes.
        minimum: The smallest size in pixels, a multiple of ``step``.
    """

    step: int
    minimum: int

    def takes(self, side: int) -> bool:
        """Return whether a network with this rule accepts images of this height or width."""
        return side >= self.minimum and side % self.step == 0

    def near(self, side: int) -> list[int]:
        """Return the nearest accepted sides, one below (if any) and one above."""
        below = side // self.step * self.step
        sizes = (below, below + self.step) if below >= self.minimum else (self.minimum,)
        return list(sizes)

    def check(self, image_size: ImageSize, name: str) -> None:
        """Check that the network ``name`` accepts a size.

        Raises:
            ConfigError: If not; the message names the nearest sizes that work.
        """
        for side in height_width(image_size):
            if not self.takes(side):
                kind = f"multiples of {self.step}" if self.step > 1 else "sizes"
                reason = f"{name} takes {kind} from {self.minimum} up"
                raise size_error(side, reason, self.near(side))


def size_error(image_size: ImageSize, reason: str, near: list[int]) -> ConfigError:
    """Return the error for a size that a network does not accept, with accepted sizes near it."""
    remedy = f"use {' or '.join(map(str, near))}" if near else "use another size or model"
    return ConfigError("data.image_size", f"{reason}, not {show_size(image_size)}", remedy)
