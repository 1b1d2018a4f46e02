"""Upload a file as an object that appears as a whole or not at all.

Small files go in one request. Large ones are multipart uploads, each part with its MD5, and become
visible with the last request; a failed upload is aborted. The parts of a killed process take space
but are never visible: before an upload begins, a note is written beside the staged file, and the
process that finds the note aborts the upload. Uploads are aborted and not resumed, since the killed
process writes its file anew, with other bytes.

s3transfer, boto3's own upload manager, is not used: it sends no MD5 with a part, does not tell the
upload's id before its end, so a killed upload could not be aborted, and takes an upload that was
completed by a request whose response was lost for a failure.
"""

import base64
import hashlib
import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import wait
from contextlib import suppress
from io import BufferedReader
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from rsdl.storage.local import LocalStore
from rsdl.storage.s3.client import S3Client
from rsdl.storage.s3.errors import FOREIGN, code_of, may_pass

SINGLE_BYTES = 16 << 20
PART_BYTES = 16 << 20
MAX_PARTS = 10_000
SHA256 = "sha256"
NOTE = "upload.json"
SKEW_S = 15 * 60.0  # the largest clock difference that services accept
FORGOTTEN_S = 7 * 24 * 3600.0


def _put(bucket: str, key: str, data: bytes) -> dict[str, Any]:
    """Return the arguments of a PutObject request."""
    md5 = hashlib.md5(data, usedforsecurity=False).digest()
    return {
        "Bucket": bucket,
        "Key": key,
        "Body": data,
        "ContentMD5": base64.b64encode(md5).decode(),
        "Metadata": {SHA256: hashlib.sha256(data).hexdigest()},
    }


def upload_bytes(client: S3Client, bucket: str, key: str, data: bytes) -> None:
    """Upload bytes to a key in one request."""
    client.call(f"s3://{bucket}/{key}", "put_object", **_put(bucket, key, data))


def upload_new(client: S3Client, bucket: str, key: str, data: bytes) -> bool:
    """Upload bytes to a key in one request; return ``False`` if the key exists."""
    url, request = f"s3://{bucket}/{key}", _put(bucket, key, data)

    def ask() -> bool:
        try:
            client.boto.put_object(**request, IfNoneMatch="*")
        except ClientError as error:
            if code_of(error) in ("PreconditionFailed", "412"):
                return False
            raise
        return True

    return client.retry(url, ask)


def upload_file(client: S3Client, bucket: str, key: str, path: Path) -> None:
    """Upload a file to a key; the old object stays until the upload is complete.

    Raises:
        StorageError: If the service refuses it.
    """
    if path.stat().st_size <= SINGLE_BYTES:
        upload_bytes(client, bucket, key, path.read_bytes())
        return
    with path.open("rb") as file:
        _Multipart(client, bucket, key, file).run(path.parent)


def abort_noted(client: S3Client, folder: Path) -> bool:
    """Abort the upload noted in a killed process's staging folder; return whether it is done.

    An upload to another service, or to one that does not answer, cannot be aborted now: its note
    stays for the next process, and its staged bytes are removed.
    """
    try:
        page = json.loads((folder / NOTE).read_text())
        endpoint, since = page["endpoint"], float(page["since"])
        target = {"Bucket": page["Bucket"], "Key": page["Key"]}
    except (OSError, ValueError, LookupError, TypeError):
        return True  # the upload had not begun
    for path in folder.iterdir():
        if path.name != NOTE:
            path.unlink()
    if endpoint != client.endpoint:
        return time.time() - since > FORGOTTEN_S
    try:
        known = [page["UploadId"]] if "UploadId" in page else _begun(client, target, since)
        for upload_id in known:
            client.boto.abort_multipart_upload(**target, UploadId=upload_id)
    except FOREIGN as error:
        # Its bucket is gone, or a lifecycle rule of the bucket aborted it.
        return not may_pass(error)
    return True


def _begun(client: S3Client, target: dict[str, str], since: float) -> Iterator[str]:
    """Yield the uploads of a key begun at the noted time, within retries and clock skew."""
    page = client.boto.list_multipart_uploads(Bucket=target["Bucket"], Prefix=target["Key"])
    for upload in page.get("Uploads", ()):
        begun = upload["Initiated"].timestamp()
        if upload["Key"] == target["Key"] and abs(begun - since) < client.rule.deadline_s + SKEW_S:
            yield upload["UploadId"]


class _Multipart:
    """One multipart upload."""

    def __init__(self, client: S3Client, bucket: str, key: str, file: BufferedReader) -> None:
        self._client = client
        self._target = {"Bucket": bucket, "Key": key}
        self._url = f"s3://{bucket}/{key}"
        self._file = file
        self._size = os.fstat(file.fileno()).st_size
        self._part_bytes = max(PART_BYTES, -(-self._size // MAX_PARTS))

    def run(self, folder: Path) -> None:
        notes = LocalStore(folder)
        sha256 = hashlib.file_digest(self._file, "sha256").hexdigest()
        # Write the note before the upload begins: a kill in between must leave a trace.
        intent = {"endpoint": self._client.endpoint, "since": time.time(), **self._target}
        notes.write(NOTE, json.dumps(intent).encode())
        begun = self._client.call(
            self._url, "create_multipart_upload", **self._target, Metadata={SHA256: sha256}
        )
        upload = {**self._target, "UploadId": begun["UploadId"]}
        try:
            notes.write(NOTE, json.dumps(intent | upload).encode())
            self._complete(upload, self._send_all(upload))
        except BaseException:
            with suppress(*FOREIGN):
                self._client.boto.abort_multipart_upload(**upload)
                notes.delete(NOTE)
            raise
        notes.delete(NOTE)

    def _send_all(self, upload: dict[str, str]) -> list[tuple[str, bytes]]:
        count = -(-self._size // self._part_bytes)
        futures = [self._client.pool.submit(self._send, upload, part) for part in range(count)]
        try:
            return [future.result() for future in futures]
        finally:
            for future in futures:
                future.cancel()
            wait(futures)

    def _send(self, upload: dict[str, str], part: int) -> tuple[str, bytes]:
        """Upload one part and return its ETag and MD5."""
        data = os.pread(self._file.fileno(), self._part_bytes, part * self._part_bytes)
        md5 = hashlib.md5(data, usedforsecurity=False).digest()
        request = {"Body": data, "ContentMD5": base64.b64encode(md5).decode()}
        sent = self._client.call(self._url, "upload_part", **upload, **request, PartNumber=part + 1)
        return sent["ETag"], md5

    def _complete(self, upload: dict[str, str], parts: list[tuple[str, bytes]]) -> None:
        page = [{"ETag": etag, "PartNumber": at + 1} for at, (etag, _) in enumerate(parts)]

        def ask() -> Any:  # noqa: ANN401 - boto3 has no types
            try:
                return self._client.boto.complete_multipart_upload(
                    **upload, MultipartUpload={"Parts": page}
                )
            except ClientError as error:
                # An earlier attempt whose response was lost may have completed the upload.
                if code_of(error) in ("NoSuchUpload", "404") and self._is_there(parts):
                    return None
                raise

        self._client.retry(self._url, ask)

    def _is_there(self, parts: list[tuple[str, bytes]]) -> bool:
        whole = hashlib.md5(b"".join(md5 for _, md5 in parts), usedforsecurity=False).hexdigest()
        try:
            found = self._client.boto.head_object(**self._target)
        except ClientError as error:
            if code_of(error) == "404":
                return False
            raise
        return bool(found["ETag"].strip('"') == f"{whole}-{len(parts)}")
