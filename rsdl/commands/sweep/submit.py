"""``rsdl sweep submit`` and ``rsdl sweep retry``."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace

from rsdl.cluster.job_actions import JobAction, sort_out
from rsdl.cluster.jobs import Snapshot, as_submitted
from rsdl.cluster.load import Manifest
from rsdl.commands.sweep.records import read_facts, runs_url
from rsdl.commands.sweep.scope import (
    JobSelector,
    Scope,
    choose_names,
    find_scope,
    one_study,
    runs_of,
)
from rsdl.commands.sweep.submission import Submission, SubmitOptions


def submit(selector: JobSelector, options: SubmitOptions, *, runs: str | None = None) -> int:
    """Submit what of a study is not completed, never more at once than asked.

    Args:
        selector: The manifests, and where they go.
        options: How many, how often.
        runs: Where the runs lie; by default what ``$RSDL_RUNS`` says.

    Returns:
        0, or 1 if some have failed or run from other manifests: they want to be looked at.

    Raises:
        InputError: If manifests, cluster or records cannot be used.
    """
    scope = find_scope(selector)
    url = runs_url(runs)
    hint = runs_of((*scope.jobs, *scope.others))
    if url is None and hint is not None:
        sys.stderr.write(f"no record is read; so that completed runs are known: --runs {hint}\n")
    return Submission(scope, options, url).run()


def retry(
    names: Sequence[str], selector: JobSelector, options: SubmitOptions, *, runs: str | None = None
) -> int:
    """Delete Jobs that have failed and submit them anew; their runs go on from their checkpoints.

    Args:
        names: Jobs or configs; none for all that have failed.
        selector: Where the Jobs are, and manifests for them. By default those of ``k8s/`` here, or
            what they were submitted as.
        options: How many, how often.
        runs: Where the runs lie; by default what ``$RSDL_RUNS`` says.

    Returns:
        0, or 1 if one that was named has not failed.

    Raises:
        InputError: If there is no such Job, or cluster or records cannot be used.
    """
    url = runs_url(runs)
    scope = find_scope(selector, url)
    snapshot = scope.cluster.read()
    one_study(snapshot, scope.cluster.study)
    jobs = _known_jobs(scope, snapshot)
    configs = replace(scope, jobs=list(jobs.values())).configs()
    chosen = choose_names(names, configs) if names else list(jobs)
    decisions = sort_out([jobs[name] for name in chosen], snapshot, read_facts(url, configs))
    failed = [decision.manifest for decision in decisions if decision.action is JobAction.FAILED]
    left = [decision for decision in decisions if names and decision.action is not JobAction.FAILED]
    for decision in left:
        done = decision.action is JobAction.DONE
        state = "completed" if done else f"{snapshot.state(decision.name).phase}, not failed"
        print(f"{decision.manifest.title}: is {state}; it is left as it is")
    if not failed:
        print("nothing to retry")
        return 1 if left else 0
    again = frozenset(job.name for job in failed)
    code = Submission(replace(scope, jobs=failed), options, url, again).run()
    return code or (1 if left else 0)


def _known_jobs(scope: Scope, snapshot: Snapshot) -> Mapping[str, Manifest]:
    """Return the manifests of all Jobs by name: those at hand, else what the cluster has kept."""
    held = {name: Manifest("the cluster", as_submitted(job)) for name, job in snapshot.jobs.items()}
    return held | {job.name: job for job in scope.jobs}
