"""``rsdl sweep armada``: write the runs that are not completed as a job set for Armada."""

import sys
from pathlib import Path

import yaml

from rsdl.cluster.armada import make_job_set
from rsdl.cluster.labels import STUDY
from rsdl.commands.runs import read_facts
from rsdl.commands.sweep.scope import JobSelector, find_scope
from rsdl.storage.local import translate


def write_job_set(
    selector: JobSelector, runs: str, out: str, *, preemptible: bool = False, dry_run: bool = False
) -> int:
    """Apply the other objects of the manifests, and write Jobs of incomplete runs as a job set.

    Args:
        selector: Selects the manifests.
        runs: Folder or URL of the runs.
        out: File to write.
        preemptible: Whether Armada may preempt its pods.
        dry_run: Whether to apply and write nothing.

    Raises:
        InputError: If manifests, records or the cluster cannot be read, or the file not written.
    """
    scope = find_scope(selector)
    configs = scope.configs()
    facts = read_facts(runs, configs, scope.trained())
    done = [name for name in configs if name in facts and facts[name].status == "completed"]
    left = [job for job in scope.jobs if job.name not in done]
    sys.stdout.write(f"{len(done)} of {len(scope.jobs)} runs are completed, {len(left)} are left\n")
    if not left:
        return 0
    job_set = make_job_set(left, left[0].labels[STUDY], preemptible=preemptible)
    if dry_run:
        for job in left:
            sys.stdout.write(f"{job.title}: would be in {out}\n")
        return 0
    for line in scope.cluster.apply(scope.others):
        sys.stdout.write(f"{line}\n")
    try:
        Path(out).write_text(yaml.safe_dump(job_set, sort_keys=False))
    except OSError as error:
        raise translate(error, Path(out)) from error
    sys.stdout.write(
        f"written: {out}; now: armadactl submit {out}\n"
        "Armada starts nothing twice: once it is through, run this again for what is left\n"
    )
    return 0
