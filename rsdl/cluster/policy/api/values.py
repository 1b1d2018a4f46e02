"""Words and numbers that fields take; the schema says no more than text or number."""

from collections.abc import Iterator

from rsdl.cluster.policy.field import Field
from rsdl.cluster.policy.objects import Object, Pod
from rsdl.cluster.policy.syntax import nearest
from rsdl.cluster.policy.violation import Finding, Rule

PULL = ("Always", "IfNotPresent", "Never")
RESTART = ("Always", "OnFailure", "Never")
EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
OPERATORS = ("In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt")
ACTIONS = ("FailJob", "FailIndex", "Ignore", "Count")
CONCURRENCY = ("Allow", "Forbid", "Replace")
SERVICES = ("ClusterIP", "NodePort", "LoadBalancer", "ExternalName")
MAX_SECONDS = 2**31 - 1

# Least value of each number; API: a Job may be told to run nothing, a pod may not have no time.
JOB_NUMBERS = {
    "parallelism": 0,
    "completions": 0,
    "backoffLimit": 0,
    "backoffLimitPerIndex": 0,
    "maxFailedIndexes": 0,
    "activeDeadlineSeconds": 0,
    "ttlSecondsAfterFinished": 0,
}
POD_NUMBERS = {"activeDeadlineSeconds": 1, "terminationGracePeriodSeconds": 0}


def check_numbers(owner: Object) -> Iterator[Finding]:
    """Yield numbers below what their field takes, or no deadline at all."""
    places = []
    if owner.job is not None:
        places.append((owner.job, JOB_NUMBERS))
    if owner.pod is not None:
        places.append((owner.pod.spec, POD_NUMBERS))
        if owner.job is None:
            places.append((owner.spec, {"replicas": 0}))
    for place, least in places:
        for name, low in least.items():
            value = place[name].integer
            if value is not None and not low <= value <= MAX_SECONDS:
                problem = f"is {value}, must be {low} or more"
                if value > MAX_SECONDS:
                    problem = f"is {value}, must be {MAX_SECONDS} at most"
                yield place[name].breaks(problem, "mend it")


def check_idle(pod: Pod) -> Iterator[Finding]:
    """Yield Jobs that run no pod, or end before they began."""
    if pod.job is None:
        return
    for name in ("parallelism", "completions", "activeDeadlineSeconds"):
        if pod.job[name].integer == 0:
            yield pod.job[name].breaks("is 0, so nothing runs", "write 1 or more")


def check_words(owner: Object) -> Iterator[Finding]:
    """Yield words that their field does not know."""
    if owner.kind == "Service":
        yield from _unknown(owner.spec["type"], SERVICES)
    if owner.kind == "CronJob":
        yield from _unknown(owner.spec["concurrencyPolicy"], CONCURRENCY)
    if owner.job is not None:
        yield from _unknown(owner.job["completionMode"], ("NonIndexed", "Indexed"))
        yield from _unknown(owner.job["podReplacementPolicy"], ("TerminatingOrFailed", "Failed"))
        for rule in owner.job["podFailurePolicy"]["rules"]:
            yield from _unknown(rule["action"], ACTIONS)
            yield from _unknown(rule["onExitCodes"]["operator"], ("In", "NotIn"))
    if owner.pod is not None:
        yield from _pod_words(owner.pod)


def _pod_words(pod: Pod) -> Iterator[Finding]:
    yield from _unknown(pod.spec["restartPolicy"], RESTART)
    for toleration in pod.spec["tolerations"]:
        yield from _unknown(toleration["operator"], ("Exists", "Equal"))
        yield from _unknown(toleration["effect"], EFFECTS)
    for term in node_terms(pod):
        for expression in term["matchExpressions"]:
            yield from _unknown(expression["operator"], OPERATORS)
    for container in pod.all_containers:
        yield from _unknown(container["imagePullPolicy"], PULL)
    for volume in pod.spec["volumes"]:
        medium = volume["emptyDir"]["medium"]
        if not medium.text.startswith("HugePages"):
            yield from _unknown(medium, ("Memory",))


def check_tolerations(pod: Pod) -> Iterator[Finding]:
    """Yield tolerations whose parts do not go together."""
    for toleration in pod.spec["tolerations"]:
        exists = toleration["operator"].text == "Exists"
        if not toleration["key"].text and not exists:
            yield toleration["key"].breaks(
                "is required unless operator is Exists", "name the taint"
            )
        if exists and toleration["value"].text:
            yield toleration["value"].breaks("goes not with operator Exists", "leave it out")
        if toleration["tolerationSeconds"] and toleration["effect"].text != "NoExecute":
            yield toleration["tolerationSeconds"].breaks("needs effect: NoExecute", "leave it out")


def check_affinity(pod: Pod) -> Iterator[Finding]:
    """Yield node affinities that choose by nothing."""
    node = pod.spec["affinity"]["nodeAffinity"]
    required = node["requiredDuringSchedulingIgnoredDuringExecution"]
    if required and not list(required["nodeSelectorTerms"]):
        yield required["nodeSelectorTerms"].breaks("is empty, so no node fits", "give it a term")
    for choice in node["preferredDuringSchedulingIgnoredDuringExecution"]:
        weight = choice["weight"].integer
        if weight is not None and not 1 <= weight <= 100:
            yield choice["weight"].breaks(f"is {weight}, must be 1 to 100", "mend it")
    for term in node_terms(pod):
        for expression in term["matchExpressions"]:
            yield from _wrong_values(expression)


def node_terms(pod: Pod) -> Iterator[Field]:
    """Yield the terms by which nodes are chosen, required or preferred."""
    node = pod.spec["affinity"]["nodeAffinity"]
    yield from node["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    for choice in node["preferredDuringSchedulingIgnoredDuringExecution"]:
        yield choice["preference"]


def _wrong_values(expression: Field) -> Iterator[Finding]:
    operator, values = expression["operator"].text, list(expression["values"])
    if operator in ("In", "NotIn") and not values:
        yield expression["values"].breaks(f"is required with {operator}", "name values")
    if operator in ("Exists", "DoesNotExist") and values:
        yield expression["values"].breaks(f"goes not with {operator}", "leave it out")
    if operator in ("Gt", "Lt"):
        numbers = [value for value in values if value.text.lstrip("-").isdigit()]
        if len(values) != 1 or not numbers:
            yield expression["values"].breaks(
                f"must be one whole number with {operator}", 'write for example ["12"]'
            )


def _unknown(word: Field, known: tuple[str, ...]) -> Iterator[Finding]:
    if word.text and word.text not in known:
        near = nearest(word.text, known)
        remedy = f'did you mean "{near}"?' if near else f"one of {', '.join(known)}"
        yield word.breaks(f'"{word.text}" is none of {", ".join(known)}', remedy)


OBJECTS: tuple[Rule[Object], ...] = (
    Rule("number", "counts and seconds are in range", "error", check_numbers),
    Rule("word", "words are among those that the field knows", "error", check_words),
)
PODS: tuple[Rule[Pod], ...] = (
    Rule("runs-nothing", "a Job has pods to run, and time", "warning", check_idle),
    Rule("toleration", "the parts of a toleration go together", "error", check_tolerations),
    Rule("node-affinity", "node affinities choose by something", "error", check_affinity),
)
