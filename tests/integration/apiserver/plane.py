"""A real API server as a test speaks to it: over its own HTTP, sharing nothing with kubectl."""

import base64
import json
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.waiting import wait_for as wait_for

SCRIPT = Path(__file__).parents[3] / "scripts" / "kube_apiserver"
Object = dict[str, Any]
KINDS = {"json": "application/json", "merge": "application/merge-patch+json"}


def run_script(*arguments: object) -> None:
    done = subprocess.run([str(SCRIPT), *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


class Refused(Exception):
    """The API server has refused something.

    Args:
        code: Status of HTTP.
        message: Its words.
    """

    def __init__(self, code: int, message: str) -> None:
        self.code = code
        super().__init__(f"{code}: {message}")


@dataclass(frozen=True)
class Plane:
    """A control plane that runs, as its administrator sees it.

    Attributes:
        folder: Where it lives.
        port: Of its API.
    """

    folder: Path
    port: int

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def kill(self) -> None:
        """Kill the API server alone."""
        run_script("kill", self.folder)

    def revive(self) -> None:
        """Start the API server again."""
        run_script("revive", self.folder)

    def ask(self, method: str, path: str, body: Object | None = None, kind: str = "json") -> Object:
        """Return the answer to a request.

        Raises:
            Refused: If the API server refuses.
        """
        request = urllib.request.Request(
            self.url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "Authorization": f"Bearer {(self.folder / 'token').read_text().strip()}",
                "Content-Type": KINDS[kind],
            },
        )
        trust = ssl.create_default_context(cafile=str(self.folder / "ca.crt"))
        direct = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trust)
        )
        try:
            with direct.open(request, timeout=30) as answer:
                found: Object = json.loads(answer.read() or b"{}")
        except urllib.error.HTTPError as error:
            with error:
                raise Refused(error.code, error.read().decode()) from error
        return found

    def write_kubeconfig(self, path: Path, token: str, namespace: str) -> Path:
        """Write what lets kubectl in with a token."""
        cluster = {"server": self.url, "certificate-authority": str(self.folder / "ca.crt")}
        context = {"cluster": "test", "user": "test", "namespace": namespace}
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "test", "user": {"token": token}}],
            "contexts": [{"name": "test", "context": context}],
        }
        path.write_text(yaml.safe_dump(content))
        return path


@dataclass(frozen=True)
class Space:
    """A namespace with somebody who is its administrator and nothing else, anywhere.

    Attributes:
        plane: Where it is.
        name: Its name.
    """

    plane: Plane
    name: str

    def __call__(self, method: str, path: str, body: Object | None = None, **how: str) -> Object:
        """Return the administrator's answer to a request about this namespace."""
        group, _, rest = path.partition("/")
        root = "/api/v1" if group == "v1" else f"/apis/{group}/v1"
        return self.plane.ask(method, f"{root}/namespaces/{self.name}/{rest}", body, **how)

    def list(self, path: str) -> list[Object]:
        """Return all objects of a kind, such as ``batch/jobs``."""
        found: list[Object] = self("GET", path)["items"]
        return found

    def names(self, path: str) -> set[str]:
        """Return the names of all objects of a kind."""
        return {each["metadata"]["name"] for each in self.list(path)}

    def add_member(self, name: str, role: str) -> None:
        """Make an account and give it a ClusterRole in this namespace alone."""
        self("POST", "v1/serviceaccounts", {"metadata": {"name": name}})
        self(
            "POST",
            "rbac.authorization.k8s.io/rolebindings",
            {
                "metadata": {"name": name},
                "roleRef": {
                    "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role,
                },
                "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": self.name}],
            },
        )  # fmt: skip

    def token(self, member: str) -> str:
        """Return a token of an account."""
        path = f"v1/serviceaccounts/{member}/token"
        return str(self("POST", path, {"spec": {"expirationSeconds": 3600}})["status"]["token"])

    def brief_token(self, member: str, seconds: int) -> str:
        """Return a token that expires sooner than the API server would give one."""
        account = self("GET", f"v1/serviceaccounts/{member}")["metadata"]
        now = int(time.time())
        claims = {
            "iss": "https://rsdl.test",
            "aud": ["https://rsdl.test"],
            "sub": f"system:serviceaccount:{self.name}:{member}",
            "iat": now,
            # The API server allows for clocks that differ by a minute.
            "nbf": now - 60,
            "exp": now + seconds - 60,
            "kubernetes.io": {
                "namespace": self.name,
                "serviceaccount": {"name": member, "uid": account["uid"]},
            },
        }
        parts = [json.dumps(part).encode() for part in ({"alg": "RS256", "typ": "JWT"}, claims)]
        text = b".".join(map(_encode, parts))
        key = str(self.plane.folder / "accounts.key")
        command = ["openssl", "dgst", "-sha256", "-sign", key]
        signed = subprocess.run(command, input=text, capture_output=True, check=True)
        return (text + b"." + _encode(signed.stdout)).decode()


def _encode(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
