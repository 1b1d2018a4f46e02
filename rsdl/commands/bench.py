"""``rsdl bench``: the benchmarks of the checkout, each in a process of its own."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from rsdl.core.errors import ConfigError, InputError

# What a user asks for -> the file of ``benchmarks/`` that measures it.
BENCHMARKS = {
    "loader": "loader",
    "store": "store",
    "train": "overhead",
    "feed": "feeding",
    "evaluate": "evaluation",
    "gpu": "gpu",
    "launching": "launching",
    "decode": "device_decode",
    "resume": "resume",
    "pack": "pack",
    "scale": "scale",
}


def bench(name: str, arguments: Sequence[str] = (), *, out: str = "bench") -> int:
    """Run a benchmark; it prints its tables and leaves ``NAME.json`` and ``NAME.png``.

    Args:
        name: A key of ``BENCHMARKS``.
        arguments: For the benchmark itself.
        out: Folder for what it writes.

    Returns:
        The exit code of the benchmark.

    Raises:
        ConfigError: If there is no such benchmark.
        InputError: If this is not a checkout.
    """
    if name not in BENCHMARKS:
        raise ConfigError("NAME", f"there is no benchmark {name!r}", f"take {_names()}")
    root = Path(__file__).resolve().parents[2]
    if not (root / "benchmarks" / f"{BENCHMARKS[name]}.py").is_file():
        raise InputError(
            "rsdl bench", f"{root} holds no benchmarks: they are no part of the installed package",
            'clone the repository and run "pip install -e .[bench]" in it',
        )  # fmt: skip
    folder = Path(out).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    files = [f"--json={folder / name}.json", f"--png={folder / name}.png"]
    command = [sys.executable, "-m", f"benchmarks.{BENCHMARKS[name]}", *files, *arguments]
    return subprocess.run(command, cwd=root, check=False).returncode


def _names() -> str:
    *first, last = BENCHMARKS
    return f"{', '.join(first)} or {last}"
