"""A local web server that sends byte ranges of the files in a folder, and counts what it sends.

It is a process of its own: rasterio holds Python's lock while GDAL opens a file.
"""

import http.server
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple


class Request(NamedTuple):
    """A request that was answered, and the bytes of the file that were sent."""

    method: str
    path: str
    sent: int


@dataclass
class RangeServer:
    """A running server.

    Attributes:
        folder: What it serves.
        url: Its address.
        log: File of the requests that it has answered.
        rules: File that says how it behaves; see :meth:`behave`.
    """

    folder: Path
    url: str
    log: Path
    rules: Path

    def behave(self, **rules: Any) -> None:  # noqa: ANN401 - JSON values
        """Change what it does from now on.

        Args:
            rules: ``status`` answers everything with an error, ``failures`` so many requests from
                now on with 503, ``ranges`` whether it knows ranges.
        """
        if "failures" in rules:
            rules["failures"] += len(self.requests)
        self.rules.write_text(json.dumps(rules))

    @property
    def requests(self) -> list[Request]:
        """What was asked for, in order."""
        return [Request(*json.loads(line)) for line in self.log.read_text().splitlines()]

    @property
    def sent(self) -> int:
        """Bytes of files that were sent."""
        return sum(request.sent for request in self.requests)


class _Handler(http.server.BaseHTTPRequestHandler):
    folder: Path
    log: Path
    rules: Path
    count = 0

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        rules = json.loads(self.rules.read_text())
        path = self.folder / self.path.partition("?")[0].lstrip("/")
        status, data, headers = self._find(path, knows_ranges=rules.get("ranges", True))
        if "status" in rules or _Handler.count < rules.get("failures", 0):
            status, data, headers = rules.get("status", 503), b"", {}
        headers["Content-Length"] = str(len(data))
        data = b"" if self.command == "HEAD" else data
        _Handler.count += 1
        with self.log.open("a") as log:
            log.write(json.dumps([self.command, self.path, len(data)]) + "\n")
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def _find(self, path: Path, *, knows_ranges: bool) -> tuple[int, bytes, dict[str, str]]:
        if not path.is_file():
            return 404, b"", {}
        data = path.read_bytes()
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked is None or not knows_ranges:
            return 200, data, {}
        start, stop = int(asked[1]), min(int(asked[2] or len(data)) + 1, len(data))
        if start >= len(data):
            return 416, b"", {"Content-Range": f"bytes */{len(data)}"}
        return 206, data[start:stop], {"Content-Range": f"bytes {start}-{stop - 1}/{len(data)}"}

    def log_message(self, format: str, *args: object) -> None:
        del format, args


@contextmanager
def serve_ranges(folder: Path) -> Iterator[RangeServer]:
    """Serve a folder on 127.0.0.1 while the block lasts."""
    log, rules = folder.with_name("requests.jsonl"), folder.with_name("rules.json")
    log.touch()
    rules.write_text("{}")
    command = [sys.executable, __file__, str(folder), str(log), str(rules)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            url = f"http://127.0.0.1:{int(process.stdout.readline())}"
            yield RangeServer(folder, url, log, rules)
        finally:
            process.kill()


if __name__ == "__main__":
    _Handler.folder, _Handler.log, _Handler.rules = map(Path, sys.argv[1:])
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as running:
        print(running.server_port, flush=True)
        running.serve_forever()
