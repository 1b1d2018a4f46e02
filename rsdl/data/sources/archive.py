"""Unpack an untrusted zip or tar safely.

Only plain files and folders are extracted, and only below the target folder: an archive with a path
that escapes, a link or a device is rejected as a whole, as no dataset needs one. Sizes are checked
before bytes are written, so a zip bomb uses no disk. The complete folder is renamed to the target.

zipfile and tarfile read the members. Their own extraction is not used: zipfile and tarfile's
``data`` filter rename paths that escape or are absolute, the filter lets links through and is
missing in Debian 12 (Python 3.11.2), and neither limits the size.
"""

import os
import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from lzma import LZMAError
from pathlib import Path, PurePosixPath
from typing import IO

from rsdl.core.errors import DataError
from rsdl.data.sources.listing import is_litter
from rsdl.storage.local import translate

# Imagery hardly compresses: an archive that grows by more than this factor, and past SMALL_BYTES,
# is treated as a zip bomb.
MAX_GROWTH = 100
SMALL_BYTES = 1 << 30
CHUNK_BYTES = 1 << 20
DAMAGED = (zipfile.BadZipFile, tarfile.TarError, zlib.error, LZMAError, EOFError)


@dataclass(frozen=True, slots=True)
class _Member:
    """A file in the archive: its name, its declared size, and how to read it."""

    name: str
    size: int
    open: Callable[[], IO[bytes]]


def is_archive(path: Path) -> bool:
    """Return whether ``path`` is a zip or a tar, by its bytes."""
    return path.is_file() and (zipfile.is_zipfile(path) or tarfile.is_tarfile(path))


def unpack(archive: Path, target: Path) -> Path:
    """Unpack a zip or tar (plain or compressed) as the folder ``target``.

    Args:
        archive: The archive.
        target: The folder to create; if it exists, it is complete and nothing is done.

    Returns:
        ``target``.

    Raises:
        DataError: If the archive is damaged, or holds entries other than plain files and folders.
        StorageError: If ``target`` cannot be written.
    """
    if target.is_dir():
        return target
    if not is_archive(archive):
        raise DataError(str(archive), "is no zip or tar archive", "name an archive or a folder")
    part = target.with_name(f".{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir(parents=True)
        _unpack_into(archive, part)
        os.replace(part, target)
    except DAMAGED as error:
        raise DataError(str(archive), f"is damaged: {error}", "download it again") from error
    except OSError as error:
        raise translate(error, Path(error.filename or target)) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return target


def _unpack_into(archive: Path, folder: Path) -> None:
    where = str(archive)
    archive_bytes = archive.stat().st_size
    limit = max(SMALL_BYTES, MAX_GROWTH * archive_bytes)
    read_members = _zip_members if zipfile.is_zipfile(archive) else _tar_members
    total = 0
    for member in read_members(archive):
        parts = _safe_parts(member.name, where)
        if any(is_litter(part) for part in parts):
            continue
        total += member.size
        if total > limit:
            raise DataError(
                where,
                f"unpacks to more than {limit >> 20} MiB from {archive_bytes >> 20} MiB",
                'if you trust it, unpack it by hand and add "--from FOLDER"',
            )
        _copy(member, folder.joinpath(*parts), where)


def _copy(member: _Member, path: Path, where: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        raise DataError(where, f'holds "{member.name}" twice', "download it again")
    with member.open() as source, path.open("wb") as file:
        shutil.copyfileobj(source, file, CHUNK_BYTES)  # both libraries stop at the declared size
    if path.stat().st_size != member.size:
        raise DataError(
            where,
            f'"{member.name}" is not of its declared {member.size} bytes',
            "download it again",
        )


def _zip_members(archive: Path) -> Iterator[_Member]:
    with zipfile.ZipFile(archive) as pack:
        for info in pack.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)
            # Many tools write no file type; then a name that ends in "/" is a folder.
            if info.is_dir() or kind == stat.S_IFDIR:
                _safe_parts(info.filename, str(archive))
                continue
            if kind not in (0, stat.S_IFREG):
                raise _not_plain(str(archive), info.filename)
            if info.flag_bits & 1:
                raise DataError(
                    str(archive), "is encrypted", 'unpack it by hand and add "--from FOLDER"'
                )
            yield _Member(info.filename, info.file_size, partial(pack.open, info))


def _tar_members(archive: Path) -> Iterator[_Member]:
    with tarfile.open(archive) as pack:
        for info in pack:
            if info.isdir():
                _safe_parts(info.name, str(archive))
                continue
            if not info.isfile() or info.issparse():
                raise _not_plain(str(archive), info.name)
            yield _Member(info.name, info.size, partial(_tar_file, pack, info))
        _check_end(pack)


def _check_end(pack: tarfile.TarFile) -> None:
    # tarfile treats the first invalid block as the end, so a truncated archive would pass.
    stream = pack.fileobj
    assert stream is not None
    stream.seek(pack.offset)
    if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise EOFError("it has no end mark")
    while stream.read(CHUNK_BYTES):
        pass  # Read to the end: the checksum of a compressed tar comes last.


def _tar_file(pack: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    file = pack.extractfile(info)
    assert file is not None
    return file


def _safe_parts(name: str, where: str) -> tuple[str, ...]:
    # Reject separators and drive letters of Windows, and NUL, which ends a name in C.
    parts = PurePosixPath(name).parts
    if (
        not parts
        or name.startswith("/")
        or ".." in parts
        or re.search(r"[\\\x00]|^[A-Za-z]:", name)
    ):
        raise DataError(
            where, f'holds the path "{name}", which leads out of the folder', "do not trust it"
        )
    return parts


def _not_plain(where: str, name: str) -> DataError:
    return DataError(where, f'holds "{name}", which is neither file nor folder', "do not trust it")
