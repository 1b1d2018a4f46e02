"""Which image sizes a network takes.

The rules of the nine are written down, so that a config is refused at once; the tests hold them
against real forward passes. A size counts as taken only if every pixel reaches the patches: timm's
own ViT runs on 100 pixels, but sees 96 of them.
"""

from dataclasses import dataclass

from rsdl.core.errors import ConfigError


@dataclass(frozen=True, slots=True)
class SizeRule:
    """Sizes are the multiples of ``step`` from ``minimum`` up.

    Attributes:
        step: Pixels between two sizes.
        minimum: The smallest size in pixels, a multiple of ``step``.
    """

    step: int
    minimum: int

    def takes(self, image_size: int) -> bool:
        """Return whether a network with this rule takes the size."""
        return image_size >= self.minimum and image_size % self.step == 0

    def near(self, image_size: int) -> list[int]:
        """Return the largest size below and the smallest above, as far as there are any."""
        below = image_size // self.step * self.step
        sizes = (below, below + self.step) if below >= self.minimum else (self.minimum,)
        return list(sizes)

    def check(self, image_size: int, name: str) -> None:
        """Refuse a size that the network ``name`` does not take.

        Raises:
            ConfigError: It names the sizes near it that work.
        """
        if not self.takes(image_size):
            kind = f"multiples of {self.step}" if self.step > 1 else "sizes"
            raise size_error(
                image_size, f"{name} takes {kind} from {self.minimum} up", self.near(image_size)
            )


def size_error(image_size: int, reason: str, near: list[int]) -> ConfigError:
    """Return the error for a size that a network does not take, naming sizes that it does."""
    remedy = f"use {' or '.join(map(str, near))}" if near else "use another size or model"
    return ConfigError("data.image_size", f"{reason}, not {image_size}", remedy)
