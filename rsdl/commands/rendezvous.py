"""``rsdl rendezvous``: serve the store where the nodes of elastic runs meet."""

import sys
import time

from rsdl.core.errors import PreemptedError
from rsdl.distributed.node_rendezvous import ENDED, run_store, serve_store
from rsdl.train.signals import StopRequest

SECONDS_TO_LOOK = 0.5
SECONDS_TO_PART = 30.0  # for nodes to read how their run has ended


def rendezvous(port: int, *, run_id: str | None = None) -> int:
    """Serve a store until a run has ended, or until asked to stop.

    Args:
        port: Port on all interfaces of this host.
        run_id: Rendezvous id of the run; ``None`` serves on.

    Returns:
        0 when the run has ended.

    Raises:
        PreemptedError: If it was asked to stop before (exit code 75): a cluster starts it again.
        RsdlError: If the port is taken.
    """
    stop = StopRequest()
    stop.install()
    stop.is_reporter = False
    store = serve_store(port)
    sys.stdout.write(f"serving the rendezvous of runs at port {store.port}\n")
    sys.stdout.flush()
    run = None if run_id is None else run_store(store, run_id)
    while run is None or not run.check([ENDED]):
        if stop:
            raise PreemptedError("rendezvous", f"stopped by {stop.reason}", "start it again")
        time.sleep(SECONDS_TO_LOOK)
    sys.stdout.write(f"the run {run_id} has ended with {int(run.get(ENDED))}\n")
    sys.stdout.flush()
    end = time.monotonic() + SECONDS_TO_PART
    while not stop and time.monotonic() < end:
        time.sleep(SECONDS_TO_LOOK)
    return 0
