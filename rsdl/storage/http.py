"""A file at ``https://``, read by range and never as a whole.

Failures are retried by the rule of ``s3/retry.py``. Whatever stands behind ``?`` in a URL may be a
signature, so messages show the URL without it.
"""

import re
from email.message import Message
from functools import cached_property
from http.client import HTTPException
from typing import NamedTuple
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from rsdl.core.errors import DeniedError, StorageError, UnreachableError
from rsdl.core.http_status import is_temporary
from rsdl.storage.s3.retry import RetryRule, RetryState

TIMEOUT_S = 20
RULE = RetryRule(deadline_s=30)
# A mistyped name is likelier than an outage, if the server has never answered.
DOUBT_S = 3.0
PARTIAL, NOT_SATISFIABLE = 206, 416
TOTAL = re.compile(r"bytes (?:\d+-\d+|\*)/(\d+)")


class Answer(NamedTuple):
    """What a server sent: some bytes, and the size of the whole file."""

    data: bytes
    size: int


class HttpBlob:
    """A file at ``http://`` or ``https://``, opened for ranged reads.

    Args:
        url: Its address, which may hold a signature.
        rule: How long to retry.
    """

    def __init__(self, url: str, rule: RetryRule = RULE) -> None:
        self._url, self._rule = url, rule
        self._reached = False

    @cached_property
    def size(self) -> int:
        """Size of the file in bytes."""
        return self._read(0, 1).size

    def read(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes from ``offset``, or fewer at the end of the file.

        Raises:
            StorageError: If the server refuses, or sends no ranges.
            UnreachableError: If it does not answer.
        """
        return self._read(offset, length).data if length > 0 else b""

    def close(self) -> None:
        """Do nothing: no connection is kept."""

    def _read(self, offset: int, length: int) -> Answer:
        where, state = hide_query(self._url), RetryState(self._rule, hide_query(self._url))
        while True:
            try:
                answer = self._ask(offset, length)
            except HTTPError as error:
                error.close()  # it keeps the connection open
                self._reached, problem = True, f"the server answers {error.code}"
                if not is_temporary(error.code):
                    raise _refusal(where, error.code) from None
            except (OSError, HTTPException) as error:
                reason = getattr(error, "reason", error)
                problem = f"the server cannot be reached ({reason or type(error).__name__})"
            except ValueError:  # urllib's message repeats the URL
                raise StorageError(where, "is no URL", "write https://host/path.tif") from None
            else:
                self._reached = True
                return answer
            if not state.wait(problem, None if self._reached else DOUBT_S):
                raise UnreachableError(where, problem, "check the URL and the network")

    def _ask(self, offset: int, length: int) -> Answer:
        request = Request(self._url, headers={"Range": f"bytes={offset}-{offset + length - 1}"})
        try:
            with urlopen(request, timeout=TIMEOUT_S) as answer:
                if answer.status != PARTIAL:
                    raise self._without_ranges()
                return Answer(answer.read(length), self._total(answer.headers))
        except HTTPError as error:
            if error.code != NOT_SATISFIABLE:
                raise
            error.close()
            return Answer(b"", self._total(error.headers))

    def _total(self, headers: Message) -> int:
        found = TOTAL.match(headers.get("Content-Range", ""))
        if found is None:
            raise self._without_ranges()
        return int(found[1])

    def _without_ranges(self) -> StorageError:
        problem = "the server sends no ranges of a file"
        return StorageError(hide_query(self._url), problem, "download the file and name its path")


def hide_query(url: str) -> str:
    """Return a URL without what may be secret in it: user, query and fragment."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return url.partition("?")[0].rpartition("@")[2]
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=host, query="", fragment="").geturl()


def _refusal(where: str, status: int) -> StorageError:
    if status in (401, 403):
        remedy = "ask for access, or give a URL that is signed or not expired"
        return DeniedError(where, f"access denied ({status})", remedy)
    if status in (404, 410):
        return StorageError(where, "no such file", "check the URL")
    return StorageError(where, f"the server answers {status}", "check the URL")
