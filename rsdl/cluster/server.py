"""Check manifests by a server dry run, which reports all that the cluster would reject.

``kubectl apply --dry-run=server`` runs admission, quotas, policies and the user's permissions, but
stores nothing. Each object is sent alone, so that each message belongs to an object. A failure to
check at all, such as a network outage, is an error and not a finding.
"""

import json
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from rsdl.cluster.jobs import DISPENSABLE
from rsdl.cluster.kubectl import (
    KNOWN_SINCE,
    SETUP,
    UNKNOWN_FIELD,
    Kubectl,
    complaints,
    translate,
)
from rsdl.cluster.load import Manifest
from rsdl.cluster.policy.violation import Finding, Severity, Violation, locate
from rsdl.core.errors import ClusterError, UnreachableClusterError

SENDERS = 4
REFUSED, DROPPED, WARNED = "server", "server-drops", "server-warns"
RULES: tuple[tuple[str, Severity, str], ...] = (
    (REFUSED, "error", "the cluster would take it, now and from this user"),
    (DROPPED, "warning", "the cluster knows what a Job can do without"),
    (WARNED, "warning", "the cluster warns of nothing"),
)

REMEDIES = {
    "no such namespace": "rsdl k8s render --set namespace=NAMESPACE",
    "you may not do this": "render it for your own namespace, or ask its administrator",
    "takes no such object": "mend it",
}
# A cause, for example: spec.template.spec.containers[0].image: Required value
CAUSE = re.compile(r"(?P<field>[a-z]\w*(?:\.\w+|\[[^\]]*\])*): (?P<problem>[A-Z].*)")
INVALID = re.compile(r"^The \S+ \"[^\"]*\" is invalid: ")
STRICT = re.compile(r'(?:unknown|duplicate) field "(?P<field>[^"]+)"')
CLIENT = re.compile(
    r"ValidationError\((?P<where>[^)]*)\): (?:(?:unknown field|missing required field) "
    r'"(?P<field>[^"]+)"|(?P<problem>.*?))(?: in io\.k8s\S+?)?(?=, ValidationError|\]?$)'
)


def check_on_server(manifests: Sequence[Manifest], kubectl: Kubectl) -> list[Violation]:
    """Return what the cluster would reject, drop or warn about, object by object.

    Args:
        manifests: Objects; neither they nor their references need to exist on the cluster.
        kubectl: Access to the cluster.

    Raises:
        ClusterError: If the request cannot be sent, or the cluster does not know the user.
        UnreachableClusterError: If it does not answer.
    """
    with ThreadPoolExecutor(SENDERS) as pool:
        found = list(pool.map(lambda manifest: list(_check(manifest, kubectl)), manifests))
    return [violation for each in found for violation in each]


def _check(manifest: Manifest, kubectl: Kubectl) -> Iterator[Violation]:
    code, said = _dry_run(manifest, kubectl)
    unknown = [field for line in said for field in UNKNOWN_FIELD.findall(line)]
    if code and unknown and set(unknown) <= DISPENSABLE:
        minor = max(KNOWN_SINCE[field] for field in unknown)
        for field in unknown:
            problem = f"is dropped by this cluster, whose Kubernetes is older than 1.{minor}"
            remedy = "preemptions and exit codes 2, 69 and 75 count towards backoffLimit there"
            finding = Finding(f"spec.{field}", problem, remedy)
            yield locate(manifest, DROPPED, "warning", finding)
        code, said = _dry_run(manifest, kubectl, "--validate=ignore")
    for line in said:
        if line.startswith("Warning: "):
            problem = line.removeprefix("Warning: ")
            finding = Finding("metadata", problem, "mend it, if it is not meant")
            yield locate(manifest, WARNED, "warning", finding)
    if not code:
        return
    error = translate(["apply"], "\n".join(said))
    if _is_about_all(error):
        raise error
    for finding in explain(said, error):
        yield locate(manifest, REFUSED, "error", finding)


def _dry_run(manifest: Manifest, kubectl: Kubectl, *options: str) -> tuple[int, list[str]]:
    text = json.dumps(manifest.body)
    done = kubectl.attempt("apply", "--dry-run=server", *options, "--filename=-", stdin=text)
    return done.returncode, complaints(done.stderr)


def _is_about_all(error: ClusterError) -> bool:
    """Return whether an error is not about the object: the request failed or was not answered."""
    away = isinstance(error, UnreachableClusterError) and not error.problem.startswith("a quota")
    return away or error.remedy in SETUP


def explain(said: Sequence[str], error: ClusterError) -> list[Finding]:
    """Return the findings for an object, one per field named.

    Args:
        said: kubectl's error messages.
        error: The first of them, translated.
    """
    line = next((each for each in said if not each.startswith("Warning: ")), "")
    if found := list(_find_unknown(line)):
        return found
    if INVALID.match(line):
        causes = INVALID.sub("", line).split("; ")
        matches = [CAUSE.fullmatch(cause) for cause in causes]
        if all(matches):
            return [Finding(m["field"], m["problem"], _remedy(m["problem"])) for m in matches if m]
    remedies = {part: remedy for part, remedy in REMEDIES.items() if part in error.problem}
    remedy = next(iter(remedies.values()), error.remedy or "mend it")
    return [Finding("metadata", error.problem, remedy)]


def _find_unknown(line: str) -> Iterator[Finding]:
    """Yield unknown fields, which the server or kubectl reports before it validates the object."""
    if "strict decoding error" in line:
        for match in STRICT.finditer(line):
            yield Finding(
                match["field"], match[0].partition(" field")[0] + " field", "leave it out"
            )
    for match in CLIENT.finditer(line.rpartition("; if you choose")[0] or line):
        where = match["where"].partition(".")[2]
        if match["field"] is None:
            yield Finding(where, match["problem"], "mend it")
            continue
        path = f"{where}.{match['field']}" if where else match["field"]
        if match[0].partition("): ")[2].startswith("missing"):
            yield Finding(path, "is required", "set it")
        elif (minor := KNOWN_SINCE.get(match["field"])) is not None:
            problem = f"is unknown to this cluster, whose Kubernetes is older than 1.{minor}"
            yield Finding(path, problem, f"ask for Kubernetes 1.{minor} or newer")
        else:
            yield Finding(path, "unknown field", "leave it out")


def _remedy(problem: str) -> str:
    if "immutable" in problem:
        return "it is there already and cannot be changed: delete it first, or give it another name"
    return "set it" if problem.startswith("Required value") else "mend it"
