"""What a downloader talks to."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hub_server import serve


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """Return a folder and the URL under which it is served."""
    with serve(tmp_path / "served") as server:
        yield server.folder, server.url
