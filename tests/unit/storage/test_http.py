"""A file on a web server is read by range, and what goes wrong is said without its signature."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from rsdl.core.errors import DeniedError, StorageError, UnreachableError
from rsdl.storage.http import HttpBlob, hide_query
from rsdl.storage.s3.retry import RetryRule
from tests.range_server import RangeServer, serve_ranges

DATA = bytes(range(256)) * 40
SHORT = RetryRule(deadline_s=0.3, first_s=0.01, longest_s=0.05)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RangeServer]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "a.bin").write_bytes(DATA)
    (folder / "empty.bin").write_bytes(b"")
    with serve_ranges(folder) as running:
        yield running


@pytest.mark.parametrize(("offset", "length"), [(0, 1), (100, 3000), (10_000, 900), (20_000, 5)])
def test_only_the_range_that_is_asked_for_is_sent(server: RangeServer, offset: int, length: int):
    blob = HttpBlob(f"{server.url}/a.bin")
    assert blob.read(offset, length) == DATA[offset : offset + length]
    assert server.sent == len(DATA[offset : offset + length])


def test_the_size_costs_a_byte(server: RangeServer):
    blob = HttpBlob(f"{server.url}/a.bin")
    assert (blob.size, blob.size) == (len(DATA), len(DATA))
    assert server.sent == 1
    assert HttpBlob(f"{server.url}/empty.bin").size == 0


def test_a_server_without_ranges_is_refused_before_the_file_is_read(server: RangeServer):
    server.behave(ranges=False)
    with pytest.raises(StorageError, match="sends no ranges of a file; download the file"):
        _ = HttpBlob(f"{server.url}/a.bin").size


@pytest.mark.parametrize(
    ("status", "kind", "problem"),
    [
        (401, DeniedError, r"access denied \(401\)"),
        (403, DeniedError, r"access denied \(403\); .*signed or not expired"),
        (404, StorageError, "no such file"),
        (418, StorageError, "the server answers 418"),
        (503, UnreachableError, "the server answers 503"),
    ],
)
def test_refusals_are_one_line_without_the_signature(
    server: RangeServer, status: int, kind: type[StorageError], problem: str
):
    server.behave(status=status)
    with pytest.raises(kind, match=problem) as caught:
        HttpBlob(f"{server.url}/a.bin?X-Amz-Signature=secret", SHORT).read(0, 1)
    assert "secret" not in str(caught.value)
    assert "a.bin" in str(caught.value)


def test_a_server_that_is_busy_for_a_moment_is_asked_again(server: RangeServer):
    server.behave(failures=2)
    assert HttpBlob(f"{server.url}/a.bin", SHORT).read(0, 4) == DATA[:4]
    assert len(server.requests) == 3


def test_nobody_at_the_address_is_worth_a_later_attempt():
    with pytest.raises(UnreachableError, match="cannot be reached") as caught:
        HttpBlob("http://127.0.0.1:1/a.tif?token=secret", SHORT).read(0, 1)
    assert "secret" not in str(caught.value)
    assert caught.value.exit_code == 69


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://host/a.tif?sig=x", "https://host/a.tif"),
        ("https://me:pw@host:81/a.tif#x", "https://host:81/a.tif"),
        ("s3://bucket/a.tif", "s3://bucket/a.tif"),
        ("http://me:pw@[::/a.tif?x", "[::/a.tif"),
    ],
)
def test_user_query_and_fragment_are_never_shown(url: str, shown: str):
    assert hide_query(url) == shown
