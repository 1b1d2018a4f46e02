"""The size of the images that a network sees, as torchvision writes it: a side, or a pair."""

ImageSize = int | tuple[int, int]  # side of a square, or (height, width), px


def height_width(size: ImageSize) -> tuple[int, int]:
    """Return height and width in pixels."""
    return (size, size) if isinstance(size, int) else size


def aspect_ratio(size: ImageSize) -> float:
    """Return width over height."""
    height, width = height_width(size)
    return width / height


def show_size(size: ImageSize) -> str:
    """Return a size for users, without the unit: ``224``, or ``512 x 768`` (height first)."""
    return str(size) if isinstance(size, int) else " x ".join(map(str, size))
