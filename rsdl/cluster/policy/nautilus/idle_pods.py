"""Pods that hold resources while idle: sleep in Jobs, and limits of pods without a Job."""

import re
import shlex
from collections.abc import Iterator, Sequence

from rsdl.cluster import nautilus
from rsdl.cluster.policy.api.containers import SHELLS
from rsdl.cluster.policy.field import Field
from rsdl.cluster.policy.nautilus.gpus import count_gpus, gpu_limits
from rsdl.cluster.policy.objects import Object, Pod
from rsdl.cluster.policy.quantity import parse_quantity
from rsdl.cluster.policy.violation import Finding, Rule

CLOSERS = {"done", "fi", "esac", "}", ")"}
OPENERS = {"do", "then", "else", "{", "(", "exec", "time", "nohup", "wait"}
FOREVER = re.compile(r"\bsleep\s+inf(inity)?\b|\btail\s+(-\w+\s+)*(--\S+\s+)*/dev/null")
COMMENT = re.compile(r"(?:^|(?<=[\s;]))#[^\n]*")
DEPLOYED = ("Deployment", "ReplicaSet", "StatefulSet")


def check_sleep(pod: Pod) -> Iterator[Finding]:
    """Yield containers of Jobs that run sleep, or a script that ends with it."""
    if pod.job is None:
        return
    for container in pod.all_containers:
        words = pod.words(container)
        if words and sleeps(words):
            field = container["command"] if container["command"] else container["args"]
            shown = " ".join(words[-1].split())
            shown = shown if len(shown) <= 40 else f"...{shown[-37:]}"
            yield field.violation(
                f'sleeps ("{shown}"); users are banned for sleep in Jobs',
                "end when the work is done; to look around, use a bare pod",
            )


def sleeps(words: Sequence[str]) -> bool:
    """Return whether a command idles: it is sleep, or a script that ends with it.

    Args:
        words: Command and arguments.
    """
    name = words[0].rpartition("/")[2]
    if name in SHELLS:
        scripts = [word for word in words[1:] if not re.fullmatch(r"[-+]\w+", word)]
        return bool(scripts) and _ends_asleep(scripts[0])
    if name in ("timeout", "nice", "nohup", "env", "exec") and len(words) > 1:
        return any(sleeps(words[at:]) for at in range(1, min(len(words), 4)))
    return name == "sleep" or bool(FOREVER.search(" ".join(words)))


def _ends_asleep(script: str) -> bool:
    if FOREVER.search(script):
        return True
    script = COMMENT.sub("", script)
    lexer = shlex.shlex(script, posix=True, punctuation_chars=";&|(){}\n")
    lexer.commenters = ""
    lexer.whitespace = " \t\r"
    lexer.whitespace_split = True
    try:
        tokens = list(lexer)
    except ValueError:
        # Unbalanced quote: split at whitespace and separators only.
        tokens = re.findall(r"[;&|\n]+|[^\s;&|]+", script)
    while tokens and (tokens[-1] in CLOSERS or set(tokens[-1]) <= set(";&|\n(){}")):
        tokens.pop()
    at = len(tokens)
    while at and not set(tokens[at - 1]) <= set(";&|\n(){}"):
        at -= 1
    last = tokens[at:]
    while last and last[0] in OPENERS:
        last = last[1:]
    return bool(last) and last[0].rpartition("/")[2] == "sleep"


def check_bare_gpus(pod: Pod) -> Iterator[Finding]:
    """Yield bare pods with too many GPUs."""
    number = count_gpus(pod)
    if pod.owner.kind == "Pod" and number > nautilus.BARE_POD_GPUS:
        field = next(iter(gpu_limits(pod)))[1]
        problem = f"a bare pod has {nautilus.BARE_POD_GPUS} GPUs at most, this one {number}"
        yield field.violation(problem, "ask for fewer, or make it a Job")


def check_bare_size(pod: Pod) -> Iterator[Finding]:
    """Yield bare pods with too much memory or too many cores."""
    if pod.owner.kind != "Pod":
        return
    for resource, most, shown in (
        ("memory", nautilus.BARE_POD_MEMORY, "32Gi"),
        ("cpu", nautilus.BARE_POD_CORES, "16 cores"),
    ):
        fields = [
            container["resources"]["limits"][resource]
            or container["resources"]["requests"][resource]
            for container in pod.containers
        ]
        if sum(parse_quantity(field.value) or 0 for field in fields) > most:
            values = " + ".join(str(field.value) for field in fields)
            problem = f"a bare pod has {shown} at most, this one {values}"
            yield fields[0].violation(problem, "ask for less, or make it a Job")


def check_bare_deadline(pod: Pod) -> Iterator[Finding]:
    """Yield bare pods whose deadline exceeds the cluster's limit."""
    deadline = pod.spec["activeDeadlineSeconds"]
    if pod.owner.kind == "Pod" and (deadline.integer or 0) > nautilus.BARE_POD_S:
        problem = f"is {deadline.value}; a bare pod lives {nautilus.BARE_POD_S} s (6 h) at most"
        yield deadline.violation(problem, f"write {nautilus.BARE_POD_S}, or make it a Job")


def check_bare_unlimited(pod: Pod) -> Iterator[Finding]:
    """Yield bare pods without a deadline."""
    deadline = pod.spec["activeDeadlineSeconds"]
    if pod.owner.kind == "Pod" and not deadline:
        problem = "is unset; the cluster ends a bare pod after 6 h"
        yield deadline.violation(problem, f"write {nautilus.BARE_POD_S} or less")


def check_deployment(pod: Pod) -> Iterator[Finding]:
    """Yield Deployments with GPUs."""
    if pod.owner.kind in DEPLOYED and count_gpus(pod):
        field: Field = next(iter(gpu_limits(pod)))[1]
        problem = f"a {pod.owner.kind} has no GPU, this one wants {count_gpus(pod)}"
        yield field.violation(problem, "make it a Job")


def check_deployment_life(owner: Object) -> Iterator[Finding]:
    """Yield Deployments: the cluster removes them after two weeks."""
    if owner.kind == "Deployment":
        problem = "a Deployment is taken down after 2 weeks"
        yield owner.root["kind"].violation(problem, "ask for an exception if it is to stay")


PODS: tuple[Rule[Pod], ...] = (
    Rule("job-sleep", "nothing in a Job sleeps, no script ends in it", "error", check_sleep),
    Rule("bare-pod-gpus", "bare pods have at most 2 GPUs", "error", check_bare_gpus),
    Rule("bare-pod-size", "bare pods have at most 32Gi and 16 cores", "error", check_bare_size),
    Rule("bare-pod-life", "bare pods live 6 h at most", "error", check_bare_deadline),
    Rule("bare-pod-deadline", "bare pods say when they end", "warning", check_bare_unlimited),
    Rule("deployment-gpu", "Deployments have no GPU", "error", check_deployment),
)
OBJECTS: tuple[Rule[Object], ...] = (
    Rule("deployment-life", "Deployments live 2 weeks", "note", check_deployment_life),
)
