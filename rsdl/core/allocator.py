"""Configure glibc's malloc to keep freed memory, which speeds up networks on the CPU.

Every step allocates and frees the same activations. By default glibc returns each block of more
than some megabytes to the kernel at once, and the kernel zeroes and maps its pages again in the
next step: a fifth of the CPU time of a ResNet-50's step. The trade-off: a process keeps the memory
of its largest step until it exits.
"""

import ctypes
import os

# <malloc.h>
M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3

# Larger blocks are not activations: they stay on mmap and are returned when freed.
MAPPED_BYTES = 1 << 30

# If the user sets one of these, the allocator is left as configured.
VARIABLES = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_MMAP_MAX_")


def keep_freed_memory() -> bool:
    """Make this process reuse freed memory instead of returning it to the kernel.

    Returns:
        Whether the setting was applied: not on a C library other than glibc, nor where environment
        variables configure malloc.
    """
    chosen = any(name in os.environ for name in VARIABLES)
    if chosen or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, MAPPED_BYTES) and mallopt(M_TRIM_THRESHOLD, -1))
