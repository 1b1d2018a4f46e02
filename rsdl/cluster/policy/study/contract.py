"""The needs of ``rsdl train``: exit codes handled, time to save, devices, cache."""

from collections.abc import Iterator
from pathlib import PurePosixPath

from rsdl.cluster.nautilus import MIN_GPU_USE
from rsdl.cluster.pods import DISRUPTED
from rsdl.cluster.policy.field import Field
from rsdl.cluster.policy.nautilus.gpus import count_gpus, gpu_limits
from rsdl.cluster.policy.objects import Pod
from rsdl.cluster.policy.quantity import parse_quantity
from rsdl.cluster.policy.study.command import find_training, named_config
from rsdl.cluster.policy.study.configs import run_of
from rsdl.cluster.policy.violation import Finding, Rule
from rsdl.config.run import RunConfig
from rsdl.core.errors import UNAVAILABLE, InputError, PreemptedError
from rsdl.storage.cache.config import FOLDER_VARIABLE

KILLED = 137
DEFAULT_GRACE_S = 30
# A step, a copy of the state, and its upload: the largest of the nine has 1.05 GB of weights and
# moments, and a sequential writer gets about 100 MB/s there. This is about five times that.
MIN_GRACE_S = 60
POLICY = (
    ("a disrupted pod", KILLED, (DISRUPTED,), "Ignore", "onPodConditions DisruptionTarget"),
    ("exit 75 (preempted after saving)", PreemptedError.exit_code, (), "Ignore",
     "onExitCodes In [75]"),
    ("exit 69 (storage, disk or GPU is not there)", UNAVAILABLE, (), "Ignore",
     "onExitCodes In [69]"),
    ("exit 2 (wrong input, trying again cannot help)", InputError.exit_code, (), "FailJob",
     "onExitCodes In [2]"),
)  # fmt: skip


def check_exit_codes(pod: Pod) -> Iterator[Finding]:
    """Yield Jobs that would retry wrong input, or count a preemption as a failure."""
    training = find_training(pod)
    if training is None or pod.job is None:
        return
    policy = pod.job["podFailurePolicy"]
    for what, code, conditions, wanted, match in POLICY:
        action = decide(policy, training.container["name"].text, code, conditions)
        if action != wanted and not (wanted == "FailJob" and action == "FailIndex"):
            problem = f"does {action} on {what}"
            yield policy.violation(problem, f"add a rule: action {wanted}, {match}")


def decide(policy: Field, container: str, code: int, conditions: tuple[str, ...] = ()) -> str:
    """Return the action of a podFailurePolicy for a failed pod: the first matching rule decides.

    Args:
        policy: The policy.
        container: The container that failed.
        code: Its exit code.
        conditions: Conditions of the pod.
    """
    for rule in policy["rules"]:
        codes = rule["onExitCodes"]
        if codes and codes["containerName"].text in ("", container):
            among = code in [value.value for value in codes["values"]]
            if among == (codes["operator"].text == "In"):
                return rule["action"].text
        for pattern in rule["onPodConditions"]:
            status = pattern["status"].text or "True"
            if pattern["type"].text in conditions and status == "True":
                return rule["action"].text
    return "Count"


def check_grace(pod: Pod) -> Iterator[Finding]:
    """Yield pods whose grace period is too short to save."""
    if find_training(pod) is None or pod.job is None:
        return
    grace = pod.spec["terminationGracePeriodSeconds"]
    seconds = DEFAULT_GRACE_S if grace.integer is None else grace.integer
    if seconds < MIN_GRACE_S:
        shown = grace.value if grace else f"unset, which means {DEFAULT_GRACE_S}"
        problem = f"is {shown}; saving to a bucket may take {MIN_GRACE_S} s"
        yield grace.violation(problem, f"write {MIN_GRACE_S} or more")


def check_devices(pod: Pod) -> Iterator[Finding]:
    """Yield pods whose number of GPUs differs from the config's."""
    run, training = run_of(pod), find_training(pod)
    if not isinstance(run, RunConfig) or training is None:
        return
    trainer, number = run.trainer, count_gpus(pod)
    field = next((field for _, field, _ in gpu_limits(pod)), training.container["resources"])
    if trainer.accelerator == "cpu":
        if number:
            problem = f"{number} GPUs stand idle, trainer.accelerator is cpu"
            yield field.violation(problem, "ask for none, or leave trainer.accelerator out")
    elif trainer.devices != "auto" and (number or trainer.accelerator == "gpu"):
        if trainer.devices != number:
            problem = f"the pod has {number} GPUs, trainer.devices is {trainer.devices}"
            yield field.violation(problem, "make them equal, or leave trainer.devices out")
    elif trainer.accelerator == "gpu" and not number:
        yield field.violation("no GPU is asked for, trainer.accelerator is gpu", "ask for one")


def check_cache(pod: Pod) -> Iterator[Finding]:
    """Yield pods that would be evicted before their cache is full."""
    run, training = run_of(pod), find_training(pod)
    if not isinstance(run, RunConfig) or training is None or run.data.cache == "none":
        return
    cache = run.data.cache
    folder = PurePosixPath(cache.folder or training.environment.get(FOLDER_VARIABLE, ""))
    for mount, volume in pod.mounts(training.container):
        size = volume["emptyDir"]["sizeLimit"]
        room = parse_quantity(size.value)
        inside = folder.is_relative_to(mount["mountPath"].text or "/nowhere")
        if inside and room is not None and cache.size > room:
            problem = (
                f"is {size.value}, data.cache.size is {cache.size / 1e9:g}GB: the pod is "
                "evicted before the cache is full"
            )
            remedy = f"raise it, or train with data.cache.size={int(room * 9 / 10 / 10**9)}GB"
            yield size.violation(problem, remedy)


def check_use(pod: Pod) -> Iterator[Finding]:
    """Yield Jobs whose past runs used their GPUs less than the cluster demands."""
    training = find_training(pod)
    if training is None or not count_gpus(pod):
        return
    run = run_of(pod)
    name = run.name if isinstance(run, RunConfig) else named_config(pod).text or training.name
    use = pod.owner.manifest_set.study.gpu_use.get(name)
    if use is not None and use < MIN_GPU_USE:
        field = next(iter(gpu_limits(pod)))[1]
        asked = f"{MIN_GPU_USE:.0%} is asked for"
        problem = f"{name} kept its GPUs {use:.0%} busy by its record, {asked}"
        yield field.violation(
            problem, "see its report for the bottleneck; a smaller GPU or larger batch may do"
        )


PODS: tuple[Rule[Pod], ...] = (
    Rule("exit-codes", "podFailurePolicy ignores 69, 75, disruptions, and fails the Job on 2",
         "error", check_exit_codes),
    Rule("grace-period", "pods have the time to save when they are stopped", "error", check_grace),
    Rule("gpu-devices", "a pod has as many GPUs as trainer.devices", "error", check_devices),
    Rule("cache-size", "data.cache.size fits in the volume of the cache", "warning", check_cache),
    Rule("gpu-use", "GPUs are over 40% busy by the study's own record", "warning", check_use),
)  # fmt: skip
