"""kubectl as a subprocess, without a shell, with one-line error messages.

kubectl rather than a client library, because it is how a user's access to the cluster is set up:
contexts, login plugins and proxies work here as they do by hand. Its error messages are translated
here, once, into where, problem and remedy.
"""

import json
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rsdl.core.errors import (
    ClusterError,
    ForbiddenClusterError,
    OldClusterError,
    UnreachableClusterError,
)

# Timeout of one API request, and of a whole kubectl command.
REQUEST_LIMIT_S = 30
LIMIT_S = 180

INSTALL = "install it (https://kubernetes.io/docs/tasks/tools/) and log in to the cluster"
CONFIGURE = "put the cluster's config at ~/.kube/config, or name it in KUBECONFIG"
AGAIN = "check the network, and try again"
EXISTS = "is there already"
FORBIDDEN = "you may not do this"
LOG_IN = "log in again, or fetch a new config from the cluster's portal"
CHOOSE = "choose one: kubectl config use-context NAME"
MEND = "mend the file that KUBECONFIG names"
# Remedies for errors before the cluster was reached, or before it authenticated the user.
SETUP = (CONFIGURE, CHOOSE, MEND, LOG_IN)

# Patterns of kubectl's stderr; the first match counts. Each has a problem, a remedy, and whether a
# later attempt may succeed.
ERROR_PATTERNS: tuple[tuple[str, str, str, bool], ...] = (
    (r"connection to the server localhost:8080 was refused", "no cluster is configured", CONFIGURE,
     False),
    (r"current-context (?:is not set|must exist)|context was not found|context .* does not exist",
     "its config names no such context", CHOOSE, False),
    (r"error loading config file|invalid configuration|unable to read client-cert",
     "its config cannot be read: {line}", MEND, False),
    (r"oidc.*\b50\d\b|oidc.*Service Unavailable", "the login server does not answer: {line}",
     "your login may be well: wait", True),
    (r"\(Unauthorized\)|must be logged in|provide credentials|getting credentials|token.*expired",
     "the cluster does not know you: {line}", LOG_IN, False),
    (r"x509:|certificate signed by unknown",
     "the cluster's certificate is not trusted: {line}", LOG_IN, False),
    (r"does not look like a TLS|HTTP response to HTTPS", "no https at its address: {line}",
     MEND, False),
     # Nautilus' admission check: it passes again once new pods are busy.
    (r"utilization is too low", "the cluster takes no new Jobs while more than four of your pods "
     "leave idle what they have asked for: {line}", "wait, or cancel those that stay idle", True),
    (r"ask your namespace admin", "the namespace's page is not complete: {line}",
     "ask its administrator: https://nrp.ai/namespaces", False),
    (r"localhost:8080/openapi", "no cluster is configured", CONFIGURE, False),
    (r"was refused|connect: connection refused|no such host|i/o timeout|Client\.Timeout"
     r"|TLS handshake timeout|deadline exceeded|connection reset|unexpected EOF|: EOF"
     r"|no route to host|network is unreachable|connection timed out|request canceled",
     "the cluster does not answer: {line}", AGAIN, True),
    (r"exceeded quota", "a quota is used up: {line}", "wait, cancel others, or ask for more", True),
    (r"denied the request|violates PodSecurity", "the cluster's policy refuses it: {line}",
     "rsdl k8s check names the rule", False),
    (r'namespaces? "[^"]*" not found', "no such namespace: {line}", "name yours with --namespace",
     False),
    (r"does not match the namespace", "{line}", "leave --namespace out", False),
    (r"error looking up service account", "what it runs as is not there: {line}",
     "apply k8s/base first", False),
    (r"\(Forbidden\)", FORBIDDEN + ": {line}",
     "name your namespace with --namespace, or ask its administrator", False),
    (r"\(AlreadyExists\)", EXISTS + ": {line}", "look: rsdl sweep status", False),
    (r"\(NotFound\)|not found", "is not there: {line}", "look: rsdl sweep status", False),
    (r"field is immutable", "cannot be changed in place: {line}", "cancel it, then submit it again",
     False),
    (r"\(Invalid\)|error validating|is invalid|\(BadRequest\)|no matches for kind",
     "the cluster takes no such object: {line}", "rsdl k8s check names the field", False),
    (r"\(TooManyRequests\)|\(ServiceUnavailable\)|\(InternalError\)|\(Timeout\)|\(ServerTimeout\)"
     r"|etcdserver:|currently unable to handle|too many requests|\(Conflict\)",
     "the cluster is busy: {line}", "try again in a minute", True),
)  # fmt: skip
# Fields of a Job, and the first Kubernetes 1.N that supports them without a feature gate. kubectl
# detects an older one by comparing with the server's published schema.
KNOWN_SINCE = {
    "completionMode": 22, "suspend": 22, "podFailurePolicy": 26, "backoffLimitPerIndex": 29,
    "matchLabelKeys": 31, "maxFailedIndexes": 29, "podReplacementPolicy": 29, "successPolicy": 31,
}  # fmt: skip
UNKNOWN_FIELD = re.compile(r'unknown field "(\w+)" in io\.k8s')
# A value as Go prints it, of no use in a message:
# core.PodTemplateSpec{ObjectMeta:v1.ObjectMeta{...}}.
GO_VALUE = re.compile(r"[\w.\[\]*]+\{.*\}: ")

