"""Jobs: restart policy, completion mode, failure and success policies."""

from collections.abc import Iterator

from rsdl.cluster.policy.field import Field
from rsdl.cluster.policy.objects import Pod
from rsdl.cluster.policy.violation import Finding, Rule

MAX_POLICY_RULES = 20
NEVER = "write restartPolicy: Never"
INDEXED = "write completionMode: Indexed and completions"


def check_restart(pod: Pod) -> Iterator[Finding]:
    """Yield restart policies that the kind of object does not allow."""
    policy = pod.spec["restartPolicy"]
    if pod.job is not None:
        if policy.value not in ("Never", "OnFailure"):
            shown = policy.value or "unset, which means Always"
            yield policy.violation(f"is {shown}; a Job takes Never or OnFailure", NEVER)
    elif pod.owner.kind != "Pod" and policy.text and policy.text != "Always":
        yield policy.violation(f"is {policy.text}; a {pod.owner.kind} takes Always", "leave it out")


def check_indexed(pod: Pod) -> Iterator[Finding]:
    """Yield Indexed Jobs without a number of completions."""
    if pod.job is None or pod.job["completionMode"].text != "Indexed":
        return
    completions = pod.job["completions"]
    if not completions:
        yield completions.violation("is required with completionMode: Indexed", "set completions")


def check_backoff_per_index(pod: Pod) -> Iterator[Finding]:
    """Yield a backoff limit per index on a Job without indexes."""
    if pod.job is None:
        return
    limit = pod.job["backoffLimitPerIndex"]
    if limit and pod.job["completionMode"].text != "Indexed":
        yield limit.violation("needs completionMode: Indexed", INDEXED)
    if limit and pod.spec["restartPolicy"].text != "Never":
        yield limit.violation("needs restartPolicy: Never", NEVER)
    most = pod.job["maxFailedIndexes"]
    if most and not limit:
        yield most.violation("needs backoffLimitPerIndex", "set backoffLimitPerIndex")


def check_success_policy(pod: Pod) -> Iterator[Finding]:
    """Yield success policies on Jobs without indexes, or without rules."""
    if pod.job is None or not pod.job["successPolicy"]:
        return
    policy = pod.job["successPolicy"]
    if pod.job["completionMode"].text != "Indexed":
        yield policy.violation("needs completionMode: Indexed", INDEXED)
    if not list(policy["rules"]):
        yield policy["rules"].violation("is empty", "give it a rule")
    for rule in policy["rules"]:
        if not rule["succeededIndexes"] and not rule["succeededCount"]:
            yield rule.violation("says nothing", "set succeededIndexes or succeededCount")


def check_failure_restart(pod: Pod) -> Iterator[Finding]:
    """Yield a podFailurePolicy whose pods may restart in place."""
    policy = _failure_policy(pod)
    if policy and pod.spec["restartPolicy"].text != "Never":
        yield policy.violation("needs restartPolicy: Never", NEVER)


def check_failure_rules(pod: Pod) -> Iterator[Finding]:
    """Yield rules of a podFailurePolicy that the API server rejects."""
    policy = _failure_policy(pod)
    rules = list(policy["rules"])
    if policy and not rules:
        yield policy["rules"].violation("is empty", "give it a rule, or leave the policy out")
    if len(rules) > MAX_POLICY_RULES:
        yield policy["rules"].violation(f"has {len(rules)} rules", f"leave {MAX_POLICY_RULES}")
    for rule in rules:
        if bool(rule["onExitCodes"]) == bool(rule["onPodConditions"]):
            yield rule.violation("must have either onExitCodes or onPodConditions", "leave one")
        if rule["action"].text == "FailIndex" and pod.job and not pod.job["backoffLimitPerIndex"]:
            yield rule["action"].violation("FailIndex needs backoffLimitPerIndex", "set it")


def check_exit_zero(pod: Pod) -> Iterator[Finding]:
    """Yield rules that treat exit code 0 as a failure."""
    for codes in _exit_codes(pod):
        if codes["operator"].text == "In":
            for value in codes["values"]:
                if value.value == 0:
                    yield value.violation("0 is success, not a failure to act on", "take 0 out")


def check_exit_values(pod: Pod) -> Iterator[Finding]:
    """Yield exit codes that are unsorted or duplicated."""
    for codes in _exit_codes(pod):
        values = [value.integer for value in codes["values"]]
        known = [value for value in values if value is not None]
        if not values:
            yield codes["values"].violation("is empty", "name exit codes")
        if known != sorted(set(known)):
            remedy = f"write {sorted(set(known))}"
            yield codes["values"].violation(f"is {known}, must rise without repeats", remedy)


def check_policy_container(pod: Pod) -> Iterator[Finding]:
    """Yield rules about a container that the pod does not have."""
    names = [container["name"].text for container in pod.all_containers]
    for codes in _exit_codes(pod):
        name = codes["containerName"]
        if name and name.text not in names:
            problem = f'"{name.text}" is no container of the pod'
            yield name.violation(problem, f"write one of {', '.join(names)}, or leave it out")


def check_replacement(pod: Pod) -> Iterator[Finding]:
    """Yield a pod replacement policy that conflicts with the podFailurePolicy."""
    if pod.job is None:
        return
    value = pod.job["podReplacementPolicy"]
    if _failure_policy(pod) and value.text == "TerminatingOrFailed":
        yield value.violation("must be Failed where there is a podFailurePolicy", "leave it out")


def _failure_policy(pod: Pod) -> Field:
    return Field("", None) if pod.job is None else pod.job["podFailurePolicy"]


def _exit_codes(pod: Pod) -> Iterator[Field]:
    for rule in _failure_policy(pod)["rules"]:
        if rule["onExitCodes"]:
            yield rule["onExitCodes"]


PODS: tuple[Rule[Pod], ...] = (
    Rule("restart-policy", "pods of a Job restart Never or OnFailure", "error", check_restart),
    Rule("indexed-completions", "Indexed Jobs set completions", "error", check_indexed),
    Rule("backoff-per-index", "backoffLimitPerIndex needs an Indexed Job that never restarts",
         "error", check_backoff_per_index),
    Rule("success-policy", "successPolicy needs an Indexed Job", "error", check_success_policy),
    Rule("failure-policy-restart", "podFailurePolicy needs restartPolicy Never", "error",
         check_failure_restart),
    Rule("failure-policy-rule", "rules of podFailurePolicy have one condition each", "error",
         check_failure_rules),
    Rule("failure-policy-zero", "exit codes under In exclude 0", "error", check_exit_zero),
    Rule("failure-policy-values", "exit codes rise without repeats", "error",
         check_exit_values),
    Rule("failure-policy-container", "podFailurePolicy names containers that exist", "error",
         check_policy_container),
    Rule("replacement-policy", "podReplacementPolicy is Failed beside podFailurePolicy", "error",
         check_replacement),
)  # fmt: skip
