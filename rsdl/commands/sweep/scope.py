"""The Jobs of a command: namespace and study, from options and local manifests."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rsdl.cluster.companions import companions_of, is_companion
from rsdl.cluster.jobs import Cluster, Snapshot, training_jobs
from rsdl.cluster.kubectl import Kubectl
from rsdl.cluster.labels import CONFIG, STUDY, plain
from rsdl.cluster.load import KUSTOMIZATIONS, Manifest, load_manifests
from rsdl.cluster.policy.objects import ManifestSet
from rsdl.cluster.policy.study.load import load_runs
from rsdl.commands.runs import RUNS_VARIABLE
from rsdl.config.run import RunConfig
from rsdl.core.errors import ConfigError

HERE = "k8s"  # folder of the study's manifests in a checkout


@dataclass(frozen=True, slots=True)
class Scope:
    """The Jobs that a command works on.

    Attributes:
        cluster: The study's Jobs on the cluster.
        jobs: Manifests of the study's Jobs; empty without local manifests.
        others: Manifests of the other objects that the Jobs need.
        companions: Manifests of the Jobs beside them that are part of an elastic run.
    """

    cluster: Cluster
    jobs: Sequence[Manifest] = ()
    others: Sequence[Manifest] = ()
    companions: Sequence[Manifest] = ()

    def companions_of(self, job: Manifest) -> list[Mapping[str, Any]]:
        """Return the companions of a Job."""
        return companions_of(job.body, [each.body for each in self.companions])

    def configs(self) -> dict[str, str]:
        """Return the config that each Job trains, by the Job's name."""
        return {job.name: job.annotations.get(CONFIG, job.name) for job in self.jobs}

    def trained(self) -> dict[str, RunConfig]:
        """Return the loaded config of each Job that brings it in a ConfigMap, by its name."""
        loaded = load_runs(ManifestSet((*self.jobs, *self.others)), None)
        names = self.configs()
        found = {names[job.name]: loaded.get(job.title) for job in self.jobs}
        return {name: run for name, run in found.items() if isinstance(run, RunConfig)}


@dataclass(frozen=True, slots=True)
class JobSelector:
    """Options of a command that select its Jobs; ``None`` if not given.

    Attributes:
        manifests: File or folder of manifests.
        namespace: Namespace of the Jobs.
        study: Study of the Jobs.
    """

    manifests: str | None = None
    namespace: str | None = None
    study: str | None = None


def find_scope(selector: JobSelector, runs: str | None = None) -> Scope:
    """Return the Jobs of a command; take options that are not given from the manifests.

    Args:
        selector: Options of the user. Without manifests, those of ``k8s/`` in the current folder
            are taken if they exist and are of the same study.
        runs: URL of the runs as given by the user; manifests that write to another one are of
            another study.

    Raises:
        ConfigError: If the manifests are not of a study, or contradict the options.
    """
    target = selector.manifests if selector.manifests is not None else _target_here()
    if target is None:
        return Scope(Cluster(Kubectl(selector.namespace), selector.study))
    manifests = load_manifests(target)
    jobs = training_jobs(manifests, target)
    study = jobs[0].labels[STUDY]
    namespace = next((m.namespace for m in manifests if m.namespace), None)
    fits = selector.study in (None, study) and _writes_to(manifests, runs)
    if selector.manifests is None and not fits:
        return Scope(Cluster(Kubectl(selector.namespace), selector.study))
    for option, given, found in (
        ("--study", selector.study, study),
        ("--namespace", selector.namespace, namespace),
    ):
        if given is not None and found not in (None, given):
            raise ConfigError(option, f"is {given}, {target} says {found}", "leave it out")
    kubectl = Kubectl(selector.namespace or namespace)
    others = [manifest for manifest in manifests if manifest.kind != "Job"]
    companions = [manifest for manifest in manifests if is_companion(manifest.body)]
    return Scope(Cluster(kubectl, study), jobs, others, companions)


def one_study(snapshot: Snapshot, study: str | None) -> None:
    """Check that the Jobs are of one study.

    Raises:
        ConfigError: If they are of several, and the user has named none.
    """
    if study is None and len(snapshot.studies) > 1:
        names = ", ".join(snapshot.studies)
        raise ConfigError("--study", f"the namespace holds the studies {names}", "name one")


def choose_names(names: Sequence[str], known: Mapping[str, str]) -> list[str]:
    """Return the names of Jobs that a user selects by Job name or config.

    Args:
        names: Names given by the user.
        known: Configs by the names of Jobs.

    Raises:
        ConfigError: If there is no such Job.
    """
    chosen: dict[str, None] = {}
    for name in names:
        wanted = plain(name.removesuffix(".yaml").rpartition("/")[2])
        found = [
            job
            for job, config in known.items()
            if name in (job, config) or wanted in (job, plain(config))
        ]
        if not found:
            listed = ", ".join(sorted(known)) or "none"
            raise ConfigError(name, "no such Job in this study", f"there are: {listed}")
        chosen |= dict.fromkeys(found)
    return list(chosen)


def runs_of(manifests: Sequence[Manifest]) -> str | None:
    """Return ``RSDL_RUNS`` of the first container that sets it, or ``None``.

    Args:
        manifests: Jobs of one study, which all write to one URL, and the objects that they need.
    """
    for pod in ManifestSet(manifests).pods:
        for container in pod.containers:
            if place := pod.variables(container).get(RUNS_VARIABLE):
                return place
    return None


def _writes_to(manifests: Sequence[Manifest], runs: str | None) -> bool:
    return runs is None or runs_of(manifests) in (None, runs)


def _target_here() -> str | None:
    """Return ``k8s`` if the current folder has it and kubectl or kustomize can build it."""
    here = any((Path(HERE) / name).is_file() for name in KUSTOMIZATIONS)
    return HERE if here and (shutil.which("kubectl") or shutil.which("kustomize")) else None
