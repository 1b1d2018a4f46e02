"""``rsdl sweep submit`` and ``rsdl sweep retry``: submit Jobs, and submit failed Jobs again."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace

from rsdl.cluster.job_actions import JobAction, sort_out
from rsdl.cluster.jobs import Snapshot, as_submitted
from rsdl.cluster.load import Manifest
from rsdl.commands.runs import read_facts, runs_url
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
    """Submit the Jobs of a study whose runs are not completed, up to a limit of active Jobs.

    Args:
        selector: Selects the manifests and the namespace.
        options: Limit and interval.
        runs: URL of the runs; ``None`` takes ``$RSDL_RUNS``.

    Returns:
        0, or 1 if Jobs have failed or run from other manifests, which the user should check.

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
    """Delete failed Jobs and submit them again; their runs resume from their checkpoints.

    Args:
        names: Jobs or configs; empty for all failed Jobs.
        selector: Selects the Jobs and their manifests. By default the manifests are those of
            ``k8s/`` in the current folder, or those that the Jobs were submitted with.
        options: Limit and interval.
        runs: URL of the runs; ``None`` takes ``$RSDL_RUNS``.

    Returns:
        0, or 1 if a named Job has not failed.

    Raises:
        InputError: If there is no such Job, or cluster or records cannot be used.
    """
    url = runs_url(runs)
    scope = find_scope(selector, url)
    snapshot = scope.cluster.read()
    one_study(snapshot, scope.cluster.study)
    jobs = _known_jobs(scope, snapshot)
    known = replace(scope, jobs=list(jobs.values()))
    configs = known.configs()
    chosen = choose_names(names, configs) if names else list(jobs)
    facts = read_facts(url, configs, known.trained())
    decisions = sort_out([jobs[name] for name in chosen], snapshot, facts)
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
    again_scope = replace(scope, jobs=failed, companions=_known_companions(scope, snapshot))
    code = Submission(again_scope, options, url, again).run()
    return code or (1 if left else 0)


def _known_jobs(scope: Scope, snapshot: Snapshot) -> Mapping[str, Manifest]:
    """Return the manifests of all Jobs by name: the local ones, else those on the cluster."""
    held = {name: Manifest("the cluster", as_submitted(job)) for name, job in snapshot.jobs.items()}
    return held | {job.name: job for job in scope.jobs}


def _known_companions(scope: Scope, snapshot: Snapshot) -> list[Manifest]:
    """Return the manifests of all companions: the local ones, else those on the cluster."""
    held = [Manifest("the cluster", as_submitted(job)) for job in snapshot.companions]
    return list({job.name: job for job in (*held, *scope.companions)}.values())
