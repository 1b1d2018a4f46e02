"""A real Prometheus that has watched the GPUs of some pods."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

METRIC = "DCGM_FI_DEV_GPU_UTIL"

# Namespace, pod, its utilization in percent at equal moments of its life.
Pod = tuple[str, str, list[int]]


def is_here() -> bool:
    return bool(shutil.which("prometheus") and shutil.which("promtool"))


@contextmanager
def serve(root: Path, pods: Sequence[Pod]) -> Iterator[str]:
    """Serve what a minute's samples of pods were until now; give the address."""
    end = int(time.time()) - 600
    lines = [f"# TYPE {METRIC} gauge"]
    for namespace, pod, values in pods:
        for at, value in enumerate(values):
            moment = end - 60 * (len(values) - at)
            labels = f'namespace="{namespace}",pod="{pod}",gpu="0"'
            lines.append(f"{METRIC}{{{labels}}} {value} {moment}")
    (root / "samples").write_text("\n".join([*lines, "# EOF", ""]))
    (root / "prometheus.yml").write_text("scrape_configs: []\n")
    data = root / "data"
    blocks = ["promtool", "tsdb", "create-blocks-from", "openmetrics", str(root / "samples")]
    subprocess.run([*blocks, str(data)], check=True, capture_output=True)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
    command = ["prometheus", f"--config.file={root / 'prometheus.yml'}",
               f"--storage.tsdb.path={data}", f"--web.listen-address={address}"]  # fmt: skip
    with (root / "log").open("w") as log, subprocess.Popen(command, stderr=log) as server:
        try:
            wait_for(f"http://{address}/-/ready", server)
            yield f"http://{address}"
        finally:
            server.terminate()


def wait_for(url: str, server: "subprocess.Popen[bytes]") -> None:
    while server.poll() is None:
        try:
            urlopen(url, timeout=5).close()
            return
        except (URLError, OSError):
            time.sleep(0.05)
    pytest.fail(f"prometheus ended with {server.returncode}")
