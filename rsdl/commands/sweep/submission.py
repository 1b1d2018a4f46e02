"""Submit Jobs up to a limit of active ones; all state is read from the cluster each time.

Two such commands at once never submit the same Job twice, since Job names are unique. But each may
count before the other has submitted, so that together they can exceed the limit: run only one.
"""

import sys
import time
from collections.abc import Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, replace

from rich.console import Console

from rsdl.cluster.companions import companions_of, is_ending, is_over
from rsdl.cluster.job_actions import Decision, JobAction, RunFacts, admit, sort_out
from rsdl.cluster.jobs import Snapshot
from rsdl.cluster.load import Manifest
from rsdl.cluster.objects import name_of
from rsdl.cluster.states import Phase
from rsdl.commands.runs import EXTENDED, is_completed, read_facts
from rsdl.commands.sweep.request_retry import PASSING, retry_until_answered
from rsdl.commands.sweep.scope import Scope
from rsdl.storage.connect import connect, join
from rsdl.train.run_folder import RunFolder

TOLD = (Phase.SUCCEEDED, Phase.FAILED, Phase.RESTARTING)


@dataclass(frozen=True, slots=True)
class SubmitOptions:
    """Options of submitting Jobs.

    Attributes:
        max_running: Jobs of the study that may be active at once.
        every_s: Seconds between two requests to the cluster.
        wait: Whether to wait until all are submitted.
        dry_run: Whether to change nothing and print what would be done.
    """

    max_running: int = 9
    every_s: float = 15.0
    wait: bool = True
    dry_run: bool = False


