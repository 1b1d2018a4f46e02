"""A local server that stands for the Hugging Face Hub: ``REPOSITORY/resolve/REVISION/FILE``."""

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
import timm
from safetensors.torch import save_file


class _Handler(http.server.SimpleHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.requests.append(self.path)  # type: ignore[attr-defined]
        super().do_GET()

    def log_message(self, format: str, *args: object) -> None:
        del format, args


class Hub:
    """A running server.

    Args:
        folder: What it serves.
        url: Its address.
        requests: Paths that were asked for, in order.
    """

    def __init__(self, folder: Path, url: str, requests: list[str]) -> None:
        self.folder = folder
        self.url = url
        self.requests = requests

    def place(self, repository: str, revision: str, file: str) -> Path:
        """Return where to write a file of a repository."""
        path = self.folder / repository / "resolve" / revision / file
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def publish(self, timm_name: str, *, card: str | None = "license: apache-2.0\n") -> Path:
        """Publish the weights of a new timm model; return their file."""
        config = timm.get_pretrained_cfg(timm_name)
        assert config is not None and config.hf_hub_id
        path = self.place(config.hf_hub_id, "main", "model.safetensors")
        save_file(timm.create_model(timm_name).state_dict(), path)
        if card is not None:
            path.with_name("README.md").write_text(card)
        return path


@contextmanager
def serve(folder: Path) -> Iterator[Hub]:
    """Serve a folder on 127.0.0.1."""
    folder.mkdir(parents=True, exist_ok=True)
    handler = partial(_Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.requests = []  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield Hub(folder, f"http://127.0.0.1:{server.server_port}", server.requests)  # type: ignore[attr-defined]
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def serve_as_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Serve a folder as the hub of this process, with empty caches."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hf"))
    with serve(tmp_path / "hub") as hub:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
        yield hub
