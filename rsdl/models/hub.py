"""Downloads: timm's pretrained weights, and weight files by ``https://``.

The hub's own client retries for most of a minute without internet. So a copy in the local cache is
used without any request; otherwise one short request checks first whether the hub is reachable.
"""

import hashlib
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import timm
import torch
from huggingface_hub import constants, try_to_load_from_cache
from timm.models import PretrainedCfg

from rsdl.core.errors import ConfigError, RsdlError, UnreachableError
from rsdl.core.http_status import is_temporary
from rsdl.storage.local import LocalStore, translate
from rsdl.storage.locks import exclusive_if_soon

Progress = Callable[[int, int | None], None]

TIMEOUT_S = 10
CHUNK_BYTES = 1 << 20
# How long a process waits for another of its node that downloads, before it does so itself.
PATIENCE_S = 600
LOCK = ".lock"
HUB_ADDRESS = re.compile(r"hub:(?P<repository>[^@]+?/[^@/]+)(@(?P<revision>[^/]+))?/(?P<file>.+)")
HUB_FILES = ("model.safetensors", "pytorch_model.bin")
REMEDY = "name a file with model.weights=PATH, or start at random with model.weights=none"


def find_pretrained(timm_name: str) -> dict[str, Any]:
    """Return timm's config overlay with the source of a model's pretrained weights.

    Raises:
        ConfigError: If there are none, or they are not cached and ``HF_HUB_OFFLINE`` is set.
        UnreachableError: If they are not cached and the hub cannot be reached.
    """
    source = timm.get_pretrained_cfg(timm_name)
    if source is None or not source.has_weights:
        raise ConfigError("model.weights", f"timm has no pretrained weights of {timm_name}", REMEDY)
    if source.custom_load or not source.hf_hub_id:
        return {}  # timm loads this rare format itself
    for address in hub_addresses(source):
        if (cached := cached_copy(address)) is not None:
            return {"file": str(cached)}
    _check_hub(timm_name)
    return {}


def hub_addresses(source: PretrainedCfg) -> tuple[str, ...]:
    """Return the addresses at the hub that one of timm's configs may have its weights under."""
    names = (source.hf_hub_filename,) if source.hf_hub_filename else HUB_FILES
    return tuple(f"hub:{source.hf_hub_id}/{name}" for name in names)


def cached_copy(address: str) -> Path | None:
    """Return the copy of ``hub:REPOSITORY@REVISION/FILE`` in the cache of the hub's own client."""
    if (parts := HUB_ADDRESS.fullmatch(address)) is None:
        return None
    cached = try_to_load_from_cache(parts["repository"], parts["file"], revision=parts["revision"])
    return Path(cached) if isinstance(cached, str) else None


def open_address(address: str, progress: Progress | None = None) -> Path:
    """Return the local copy of ``hub:REPOSITORY@REVISION/FILE`` or of a URL.

    A copy that the hub's own client has cached is used without any request.

    Args:
        address: The file; without a revision it is the newest.
        progress: Called with the bytes that are there and those that there will be.

    Raises:
        ConfigError: If there is no such file, or ``HF_HUB_OFFLINE`` is set.
        UnreachableError: If the server cannot be reached, or does not send the whole file.
    """
    parts = HUB_ADDRESS.fullmatch(address)
    if parts is None:
        return download(address, progress)
    if (cached := cached_copy(address)) is not None:
        return cached
    revision = parts["revision"] or "main"
    url = f"{constants.ENDPOINT}/{parts['repository']}/resolve/{revision}/{parts['file']}"
    if constants.HF_HUB_OFFLINE:
        raise ConfigError("model.weights", f"{url} is not cached and HF_HUB_OFFLINE is set", REMEDY)
    return download(url, progress)


def download(url: str, progress: Progress | None = None) -> Path:
    """Return the local copy of a file on a web server, downloaded once to torch's cache.

    Args:
        url: The file.
        progress: Called with the bytes that are there and those that there will be.

    Raises:
        ConfigError: If the server refuses the request, as for a missing file.
        UnreachableError: If the server cannot be reached, or does not send the whole file.
    """
    name = Path(urlsplit(url).path).name or "weights"
    name = f"{hashlib.sha256(url.encode()).hexdigest()[:16]}-{name}"
    folder = Path(torch.hub.get_dir()) / "rsdl"
    cache = LocalStore(folder)
    if cache.size(name) is None:
        with _one_at_a_time(folder):
            if cache.size(name) is None:  # no other process of this node has fetched it meanwhile
                with cache.create(name) as part, part.open("wb") as file:
                    for chunk in _fetch(url, progress):
                        file.write(chunk)
    return cache.local(name)


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Hold the download lock of a folder, so that the ranks of a node download a file once."""
    with ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(exclusive_if_soon(folder / LOCK, PATIENCE_S))
        except OSError as error:
            raise translate(error, folder) from error
        yield


def _fetch(url: str, progress: Progress | None) -> Iterator[bytes]:
    """Yield the bytes of ``url`` in chunks; raise if the response is incomplete."""
    done = 0
    try:
        with urlopen(url, timeout=TIMEOUT_S) as answer:
            total = answer.length
            while chunk := answer.read(CHUNK_BYTES):
                yield chunk
                done += len(chunk)
                if progress is not None:
                    progress(done, total)
            if answer.length:  # the server closed the connection before Content-Length bytes
                raise OSError(f"{answer.length} bytes are missing at the end")
    except (OSError, HTTPException, ValueError) as error:
        if isinstance(error, HTTPError):
            error.close()  # an HTTPError keeps the connection open
        raise _failed(f"{url} cannot be fetched ({error})", error) from error


def _check_hub(timm_name: str) -> None:
    problem = f"the pretrained weights of {timm_name} are not cached and "
    if constants.HF_HUB_OFFLINE:
        raise ConfigError("model.weights", f"{problem}HF_HUB_OFFLINE is set", REMEDY)
    try:
        urlopen(Request(constants.ENDPOINT, method="HEAD"), timeout=TIMEOUT_S).close()
    except HTTPError as error:
        error.close()  # any HTTP status means that the hub is reachable
    except (OSError, ValueError) as error:
        raise _failed(
            f"{problem}{constants.ENDPOINT} cannot be reached ({error})", error
        ) from error


def _failed(problem: str, error: Exception) -> RsdlError:
    """Return the error for a failed request: only an unreachable server is worth a retry."""
    refused = isinstance(error, HTTPError) and not is_temporary(error.code)
    is_wrong = refused or (isinstance(error, ValueError) and not isinstance(error, OSError))
    return (ConfigError if is_wrong else UnreachableError)("model.weights", problem, REMEDY)
