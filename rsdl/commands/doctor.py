"""``rsdl doctor``: check whether this machine can train, and name a remedy if not.

Every check tests the real thing (imports the package, runs on the GPU, reads the manifest) and
prints one line. Packages are imported inside the checks, so that a broken one gives a line instead
of a crash.
"""

import importlib
import os
import platform
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.text import Text

from rsdl.core.errors import RsdlError
from rsdl.core.resources import usable_cores, usable_memory
from rsdl.train.compile import require_compiler

GIB = 1 << 30
MIN_PYTHON = (3, 11)
MIN_MEMORY = 4 * GIB
MIN_DISK = 5 * GIB
MIN_SHM = GIB  # size of NCCL's buffers on a node full of GPUs
SHM = Path("/dev/shm")
STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}
# Module to import -> distribution to install if it is missing.
PACKAGES = {
    "torchvision": "torchvision",
    "timm": "timm",
    "pytorch_lightning": "pytorch-lightning",
    "torchmetrics": "torchmetrics",
    "webdataset": "webdataset",
    "rasterio": "rasterio",
    "simplejpeg": "simplejpeg",
    "cv2": "opencv-python-headless",
}


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one check.

    Attributes:
        name: Name of the check.
        status: ``fail`` if training cannot work, ``warn`` if it will be slow or may run out.
        text: Finding.
        remedy: Advice for the user, if any.
    """

    name: str
    status: Literal["ok", "warn", "fail"]
    text: str
    remedy: str | None = None


def run_doctor(urls: Sequence[str] = (), *, output: str = ".") -> int:
    """Print one line for each check and return the exit code.

    Args:
        urls: Data sets that must be reachable.
        output: Folder that runs will be written to.

    Returns:
        1 if a check failed, otherwise 0.
    """
    console = Console()
    failed = False
    for check in examine(urls, output=output):
        failed |= check.status == "fail"
        line = Text.assemble(
            (f"{check.status:<5}", STYLES[check.status]), f"{check.name:<10}", check.text
        )
        if check.remedy:
            line.append(f"; {check.remedy}", "bold")
        console.print(line, soft_wrap=True)  # piped, a check stays one line
    return int(failed)


def examine(urls: Sequence[str], *, output: str) -> Iterator[Check]:
    """Yield all checks, the quick ones first."""
    yield check_python()
    yield check_cores()
    yield check_memory()
    yield check_disk(output)
    yield check_torch()
    yield check_gpu()
    with _quiet():
        num_gpus = _count_gpus()
    if num_gpus:
        yield check_jpegs("cuda:0")
    yield check_compiler()
    yield check_shared_memory(num_gpus)
    yield from check_packages()
    for url in urls:
        yield check_data(url)


def check_python(version: tuple[int, ...] = sys.version_info[:3]) -> Check:
    """Check the interpreter's version."""
    text = f"{'.'.join(map(str, version))} on {platform.system()} {platform.machine()}"
    if version[:2] < MIN_PYTHON:
        return Check("Python", "fail", text, "use Python 3.11 or newer")
    return Check("Python", "ok", text)


def check_cores() -> Check:
    """Check the number of cores that this process may use."""
    usable, present = usable_cores(), os.cpu_count() or 1
    text = f"{usable} usable" + (f" of {present}" if usable < present else "")
    if usable < 2:
        return Check("Cores", "warn", text, "give 2 or more: one trains while others decode images")
    return Check("Cores", "ok", text)


def check_memory() -> Check:
    """Check the memory of the machine or the limit of the container."""
    usable = usable_memory()
    text = f"{usable / GIB:.1f} GiB usable"
    if usable < MIN_MEMORY:
        return Check("Memory", "warn", text, "lower data.batch_size if the run is killed")
    return Check("Memory", "ok", text)


def check_disk(output: str) -> Check:
    """Check that runs can be written to ``output`` and that there is room."""
    if "://" in output and not output.startswith("file://"):
        return Check(
            "Disk", "ok", f"{output} is not on this machine; it is tried when a run starts"
        )
    folder = Path(output.removeprefix("file://")).expanduser().absolute()
    while not folder.exists():  # a run creates missing folders
        folder = folder.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        return Check("Disk", "fail", f"{folder} is not a folder that you may write to",
                     "choose another output folder")  # fmt: skip
    free = shutil.disk_usage(folder).free
    text = f"{free / GIB:.1f} GiB free at {folder}"
    if free < MIN_DISK:
        return Check("Disk", "warn", text, "free some space or choose another output folder")
    return Check("Disk", "ok", text)


def check_torch() -> Check:
    """Check that PyTorch imports and does not run more threads than there are cores."""
    try:
        import torch
    except (ImportError, OSError) as error:
        return Check("PyTorch", "fail", f"cannot be imported ({error})", "pip install torch")
    threads, cores = torch.get_num_threads(), usable_cores()
    text = f"{torch.__version__}, {_count(threads, 'thread')}"
    if threads > cores:
        return Check("PyTorch", "warn", text, f"export OMP_NUM_THREADS={cores}")
    return Check("PyTorch", "ok", text)


