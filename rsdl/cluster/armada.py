"""The study as an Armada job set, for clusters whose queue is Armada: https://armadaproject.io.

Armada schedules pods and starts none twice: of a Job it knows the pod, neither ``backoffLimit`` nor
``podFailurePolicy``. rsdl brings what is missing: a run goes on from its checkpoint, and a job set
holds the runs that are not completed, so whoever submits a new one tries the rest again.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from rsdl.cluster.load import Manifest
from rsdl.core.errors import ConfigError

DEFAULT, PREEMPTIBLE = "armada-default", "armada-preemptible"


def make_job_set(jobs: Sequence[Manifest], job_set: str, *, preemptible: bool) -> dict[str, Any]:
    """Return Jobs as a job set, as ``armadactl submit`` reads it.

    Args:
        jobs: Jobs of one namespace, whose queue has its name.
        job_set: Name of the job set.
        preemptible: Whether Armada may take their GPUs for others.

    Raises:
        ConfigError: If a Job runs several pods, or the Jobs are of several namespaces or of none.
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
    pods = max(int(spec.get("parallelism") or 1), int(spec.get("completions") or 1))
    if pods > 1:
        raise ConfigError(
            job.title,
            f"runs {pods} pods, which Armada would start one by one",
            "set nodes to 1, or take rsdl sweep submit",
        )
    metadata: Mapping[str, Any] = spec["template"].get("metadata", {})
    pod = dict(spec["template"]["spec"])
    # Kubernetes' own classes mean nothing there; the deadline was the Job's.
    pod["priorityClassName"] = PREEMPTIBLE if preemptible else DEFAULT
    if "activeDeadlineSeconds" in spec:
        pod["activeDeadlineSeconds"] = spec["activeDeadlineSeconds"]
    return {
        "namespace": namespace,
        "labels": dict(metadata.get("labels", {})),
        "annotations": dict(metadata.get("annotations", {})),
        "podSpec": pod,
    }
