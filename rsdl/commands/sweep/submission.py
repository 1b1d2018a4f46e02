"""Jobs go to the cluster as others make room; what is known is read off the cluster each time.

Two such commands at once never submit the same Job twice, since its name is taken. But each counts
before the other has submitted, so that together they may go over the limit: run one.
"""

import sys
import time
from collections.abc import Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, replace

from rich.console import Console

from rsdl.cluster.jobs import Snapshot
from rsdl.cluster.manifest import Manifest
from rsdl.cluster.states import Phase
from rsdl.cluster.tickets import Lot, Ticket, admit, sort_out
from rsdl.commands.sweep.patience import PASSING, insist
from rsdl.commands.sweep.records import is_completed, read_facts
from rsdl.commands.sweep.scope import Scope

TOLD = (Phase.SUCCEEDED, Phase.FAILED, Phase.RESTARTING)


@dataclass(frozen=True, slots=True)
class Pace:
    """How Jobs are submitted.

    Attributes:
        max_running: Jobs of the study that may be active at once.
        every_s: Seconds between two looks at the cluster.
        wait: Whether to stay until all are submitted.
        dry_run: Whether to change nothing and say what would be done.
    """

    max_running: int = 9
    every_s: float = 15.0
    wait: bool = True
    dry_run: bool = False


