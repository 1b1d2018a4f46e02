"""rsdl: train deep networks on high-resolution remote-sensing imagery.

The Python API: ``rsdl.load(RUN)`` returns a trained network, ``rsdl.DataModule(URL)`` loads for any
loop or Trainer, ``rsdl.train`` and ``rsdl.evaluate`` are the commands. PyTorch is imported at the
first use of a name, so that ``import rsdl`` is quick.
"""

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rsdl.commands.api import evaluate as evaluate
    from rsdl.commands.api import train as train
    from rsdl.data.standalone import DataModule as DataModule
    from rsdl.export.load import load as load

__version__ = "0.1.0"

# The Python API and where it lies; imported on first use, since torch takes seconds.
_API = {
    "DataModule": "rsdl.data.standalone",
    "evaluate": "rsdl.commands.api",
    "load": "rsdl.export.load",
    "train": "rsdl.commands.api",
}
# Functions of the API that have the name of a package of rsdl.
_PACKAGES = ("evaluate", "train")

__all__ = ["DataModule", "__version__", "evaluate", "load", "train"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - a module's attribute
    if name in _PACKAGES:
        return importlib.import_module(f"rsdl.{name}")
    if name in _API:
        return getattr(importlib.import_module(_API[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)


class _CallablePackage(ModuleType):
    """A package that can be called as the API's function of the same name."""

    def __call__(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401 - the function's own
        return self._function(*args, **options)

    @property
    def _function(self) -> Any:  # noqa: ANN401
        name = self.__name__.rpartition(".")[2]
        return getattr(importlib.import_module(_API[name]), name)

    @property
    def __signature__(self) -> Any:  # noqa: ANN401 - inspect's, which takes milliseconds to import
        import inspect

        return inspect.signature(self._function)


class _Root(ModuleType):
    """Importing ``rsdl.train.build`` binds the package to ``rsdl.train``: it stays callable."""

    def __setattr__(self, name: str, value: object) -> None:
        if name in _PACKAGES and isinstance(value, ModuleType):
            value.__class__ = _CallablePackage
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Root
