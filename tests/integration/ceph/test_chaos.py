"""A short siege, and that a siege notices what it is there to notice; the long one is a script."""

import fcntl
import math
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.chaos.ground import Ground, visit
from tests.chaos.plan import WEIGHTS, plan_round
from tests.chaos.remains import find_cache_remains, find_remains
from tests.chaos.siege import ChaosError, Siege

if TYPE_CHECKING:
    from .conftest import Gateway


@pytest.mark.ceph
@pytest.mark.slow
def test_runs_killed_at_random_lose_nothing_and_leave_nothing(
    nursery: "subprocess.Popen[str]", gateway: "Gateway", tmp_path: Path
):
    said: list[str] = []
    with visit(Ground(tmp_path, gateway, ranks=1)) as ground:
        ground.prepare()
        siege = Siege(ground, [nursery], patience_s=300, say=said.append)
        siege.besiege(7, "both", kills=10, until=math.inf)
    assert siege.counts.kills.total() >= 10 and len(said) == siege.counts.rounds


@pytest.mark.slow
def test_a_siege_fails_where_something_is_left(nursery: "subprocess.Popen[str]", tmp_path: Path):
    with visit(Ground(tmp_path, None, ranks=1)) as ground:
        ground.prepare()
        (tmp_path / "cache" / "spool" / "left").mkdir(parents=True)
        # With a first round that is warm, what lies in the cache stays.
        first = next(number for number in range(99) if not plan_round(7, number, "local", 1).cold)
        siege = Siege(ground, [nursery], patience_s=300, say=print)
        with pytest.raises(ChaosError, match=rf"round {first} .*spool/left: left in the spool"):
            siege.besiege(7, "local", kills=1, until=math.inf, first=first)


def test_whatever_is_left_of_a_run_or_in_a_cache_is_found(tmp_path: Path):
    for name in ("copies/a.tar.part", "copies/a.tar.turn", "copies/b.tar", "gate", "spool/x/y"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"bytes")
    with (tmp_path / "gate").open() as held:
        fcntl.flock(held, fcntl.LOCK_SH)
        found = " ".join(find_cache_remains(tmp_path, {"0" * 64}))
    for told in ("a.tar.part: left", "a.tar.turn: left", "gate: locked", "spool/x: left",
                 "b.tar: is no copy of any shard"):  # fmt: skip
        assert told in found
    assert "gate: locked" not in " ".join(find_remains(tmp_path))


def test_a_seed_decides_what_is_killed_when_and_strikes_every_phase():
    rounds = [plan_round(5, number, "both", 2) for number in range(60)]
    assert rounds == [plan_round(5, number, "both", 2) for number in range(60)]
    assert rounds != [plan_round(6, number, "both", 2) for number in range(60)]
    kills = [kill for chosen in rounds for kill in chosen.kills]
    assert {kill.phase for kill in kills} == set(WEIGHTS)
    assert {kill.ranks for kill in kills} == {(0,), (1,), (0, 1)}
    assert {chosen.data for chosen in rounds} == {"local", "s3"}
