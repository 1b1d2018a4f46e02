"""``rsdl sweep submit`` and ``rsdl sweep retry``."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace

from rsdl.cluster.jobs import Snapshot, as_submitted
from rsdl.cluster.manifest import Manifest
from rsdl.cluster.tickets import Lot, sort_out
from rsdl.commands.sweep.records import read_facts, runs_url
from rsdl.commands.sweep.scope import Choice, Scope, choose_names, find_scope, one_study, runs_of
from rsdl.commands.sweep.submission import Pace, Submission


def submit(choice: Choice, pace: Pace, *, runs: str | None = None) -> int:
    """Submit what of a study is not completed, never more at once than asked.

    Args:
        choice: The manifests, and where they go.
        pace: How many, how often.
        runs: Where the runs lie; by default what ``$RSDL_RUNS`` says.

    Returns:
        0, or 1 if some have failed or run from other manifests: they want to be looked at.

    Raises:
        InputError: If manifests, cluster or records cannot be used.
    """
    scope = find_scope(choice)
    url = runs_url(runs)
    hint = runs_of((*scope.jobs, *scope.others))
    if url is None and hint is not None:
        sys.stderr.write(f"no record is read; so that completed runs are known: --runs {hint}\n")
    return Submission(scope, pace, url).run()


def retry(names: Sequence[str], choice: Choice, pace: Pace, *, runs: str | None = None) -> int:
    """Delete Jobs that have failed and submit them anew; their runs go on from their checkpoints.

    Args:
        names: Jobs or configs; none for all that have failed.
        choice: Where the Jobs are, and manifests for them. By default those of ``k8s/`` here, or
            what they were submitted as.
        pace: How many, how often.
        runs: Where the runs lie; by default what ``$RSDL_RUNS`` says.

    Returns:
        0, or 1 if one that was named has not failed.

    Raises:
        InputError: If there is no such Job, or cluster or records cannot be used.
    """
    url = runs_url(runs)
    scope = find_scope(choice, url)
    snapshot = scope.cluster.read()
    one_study(snapshot, scope.cluster.study)
    jobs = _known_jobs(scope, snapshot)
    configs = replace(scope, jobs=list(jobs.values())).configs()
    chosen = choose_names(names, configs) if names else list(jobs)
    tickets = sort_out([jobs[name] for name in chosen], snapshot, read_facts(url, configs))
    failed = [ticket.manifest for ticket in tickets if ticket.lot is Lot.FAILED]
    left = [ticket for ticket in tickets if names and ticket.lot is not Lot.FAILED]
    for ticket in left:
        done = ticket.lot is Lot.DONE
        state = "completed" if done else f"{snapshot.state(ticket.name).phase}, not failed"
        print(f"{ticket.manifest.title}: is {state}; it is left as it is")
    if not failed:
        print("nothing to retry")
        return 1 if left else 0
    again = frozenset(job.name for job in failed)
    code = Submission(replace(scope, jobs=failed), pace, url, again).run()
    return code or (1 if left else 0)


def _known_jobs(scope: Scope, snapshot: Snapshot) -> Mapping[str, Manifest]:
    """Return the manifests of all Jobs by name: those at hand, else what the cluster has kept."""
    held = {name: Manifest("the cluster", as_submitted(job)) for name, job in snapshot.jobs.items()}
    return held | {job.name: job for job in scope.jobs}
