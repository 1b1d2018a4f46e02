"""What must not be left when a run is done, however often it was killed before."""

import fcntl
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def find_remains(root: Path) -> Iterator[str]:
    """Yield what is left in folders of runs that should not be: parts, and whatever is locked.

    Args:
        root: A folder that no process uses any more.
    """
    for path in sorted(root.rglob("*")):
        if ".part" in path.name or path.name.endswith(".turn"):
            yield f"{path}: left behind"
        if is_locked(path):
            yield f"{path}: locked"


def find_cache_remains(root: Path, sha256s: set[str]) -> Iterator[str]:
    """Yield what is wrong in a cache that no process uses any more.

    Args:
        root: The cache.
        sha256s: Of all objects that copies of shards may be of.
    """
    yield from find_remains(root)
    for path in sorted((root / "spool").glob("*")):
        yield f"{path}: left in the spool"
    for path in sorted((root / "copies").glob("*.tar")):
        if hashlib.sha256(path.read_bytes()).hexdigest() not in sha256s:
            yield f"{path}: is no copy of any shard"


def find_uploads(boto: Any, bucket: str) -> Iterator[str]:  # noqa: ANN401 - boto3 has no types
    """Yield the uploads of a bucket that were begun and never ended."""
    found = boto.list_multipart_uploads(Bucket=bucket)
    for upload in found.get("Uploads", ()):
        yield f"s3://{bucket}/{upload['Key']}: an upload that was begun and never ended"


def is_locked(path: Path) -> bool:
    """Return whether any process holds a lock on a file or folder."""
    fd = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False
