import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from rsdl.core.errors import DataError, StorageError, UnreachableError
from rsdl.data.sources.download import download

BODY = bytes(range(256)) * 2_000
MD5 = hashlib.md5(BODY).hexdigest()


@dataclass
class Site:
    """A file on a server, with the server's moods."""

    body: bytes = BODY
    ranges: bool = True
    violation: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    requests: list[str | None] = field(default_factory=list)
    sent: int = 0
    url: str = ""


def handler_of(site: Site) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            site.requests.append(asked)
            if site.statuses and (status := site.statuses.pop(0)) != 200:
                self.send_error(status)
                return
            start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
            partial = bool(asked) and site.ranges
            if partial and start >= len(site.body):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(site.body)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            part = site.body[start:] if partial else site.body
            self.send_response(206 if partial else 200)
            if partial:
                end = len(site.body) - 1
                self.send_header("Content-Range", f"bytes {start}-{end}/{len(site.body)}")
            self.send_header("Content-Length", str(len(part)))
            self.end_headers()
            kept = part[: site.violation.pop(0)] if site.violation else part
            site.sent += len(kept)
            self.wfile.write(kept)

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    site = Site()
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler_of(site))
    site.url = f"http://127.0.0.1:{server.server_port}/data.zip"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield site
    server.shutdown()
    server.server_close()
    thread.join()


def fetch(site: Site, target: Path, body: bytes = BODY, attempts: int = 3) -> list[tuple]:
    seen: list[tuple] = []
    md5 = hashlib.md5(body).hexdigest()
    download(
        site.url, target, md5=md5, progress=lambda *now: seen.append(now),
        attempts=attempts, pause_s=0.01,
    )  # fmt: skip
    assert target.read_bytes() == body
    assert [path.name for path in target.parent.iterdir()] == [target.name]
    return seen


def test_a_file_comes_whole_with_progress(site: Site, tmp_path: Path):
    seen = fetch(site, tmp_path / "data.zip")
    assert seen[-1] == (len(BODY), len(BODY))
    assert seen == sorted(seen)


def test_what_is_there_is_not_fetched_again(site: Site, tmp_path: Path):
    fetch(site, tmp_path / "data.zip")
    fetch(site, tmp_path / "data.zip")
    assert len(site.requests) == 1


def test_a_broken_line_is_taken_up_where_it_broke(site: Site, tmp_path: Path):
    # More breaks than attempts: each brought new bytes, so none counts as failed for good.
    site.violation = [100_000, 100_000, 100_000, 100_000]
    seen = fetch(site, tmp_path / "data.zip", attempts=2)
    assert site.requests == [None, *(f"bytes={n}00000-" for n in (1, 2, 3, 4))]
    assert site.sent == len(BODY)
    assert {total for _, total in seen} == {len(BODY)}


def test_the_part_is_kept_for_the_next_run(site: Site, tmp_path: Path):
    site.violation = [300_000, 0, 0]
    with pytest.raises(UnreachableError, match="connection broke after 300000 of 512000 bytes"):
        fetch(site, tmp_path / "data.zip", attempts=2)
    assert not (tmp_path / "data.zip").exists()
    site.violation = []
    fetch(site, tmp_path / "data.zip")
    assert site.sent == len(BODY)


def test_a_file_that_changed_since_an_earlier_run_is_fetched_anew(site: Site, tmp_path: Path):
    site.violation = [300_000, 0, 0]
    with pytest.raises(UnreachableError):
        fetch(site, tmp_path / "data.zip", attempts=2)
    site.body, site.violation = BODY[::-1], []
    site.requests.clear()
    fetch(site, tmp_path / "data.zip", site.body)
    assert site.requests == ["bytes=300000-", None]


def test_a_server_without_ranges_sends_it_all_again(site: Site, tmp_path: Path):
    site.ranges, site.violation = False, [300_000]
    fetch(site, tmp_path / "data.zip")
    assert site.sent == 300_000 + len(BODY)


def test_a_part_that_was_whole_already_is_taken(site: Site, tmp_path: Path):
    (tmp_path / "data.zip.part").write_bytes(BODY)
    fetch(site, tmp_path / "data.zip")
    assert site.sent == 0


def test_a_part_longer_than_the_file_is_dropped(site: Site, tmp_path: Path):
    (tmp_path / "data.zip.part").write_bytes(BODY + b"more")
    fetch(site, tmp_path / "data.zip")
    assert site.sent == len(BODY)


def test_a_busy_server_is_asked_again(site: Site, tmp_path: Path):
    site.statuses = [503, 429]
    fetch(site, tmp_path / "data.zip")
    assert len(site.requests) == 3


def test_a_missing_file_is_reported_at_once_in_one_line(site: Site, tmp_path: Path):
    site.statuses = [404, 404, 404]
    with pytest.raises(DataError) as caught:
        fetch(site, tmp_path / "data.zip")
    assert len(site.requests) == 1
    message = str(caught.value)
    assert message.startswith(f"{site.url}: the download failed: HTTP 404")
    assert '"--from PATH"' in message and "\n" not in message


def test_a_wrong_checksum_leaves_nothing_and_says_both(site: Site, tmp_path: Path):
    with pytest.raises(DataError) as caught:
        download(site.url, tmp_path / "data.zip", md5="0" * 32)
    assert list(tmp_path.iterdir()) == [] and len(site.requests) == 1
    assert MD5 in str(caught.value)
    assert "0" * 32 in str(caught.value)


def test_no_server_is_one_line_that_names_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(UnreachableError) as caught:
        download("http://127.0.0.1:9/x.zip", tmp_path / "x.zip", md5=MD5, attempts=2, pause_s=0.01)
    message = str(caught.value)
    assert "Connection refused" in message and caught.value.exit_code == 69
    assert '"--from PATH"' in message and "\n" not in message


def test_a_target_that_cannot_be_written_is_not_tried_again(site: Site, tmp_path: Path):
    with pytest.raises(StorageError, match="no such file"):
        download(site.url, tmp_path / "absent" / "data.zip", md5=MD5)
    assert len(site.requests) == 1