def check_gpu() -> Check:
    """Check that every GPU computes; report a driver without a usable GPU."""
    driver = _driver_version()
    with _quiet() as told:
        num_gpus = _count_gpus()
    if not num_gpus and driver is None:
        return Check("GPU", "warn", "no GPU: training runs on the CPU")
    if not num_gpus:
        reason = "; ".join(told) or "PyTorch sees no GPU"
        return Check("GPU", "fail", f"driver {driver} is there, but {reason}",
                     "install a PyTorch that is built for this driver")  # fmt: skip
    import torch

    names = []
    for number in range(num_gpus):
        try:
            ones = torch.ones(8, 8, device=f"cuda:{number}")
            correct = bool((ones @ ones == 8).all())
            found = torch.cuda.get_device_properties(number)
        except RuntimeError as error:
            return Check("GPU", "fail", f"cuda:{number} does not compute ({_first_line(error)})",
                         "free the GPU or install a PyTorch that is built for it")  # fmt: skip
        if not correct:
            return Check("GPU", "fail", f"cuda:{number} computes wrong numbers", "do not use it")
        names.append(f"{found.name} {found.total_memory / GIB:.0f} GiB")
    versions = f"CUDA {torch.version.cuda}, driver {driver or 'unknown'}"
    return Check("GPU", "ok", f"{', '.join(names)}; {versions}")


def check_jpegs(device: str) -> Check:
    """Check that ``data.decode=device`` would work, which training does not require."""
    import torch

    from rsdl.data.gpu.decoder import DeviceDecoder

    try:
        DeviceDecoder(torch.device(device))
    except RsdlError as error:
        return Check("JPEGs", "warn", f"{error.where} {error.problem}", "keep data.decode=host")
    return Check("JPEGs", "ok", f"can be decoded on {device} (data.decode=device)")


def check_compiler() -> Check:
    """Check that ``trainer.compile`` would work, which training does not require."""
    try:
        found = require_compiler()
    except RsdlError as error:
        return Check("Compiler", "warn", f"{error.where} {error.problem}",
                     "keep trainer.compile=off")  # fmt: skip
    return Check("Compiler", "ok", f"{found} and Python's headers are there (trainer.compile)")


def check_shared_memory(num_gpus: int, folder: Path = SHM) -> Check:
    """Check /dev/shm, which NCCL uses when several GPUs of a node train together."""
    if not folder.is_dir():
        return Check("/dev/shm", "ok", "none; loading does not need it")
    size = shutil.disk_usage(folder).total
    text = f"{size / GIB:.2f} GiB; loading does not need it, several GPUs do"
    if num_gpus > 1 and size < MIN_SHM:
        return Check("/dev/shm", "warn", text, "mount at least 1 GiB (an emptyDir in memory)")
    return Check("/dev/shm", "ok", text)


def check_packages() -> Iterator[Check]:
    """Import rsdl's dependencies; yield one line for all that import and one for each failure."""
    found, missing = [], []
    for module, distribution in PACKAGES.items():
        try:
            with _quiet():
                version = getattr(importlib.import_module(module), "__version__", "")
            found.append(f"{distribution} {version}".strip())
        except Exception as error:  # a broken package may fail in any way
            text = f"{distribution} cannot be imported ({_first_line(error)})"
            missing.append(Check("Packages", "fail", text, f"pip install {distribution}"))
    if found:
        yield Check("Packages", "ok", ", ".join(found))
    yield from missing


def check_data(url: str) -> Check:
    """Check that a data set's manifest loads, and that each split's index and shards are there."""
    from rsdl.data.manifest import load_manifest
    from rsdl.data.shard_store import open_shards
    from rsdl.storage.connect import connect

    try:
        store = connect(url)
        manifest = load_manifest(store, where=url)
        shards = open_shards(store, manifest)
        for name, split in manifest.splits.items():
            files = [(store, split.index), *((shards, shard) for shard in split.shards[:1])]
            for place, file in files:
                size = place.size(file.name)
                if size != file.bytes:
                    problem = (
                        "is missing" if size is None else f"has {size} bytes, not {file.bytes}"
                    )
                    return Check("Data", "fail", f"{url}: {file.name} of split {name} {problem}",
                                 f'see "rsdl data verify {url}"')  # fmt: skip
    except RsdlError as error:
        return Check("Data", "fail", f"{error.where}: {error.problem}", error.remedy)
    counts = ", ".join(f"{split.samples:,} {name}" for name, split in manifest.splits.items())
    text = (
        f"{url}: {manifest.dataset}, {_count(len(manifest.classes), 'class', 'classes')}, {counts}"
    )
    return Check("Data", "ok", text)


@contextmanager
def _quiet() -> Iterator[list[str]]:
    """Collect the first lines of warnings instead of showing them between the checks."""
    told: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield told
        told.extend(_first_line(warning.message) for warning in caught)


def _count_gpus() -> int:
    try:
        import torch
    except (ImportError, OSError):
        return 0
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def _driver_version() -> str | None:
    """Return the NVIDIA driver's version, or ``None`` without a working driver."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    query = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.split("\n", 1)[0].strip() or None


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number} {one if number == 1 else many or f'{one}s'}"


def _first_line(error: Warning | Exception | str) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
