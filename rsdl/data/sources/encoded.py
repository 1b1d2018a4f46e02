"""Reading an encoded image from a file, in as few calls as it takes.

There are millions of small files, and what Python adds to each costs as much as the file system.
"""

import os

from rsdl.core.errors import CorruptSampleError
from rsdl.data.kinds import READABLE, check_kind


def read_image(where: str, size: int) -> tuple[bytes, str]:
    """Return what a file holds, whole, and which of ``READABLE`` it is.

    Args:
        where: The file.
        size: Its size in bytes as it was listed; it may have changed since.

    Raises:
        CorruptSampleError: If it cannot be read, is empty or holds another kind than its name says.
    """
    try:
        fd = os.open(where, os.O_RDONLY | os.O_CLOEXEC)
        try:
            # One byte more than there should be: had it grown, it would be there.
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
    # Before decoding: OpenCV would gladly decode a JPEG that is named as a PNG.
    check_kind(data, extension, where)
    return data, extension