class Submission:
    """Submits Jobs, none twice.

    Args:
        scope: What is to be submitted, and where to.
        pace: How many, how often.
        runs: Where the runs lie; ``None`` if nobody says.
        retried: Names of Jobs that are submitted although they have failed.
    """

    def __init__(
        self, scope: Scope, pace: Pace, runs: str | None, retried: Set[str] = frozenset()
    ) -> None:
        self._cluster = scope.cluster
        self._scope = scope
        self._pace = pace
        self._runs = runs
        self._retried = retried
        self._configs = scope.configs()
        self._out = Console(file=sys.stdout, soft_wrap=True, highlight=False, markup=False)
        # It only ever shrinks: a Job that was seen on the cluster is not made again by this
        # command, even if someone deletes it meanwhile.
        self._queue = {job.name: job for job in scope.jobs}
        self._failed: set[str] = set()

    def run(self) -> int:
        """Submit until nothing waits, or once if nobody wants to wait.

        Returns:
            0; 1 if some have failed, or run from another template; 130 if it was interrupted.
        """
        snapshot = self._cluster.read()
        facts = read_facts(self._runs, self._configs)
        tickets = sort_out(self._scope.jobs, snapshot, facts, self._retried)
        self._settle(tickets)
        if self._pace.dry_run:
            self._rehearse(tickets, snapshot)
        else:
            try:
                self._work_off(snapshot)
            except KeyboardInterrupt:
                self._say(
                    f"stopped, {len(self._queue)} are not submitted; the cluster goes on with what "
                    "it has, and the same command with the rest"
                )
                return 130
        self._sum_up(tickets)
        wrong = any(ticket.lot in (Lot.FAILED, Lot.CHANGED) for ticket in tickets)
        return 1 if wrong or self._failed else 0

    def _work_off(self, snapshot: Snapshot) -> None:
        if self._queue:
            for line in self._cluster.apply(self._scope.others):
                self._say(line)
        console = Console(stderr=True)
        with console.status("submitting") as status:
            while True:
                try:
                    self._admit(snapshot)
                except PASSING as error:
                    # The API server is being restarted, or others use up a quota of all.
                    if not self._pace.wait:
                        raise
                    console.print(f"{error}; trying again", highlight=False, markup=False)
                if not self._queue or not self._pace.wait:
                    return
                status.update(
                    f"{len(self._queue)} wait, {snapshot.num_active} are on the cluster, "
                    f"{self._pace.max_running} may be"
                )
                snapshot = self._look_again(snapshot, console)

    def _look_again(self, before: Snapshot, console: Console) -> Snapshot:
        """Return what the cluster holds after a while, as soon as it answers."""
        time.sleep(self._pace.every_s)
        after = insist(
            self._cluster.read,
            self._pace.every_s,
            lambda line: console.print(line, highlight=False, markup=False),
        )
        self._tell_changes(before, after)
        self._settle(self._sort(after))
        return after

    def _sort(self, snapshot: Snapshot) -> list[Ticket]:
        return sort_out(list(self._queue.values()), snapshot, {}, self._retried)

    def _settle(self, tickets: Sequence[Ticket]) -> None:
        """Take what needs no submitting out of the queue, and say why."""
        for ticket in tickets:
            if ticket.lot is Lot.WAITING:
                continue
            self._queue.pop(ticket.name, None)
            if (line := _explain(ticket)) is not None:
                self._say(line)

    def _admit(self, snapshot: Snapshot) -> None:
        """Submit what there is room for."""
        for ticket in admit(self._sort(snapshot), snapshot, self._pace.max_running):
            if snapshot.state(ticket.name).phase is Phase.FAILED:
                self._cluster.delete([ticket.name])
                self._say(f"{ticket.manifest.title}: the failed Job is deleted to make it anew")
            elif is_completed(self._runs, self._configs[ticket.name]):
                self._settle([replace(ticket, lot=Lot.DONE)])
            else:
                made = self._create(ticket.manifest)
                del self._queue[ticket.name]
                self._say(
                    f"{ticket.manifest.title}: "
                    + ("submitted" if made else "someone else has submitted it meanwhile")
                )

    def _create(self, job: Manifest) -> bool:
        known = self._cluster.dropped
        made = self._cluster.create(job.body)
        if new := sorted(self._cluster.dropped - known):
            self._say(
                f"the cluster's Kubernetes is old and drops {', '.join(new)}: preemptions and "
                "exit codes 2, 69, 75 count towards backoffLimit; rsdl sweep retry, if a Job fails"
            )
        return made

    def _rehearse(self, tickets: Sequence[Ticket], snapshot: Snapshot) -> None:
        """Say what would be done now, and what later."""
        if self._queue:
            for other in self._scope.others:
                self._say(f"{other.title}: would be applied")
        now = {ticket.name for ticket in admit(tickets, snapshot, self._pace.max_running)}
        for ticket in tickets:
            if ticket.lot is Lot.WAITING:
                failed = snapshot.state(ticket.name).phase is Phase.FAILED
                what = "would be deleted and submitted anew" if failed else "would be submitted"
                when = "" if ticket.name in now else ", once there is room"
                self._say(f"{ticket.manifest.title}: {what}{when}")

    def _tell_changes(self, before: Snapshot, after: Snapshot) -> None:
        for name, state in after.states.items():
            if state.phase in TOLD and before.state(name).phase is not state.phase:
                if state.phase is Phase.FAILED and name in self._configs:
                    self._failed.add(name)
                reason = f": {state.reason}" if state.reason else ""
                self._say(f"Job/{name}: {state.phase}{reason}")

    def _sum_up(self, tickets: Sequence[Ticket]) -> None:
        counts = {lot: sum(ticket.lot is lot for ticket in tickets) for lot in Lot}
        verb = "to be submitted" if self._pace.dry_run else "submitted"
        waiting = 0 if self._pace.dry_run else len(self._queue)
        parts = {
            "completed": counts[Lot.DONE],
            "on the cluster before": counts[Lot.THERE] + counts[Lot.CHANGED],
            verb: counts[Lot.WAITING] - waiting,
            "waiting": waiting,
            "failed before": counts[Lot.FAILED],
            "failed since": len(self._failed),
        }
        told = ", ".join(f"{count} {what}" for what, count in parts.items() if count)
        self._say(f"{len(tickets)} {'Job' if len(tickets) == 1 else 'Jobs'}: {told}")
        if waiting:
            self._say("run the same command again to submit those that wait")

    def _say(self, line: str) -> None:
        with suppress(BrokenPipeError):
            self._out.print(line)


def _explain(ticket: Ticket) -> str | None:
    """Return what a user is to know of a Job that is not submitted; ``None`` where nothing."""
    title, name = ticket.manifest.title, ticket.name
    if ticket.lot is Lot.FAILED:
        return f"{title}: failed: {ticket.why}; to submit it anew: rsdl sweep retry {name}"
    if ticket.lot is Lot.CHANGED:
        return (
            f"{title}: runs from another manifest than this one ({ticket.why}), and a Job cannot "
            f"be changed; leave it, or: rsdl sweep cancel {name}, and submit again"
        )
    if ticket.lot is Lot.THERE and ticket.why:
        return f"{title}: {ticket.why}"
    return None
