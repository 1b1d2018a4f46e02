"""Start and watch the ranks of this node, with PyTorch's elastic agent.

PyTorch does what ``torchrun`` does: nodes meet, get their ranks and start a process for each
device. What is added here:

- Ranks end by themselves. ``torchrun`` stops all as soon as one has ended; these agree on a step,
  save, and name the rank that failed.
- The death of a rank is posted to all others at once.
- A node that comes makes all save, instead of ending them.
"""

import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from torch._C._distributed_c10d import PrefixStore, Store
from torch.distributed.elastic.agent.server.api import WorkerGroup, WorkerSpec
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.api import SubprocessContext
from torch.distributed.elastic.rendezvous.api import RendezvousError

from rsdl.core.errors import PreemptedError, RsdlError
from rsdl.distributed.beat import has_trained
from rsdl.distributed.failure import Failure, name_rank
from rsdl.distributed.heartbeat import FAILURE
from rsdl.distributed.node_rendezvous import (
    ENDED,
    KEEP_ALIVE_S,
    NodeRendezvous,
    Nodes,
    connect_store,
    run_store,
)
from rsdl.distributed.rank import RankInfo
from rsdl.distributed.rendezvous import RUN_TOKEN

PREEMPTED = PreemptedError.exit_code
SECONDS_TO_END = 90.0  # for ranks to end after one failed: longer than their heartbeat takes
SECONDS_TO_MISS = 5.0  # a store that does not answer
SECONDS_TO_POLL = 0.05
SECONDS_TO_PART = 5.0  # for requests to the store when leaving
SECONDS_TO_TELL = 30.0  # the rendezvous that a run has ended, where it is being replaced
MOST_ATTEMPTS = 1 << 20


class Signals:
    """The signals that this process was sent: raised in a rendezvous, else kept.

    Attributes:
        received: Those that are not forwarded to the ranks yet.
        asked: Whether this node was asked to stop.
        raises: Whether a signal raises.
        endings: Exit codes that stand for the end of a rank by a signal that it was sent.
    """

    NUMBERS = (signal.SIGTERM, signal.SIGINT)

    def __init__(self) -> None:
        self.received: list[int] = []
        self.asked = False
        self.raises = False
        self.endings: dict[int, int] = {}

    def install(self) -> None:
        """Handle the signals from now on; PyTorch's own handlers stop all ranks."""
        for number in self.NUMBERS:
            signal.signal(number, self._remember)

    def check(self) -> None:
        """Raise if this node was asked to stop.

        Raises:
            SignalException: If so.
        """
        if self.asked:
            raise SignalException("stopped", signal.SIGTERM)

    def _remember(self, number: int, frame: object) -> None:
        self.received.append(number)
        self.asked = True
        if self.raises:
            raise SignalException("stopped", signal.Signals(number))


class Monitor(threading.Thread):
    """Exchanges with the other nodes while ranks run here: keep-alives, failures, nodes that come.

    A thread of its own: a request to a store behind a cut wire never returns.

    Args:
        rendezvous: Of the nodes.
        store: Where the ranks of this attempt post their failures.

    Attributes:
        failure: The failure that ended all ranks, if there was one.
        has_trained: Whether the ranks have trained on a batch.
        waiting: Nodes that wait for a place.
    """

    def __init__(self, rendezvous: NodeRendezvous, store: Store) -> None:
        super().__init__(name="monitor", daemon=True)
        self.failure: Failure | None = None
        self.has_trained = False
        self.waiting = 0
        self._answered = time.monotonic()
        self._rendezvous, self._store = rendezvous, store
        self._to_post: Failure | None = None
        self._closing, self._wake = threading.Event(), threading.Event()

    @property
    def is_alone(self) -> bool:
        """Whether the store is gone; another one at that address does not know this node."""
        return time.monotonic() - self._answered > SECONDS_TO_MISS

    def post(self, failure: Failure) -> None:
        """Post a failure to all ranks, unless there is one."""
        self._to_post = self._to_post or failure
        self._wake.set()

    def run(self) -> None:
        """Exchange until closed, and once more then: ranks have just ended."""
        closing = False
        while not closing:
            closing = self._closing.is_set()
            with suppress(RuntimeError, RendezvousError):  # the store is gone
                self._exchange()
                self._answered = time.monotonic()
            self._wake.wait(0.0 if closing else KEEP_ALIVE_S / 4)
            self._wake.clear()

    def close(self) -> None:
        """End the thread; one that hangs is left behind."""
        self._closing.set()
        self._wake.set()
        if self.is_alive():
            self.join(SECONDS_TO_PART)

    def _exchange(self) -> None:
        self._rendezvous.keep_alive()
        if self.failure is None and self._to_post is not None:
            text = self._store.compare_set(FAILURE, "", self._to_post.to_json())
            self.failure = Failure.from_json(text)
        elif self.failure is None and self._store.check([FAILURE]):
            self.failure = Failure.from_json(self._store.get(FAILURE))
        self.has_trained = self.has_trained or has_trained(self._store)
        self.waiting = self._rendezvous.num_nodes_waiting()


