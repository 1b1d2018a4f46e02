"""The Jobs of a study on a cluster: read, create and delete them, without local state.

Jobs are created when there is room for them, rather than all at once and suspended: a queue in the
cluster would need a controller to resume its members, and would hold pod templates that can no
longer be changed. So the existing Jobs are the only state, and running the same command again, by
hand or by cron, continues the study. Running Jobs need no supervision.

Jobs are deleted in the foreground, so that a Job exists until its last pod has saved and ended: two
pods must never write the same run.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rsdl.cluster.companions import companions_of, is_companion
from rsdl.cluster.kubectl import EXISTS, Kubectl
from rsdl.cluster.labels import APP, COMPONENT, CONFIG, CONFIGS, NAME, STUDY, TRAIN
from rsdl.cluster.load import Manifest
from rsdl.cluster.objects import labels_of, name_of
from rsdl.cluster.states import JobState, find_states
from rsdl.core.errors import ClusterError, ConfigError, OldClusterError

APPLIED = "kubectl.kubernetes.io/last-applied-configuration"

# Fields that the API server adds to a Job, and rejects or misinterprets in a new one.
ADDED_METADATA = ("uid", "resourceVersion", "creationTimestamp", "generation", "managedFields",
                  "selfLink", "ownerReferences", "finalizers", "deletionTimestamp",
                  "deletionGracePeriodSeconds")  # fmt: skip
# Fields that an old cluster may drop: any end of a pod then counts as a failure.
DISPENSABLE = {"podFailurePolicy", "podReplacementPolicy"}
ADDED_LABELS = ("controller-uid", "batch.kubernetes.io/controller-uid", "job-name",
                "batch.kubernetes.io/job-name")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state of a cluster at one moment.

    Attributes:
        states: State of each Job, by name.
        jobs: The Jobs from the API server, by name.
        companions: The Jobs beside them that are part of an elastic run.
    """

    states: Mapping[str, JobState]
    jobs: Mapping[str, Mapping[str, Any]]
    companions: Sequence[Mapping[str, Any]] = ()

    def state(self, name: str) -> JobState:
        """Return the state of a Job; absent if there is none of this name."""
        return self.states.get(name, JobState(name))

    def find(self, config: str) -> JobState | None:
        """Return the state of the Job, or of the Job's index, that trains a config."""
        return next((s for s in self.states.values() if config and s.config == config), None)

    def with_companions(self, names: Iterable[str]) -> list[str]:
        """Return the names of Jobs, each followed by those of its companions."""
        found = [
            [name, *map(name_of, companions_of(self.jobs.get(name, {}), self.companions))]
            for name in names
        ]
        return [name for group in found for name in group]

    @property
    def num_active(self) -> int:
        """Number of Jobs that have pods or may get some at any moment."""
        return sum(state.is_active for state in self.states.values())

    @property
    def studies(self) -> list[str]:
        """The studies of the Jobs, sorted."""
        return sorted({state.study for state in self.states.values()})


class Cluster:
    """The training Jobs of a study in one namespace.

    Args:
        kubectl: Access to the cluster.
        study: The study; ``None`` for all.

    Attributes:
        dropped: Fields that an old cluster dropped from created Jobs.
    """

    def __init__(self, kubectl: Kubectl, study: str | None = None) -> None:
        self.kubectl = kubectl
        self.study = study
        self.dropped: frozenset[str] = frozenset()

    def read(self) -> Snapshot:
        """Return the current state of the Jobs."""
        labels = {NAME: APP, COMPONENT: TRAIN} | ({STUDY: self.study} if self.study else {})
        selector = ",".join(f"{label}={value}" for label, value in labels.items())
        items = self.kubectl.read("get", "jobs,pods", "--selector", selector).get("items", [])
        companions = [item for item in items if is_companion(item)]
        own = [item for item in items if not is_companion(item)]
        jobs = [item for item in own if item.get("kind") == "Job"]
        pods = [item for item in own if item.get("kind") == "Pod"]
        return Snapshot(
            find_states(jobs, pods),
            {name_of(job): job for job in jobs},
            [item for item in companions if item.get("kind") == "Job"],
        )

    def apply(self, manifests: Sequence[Manifest]) -> list[str]:
        """Apply manifests; return kubectl's line for each."""
        if not manifests:
            return []
        return self.kubectl.run("apply", "--filename=-", stdin=_stream(manifests)).splitlines()

    def create(self, body: Mapping[str, Any]) -> bool:
        """Create a Job that keeps its manifest in an annotation, as ``kubectl apply`` does.

        Returns:
            Whether it was created; ``False`` if it exists by now.

        Raises:
            OldClusterError: If the cluster lacks a field that the Job cannot do without.
            ClusterError: If the cluster rejects it.
        """
        try:
            return self._create(body)
        except OldClusterError as error:
            if not error.fields <= DISPENSABLE:
                raise
            # Only these fields were unknown: a misspelled one was rejected above.
            self.dropped |= error.fields
            return self._create(body, "--validate=ignore")

    def _create(self, body: Mapping[str, Any], *options: str) -> bool:
        text = json.dumps(body)
        try:
            self.kubectl.run("create", "--save-config", *options, "--filename=-", stdin=text)
        except ClusterError as error:
            if error.problem.startswith(EXISTS):
                return False
            raise
        return True

    def delete(self, names: Sequence[str]) -> None:
        """Delete Jobs in the foreground: pods are asked to stop, and Jobs go after their last pod.

        Raises:
            ConfigError: If a name is an index of a Job.
        """
        for name in names:
            if "[" in name:
                job = name.partition("[")[0]
                raise ConfigError(
                    name,
                    "is an index of a Job, which ends as a whole or not at all",
                    f'leave it, or end all of them: "kubectl delete job {job}"',
                )
        if names:
            how = ("--cascade=foreground", "--wait=false", "--ignore-not-found")
            self.kubectl.run("delete", "jobs", *names, *how)


