"""As much of the Kubernetes API as kubectl needs for Jobs, over real HTTP on 127.0.0.1."""

import json
import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.integration.cluster.world import NAMED, Object, World

GROUPS = {"v1": ("pods", "services", "configmaps", "serviceaccounts"), "batch/v1": ("jobs",)}
ROOTS = {"v1": "/api/v1", "batch/v1": "/apis/batch/v1"}
VERBS = ["create", "delete", "get", "list", "patch", "update", "watch"]
PATH = re.compile(r"/api(?:s/batch)?/v1/namespaces/(?P<space>[^/]+)/(?P<kind>[a-z]+)"
                  r"(?:/(?P<name>[^/]+))?")  # fmt: skip
Answer = tuple[int, Object]


class ApiServer:
    """A server that runs for as long as the block lasts.

    Args:
        world: What it serves.

    Attributes:
        requests: Method and path of everything that was asked for.
        spoil: Asked with method and path before each answer: another answer to give instead, or
            ``None``. May also raise ``ConnectionError`` to hang up.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.requests: list[tuple[str, str]] = []
        self.spoil: Callable[[str, str], Answer | None] = lambda method, path: None
        self.namespaces = {"study"}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "ApiServer":
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def changes(self) -> list[tuple[str, str]]:
        """Requests that were to change something."""
        return [request for request in self.requests if request[0] != "GET"]

    def answer(self, method: str, target: str, body: Object) -> Answer:
        """Return status and body for a request."""
        parts = urlsplit(target)
        self.requests.append((method, parts.path))
        if (spoilt := self.spoil(method, parts.path)) is not None:
            return spoilt
        if (found := discover(parts.path)) is not None:
            return 200, found
        if (space := parts.path.removeprefix("/api/v1/namespaces/")) in self.namespaces:
            return 200, {"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": space}}
        match = PATH.fullmatch(parts.path)
        if match is None:
            return 404, failure(404, "NotFound", "the server could not find the requested resource")
        space, kind, name = match["space"], match["kind"], match["name"]
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        with self.world.lock:
            if space not in self.namespaces:
                return 404, failure(404, "NotFound", f'namespaces "{space}" not found')
            return self._serve(method, (kind, space, name), query, body)

    def _serve(
        self, method: str, key: tuple[str, str, str | None], query: dict[str, str], body: Object
    ) -> Answer:
        kind, space, name = key
        world = self.world
        if method == "GET" and name is None:
            for _ in range(world.steps if kind == "jobs" else 0):
                world.step()
            items = world.listed(kind, space, _labels(query.get("labelSelector", "")))
            head = {"kind": f"{NAMED[kind]}List", "apiVersion": _version(kind)}
            return 200, {**head, "metadata": {"resourceVersion": "1"}, "items": items}
        title = kind if kind != "jobs" else "jobs.batch"
        name = name or body.get("metadata", {}).get("name")
        known = world.objects.get((kind, space, str(name)))
        if method == "POST":
            if known is not None:
                text = f'{title} "{name}" already exists'
                return 409, failure(409, "AlreadyExists", text)
            return 201, world.put(kind, space, body)
        if known is None:
            return 404, failure(404, "NotFound", f'{title} "{name}" not found')
        if method == "PATCH":
            if kind == "jobs" and "template" in body.get("spec", {}):
                text = f'Job.batch "{name}" is invalid: spec.template: field is immutable'
                return 422, failure(422, "Invalid", text)
            return 200, world.put(kind, space, merge(known, body))
        if method == "DELETE":
            world.delete(kind, space, str(name), body.get("propagationPolicy", "Background"))
        return 200, known


def discover(path: str) -> Object | None:
    """Return what tells kubectl which resources there are."""
    if path == "/api":
        return {"kind": "APIVersions", "versions": ["v1"]}
    if path == "/apis":
        batch = {"groupVersion": "batch/v1", "version": "v1"}
        group = {"name": "batch", "versions": [batch], "preferredVersion": batch}
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [group]}
    if path == "/openapi/v3":
        roots = [root.removeprefix("/") for root in ROOTS.values()]
        return {"paths": {root: {"serverRelativeURL": f"/openapi/v3/{root}"} for root in roots}}
    for version, kinds in GROUPS.items():
        if path == f"/openapi/v3{ROOTS[version]}":
            return openapi(version)
        if path == ROOTS[version]:
            resources = [
                {"name": kind, "singularName": NAMED[kind].lower(), "namespaced": True,
                 "kind": NAMED[kind], "verbs": VERBS}
                for kind in kinds
            ]  # fmt: skip
            return {"kind": "APIResourceList", "groupVersion": version, "resources": resources}
    return None


def openapi(version: str) -> Object:
    """Return the part of OpenAPI by which kubectl sees that the server checks fields itself."""
    group, _, _ = version.rpartition("/")
    parameter = {"name": "fieldValidation", "in": "query", "schema": {"type": "string"}}
    paths = {}
    for kind in GROUPS[version]:
        of = {"group": group, "version": "v1", "kind": NAMED[kind]}
        patch = {"parameters": [parameter], "x-kubernetes-group-version-kind": of}
        paths[f"{ROOTS[version]}/namespaces/{{namespace}}/{kind}/{{name}}"] = {"patch": patch}
    return {"openapi": "3.0.0", "info": {"title": "Kubernetes", "version": "v1.32.0"},
            "paths": paths, "components": {"schemas": {}}}  # fmt: skip


def merge(known: Object, patch: Object) -> Object:
    """Return an object with a JSON merge patch applied; lists are replaced."""
    merged = dict(known)
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        elif isinstance(value, dict) and isinstance(merged.get(name), dict):
            merged[name] = merge(merged[name], value)
        else:
            merged[name] = value
    return merged


def failure(code: int, reason: str, message: str) -> Object:
    """Return the body of a refusal."""
    return {"kind": "Status", "apiVersion": "v1", "status": "Failure", "metadata": {},
            "code": code, "reason": reason, "message": message}  # fmt: skip


def _labels(selector: str) -> dict[str, str]:
    pairs = [part.partition("=") for part in selector.split(",") if part]
    return {label: value for label, _, value in pairs}


def _version(kind: str) -> str:
    return "batch/v1" if kind == "jobs" else "v1"


def _handler(api: ApiServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # headers and body in one packet: nobody waits for the other's answer

        def _serve(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length) or b"{}") if length else {}
            try:
                code, page = api.answer(self.command, self.path, body)
            except ConnectionError:
                self.close_connection = True
                return
            data = json.dumps(page).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PATCH = do_DELETE = do_PUT = _serve

        def log_message(self, *_: Any) -> None:  # noqa: ANN401
            pass

    return Handler
