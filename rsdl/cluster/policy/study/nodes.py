"""The nodes of a run: as many pods as it takes, which meet at one place under one id.

The Jobs that meet at one place train one run. Where its number of nodes is MIN:MAX, MIN pods are
its core, and the others come and go.
"""

from collections.abc import Iterator

from rsdl.cluster.labels import CORE, ROLE
from rsdl.cluster.nautilus import OPPORTUNISTIC
from rsdl.cluster.policy.objects import Pod
from rsdl.cluster.policy.study.configs import run_of
from rsdl.cluster.policy.study.rendezvous import (
    all_of,
    find_rendezvous,
    host_names,
    nodes_beside,
)
from rsdl.cluster.policy.violation import Finding, Rule
from rsdl.config.run import RunConfig


def node_range(pod: Pod) -> tuple[int, int] | None:
    """Return the fewest and the most nodes of a pod's run; ``None`` if its config says nothing."""
    run = run_of(pod)
    return run.trainer.node_range if isinstance(run, RunConfig) else None


def check_number(pod: Pod) -> Iterator[Finding]:
    """Yield Jobs whose number of pods differs from the config's."""
    nodes = node_range(pod)
    if nodes is None or pod.job is None:
        return
    (least, most), number = nodes, sum(each.number for each in nodes_beside(pod))
    if number != most:
        said = most if least == most else f"{least}:{most}"
        problem = f"{number} pods run at once, trainer.num_nodes is {said}"
        all_jobs = "" if least == most else " for the Jobs of the run together"
        yield pod.job["parallelism"].violation(
            problem, f"write {most}{all_jobs}, in completions too"
        )


def check_core(pod: Pod) -> Iterator[Finding]:
    """Yield runs that train only while pods are there that any other may preempt."""
    (least, most), group = node_range(pod) or (1, 1), nodes_beside(pod)
    if pod.job is None or least == most:
        return
    core = [each for each in group if _is_core(each)]
    core = core or [each for each in group if not _is_opportunistic(each)]
    number = sum(each.number for each in core)
    if number < least and pod.owner is (core or group)[0].owner:
        problem = f"the core has {_pods(number)}, the run trains with {least} or more"
        remedy = f"write {least}, in completions too, or fewer in --nnodes"
        yield pod.job["parallelism"].violation(problem, remedy)


def check_growth(pod: Pod) -> Iterator[Finding]:
    """Yield pods above the fewest that a run needs, and that no other pod may preempt."""
    least, most = node_range(pod) or (1, 1)
    if pod.job is None or least == most or _is_core(pod) or _is_opportunistic(pod):
        return
    kept = sum(each.number for each in nodes_beside(pod) if not _is_opportunistic(each))
    if kept > least:
        problem = f"{_pods(kept)} keep their GPUs, the run trains with {least} or more"
        remedy = f"write {OPPORTUNISTIC[-1]} in a Job of those above {least}"
        yield pod.spec["priorityClassName"].violation(problem, remedy)


def check_endpoint(pod: Pod) -> Iterator[Finding]:
    """Yield training whose nodes would meet where nothing of the set is."""
    here = find_rendezvous(pod)
    if here is None or not here.endpoint or "$(" in here.endpoint:
        return
    manifest_set, parts = pod.owner.manifest_set, here.host.split(".")
    pods = {
        f"{name}.{each.spec['subdomain'].text}"
        for each in manifest_set.pods
        for name in host_names(each)
    }
    # Longer names may be of another namespace.
    is_service = manifest_set.find("Service", pod.owner, here.host) is not None
    if len(parts) <= 2 and here.host not in pods and not is_service:
        problem = f"{here.endpoint} is no Service of this set, and no pod that has a name by one"
        remedy = "write a Service, or JOB-INDEX.SERVICE of an Indexed Job with that subdomain"
        yield here.place.violation(problem, remedy)


def check_id(pod: Pod) -> Iterator[Finding]:
    """Yield Jobs whose pods never meet the others at their endpoint, since their ids differ."""
    here = find_rendezvous(pod)
    if here is None or not here.endpoint:
        return
    name = here.host.partition(".")[0]
    for other, there in all_of(pod.owner.manifest_set):
        meets = there.endpoint == here.endpoint or (
            not there.endpoint and name in (*host_names(other), other.owner.name)
        )
        # A variable that is unknown here, such as the UID of a Job, differs from Job to Job.
        differs = there.run_id != here.run_id or "$(" in here.run_id
        if meets and differs and other.owner is not pod.owner:
            said = f"{other.owner.manifest.title} says {there.run_id or 'none'}"
            problem = f"--rdzv-id is {here.run_id or 'none'}, {said}: they never meet"
            yield here.place.violation(problem, "write the same, such as a label that both have")
            return


def _is_core(pod: Pod) -> bool:
    return pod.labels.get(ROLE) == CORE


def _is_opportunistic(pod: Pod) -> bool:
    return pod.spec["priorityClassName"].text in OPPORTUNISTIC


def _pods(number: int) -> str:
    return f"{number} pod{'' if number == 1 else 's'}"


PODS: tuple[Rule[Pod], ...] = (
    Rule("pod-nodes", "as many pods run as trainer.num_nodes", "error", check_number),
    Rule("elastic-core", "of MIN:MAX nodes, MIN are the core", "error", check_core),
    Rule("elastic-growth", "of MIN:MAX nodes, those above MIN are opportunistic", "warning",
         check_growth),
    Rule("rendezvous-endpoint", "nodes meet at a Service or a pod of the set", "error",
         check_endpoint),
    Rule("rendezvous-id", "nodes that meet at one place have one id", "error", check_id),
)  # fmt: skip
