"""rsdl: train deep networks on high-resolution remote-sensing imagery.

``rsdl.load(RUN)`` returns a trained network. PyTorch is imported at the first use of a name, so
that ``import rsdl`` is quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rsdl.export.load import load

__all__ = ["__version__", "load"]

__version__ = "0.1.0"

# Names of the Python API, and the module that each is in.
LAZY = {"load": "rsdl.export.load"}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - of whatever the name is
    if name not in LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(LAZY[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *LAZY})
