"""Read tensors by name from a weight file or checkpoint of any project.

Only tensors are read: PyTorch's own unpickler refuses a pickle that would run code.
"""

import argparse
import pickle
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from rsdl.core.errors import ConfigError

FIELD = "model.weights"
Tensors = dict[str, Tensor]

# Keys under which checkpoints keep their tensors; averaged weights are better and come first.
ENTRIES = ("state_dict_ema", "model_ema", "state_dict", "model", "teacher", "student")
EMA_PREFIX = "averaged.module."
MODULE_PREFIX = "model."
PICKLES = (b"PK", b"\x80")  # first bytes of torch.save's files, current and old format
WRAPPERS = ("_orig_mod.", "module.")  # torch.compile and DDP


def read_tensors(path: Path, source: str) -> Tensors:
    """Return the tensors of a weight file or checkpoint by name, without wrappers' prefixes.

    Args:
        path: The file.
        source: What it is, for errors.

    Raises:
        ConfigError: If the file cannot be read or holds anything but tensors.
    """
    content: Any = _unpack(path, source)
    while entry := _entry(content):
        content = content[entry]
    if not isinstance(content, dict) or not content:
        raise _unreadable(source, "holds no weights by name")
    for prefix in (EMA_PREFIX, MODULE_PREFIX):
        chosen = {k.removeprefix(prefix): v for k, v in content.items() if k.startswith(prefix)}
        if chosen:
            content = chosen
            break
    odd = next((key for key, value in content.items() if not isinstance(value, Tensor)), None)
    if odd is not None:
        raise _unreadable(source, f'"{odd}" is no tensor')
    if any(tensor.is_meta for tensor in content.values()):
        problem = f"{source}: its weights are in the shards of a run"
        raise ConfigError(FIELD, problem, "use the run's best.ckpt, or rsdl export")
    return {_unwrap(name): tensor for name, tensor in content.items()}


def _entry(content: object) -> str | None:
    """Return the key under which a checkpoint keeps its tensors, if any; entries may be nested."""
    if not isinstance(content, dict):
        return None
    return next((entry for entry in ENTRIES if isinstance(content.get(entry), dict)), None)


def _unpack(path: Path, source: str) -> object:
    try:
        if path.suffix == ".safetensors":
            return load_file(path, device="cpu")
        # timm's training script stores its arguments in checkpoints; a Namespace is safe to load.
        # PyTorch warns about pickles that it did not write, and then reads or refuses them.
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        with path.open("rb") as file:
            if not file.read(2).startswith(PICKLES):
                raise _unreadable(source, "is damaged or no weight file") from error
        problem = f"{source} holds more than tensors, which could run code and is never loaded"
        raise ConfigError(FIELD, problem, "save its state_dict alone and use that file") from error
    except PermissionError as error:
        raise _unreadable(source, "permission denied") from error
    except (SafetensorError, OSError, EOFError, RuntimeError, ValueError, LookupError) as error:
        raise _unreadable(source, "is damaged or no weight file") from error


def _unreadable(source: str, problem: str) -> ConfigError:
    return ConfigError(FIELD, f"{source}: {problem}", "copy the file again, or use another")


def _unwrap(name: str) -> str:
    while name.startswith(WRAPPERS):
        name = name.partition(".")[2]
    return name
