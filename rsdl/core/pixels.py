"""Types of pixel arrays, and the limit on the size of a decoded image."""

from typing import Any, Literal

from numpy.typing import NDArray

Pixels = NDArray[Any]  # [H, W, C], or [H, W] of a single band
Dtype = Literal["uint8", "uint16", "float32"]

# Limit for one decoded image; larger ones are scenes, to be cut into tiles.
MAX_BYTES = 768 << 20


def check_size(height: int, width: int, pixel_bytes: int) -> None:
    """Reject an image whose header claims too many pixels, before memory is allocated.

    Raises:
        ValueError: If it would decode to more than ``MAX_BYTES``.
    """
    if height * width * pixel_bytes > MAX_BYTES:
        raise ValueError(f"it claims {height} x {width} pixels, over {MAX_BYTES >> 20} MiB")
