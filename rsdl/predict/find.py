"""Find the files of scenes: on this machine, in buckets, on servers, and in STAC items."""

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rsdl.core.errors import DataError
from rsdl.predict.stac import find_assets
from rsdl.raster.files import REMEDY, SUFFIXES, find_rasters
from rsdl.raster.remote import (
    RasterFile,
    RemoteFile,
    is_inside,
    is_remote,
    open_bytes,
    parse_remote,
)
from rsdl.storage.connect import connect, join

JSON = (".json", ".geojson")
MAX_JSON_BYTES = 64 << 20


def find_files(
    paths: Sequence[str], *, asset: str | None = None, maps: str | None = None
) -> list[RasterFile]:
    """Return the files of scenes, each once: those of this machine first, then by URL.

    Args:
        paths: Files, folders and globs; ``https://`` files; files, prefixes and globs of ``s3://``;
            and STAC items, local or by URL.
        asset: Name of the items' asset that is mapped, where several could be.
        maps: Folder or URL of maps, which are no scenes.

    Raises:
        DataError: If a path has no scenes.
        StorageError: If a server or a bucket cannot be read.
    """
    local: list[str] = []
    remote: set[RemoteFile] = set()
    for path in paths:
        for file in _expand(path, asset):
            if isinstance(file, RemoteFile):
                remote.add(file)
            else:
                local.append(str(file))
    found: list[RasterFile] = []
    if local:
        skip = None if maps is None or is_remote(maps) else Path(maps)
        found += find_rasters(local, leave_out=skip)
    found += sorted(file for file in remote if maps is None or not is_inside(file, maps))
    if not found:
        raise _nothing(paths[0])
    return found


def _expand(path: str, asset: str | None) -> Iterator[RasterFile]:
    """Yield the files at a path; folders and globs of this machine are left as they are."""
    if not path.strip():
        raise DataError("SCENES", "one is empty", "name a file, a folder or a URL")
    if path.startswith("/vsi") or ("://" in path and not is_remote(path)):
        problem = "is no address that scenes are read from"
        raise DataError(path, problem, "use a path, https://, http:// or s3://")
    file = parse_remote(path) if is_remote(path) else Path(path).expanduser()
    if isinstance(file, RemoteFile) and file.scheme == "s3":
        listed = _list_bucket(file.url)
        if listed is not None:
            yield from listed
            return
    elif isinstance(file, RemoteFile) and file.path.endswith("/"):
        raise DataError(str(file), "folders of web servers cannot be listed", "name its files")
    elif isinstance(file, Path) and not (file.suffix.lower() in JSON and file.is_file()):
        yield file
        return
    with open_bytes(file) as data:
        if not data[:64].lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
            yield file
            return
        if len(data) > MAX_JSON_BYTES:
            raise DataError(str(file), f"has {len(data) >> 20} MiB of JSON", "name fewer items")
        document = _parse(data[: len(data)], str(file))
    yield from find_assets(document, file, asset)


def _parse(data: bytes, where: str) -> Any:  # noqa: ANN401 - a JSON value
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DataError(where, f"is not JSON: {error}", "give a raster or a STAC item") from error


def _list_bucket(url: str) -> list[RemoteFile] | None:
    """Return the rasters below a prefix or of a glob in a bucket; ``None`` if it is one object.

    Raises:
        DataError: If there are none.
    """
    prefix, star, _ = url.partition("*")
    folder = prefix.rpartition("/")[0] if star else url.rstrip("/")
    above, _, name = url.rpartition("/")
    if not star and name and above != "s3:/" and connect(above, cache=None).size(name) is not None:
        return None
    wanted = _to_regex(url) if star else re.compile(r".*", re.DOTALL)
    entries = (join(folder, entry.name) for entry in connect(folder, cache=None).list())
    found = [RemoteFile(each) for each in entries if wanted.fullmatch(each) and _is_raster(each)]
    if not found:
        raise _nothing(url)
    return found


def _is_raster(url: str) -> bool:
    name = url.rpartition("/")[2]
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


def _to_regex(glob: str) -> re.Pattern[str]:
    """Return a glob of keys as a regular expression: ``*`` in a name, ``**`` over folders."""
    parts = re.split(r"(\*\*/|\*\*|\*)", glob)
    kinds = {"**/": r"(?:.*/)?", "**": r".*", "*": r"[^/]*"}
    return re.compile("".join(kinds.get(part, re.escape(part)) for part in parts), re.DOTALL)


def _nothing(where: str) -> DataError:
    return DataError(where, "no scenes found", REMEDY)
