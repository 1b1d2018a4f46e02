"""What is done to a network before training: torch.compile, activation checkpointing."""

import os
import shutil
import sysconfig
from pathlib import Path

from torch import nn

from rsdl.config.trainer import Compile
from rsdl.core.errors import ConfigError

COMPILERS = ("g++", "gcc", "clang")
REPLAYED = ("reduce-overhead", "max-autotune")  # modes that replay CUDA graphs


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


def checkpoint_activations(network: nn.Module, name: str) -> None:
    """Have a network compute its activations anew in the backward pass, as timm does it.

    Args:
        network: The network.
        name: Of the model, for messages.

    Raises:
        ConfigError: If it has batch norm, whose running statistics each step would update twice,
            or if timm knows no way for it.
    """
    field, remedy = "trainer.checkpoint_activations", "leave it out, and raise trainer.accumulate"
    if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules()):
        problem = f"{name} has batch norm, whose statistics each step would update twice"
        raise ConfigError(field, problem, remedy)
    try:
        network.set_grad_checkpointing(True)  # type: ignore[operator]
    except (AttributeError, AssertionError) as error:
        raise ConfigError(field, f"timm has no way to do it for {name}", remedy) from error


def compile_for(part: nn.Module, how: Compile, *, graphs: bool = True) -> None:
    """Set a module up, in place, to be compiled by torch.compile at its first call.

    Args:
        part: Module to compile; its batches have one size in training and one in evaluation.
        how: Value of ``trainer.compile``.
        graphs: Whether to use CUDA graphs if ``how`` is a mode with them.

    Raises:
        ConfigError: If there is no C++ compiler, or Python's headers are missing.
    """
    if how == "off":
        return
    require_compiler()
    mode = "default" if how == "on" or not graphs else how
    part.compile(mode=mode, dynamic=False)
