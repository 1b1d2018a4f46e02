"""Machines that run pods for real, as processes, and a kubelet that shows what they say."""

import base64
import os
import signal
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from rsdl.cluster.load import Manifest
from tests.integration.apiserver.nodes import repeating
from tests.integration.apiserver.plane import Object, Plane, Refused, Space
from tests.k8s.kubelet import Cluster, start

NAME = "machine"


@dataclass
class Machines:
    """Runs the pods of a namespace, so many at once; a pod has what its manifest says, and no more.

    Attributes:
        space: The namespace.
        folder: For mounts, logs, and what pods write.
        places: Variables that are otherwise on this machine.
        overrides: What a pod that trains is told besides.
        room: Pods at once.
        codes: The exit code of each pod that has ended, by its Job.
    """

    space: Space
    folder: Path
    places: Mapping[str, str]
    overrides: Sequence[str]
    room: int = 2
    codes: dict[str, list[int]] = field(default_factory=dict)
    _running: "dict[str, subprocess.Popen[bytes]]" = field(default_factory=dict)
    _indexes: dict[str, list[str]] = field(default_factory=dict)

    def step(self) -> None:
        """Start what there is room for, and tell the API server what has ended."""
        for pod in self.space.list("v1/pods"):
            name = pod["metadata"]["name"]
            with suppress(Refused):  # deleted meanwhile
                if name in self._running:
                    self._look_after(pod, self._running[name])
                elif pod["metadata"].get("deletionTimestamp"):
                    self.space("DELETE", f"v1/pods/{name}?gracePeriodSeconds=0")
                elif pod["status"]["phase"] == "Pending" and len(self._running) < self.room:
                    self._start(pod)

    def close(self) -> None:
        """Leave nothing that runs."""
        for process in self._running.values():
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def log(self, pod: str) -> Path:
        """Return the file of what a pod says."""
        return self.folder / f"{pod}.log"

    def runs(self, pod: str) -> bool:
        """Return whether a pod has not ended."""
        return pod in self._running

    def _start(self, pod: Object) -> None:
        name, owner = pod["metadata"]["name"], pod["metadata"]["labels"]["job-name"]
        target = {"apiVersion": "v1", "kind": "Node", "name": NAME}
        self.space(
            "POST", f"v1/pods/{name}/binding", {"metadata": {"name": name}, "target": target}
        )
        job = self.space("GET", f"batch/jobs/{owner}")
        process = start(Manifest("the cluster", job), self._objects(), self._index_of(name, owner))
        trains = process.arguments[0] == "train" and "quickstart" not in owner
        self._running[name] = process.run(
            *(self.overrides if trains else ()),
            folder=self.folder,
            mounts=self.folder / name,
            log=self.log(name),
            environment=self.places,
        )
        ready = [{"type": "Ready", "status": "True"}]
        self._say(pod, {"phase": "Running", "conditions": ready})

    def _index_of(self, pod: str, job: str) -> int:
        """Return the index of a pod: Kubernetes 1.20 deals none, so this does."""
        taken = self._indexes.setdefault(job, [])
        taken.append(pod)
        return len(taken) - 1

    def _objects(self) -> Cluster:
        """Return what pods refer to, as the API server holds it."""
        maps = {
            each["metadata"]["name"]: each.get("data", {})
            for each in self.space.list("v1/configmaps")
        }
        secrets = {
            each["metadata"]["name"]: {
                key: base64.b64decode(value).decode() for key, value in each["data"].items()
            }
            for each in self.space.list("v1/secrets")
            if each["type"] == "Opaque"
        }
        return Cluster(maps, secrets)

    def _look_after(self, pod: Object, process: "subprocess.Popen[bytes]") -> None:
        name, owner = pod["metadata"]["name"], pod["metadata"]["labels"]["job-name"]
        if pod["metadata"].get("deletionTimestamp"):
            process.send_signal(signal.SIGTERM)
        code = process.poll()
        if code is None:
            return
        del self._running[name]
        self.codes.setdefault(owner, []).append(code)
        words = self.log(name).read_text()[-2000:]
        end = {"exitCode": code, "reason": "Error" if code else "Completed", "message": words}
        container = {"name": pod["spec"]["containers"][0]["name"], "image": "", "imageID": "",
                     "ready": False, "restartCount": 0, "state": {"terminated": end}}  # fmt: skip
        phase = "Failed" if code else "Succeeded"
        self._say(pod, {"phase": phase, "containerStatuses": [container],
                        "conditions": [{"type": "Ready", "status": "False"}]})  # fmt: skip

    def _say(self, pod: Object, status: Object) -> None:
        name = pod["metadata"]["name"]
        self.space("PATCH", f"v1/pods/{name}/status", {"status": status}, kind="merge")


@contextmanager
def at_work(machines: Machines) -> Iterator[Machines]:
    """Run pods, and show their logs to the API server, for as long as the block lasts."""
    plane = machines.space.plane
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(machines))
    server.daemon_threads = True
    trust = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trust.load_cert_chain(plane.folder / "ca.crt", plane.folder / "ca.key")
    server.socket = trust.wrap_socket(server.socket, server_side=True)
    _register(plane, server.server_port)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        with repeating(machines.step, 0.2):
            yield machines
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        machines.close()
        plane.ask("DELETE", f"/api/v1/nodes/{NAME}")


def _register(plane: Plane, port: int) -> None:
    plane.ask("POST", "/api/v1/nodes", {"metadata": {"name": NAME}})
    status = {
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
    }
    plane.ask("PATCH", f"/api/v1/nodes/{NAME}/status", {"status": status}, kind="merge")


def _handler(machines: Machines) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            _, kind, _, pod, _ = parts.path.split("/")
            assert kind == "containerLogs", self.path
            query = {key: values[0] for key, values in parse_qs(parts.query).items()}
            self.send_response(200)
            self.end_headers()
            at, last = 0, int(query.get("tailLines", 10**9))
            while True:
                runs = machines.runs(pod)
                text = machines.log(pod).read_bytes()[at:]
                at += len(text)
                if not at or text:
                    self.wfile.write(b"".join(text.splitlines(keepends=True)[-last:]))
                    self.wfile.flush()
                if query.get("follow") != "true" or not runs:
                    return
                time.sleep(0.2)

        def log_message(self, *_: Any) -> None:  # noqa: ANN401
            pass

    return Handler
