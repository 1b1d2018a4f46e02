"""A hub that tests publish weights at."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hub_server import Hub, serve_as_hub


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Return a local server that stands for the hub of this process, with empty caches."""
    with serve_as_hub(tmp_path, monkeypatch) as running:
        yield running
