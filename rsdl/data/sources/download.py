"""Download one large file over an unreliable connection, with resume.

Bytes go to a part file beside the target. If the connection breaks, the next attempt, or the next
run, requests the rest, unless the server's file has changed. The part file is renamed to the target
only if its checksum is right. urllib takes proxies and certificates from the environment.
"""

import hashlib
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPException, HTTPResponse
from pathlib import Path

from rsdl import __version__
from rsdl.core.errors import DataError, RsdlError, UnreachableError
from rsdl.core.http_status import is_temporary
from rsdl.storage.local import translate

Progress = Callable[[int, int | None], None]

CHUNK_BYTES = 1 << 20
TIMEOUT_S = 30.0


class _Interrupted(Exception):
    """The connection broke; a retry may succeed."""


def download(
    url: str,
    target: Path,
    *,
    md5: str | None = None,
    progress: Progress = lambda received, total: None,
    attempts: int = 4,
    pause_s: float = 1.0,
) -> Path:
    """Download ``url`` to ``target``, resuming an earlier partial download.

    Args:
        url: An http or https URL.
        target: The file to create; if it exists, nothing is downloaded.
        md5: Checksum in hex; ``None`` skips the check.
        progress: Called with the bytes received and the total, ``None`` if unknown.
        attempts: Consecutive attempts without a new byte before giving up.
        pause_s: Pause in seconds after the first failed attempt, doubled after each further one.

    Returns:
        ``target``.

    Raises:
        DataError: If the file does not exist, or its checksum is wrong.
        UnreachableError: If the server cannot be reached, or the connection breaks repeatedly.
        StorageError: If ``target`` cannot be written.
    """
    if target.exists():
        return target
    part, tag = target.with_name(f"{target.name}.part"), target.with_name(f"{target.name}.etag")
    failures = 0
    while True:
        before = _size(part)
        try:
            _fetch_rest(url, part, tag, progress)
            break
        except _Interrupted as error:
            failures = 1 if _size(part) > before else failures + 1
            if failures >= attempts:
                raise _failed(url, str(error), UnreachableError) from error
            time.sleep(pause_s * 2 ** (failures - 1))
    if md5 is not None and (found := md5_of(part)) != md5:
        part.unlink()
        tag.unlink(missing_ok=True)
        raise DataError(
            url, f"came with MD5 {found}, published is {md5}", 'try again or use "--from PATH"'
        )
    part.replace(target)
    tag.unlink(missing_ok=True)
    return target


def md5_of(path: Path) -> str:
    """Return the MD5 of a file in hex, as published with datasets; not a security measure."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    except OSError as error:
        raise translate(error, path) from error


def _fetch_rest(url: str, part: Path, tag: Path, progress: Progress) -> None:
    start, known_tag = _size(part), _read_tag(tag)
    try:
        with _request(url, start, known_tag) as response:
            found_tag = response.headers.get("ETag") or response.headers.get("Last-Modified") or ""
            if start and not _continues(response, start, known_tag, found_tag):
                if response.status == 206:
                    _start_anew(part, tag)
                    raise _Interrupted("the file has changed on the server")
                start = 0
            length = response.headers.get("Content-Length")
            total = start + int(length) if length else None
            _write_tag(tag, found_tag)
            received = _append(response, part, start, total, progress)
    except urllib.error.HTTPError as error:
        error.close()
        _handle_status(url, error, part, tag)
        return
    except (HTTPException, OSError) as error:
        reason = getattr(error, "reason", None) or error
        if isinstance(reason, ssl.SSLCertVerificationError):
            raise _failed(
                url, f"{reason.verify_message}; SSL_CERT_FILE can name your own certificates"
            ) from error
        raise _Interrupted(getattr(reason, "strerror", None) or str(reason)) from error
    if total is not None and received < total:
        raise _Interrupted(f"the connection broke after {received} of {total} bytes")


def _request(url: str, start: int, tag: str) -> HTTPResponse:
    headers = {"User-Agent": f"rsdl/{__version__}", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
        # If-Range does not allow a weak ETag; _continues compares it instead.
        if tag and not tag.startswith("W/"):
            headers["If-Range"] = tag
    request = urllib.request.Request(url, headers=headers)
    response: HTTPResponse = urllib.request.urlopen(request, timeout=TIMEOUT_S)
    return response


def _continues(response: HTTPResponse, start: int, known_tag: str, found_tag: str) -> bool:
    span = response.headers.get("Content-Range", "")
    changed = bool(known_tag and found_tag) and known_tag != found_tag
    return response.status == 206 and span.startswith(f"bytes {start}-") and not changed


def _append(
    response: HTTPResponse, part: Path, start: int, total: int | None, progress: Progress
) -> int:
    received = start
    try:
        file = part.open("ab" if start else "wb")
    except OSError as error:
        raise translate(error, part) from error
    with file:
        while chunk := response.read1(CHUNK_BYTES):
            try:
                file.write(chunk)
            except OSError as error:
                raise translate(error, part) from error
            received += len(chunk)
            progress(received, total)
    return received


def _handle_status(url: str, error: urllib.error.HTTPError, part: Path, tag: Path) -> None:
    if error.code == 416:
        # No bytes follow the part: either it is the whole file, or the file has changed.
        if error.headers.get("Content-Range") == f"bytes */{_size(part)}":
            return
        _start_anew(part, tag)
        raise _Interrupted("the file has changed on the server") from error
    reason = f"HTTP {error.code} {error.reason}"
    if is_temporary(error.code):
        raise _Interrupted(reason) from error
    raise _failed(url, reason) from error


def _failed(url: str, reason: str, kind: type[RsdlError] = DataError) -> RsdlError:
    return kind(
        url,
        f"the download failed: {reason}",
        'run the command again to go on with it, or get the archive by hand and add "--from PATH"',
    )


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _start_anew(part: Path, tag: Path) -> None:
    part.unlink(missing_ok=True)
    tag.unlink(missing_ok=True)


def _read_tag(tag: Path) -> str:
    return tag.read_text() if tag.exists() else ""


def _write_tag(tag: Path, text: str) -> None:
    try:
        tag.write_text(text)
    except OSError as error:
        raise translate(error, tag) from error