class NodeAgent(LocalElasticAgent):
    """The agent of this node, for one attempt.

    Args:
        nodes: The nodes of the run.
        store: The store of the nodes.
        signals: Signals to this process.
        arguments: Arguments of ``rsdl`` for each rank.
    """

    def __init__(
        self, nodes: Nodes, store: Store, signals: Signals, arguments: Sequence[str]
    ) -> None:
        logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
        # Otherwise a node serves one more store, at an address that must resolve everywhere.
        os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
        # PyTorch's handlers would stop ranks that are to save.
        os.environ["TORCHELASTIC_SIGNALS_TO_HANDLE"] = "SIGURG"
        self.rendezvous = NodeRendezvous.join(nodes, store)
        spec = WorkerSpec(
            role="rank",
            local_world_size=nodes.size,
            rdzv_handler=self.rendezvous,
            entrypoint=sys.executable,
            args=("-m", "rsdl", *arguments),
            max_restarts=MOST_ATTEMPTS,
            master_addr=nodes.host,
            master_port=nodes.port,
        )
        self._logs = tempfile.TemporaryDirectory(prefix="rsdl-")  # PyTorch leaves its own behind
        super().__init__(spec, DefaultLogsSpecs(log_dir=self._logs.name))
        self._nodes, self._base = nodes, store
        self._run = run_store(store, nodes.run_id)
        self._signals = signals
        self.monitor = Monitor(self.rendezvous, store)
        self._meets_again = False

    @property
    def ranks(self) -> list[int]:
        """Ranks of the processes here."""
        return [worker.global_rank for worker in self._worker_group.workers]

    def run_ranks(self) -> list[int]:
        """Meet the other nodes, start the ranks, and return their exit codes.

        Raises:
            RendezvousError: If not enough nodes come in time, or the run has ended.
            SignalException: If this node is asked to stop while it waits for others.
        """
        try:
            self._signals.raises = True
            self._signals.check()
            self._initialize_workers(self._worker_group)
        except SignalException:
            if self._pcontext is None:
                raise
        finally:
            self._signals.raises = False
        return self._wait()

    def close(self, ended: int | None = None) -> None:
        """Kill what is left of the ranks, and leave.

        Args:
            ended: Exit code of a run that has ended for all nodes.
        """
        if self._pcontext is not None:
            self._pcontext.close(signal.SIGKILL)
        self.monitor.close()
        self._logs.cleanup()

        def part() -> None:
            with suppress(RuntimeError, RendezvousError, RsdlError):
                if ended is not None:
                    # The store may have been replaced: whoever serves one there now is to end.
                    there = replace(self._nodes, patience_s=SECONDS_TO_TELL)
                    store = run_store(connect_store(there), self._nodes.run_id)
                    store.set(ENDED, str(ended))
                    self.rendezvous.set_closed()
                self.rendezvous.leave()

        last_word = threading.Thread(target=part, daemon=True)
        last_word.start()
        last_word.join(SECONDS_TO_PART if ended is None else SECONDS_TO_TELL + SECONDS_TO_PART)

    def _start_workers(self, worker_group: WorkerGroup) -> dict[int, int]:
        store = worker_group.store
        assert store is not None
        # Ranks of one attempt share keys that others must not see, on nodes that came late too.
        if worker_group.group_rank == 0:
            store.set("attempt", str(self._run.add("attempts", 1)))
        attempt, run = int(store.get("attempt")), self.rendezvous.get_run_id()
        os.environ[RUN_TOKEN] = run
        self._remaining_restarts = MOST_ATTEMPTS - attempt
        spec = worker_group.spec
        if attempt > 1 and "--restart" in spec.args:
            spec.args = tuple(word for word in spec.args if word != "--restart")
            sys.stderr.write(
                f"--restart: the run {self._nodes.run_id} has begun at this rendezvous, so it goes "
                "on; to begin anew take another --rdzv-id\n"
            )
        self.monitor = Monitor(self.rendezvous, PrefixStore(f"rsdl/{run}-{attempt}", self._base))
        self.monitor.start()
        found: dict[int, int] = super()._start_workers(worker_group)
        return found

    def _wait(self) -> list[int]:
        """Wait for all ranks; forward signals, and post the failure of a rank that was killed."""
        context = self._pcontext
        assert isinstance(context, SubprocessContext)
        ranks = [context.subprocess_handlers[number].proc for number in range(self._nodes.size)]
        codes: dict[int, int] = {}
        end: float | None = None
        while len(codes) < len(ranks):
            self._forward_signals(ranks)
            for local_rank, process in enumerate(ranks):
                if local_rank not in codes and (code := process.poll()) is not None:
                    codes[local_rank] = self._tell_killed(local_rank, code) if code < 0 else code
            if end is None and set(codes.values()) - {0, PREEMPTED}:
                end = time.monotonic() + SECONDS_TO_END
            for local_rank, process in enumerate(ranks):
                if end is not None and (time.monotonic() > end or local_rank == self._find_lost()):
                    process.kill()
            time.sleep(SECONDS_TO_POLL)
        self.monitor.close()
        return [codes[local_rank] for local_rank in range(len(ranks))]

    def _forward_signals(self, ranks: "Sequence[subprocess.Popen[bytes]]") -> None:
        """Send the ranks the signals to this process; when nodes are to meet again, the same."""
        monitor = self.monitor
        comes = monitor.waiting and monitor.has_trained
        if self._nodes.is_elastic and (comes or monitor.is_alone) and not self._meets_again:
            self._meets_again = True
            why = "a node has come" if comes else "the rendezvous is lost"
            sys.stderr.write(f"{why}: saving, then meeting again\n")
            self._signals.received.append(signal.SIGTERM)
        while self._signals.received:
            number = self._signals.received.pop(0)
            self._signals.endings[number] = 130 if number == signal.SIGINT else PREEMPTED
            for process in ranks:
                process.send_signal(number)  # no effect on a process that has ended

    def _find_lost(self) -> int | None:
        """Return the local rank that others declared lost."""
        failure = self.monitor.failure
        if failure is None or not failure.lost or failure.rank not in self.ranks:
            return None
        return self.ranks.index(failure.rank)

    def _tell_killed(self, local_rank: int, code: int) -> int:
        """Post that a rank was killed by a signal; return the exit code that it stands for."""
        # It was asked to end: before Python has handlers, and after, a signal kills.
        meant = self._signals.endings.get(-code)
        place = RankInfo(self.ranks[local_rank])
        where = name_rank(place.rank, place.host)
        text = f"was killed by {signal.Signals(-code).name}"
        if meant is None and (self._nodes.most > 1 or local_rank == 0):
            sys.stderr.write(f"{where}: {text}\n")
        self.monitor.post(Failure(place.rank, where, text, meant or 1, max(local_rank, 1)))
        return meant or code
