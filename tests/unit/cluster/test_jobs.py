from typing import Any

import pytest

from rsdl.cluster.jobs import Cluster, training_jobs
from rsdl.cluster.load import Manifest
from rsdl.core.errors import ConfigError

LABELS = {
    "app.kubernetes.io/name": "rsdl",
    "app.kubernetes.io/component": "train",
    "rsdl/study": "s",
}


def test_an_index_is_not_deleted_alone():
    kubectl: Any = None  # is not asked
    problem = r"s-indexed\[3\]: is an index of a Job.*kubectl delete job s-indexed"
    with pytest.raises(ConfigError, match=problem):
        Cluster(kubectl).delete(["s-indexed[3]"])


def test_a_study_that_queues_itself_is_not_submitted_job_by_job():
    metadata = {"name": "s-indexed", "labels": LABELS, "annotations": {"rsdl/configs": "a,b"}}
    spec = {"template": {"metadata": {"labels": LABELS}}}
    job = Manifest("k8s/indexed", {"kind": "Job", "metadata": metadata, "spec": spec})
    with pytest.raises(ConfigError, match=r"is the whole study as one Job; .*kubectl apply"):
        training_jobs([job], "k8s/indexed")