class Submission:
    """Submits Jobs, each at most once.

    Args:
        scope: Jobs to submit, and their cluster.
        options: Limit and interval.
        runs: URL of the runs; ``None`` if unknown.
        retried: Names of failed Jobs to submit again.
    """

    def __init__(
        self,
        scope: Scope,
        options: SubmitOptions,
        runs: str | None,
        retried: Set[str] = frozenset(),
    ) -> None:
        self._cluster = scope.cluster
        self._scope = scope
        self._options = options
        self._runs = runs
        self._retried = retried
        self._configs, self._trained = scope.configs(), scope.trained()
        self._extended: dict[str, RunFacts] = {}
        self._out = Console(file=sys.stdout, soft_wrap=True, highlight=False, markup=False)
        # Jobs are only removed from the queue: this command does not create a Job again that it
        # has seen on the cluster, even if someone deletes it meanwhile.
        self._queue = {job.name: job for job in scope.jobs}
        self._failed: set[str] = set()

    def run(self) -> int:
        """Submit until no Job waits, or once if ``options.wait`` is not set.

        Returns:
            0; 1 if a Job has failed or runs from another template; 130 if interrupted.
        """
        snapshot = self._cluster.read()
        facts = read_facts(self._runs, self._configs, self._trained)
        self._extended = {name: run for name, run in facts.items() if run.status == EXTENDED}
        decisions = sort_out(self._scope.jobs, snapshot, facts, self._retried)
        self._settle(decisions)
        if self._options.dry_run:
            self._rehearse(decisions, snapshot)
        else:
            try:
                self._work_off(snapshot)
            except KeyboardInterrupt:
                self._say(
                    f"stopped, {len(self._queue)} are not submitted; the cluster goes on with what "
                    "it has, and the same command with the rest"
                )
                return 130
        self._sum_up(decisions)
        wrong = any(
            decision.action in (JobAction.FAILED, JobAction.CHANGED) for decision in decisions
        )
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
                    # The API server is restarting, or others have used up a shared quota.
                    if not self._options.wait:
                        raise
                    console.print(f"{error}; trying again", highlight=False, markup=False)
                if not self._queue or not self._options.wait:
                    return
                status.update(
                    f"{len(self._queue)} wait, {snapshot.num_active} are on the cluster, "
                    f"{self._options.max_running} may be"
                )
                snapshot = self._look_again(snapshot, console)

    def _look_again(self, before: Snapshot, console: Console) -> Snapshot:
        """Return the state of the cluster after the interval, once it answers."""
        time.sleep(self._options.every_s)
        after = retry_until_answered(
            self._cluster.read,
            self._options.every_s,
            lambda line: console.print(line, highlight=False, markup=False),
        )
        self._tell_changes(before, after)
        self._settle(self._sort(after))
        return after

    def _sort(self, snapshot: Snapshot) -> list[Decision]:
        return sort_out(list(self._queue.values()), snapshot, self._extended, self._retried)

    def _settle(self, decisions: Sequence[Decision]) -> None:
        """Remove Jobs that need no submission from the queue, and print why."""
        for decision in decisions:
            if decision.action is JobAction.WAITING:
                continue
            self._queue.pop(decision.name, None)
            if (line := _explain(decision)) is not None:
                self._say(line)

    def _admit(self, snapshot: Snapshot) -> None:
        """Submit waiting Jobs up to the limit."""
        for decision in admit(self._sort(snapshot), snapshot, self._options.max_running):
            old = companions_of(decision.manifest.body, snapshot.companions)
            if (state := snapshot.state(decision.name)).is_finished:
                self._cluster.delete(snapshot.with_companions([decision.name]))
                title = decision.manifest.title
                self._say(f"{title}: the {state.phase} Job is deleted to make it anew")
            elif any(map(is_over, old)):
                # Of a former run: wait until it is gone, since its pods may still save.
                self._cluster.delete([name_of(each) for each in old if not is_ending(each)])
            elif self._is_completed(decision.name):
                self._settle([replace(decision, action=JobAction.DONE)])
            else:
                made = self._create(decision.manifest)
                del self._queue[decision.name]
                self._say(
                    f"{decision.manifest.title}: "
                    + ("submitted" if made else "someone else has submitted it meanwhile")
                )

    def _is_completed(self, name: str) -> bool:
        if self._runs is None:
            return False
        config = self._configs[name]
        folder = RunFolder(connect(join(self._runs, config), cache=None))
        return is_completed(folder, self._trained.get(config))

    def _create(self, job: Manifest) -> bool:
        known = self._cluster.dropped
        for companion in self._scope.companions_of(job):
            self._cluster.create(companion)
        made = self._cluster.create(job.body)
        if new := sorted(self._cluster.dropped - known):
            self._say(
                f"the cluster's Kubernetes is old and drops {', '.join(new)}: preemptions and "
                "exit codes 2, 69, 75 count towards backoffLimit; rsdl sweep retry, if a Job fails"
            )
        return made

    def _rehearse(self, decisions: Sequence[Decision], snapshot: Snapshot) -> None:
        """Print which Jobs would be submitted now, and which later."""
        if self._queue:
            for other in self._scope.others:
                self._say(f"{other.title}: would be applied")
        now = {decision.name for decision in admit(decisions, snapshot, self._options.max_running)}
        for decision in decisions:
            if decision.action is JobAction.WAITING:
                finished = snapshot.state(decision.name).is_finished
                what = "would be deleted and submitted anew" if finished else "would be submitted"
                when = "" if decision.name in now else ", once there is room"
                self._say(f"{decision.manifest.title}: {what}{when}")

    def _tell_changes(self, before: Snapshot, after: Snapshot) -> None:
        for name, state in after.states.items():
            if state.phase in TOLD and before.state(name).phase is not state.phase:
                if state.phase is Phase.FAILED and name in self._configs:
                    self._failed.add(name)
                reason = f": {state.reason}" if state.reason else ""
                self._say(f"Job/{name}: {state.phase}{reason}")

    def _sum_up(self, decisions: Sequence[Decision]) -> None:
        counts = {
            action: sum(decision.action is action for decision in decisions) for action in JobAction
        }
        verb = "to be submitted" if self._options.dry_run else "submitted"
        waiting = 0 if self._options.dry_run else len(self._queue)
        parts = {
            "completed": counts[JobAction.DONE],
            "on the cluster before": counts[JobAction.THERE] + counts[JobAction.CHANGED],
            verb: counts[JobAction.WAITING] - waiting,
            "waiting": waiting,
            "failed before": counts[JobAction.FAILED],
            "failed since": len(self._failed),
        }
        told = ", ".join(f"{count} {what}" for what, count in parts.items() if count)
        self._say(f"{len(decisions)} {'Job' if len(decisions) == 1 else 'Jobs'}: {told}")
        if waiting:
            self._say("run the same command again to submit those that wait")

    def _say(self, line: str) -> None:
        with suppress(BrokenPipeError):
            self._out.print(line)


def _explain(decision: Decision) -> str | None:
    """Return a message about a Job that is not submitted, or ``None`` if none is needed."""
    title, name = decision.manifest.title, decision.name
    if decision.action is JobAction.FAILED:
        return f"{title}: failed: {decision.why}; to submit it anew: rsdl sweep retry {name}"
    if decision.action is JobAction.CHANGED:
        return (
            f"{title}: runs from another manifest than this one ({decision.why}), and a Job cannot "
            f"be changed; leave it, or: rsdl sweep cancel {name}, and submit again"
        )
    if decision.action in (JobAction.THERE, JobAction.DONE) and decision.why:
        return f"{title}: {decision.why}"
    return None