RETRIEVING = "error when retrieving current configuration of:"

# klog's own lines, for example of discovery, retried five times: E1125 07:14:50.266619 ...
LOG_LINE = re.compile(r"[EWIF]\d{4} \d\d:\d\d")


@dataclass(frozen=True, slots=True)
class Kubectl:
    """Runs kubectl in one namespace.

    Attributes:
        namespace: The namespace; ``None`` for the one of the current context.
        program: The executable.
    """

    namespace: str | None = None
    program: str = "kubectl"

    def read(self, *arguments: str) -> Mapping[str, Any]:
        """Return the JSON output of a command."""
        text = self.run(*arguments, "--output=json")
        try:
            found = json.loads(text)
        except ValueError as error:
            raise ClusterError("kubectl", f"did not print JSON but {text[:80]!r}") from error
        return found if isinstance(found, dict) else {}

    def run(self, *arguments: str, stdin: str | None = None) -> str:
        """Return the output of a command.

        Args:
            arguments: Command and options.
            stdin: Standard input of the command.

        Raises:
            ClusterError: If kubectl is missing or not set up, or the cluster refuses the request.
            UnreachableClusterError: If the cluster does not answer, or a retry may succeed.
        """
        done = self.attempt(*arguments, stdin=stdin)
        if done.returncode:
            raise translate(arguments, done.stderr)
        return done.stdout

    def attempt(
        self, *arguments: str, stdin: str | None = None
    ) -> "subprocess.CompletedProcess[str]":
        """Return the exit code and all output of a command.

        Raises:
            ClusterError: If kubectl is missing.
            UnreachableClusterError: If it timed out.
        """
        command = [self.program, f"--request-timeout={REQUEST_LIMIT_S}s"]
        if self.namespace is not None:
            command.append(f"--namespace={self.namespace}")
        try:
            return subprocess.run(
                [*command, *arguments], input=stdin or "", capture_output=True, text=True,
                timeout=LIMIT_S, check=False,
            )  # fmt: skip
        except FileNotFoundError as error:
            raise ClusterError(self.program, "is not on PATH", INSTALL) from error
        except OSError as error:
            raise ClusterError(self.program, f"cannot be run: {error.strerror}", INSTALL) from error
        except subprocess.TimeoutExpired as error:
            raise UnreachableClusterError(
                "kubectl", f"the cluster did not answer in {LIMIT_S} s", AGAIN
            ) from error


def translate(arguments: Sequence[str], stderr: str) -> ClusterError:
    """Return the error for kubectl's stderr.

    Args:
        arguments: The command.
        stderr: Its stderr.
    """
    said = complaints(stderr)
    where = f"kubectl {arguments[0]}" if arguments else "kubectl"
    unknown = [field for line in said for field in UNKNOWN_FIELD.findall(line)]
    if unknown and all(field in KNOWN_SINCE for field in unknown):
        return OldClusterError(where, unknown, max(KNOWN_SINCE[field] for field in unknown))
    for pattern, problem, remedy, passing in ERROR_PATTERNS:
        for line in said:
            if re.search(pattern, line):
                kind = UnreachableClusterError if passing else ClusterError
                kind = ForbiddenClusterError if problem.startswith(FORBIDDEN) else kind
                return kind(where, problem.format(line=_shorten(line)), remedy)
    return ClusterError(where, _shorten(said[0]) if said else "failed without a word")


def complaints(stderr: str) -> list[str]:
    """Return kubectl's error messages, one line each; list items are appended to their message."""
    lines = [GO_VALUE.sub("", line.strip()) for line in stderr.splitlines() if line.strip()]
    said: list[str] = []
    for line in [line for line in lines if not LOG_LINE.match(line)] or lines:
        if line.startswith("* ") and said:
            said[-1] += f"{' ' if said[-1].endswith(':') else '; '}{line[2:]}"
        elif said and said[-1].endswith(RETRIEVING):
            # The object's description; some lines below, the problem follows "from server for".
            if found := re.match(r'from server for: "[^"]*": ', line):
                said[-1] = said[-1].removesuffix(RETRIEVING) + line[found.end() :]
        else:
            said.append(line)
    return said


def _shorten(line: str) -> str:
    """Return a line of kubectl's without its uninformative parts."""
    line = re.sub(r'Unable to find .* field selector "[^"]*": ', "", line)
    line = re.sub(r"^(error|Error|Unable to connect to the server): ?", "", line)
    line = re.sub(r"^Error from server( \(\w+\))?: ", "", line)
    line = re.sub(r"^error when (creating|applying patch|retrieving).*?: (?=\w)", "", line)
    line = re.sub(r'^error validating "[^"]*": (error validating data: )?', "", line)
    line = re.sub(r"; if you choose to ignore these errors, turn validation off.*", "", line)
    line = re.sub(r" - did you specify the right host or port\?$", "", line)
    return line if len(line) <= 300 else f"{line[:299]}…"
