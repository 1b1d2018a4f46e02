"""Jobs and their configs: each config exists, loads, and is trained once."""

from collections.abc import Iterator

from rsdl.cluster import labels
from rsdl.cluster.policy.objects import Pod
from rsdl.cluster.policy.study.command import Training, find_training, named_config
from rsdl.cluster.policy.study.facts import UnreadableConfig
from rsdl.cluster.policy.study.rendezvous import nodes_beside
from rsdl.cluster.policy.violation import Finding, Rule
from rsdl.config.run import RunConfig
from rsdl.storage.connect import join

RECOMMENDED = (
    labels.NAME,
    labels.INSTANCE,
    labels.VERSION,
    labels.COMPONENT,
    labels.PART_OF,
    labels.MANAGED_BY,
)
OURS = (labels.ARCHITECTURE, labels.DATASET, labels.STUDY)


def run_of(pod: Pod) -> RunConfig | UnreadableConfig | None:
    """Return the loaded config of a pod, or why it does not load; ``None`` if it was not loaded."""
    return pod.owner.manifest_set.study.runs.get(pod.owner.manifest.title)


def check_exists(pod: Pod) -> Iterator[Finding]:
    """Yield Jobs whose config does not exist."""
    return _unreadable(pod, missing=True)


def check_loads(pod: Pod) -> Iterator[Finding]:
    """Yield Jobs whose config does not load with their overrides and environment."""
    return _unreadable(pod, missing=False)


def _unreadable(pod: Pod, *, missing: bool) -> Iterator[Finding]:
    training, run = find_training(pod), run_of(pod)
    if training is not None and isinstance(run, UnreadableConfig) and run.missing is missing:
        yield training.place.violation(run.problem, run.remedy)


def check_looked_for(pod: Pod) -> Iterator[Finding]:
    """Yield Jobs whose config is not in our folder."""
    training = find_training(pod)
    if training is not None and run_of(pod) is None:
        problem = f"{training.config} was not looked for"
        yield training.place.violation(problem, "pass --configs DIR, the configs/ of the image")


def check_annotation(pod: Pod) -> Iterator[Finding]:
    """Yield Jobs whose annotation is missing or names another config than they train."""
    training, named = find_training(pod), named_config(pod)
    if pod.job is None:
        return
    if training is None:
        if named:
            problem = f'says "{named.value}", and no container trains it'
            yield named.violation(problem, f"write args: [train, configs/{named.value}.yaml]")
    elif len(training.mounted) > 1:
        yield from _check_list(pod, training)
    elif not named:
        problem = "is required: sweep status finds the run by it"
        yield named.violation(problem, f"write {training.name}")
    elif not training.mounted and named.value != training.name:
        problem = f'says "{named.value}", the args train {training.config}'
        yield named.violation(
            problem, f"write {training.name}, or train configs/{named.value}.yaml"
        )


def _check_list(pod: Pod, training: Training) -> Iterator[Finding]:
    """Yield an Indexed Job whose annotation does not list the config of each index."""
    listed = pod.owner.root["metadata"]["annotations"][labels.CONFIGS]
    completions = pod.job["completions"].integer if pod.job is not None else None
    number = len(listed.text.split(",")) if listed.text else 0
    if number != len(training.mounted) or number != completions:
        mounted = len(training.mounted)
        problem = f"names {number} configs, {mounted} are mounted for {completions} indexes"
        yield listed.violation(problem, "name the config of each index, with commas between")


def check_once(pod: Pod) -> Iterator[Finding]:
    """Yield Jobs that write to the run folder of another."""
    run = run_of(pod)
    if not isinstance(run, RunConfig):
        return
    training, folder = find_training(pod), join(run.output, run.name)
    beside = [other.owner for other in nodes_beside(pod)]  # they train it together
    for other in pod.owner.manifest_set.pods:
        if other.owner is pod.owner:
            return
        before = run_of(other)
        if not isinstance(before, RunConfig) or training is None or other.owner in beside:
            continue
        if join(before.output, before.name) == folder:
            problem = f"{other.owner.manifest.title} writes to {folder} too"
            yield training.place.violation(problem, "give one of them another name=...")
            return


def check_run_name(pod: Pod) -> Iterator[Finding]:
    """Yield Jobs whose run name differs from the config in the annotation."""
    run, named = run_of(pod), named_config(pod)
    if isinstance(run, RunConfig) and named.text and run.name != named.text:
        problem = f'says "{named.text}", the run is called {run.name}'
        yield named.violation(problem, f"write {run.name}, or name={named.text} in the args")


def check_job_name(pod: Pod) -> Iterator[Finding]:
    """Yield Jobs that are not named after their config."""
    training = find_training(pod)
    if training is None or pod.owner.kind != "Job":
        return
    trained = named_config(pod).text if training.mounted else training.name
    name, wanted = pod.owner.root["metadata"]["name"], labels.plain(trained)
    # Kustomize may have added a prefix or suffix.
    if wanted not in name.text:
        yield name.violation(f'"{name.text}" does not tell that it trains {trained}',
                          f"call it {wanted}")  # fmt: skip


def check_labels(pod: Pod) -> Iterator[Finding]:
    """Yield Jobs of a study without the labels by which rsdl finds them."""
    if pod.owner.kind != "Job" or find_training(pod) is None:
        return
    run = run_of(pod)
    for place in (pod.owner.root["metadata"]["labels"], pod.template["metadata"]["labels"]):
        missing = [key for key in (*RECOMMENDED, *OURS) if not place[key].text]
        if missing:
            yield place.violation(f"lacks {', '.join(missing)}", "see rsdl k8s render")
        said, training = place[labels.ARCHITECTURE], find_training(pod)
        several = training is not None and len(training.mounted) > 1
        if not said.text or several or not isinstance(run, RunConfig):
            continue
        if labels.plain(said.text) != labels.plain(run.model.name):
            problem = f'is "{said.text}", the config trains {run.model.name}'
            yield said.violation(problem, f"write {run.model.name}")


PODS: tuple[Rule[Pod], ...] = (
    Rule("config-missing", "the config of every Job exists", "error", check_exists),
    Rule("config-invalid", "it loads with the Job's overrides and environment", "error",
         check_loads),
    Rule("config-unchecked", "it was looked for", "note", check_looked_for),
    Rule("config-annotation", f"{labels.CONFIG} names the config that the args train", "error",
         check_annotation),
    Rule("run-twice", "no two Jobs write to one run", "error", check_once),
    Rule("run-name", f"the run is called as {labels.CONFIG} says", "error", check_run_name),
    Rule("job-of-config", "Jobs are called after their config", "warning", check_job_name),
    Rule("study-labels", "Jobs and pods carry the labels that they are found by", "error",
         check_labels),
)  # fmt: skip
