"""Rounds of killing: each run must end as the one that nobody disturbed, and leave nothing."""

import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.crew import Attempt, Crew, HangError
from tests.chaos.ground import Ground
from tests.chaos.plan import Kill, Round, plan_round
from tests.integration.conftest import Run, assert_same_run

Say = Callable[[str], object]


class ChaosError(Exception):
    """Something that must not happen has happened."""


@dataclass
class KillCounts:
    """What has been done so far."""

    kills: Counter[str] = field(default_factory=Counter)
    places: Counter[str] = field(default_factory=Counter)
    rounds: int = 0
    unhurt: int = 0  # strikes that came after the end


class Siege:
    """Kills runs.

    Args:
        ground: Where they run.
        nurseries: One for each rank.
        patience_s: How long a process may take before it is said to hang.
        say: Told of the progress.
    """

    def __init__(
        self,
        ground: Ground,
        nurseries: Sequence["subprocess.Popen[str]"],
        patience_s: float,
        say: Say,
    ) -> None:
        self.counts = KillCounts()
        self._ground = ground
        self._crew = Crew(nurseries, ground.folder, ground.env, patience_s)
        self._say = say
        self._wholes: dict[str, tuple[Run, float]] = {}

    def besiege(self, seed: int, data: str, *, kills: int, until: float, first: int = 0) -> None:
        """Run rounds until there were enough kills, or the time is over.

        Args:
            seed: Decides what is killed when.
            data: ``local``, ``s3`` or ``both``.
            kills: So many.
            until: ``time.monotonic()`` after which no round and no kill begins.
            first: Number of the first round.

        Raises:
            ChaosError: If a run went wrong; the message tells how.
        """
        number = first
        while self.counts.kills.total() < kills and time.monotonic() < until:
            chosen = plan_round(seed, number, data, len(self._crew))
            try:
                self._run_round(chosen, kills - self.counts.kills.total(), until)
            except (HangError, AssertionError, ChaosError) as error:
                self._ground.fetch(f"round-{number}")
                raise ChaosError(f"round {number} ({describe(chosen)}): {error}") from error
            number += 1
            self.counts.rounds += 1

    def _run_round(self, chosen: Round, most: int, until: float) -> None:
        name = f"round-{chosen.number}"
        whole, whole_s = self._undisturbed(chosen)
        if chosen.cold:
            shutil.rmtree(self._ground.folder / "cache", ignore_errors=True)
        config = self._ground.write_config(name, chosen, local=chosen.data == "local")
        begin, kills, attempt = time.monotonic(), 0, None
        for kill in chosen.kills:
            if kills >= most or time.monotonic() > until:
                break
            attempt = self._try(config, kill, whole_s)
            if attempt.done:
                self.counts.unhurt += 1
                break
            kills += 1
            self.counts.kills[kill.phase] += 1
            self.counts.places[chosen.data] += 1
        if attempt is None or not attempt.done:
            attempt = self._try(config, None, whole_s)
        self._check(name, whole, kills)
        self._say(
            f"round {chosen.number}: {describe(chosen)}: {kills} kills, bit-equal, nothing left, "
            f"{time.monotonic() - begin:.0f} s; {self.counts.kills.total()} kills in all"
        )
        self._ground.forget(name)

    def _try(self, config: Path, kill: Kill | None, whole_s: float) -> Attempt:
        attempt = self._crew.run("train", config, kill=kill, whole_s=whole_s)
        if not attempt.done and not attempt.killed:
            told = [(ended.returncode, ended.stderr[-2000:]) for ended in attempt.ended]
            raise ChaosError(f"failed by itself after {kill}: {told}")
        return attempt

    def _check(self, name: str, whole: Run, kills: int) -> None:
        run = self._ground.fetch(name)
        assert_same_run(whole, run)
        for entry in run.record["ledger"]:
            if not entry["balanced"]:
                raise ChaosError(f"the ledger does not balance: {entry}")
        if run.record["resumes"] > kills:
            raise ChaosError(f"{run.record['resumes']} resumes after {kills} kills")
        if remains := self._ground.find_remains():
            raise ChaosError("; ".join(remains))

    def _undisturbed(self, chosen: Round) -> tuple[Run, float]:
        """Return the run that nobody disturbs, and its seconds."""
        name = f"whole-{chosen.variant}"
        if chosen.variant not in self._wholes:
            config = self._ground.write_config(name, chosen, local=True)
            begin = time.monotonic()
            self._try(config, None, 0.0)
            whole_s = time.monotonic() - begin
            self._wholes[chosen.variant] = (self._ground.fetch(name), whole_s)
        return self._wholes[chosen.variant]


def describe(chosen: Round) -> str:
    """Return a round in a few words."""
    if chosen.data == "local":
        return f"local, {chosen.variant}"
    heat = "cold" if chosen.cold else "warm"
    return f"s3, {chosen.variant}, {chosen.cache} cache, {heat}"
