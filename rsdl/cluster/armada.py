"""The study as an Armada job set, for clusters that queue with Armada: https://armadaproject.io.

Armada schedules pods and never restarts one: it uses a Job's pod template, but neither
``backoffLimit`` nor ``podFailurePolicy``. rsdl makes up for that: a run resumes from its last
checkpoint, and a new job set holds the runs that are not completed, so it retries the rest.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from rsdl.cluster.labels import CORE, ROLE
from rsdl.cluster.load import Manifest
from rsdl.cluster.objects import labels_of
from rsdl.core.errors import ConfigError

DEFAULT, PREEMPTIBLE = "armada-default", "armada-preemptible"


def make_job_set(jobs: Sequence[Manifest], job_set: str, *, preemptible: bool) -> dict[str, Any]:
    """Return Jobs as a job set for ``armadactl submit``.

    Args:
        jobs: Jobs of one namespace; the Armada queue has the namespace's name.
        job_set: Name of the job set.
        preemptible: Whether Armada may preempt them.

    Raises:
        ConfigError: If a Job runs several pods, or the Jobs have no namespace or several.
    """
    namespaces = {job.namespace for job in jobs}
    queue = next(iter(namespaces), None)
    if len(namespaces) != 1 or not queue:
        named = ", ".join(sorted(str(namespace) for namespace in namespaces))
        raise ConfigError(
            "namespace",
            f"the Jobs are of {named}; a queue is one namespace",
            "set it: rsdl k8s render --set namespace=NAME",
        )
    return {
        "queue": queue,
        "jobSetId": job_set,
        "jobs": [_make_item(job, queue, preemptible=preemptible) for job in jobs],
    }


def _make_item(job: Manifest, namespace: str, *, preemptible: bool) -> dict[str, Any]:
    spec = job.body["spec"]
    if labels_of(job.body).get(ROLE) == CORE:
        raise ConfigError(
            job.title,
            "is the core of a run whose nodes come and go, and Armada starts no pod again",
            "set nodes to 1, or take rsdl sweep submit",
        )
    pods = max(int(spec.get("parallelism") or 1), int(spec.get("completions") or 1))
    if pods > 1:
        raise ConfigError(
            job.title,
            f"runs {pods} pods, which Armada would start one by one",
            "set nodes to 1, or take rsdl sweep submit",
        )
    metadata: Mapping[str, Any] = spec["template"].get("metadata", {})
    pod = dict(spec["template"]["spec"])
    # Armada has its own priority classes; activeDeadlineSeconds was the Job's.
    pod["priorityClassName"] = PREEMPTIBLE if preemptible else DEFAULT
    if "activeDeadlineSeconds" in spec:
        pod["activeDeadlineSeconds"] = spec["activeDeadlineSeconds"]
    return {
        "namespace": namespace,
        "labels": dict(metadata.get("labels", {})),
        "annotations": dict(metadata.get("annotations", {})),
        "podSpec": pod,
    }
