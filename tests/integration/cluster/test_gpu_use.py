"""``rsdl sweep status --prometheus``: what a real Prometheus says of GPUs, beside the records."""

import http.server
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rsdl.cluster.prometheus import read_gpu_use
from rsdl.commands.sweep.scope import JobSelector
from rsdl.commands.sweep.status import status
from rsdl.core.errors import ConfigError, UnreachableError
from tests.integration.cluster.conftest import write_record, write_study
from tests.integration.metrics import is_here, serve

# Namespace, pod, its utilization in percent at 60 equal moments of its life.
PODS = (
    ("study", "cnn-aid-x7k2p", [0] * 15 + [100] * 45),  # set-up counts, as the portal has it
    ("study", "cnn-aid-b5q9z", [50] * 60),  # taken away before
    ("study", "vit-ucm-zz9a1", [20] * 60),
    ("study", "hrrsi-indexed-3-q2w3e", [90] * 60),
    ("study", "cnn-aid-old-x7k2p", [1] * 60),  # another Job whose name begins alike
    ("theirs", "cnn-aid-x7k2p", [5] * 60),
)


@pytest.fixture(scope="session")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str | None]:
    """Return the address of a Prometheus that has watched some pods for an hour."""
    if not is_here():
        yield None
        return
    with serve(tmp_path_factory.mktemp("prometheus"), PODS) as address:
        yield address


@pytest.fixture
def address(prometheus: str | None, require: Callable[[str, bool], None]) -> str:
    require("prometheus", prometheus is not None)
    assert prometheus is not None
    return prometheus


def test_the_cluster_says_how_busy_the_pods_of_a_job_were(address: str):
    jobs = {"cnn-aid", "vit-ucm", "swin-aid", "hrrsi-indexed[3]", "hrrsi-indexed[2]"}
    use = read_gpu_use(address, "study", jobs)
    assert use == pytest.approx(
        {"cnn-aid": (0.75 + 0.5) / 2, "vit-ucm": 0.2, "hrrsi-indexed[3]": 0.9}, abs=0.01
    )
    assert read_gpu_use(f"{address}/", "theirs", {"cnn-aid"}) == pytest.approx({"cnn-aid": 0.05})
    assert read_gpu_use(address, "nobody", jobs) == {}


def test_status_shows_it_beside_the_record_and_names_what_counts_against_you(
    address: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    study, runs = write_study(tmp_path / "k8s"), str(tmp_path / "runs")
    for path in study.glob("*_*.yaml"):
        path.write_text(path.read_text().replace("metadata:", "metadata:\n  namespace: study", 1))
    write_record(runs, "cnn_aid", "running", gpu_utilization=0.61, device_s=10.0)
    write_record(runs, "vit_ucm", "running", gpu_utilization=0.3, device_s=10.0)
    assert status(runs, JobSelector(str(study)), prometheus=address) == 0
    lines = capsys.readouterr().out.splitlines()
    found = {line.split()[0]: line for line in lines}
    assert found["cnn_aid"].endswith("61% (62%)") and found["vit_ucm"].startswith("vit_ucm")
    assert "30% (20%)" in "\n".join(lines)
    assert "vit_ucm: 40% or less busy by the cluster, which counts against you" in lines
    assert status(runs, JobSelector(str(study)), as_json=True, prometheus=address) == 0
    rows = {row["run"]: row for row in json.loads(capsys.readouterr().out)["runs"]}
    assert rows["vit_ucm"]["gpu_by_cluster"] == pytest.approx(0.2)
    assert rows["swin_aid"]["gpu_by_cluster"] is None


class NoPrometheus(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        status_code = {"/busy": 503, "/closed": 403}.get(self.path.partition("/api")[0], 200)
        self.send_response(status_code)
        self.end_headers()
        self.wfile.write(b"<html>hello</html>")

    def log_message(self, format: str, *args: object) -> None:
        del format, args


def test_what_is_no_prometheus_is_one_line_and_one_that_is_away_may_be_back():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), NoPrometheus) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}"
        with pytest.raises(ConfigError, match="is no Prometheus"):
            read_gpu_use(url, "study", {"a"})
        with pytest.raises(ConfigError, match="answers 403"):
            read_gpu_use(f"{url}/closed", "study", {"a"})
        with pytest.raises(UnreachableError, match="answers 503"):
            read_gpu_use(f"{url}/busy", "study", {"a"})
        server.shutdown()
        thread.join()
    with pytest.raises(UnreachableError, match="does not answer"):
        read_gpu_use(url, "study", {"a"})
    with pytest.raises(ConfigError, match="is no address"):
        read_gpu_use("prometheus.example.org", "study", {"a"})
