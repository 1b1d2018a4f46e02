"""Choose a device, and check that the requested GPU is usable.

It must be present, with a driver that is new enough and an architecture that PyTorch has code for.
"""

import logging
import re
from pathlib import Path

import torch

from rsdl.core.allocator import keep_freed_memory
from rsdl.core.errors import ConfigError, NoGpuError

logger = logging.getLogger(__name__)

DEVICE_FILE = Path("/dev/nvidiactl")
FIELD = "trainer.accelerator"


def check_accelerator(accelerator: str) -> None:
    """Check that the requested accelerator is usable; warn if a GPU of this machine is unused.

    Args:
        accelerator: ``auto``, ``cpu`` or ``gpu``.

    Raises:
        NoGpuError: If ``accelerator`` is ``gpu`` and no GPU is usable. Its exit code asks for a
            retry, since another machine may have one.
    """
    if accelerator == "cpu" or (accelerator == "auto" and not DEVICE_FILE.exists()):
        return
    if (reason := find_hindrance()) is None:
        return
    if accelerator == "gpu":
        raise NoGpuError(
            FIELD,
            f"is gpu, but no GPU can be used here: {reason}",
            "train where there is one, or set it to cpu",
        )
    logger.warning("%s: this machine has a GPU, but trains on the CPU: %s", FIELD, reason)


def choose_device(name: str, field: str) -> torch.device:
    """Return the device of a name; on the CPU, have the process keep freed memory for inference.

    Args:
        name: ``cpu``, ``cuda`` or ``cuda:N``; ``auto`` is a GPU where one can be used.
        field: What named it, for errors.

    Raises:
        ConfigError: If there is no such device.
        NoGpuError: If a GPU is named that cannot be used here.
    """
    device = _find_device(name, field)
    if device.type == "cpu":
        keep_freed_memory()
    return device


def _find_device(name: str, field: str) -> torch.device:
    if name == "auto":
        usable = torch.cuda.is_available() and find_hindrance() is None
        return torch.device("cuda" if usable else "cpu")
    if not re.fullmatch(r"cpu|cuda(:\d{1,4})?", name):
        raise ConfigError(field, f'"{name}" is no device', "use auto, cpu, cuda or cuda:0")
    device = torch.device(name)
    if device.type == "cuda":
        reason = find_hindrance()
        if reason is None and (device.index or 0) >= torch.cuda.device_count():
            reason = f"this machine has {torch.cuda.device_count()}"
        if reason is not None:
            raise NoGpuError(field, f"{name} cannot be used here: {reason}", "use cpu")
    return device


def find_hindrance() -> str | None:
    """Return why no GPU is usable, or ``None`` if one is."""
    if torch.backends.mps.is_available():
        return None
    if torch.version.cuda is None:
        return "this PyTorch is built without CUDA"
    if not torch.cuda.is_available():
        try:
            torch.cuda.init()  # type: ignore[no-untyped-call]
        except (RuntimeError, AssertionError) as error:
            reason = " ".join(str(error).split()).partition(". ")[0].rstrip(".")
            return f"{reason} (PyTorch is built for CUDA {torch.version.cuda})"
        return "none is visible (CUDA_VISIBLE_DEVICES)"
    capability = torch.cuda.get_device_capability()
    if not has_code_for(capability, torch.cuda.get_arch_list()):
        name = torch.cuda.get_device_name()
        return f"this PyTorch has no code for a {name} (sm_{capability[0]}{capability[1]})"
    return None


def has_code_for(capability: tuple[int, int], architectures: list[str]) -> bool:
    """Return whether a GPU can run PyTorch's kernels: sm_80 runs on 8.6, but not on 9.0.

    Args:
        capability: Compute capability of the GPU.
        architectures: Result of ``torch.cuda.get_arch_list``. Code for a ``compute_`` entry (PTX)
            is translated on any newer GPU.
    """
    for text in architectures:
        kind, _, digits = text.partition("_")
        major, minor = divmod(int(digits.rstrip("af")), 10)
        if kind == "compute" and capability >= (major, minor):
            return True
        if kind == "sm" and capability[0] == major and capability[1] >= minor:
            return True
    return False
