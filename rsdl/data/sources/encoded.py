"""Read an encoded image from a file, with as few system calls as possible.

There are millions of small files, and Python's overhead per file costs as much as the file system.
"""

import os

from rsdl.core.errors import CorruptSampleError
from rsdl.data.kinds import READABLE, check_kind


def read_image(where: str, size: int) -> tuple[bytes, str]:
    """Return all bytes of a file, and its kind as in ``READABLE``.

    Args:
        where: The file.
        size: The file's size in bytes when it was listed; it may have changed since.

    Raises:
        CorruptSampleError: If it cannot be read, is empty or its content does not match its suffix.
    """
    try:
        fd = os.open(where, os.O_RDONLY | os.O_CLOEXEC)
        try:
            # Request one byte more than listed, to detect a file that has grown.
            data = os.read(fd, size + 1)
            while len(data) != size and (more := os.read(fd, max(size, 1 << 20))):
                data += more
        finally:
            os.close(fd)
    except OSError as error:
        raise CorruptSampleError(
            where, f"cannot be read: {error.strerror}", "check the file and its permissions"
        ) from error
    extension = READABLE["." + where.rpartition(".")[2].lower()]
    # Check before decoding: OpenCV would decode a JPEG named .png without an error.
    check_kind(data, extension, where)
    return data, extension
