"""Kill training runs at random instants and see whether anything is lost: see ``scripts/chaos``."""

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from tests.chaos import elastic
from tests.chaos.campaign import Campaign, ChaosError
from tests.chaos.environment import Environment, visit
from tests.integration.ceph.conftest import run_cluster
from tests.integration.conftest import open_fork_server


def parse_arguments() -> argparse.Namespace:
    """Return what the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="scripts/chaos", description="Kill training runs at random instants, resume each "
        "until it is done, and check that it ended as if nothing had happened. scripts/chaos "
        "elastic --help: the same of runs whose nodes come and go.",
    )  # fmt: skip
    add = parser.add_argument
    add("--kills", type=int, default=200, help="stop after so many (default: %(default)s)")
    add("--minutes", type=float, default=30, help="stop after so long (default: %(default)s)")
    add("--seed", type=int, help="decides what is killed when (default: another each time)")
    add("--data", choices=("local", "s3", "both"), default="both", help="where data and runs lie")
    add("--ranks", type=int, choices=(1, 2), default=1, help="processes that train together")
    add("--from-round", type=int, default=0, help="begin with this round, to see it once more")
    add("--patience", type=float, default=240, help="seconds after which a process hangs")
    return parser.parse_args()


def main() -> int:
    """Run the campaign, and say how it went; 1 if anything went wrong."""
    given = parse_arguments()
    # So that what was started is also stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    for name in list(os.environ):
        if name.startswith(("RSDL_", "AWS_")):
            del os.environ[name]
    seed = given.seed if given.seed is not None else int(time.time())
    print(f"chaos: seed {seed}", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    begin = time.monotonic()
    with ExitStack() as stack:
        gateway = stack.enter_context(run_cluster()) if given.data != "local" else None
        environment = stack.enter_context(visit(Environment(folder, gateway, given.ranks)))
        environment.prepare()
        fork_servers = [stack.enter_context(open_fork_server()) for _ in range(given.ranks)]
        campaign = Campaign(
            environment, fork_servers, given.patience, lambda text: print(text, flush=True)
        )
        until = begin + given.minutes * 60
        try:
            campaign.run(seed, given.data, kills=given.kills, until=until, first=given.from_round)
            failure = None
        except ChaosError as error:
            failure = error
    counts, minutes = campaign.counts, (time.monotonic() - begin) / 60
    by_phase = ", ".join(f"{count} {phase}" for phase, count in sorted(counts.kills.items()))
    print(
        f"chaos: {counts.kills.total()} kills ({by_phase}; {dict(counts.places)}) in "
        f"{counts.rounds} whole rounds, {counts.unhurt} strikes too late, "
        f"{minutes:.1f} minutes, seed {seed}"
    )
    if failure is None:
        shutil.rmtree(folder)
        return 0
    print(f"chaos: FAILED in {failure}\nchaos: seed {seed}, everything is kept in {folder}")
    return 1


if __name__ == "__main__":
    sys.exit(elastic.main(sys.argv[2:]) if sys.argv[1:2] == ["elastic"] else main())
