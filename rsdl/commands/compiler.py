"""Check for what torch.compile needs to build kernels: a C++ compiler and Python's headers."""

import os
import shutil
import sysconfig
from pathlib import Path

from rsdl.core.errors import ConfigError

COMPILERS = ("g++", "gcc", "clang")


def require_compiler() -> str:
    """Return the compiler that torch.compile will find.

    Raises:
        ConfigError: If there is no compiler, as in a slim container image, or no ``Python.h``.
    """
    names = [os.environ.get("CXX"), os.environ.get("CC"), *COMPILERS]
    found = next((name for name in names if name and shutil.which(name)), None)
    if found is None:
        raise ConfigError(
            "trainer.compile",
            f"needs a C++ compiler, and none of {', '.join(COMPILERS)} is on PATH",
            "set trainer.compile=off, or install one",
        )
    header = Path(sysconfig.get_path("include")) / "Python.h"
    if not header.is_file():
        raise ConfigError(
            "trainer.compile",
            f"needs Python's headers, and {header} is not there",
            "set trainer.compile=off, or install them (Debian: python3-dev)",
        )
    return found
