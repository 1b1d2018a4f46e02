"""``rsdl sweep cancel``: delete Jobs, whose pods save a checkpoint before they terminate."""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

import typer
from rich.console import Console

from rsdl.cluster.jobs import Cluster
from rsdl.commands.sweep.request_retry import retry_until_answered
from rsdl.commands.sweep.scope import JobSelector, choose_names, find_scope, one_study
from rsdl.core.errors import ConfigError


@dataclass(frozen=True, slots=True)
class CancelOptions:
    """Options of cancelling Jobs.

    Attributes:
        everything: Whether to cancel all Jobs of the study that have not finished.
        yes: Whether to skip the confirmation.
        dry_run: Whether to change nothing and print what would be done.
        wait: Whether to wait until the last pod has saved and terminated.
        every_s: Seconds between two requests to the cluster.
    """

    everything: bool = False
    yes: bool = False
    dry_run: bool = False
    wait: bool = True
    every_s: float = 5.0


def cancel(names: Sequence[str], selector: JobSelector, options: CancelOptions) -> int:
    """Delete Jobs that have not finished; their pods get SIGTERM and time to save.

    Args:
        names: Jobs or configs.
        selector: Selects namespace and study.
        options: Scope of the deletion, and confirmation.

    Returns:
        0; 1 if the user does not confirm; 130 if interrupted while waiting.

    Raises:
        InputError: If there is no such Job, or the cluster rejects the request.
    """
    if bool(names) == options.everything:
        problem = "is given with --all" if names else "names no Job"
        raise ConfigError("NAME", problem, "name Jobs, or pass --all")
    cluster = find_scope(selector).cluster
    snapshot = cluster.read()
    one_study(snapshot, cluster.study)
    known = {name: state.config for name, state in snapshot.states.items()}
    chosen = choose_names(names, known) if names else list(known)
    going = [name for name in chosen if not snapshot.state(name).is_finished]
    for name in chosen:
        if names and name not in going:
            print(f"Job/{name}: has {snapshot.state(name).phase} already; it is left as it is")
    if not going:
        print("nothing to cancel")
        return 0
    for name in going:
        would = "would be deleted" if options.dry_run else "is to be deleted"
        print(f"Job/{name}: {snapshot.state(name).phase}, {would}")
    if options.dry_run:
        return 0
    if not options.yes and not _ask(len(going)):
        print("nothing was cancelled")
        return 1
    # --all deletes a whole Indexed Job, even if some of its indexes have finished.
    doomed = [name.partition("[")[0] if options.everything else name for name in going]
    doomed = [name for name in dict.fromkeys(doomed) if name in snapshot.jobs or "[" in name]
    cluster.delete(snapshot.with_companions(doomed))
    if not options.wait:
        print(f"{len(going)} Jobs are being deleted, once their pods have saved")
        return 0
    return _wait(cluster, going, options.every_s)


def _ask(count: int) -> bool:
    """Return whether the user confirms.

    Raises:
        ConfigError: If stdin is no terminal.
    """
    if not sys.stdin.isatty():
        raise ConfigError("--yes", "is missing, and there is no terminal to ask at", "pass --yes")
    return typer.confirm(f"Cancel {count} Jobs? Their runs can be resumed by submitting them again")


def _wait(cluster: Cluster, names: Sequence[str], every_s: float) -> int:
    """Wait until Jobs and their pods are deleted; return the exit code."""
    console = Console(stderr=True)
    left = list(names)
    try:
        with console.status("") as status:
            while True:
                snapshot = retry_until_answered(
                    cluster.read,
                    every_s,
                    lambda line: console.print(line, highlight=False, markup=False),
                )
                left = [name for name in left if name in snapshot.states]
                if not left:
                    print(f"{len(names)} Jobs are gone; their runs stay where they are")
                    return 0
                status.update(f"{len(left)} of {len(names)} Jobs still save")
                time.sleep(every_s)
    except KeyboardInterrupt:
        print(f"{len(left)} Jobs still save; they are being deleted all the same")
        return 130
