"""From a file to an object that is either there as a whole or not at all.

Small files go in one request. Large ones go in parts, each with its MD5, and become visible with
the last request; what fails is aborted. What a killed process could not abort takes room but is
never visible: it is noted beside the spooled file, and aborted by whoever finds the note.
"""

import base64
import hashlib
import json
import os
from concurrent.futures import wait
from contextlib import suppress
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from rsdl.storage.client import S3Client
from rsdl.storage.download import hash_open_file
from rsdl.storage.refusal import FOREIGN, code_of

SINGLE_BYTES = 16 << 20
PART_BYTES = 16 << 20
MAX_PARTS = 10_000
SHA256 = "sha256"
NOTE = "upload.json"


def upload_bytes(client: S3Client, bucket: str, key: str, data: bytes) -> None:
    """Put bytes under a key in one request."""
    client.call(
        f"s3://{bucket}/{key}",
        "put_object",
        Bucket=bucket,
        Key=key,
        Body=data,
        ContentMD5=_md5(data),
        Metadata={SHA256: hashlib.sha256(data).hexdigest()},
    )


def upload_file(client: S3Client, bucket: str, key: str, path: Path) -> None:
    """Put a file under a key; until it is complete nothing changes there.

    Raises:
        StorageError: If the service refuses it.
    """
    if path.stat().st_size <= SINGLE_BYTES:
        upload_bytes(client, bucket, key, path.read_bytes())
        return
    fd = os.open(path, os.O_RDONLY)
    try:
        _Multipart(client, bucket, key, fd).run(path.with_name(NOTE))
    finally:
        os.close(fd)


def abort_noted(client: S3Client, folder: Path) -> None:
    """Abort the upload that a killed process has noted in its spool, if it was to this service."""
    with suppress(OSError, ValueError, KeyError, *FOREIGN):
        page = json.loads((folder / NOTE).read_text())
        if page.pop("endpoint") == client.endpoint:
            client.boto.abort_multipart_upload(**page)


class _Multipart:
    """One upload in parts."""

    def __init__(self, client: S3Client, bucket: str, key: str, fd: int) -> None:
        self._client = client
        self._target = {"Bucket": bucket, "Key": key}
        self._url = f"s3://{bucket}/{key}"
        self._fd = fd
        self._size = os.fstat(fd).st_size
        self._part_bytes = max(PART_BYTES, -(-self._size // MAX_PARTS))

    def run(self, note: Path) -> None:
        begun = self._client.call(
            self._url,
            "create_multipart_upload",
            **self._target,
            Metadata={SHA256: hash_open_file(self._fd, "sha256")},
        )
        upload = {**self._target, "UploadId": begun["UploadId"]}
        note.write_text(json.dumps({"endpoint": self._client.endpoint, **upload}))
        try:
            self._complete(upload, self._send_all(upload))
        except BaseException:
            with suppress(*FOREIGN):
                self._client.boto.abort_multipart_upload(**upload)
            raise
        finally:
            note.unlink(missing_ok=True)

    def _send_all(self, upload: dict[str, str]) -> list[tuple[str, bytes]]:
        count = -(-self._size // self._part_bytes)
        futures = [self._client.pool.submit(self._send, upload, part) for part in range(count)]
        try:
            return [future.result() for future in futures]
        except BaseException:
            for future in futures:
                future.cancel()
            wait(futures)
            raise

    def _send(self, upload: dict[str, str], part: int) -> tuple[str, bytes]:
        """Send one part and return its ETag and MD5."""
        data = os.pread(self._fd, self._part_bytes, part * self._part_bytes)
        sent = self._client.call(
            self._url,
            "upload_part",
            **upload,
            PartNumber=part + 1,
            Body=data,
            ContentMD5=_md5(data),
        )
        return sent["ETag"], hashlib.md5(data, usedforsecurity=False).digest()

    def _complete(self, upload: dict[str, str], parts: list[tuple[str, bytes]]) -> None:
        page = [{"ETag": etag, "PartNumber": at + 1} for at, (etag, _) in enumerate(parts)]

        def ask() -> Any:  # noqa: ANN401 - boto3 has no types
            try:
                return self._client.boto.complete_multipart_upload(
                    **upload, MultipartUpload={"Parts": page}
                )
            except ClientError as error:
                # An attempt whose answer was lost has ended the upload already.
                if code_of(error) in ("NoSuchUpload", "404") and self._is_there(parts):
                    return None
                raise

        self._client.insist(self._url, ask)

    def _is_there(self, parts: list[tuple[str, bytes]]) -> bool:
        whole = hashlib.md5(b"".join(md5 for _, md5 in parts), usedforsecurity=False).hexdigest()
        try:
            found = self._client.boto.head_object(**self._target)
        except ClientError as error:
            if code_of(error) == "404":
                return False
            raise
        return bool(found["ETag"].strip('"') == f"{whole}-{len(parts)}")


def _md5(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
