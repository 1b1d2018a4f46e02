"""How the C library hands freed memory back: on a processor, training wants it kept.

Every step allocates and frees the same activations. By default glibc gives each block of more than
some megabytes back to the kernel at once, which zeroes and maps all its pages again in the next
step: a fifth of the processor time of a ResNet-50's step. The trade-off: a process keeps the memory
of its largest step until it ends.
"""

import ctypes
import os

# <malloc.h>
M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3

# Larger blocks are no activations; they are mapped, and go back when they are freed.
MAPPED_BYTES = 1 << 30

# Where the user has chosen, the choice stands.
VARIABLES = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_MMAP_MAX_")


def keep_freed_memory() -> bool:
    """Have this process reuse what it frees instead of returning it to the kernel.

    Returns:
        Whether it does: a C library other than glibc has no such switch, and what the environment
        says of it is left alone.
    """
    chosen = any(name in os.environ for name in VARIABLES)
    if chosen or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, MAPPED_BYTES) and mallopt(M_TRIM_THRESHOLD, -1))