def as_submitted(job: Mapping[str, Any]) -> dict[str, Any]:
    """Return the manifest of a cluster's Job, ready to be created again.

    Args:
        job: The Job from the API server.
    """
    applied = applied_manifest(job)
    if applied is not None:
        return applied
    metadata = {k: v for k, v in job.get("metadata", {}).items() if k not in ADDED_METADATA}
    metadata["labels"] = _own(metadata.get("labels", {}))
    spec = {k: v for k, v in job.get("spec", {}).items() if k != "selector"}
    template = dict(spec.get("template", {}))
    inner = dict(template.get("metadata", {}))
    inner["labels"] = _own(inner.get("labels", {}))
    spec["template"] = template | {"metadata": inner}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}


def applied_manifest(job: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the manifest that kubectl stored in a Job; ``None`` if it stored none."""
    text = (job.get("metadata", {}).get("annotations") or {}).get(APPLIED)
    try:
        found = json.loads(text) if text else None
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def training_jobs(manifests: Sequence[Manifest], target: str) -> list[Manifest]:
    """Return the Jobs among manifests, one for each run; all must train configs of one study.

    Args:
        manifests: Objects of any kind.
        target: Their source, for messages.

    Raises:
        ConfigError: If there is no Job, one lacks its labels, or they belong to several studies.
    """
    jobs = [m for m in manifests if m.kind == "Job" and not is_companion(m.body)]
    if not jobs:
        raise ConfigError(target, "holds no Job", "name the study's manifests, such as k8s/")
    for job in jobs:
        _check_labels(job)
    for what, values in (
        ("studies", {job.labels[STUDY] for job in jobs}),
        ("namespaces", {str(m.namespace) for m in manifests if m.namespace}),
    ):
        if len(values) > 1:
            listed = ", ".join(sorted(values))
            raise ConfigError(target, f"holds the {what} {listed}", "submit one at a time")
    names = [job.name for job in jobs]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(target, f"holds two Jobs named {', '.join(twice)}", "rename one")
    return jobs


def _check_labels(job: Manifest) -> None:
    remedy = 'write it with "rsdl k8s render", or submit it with kubectl apply'
    where = f"{job.source}: {job.title}"
    inner = labels_of(job.body.get("spec", {}).get("template", {}))
    for place, labels in (("metadata.labels", job.labels), ("spec.template", inner)):
        for label, value in ((NAME, APP), (COMPONENT, TRAIN), (STUDY, None)):
            found = labels.get(label)
            if not found or (value is not None and found != value):
                wanted = label if value is None else f"{label}={value}"
                raise ConfigError(where, f"{place} lacks {wanted}", remedy)
    if job.annotations.get(CONFIGS):
        remedy = "the cluster itself queues what is in it: kubectl apply it"
        raise ConfigError(where, "is the whole study as one Job", remedy)
    if not job.annotations.get(CONFIG):
        raise ConfigError(where, f"metadata.annotations lacks {CONFIG}", remedy)
    if inner[STUDY] != job.labels[STUDY]:
        raise ConfigError(where, f"its pods are of another {STUDY} than itself", remedy)


def _own(labels: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in labels.items() if name not in ADDED_LABELS}


def _stream(manifests: Sequence[Manifest]) -> str:
    """Return objects as a YAML stream; JSON is YAML."""
    return "".join(f"---\n{json.dumps(manifest.body)}\n" for manifest in manifests)
