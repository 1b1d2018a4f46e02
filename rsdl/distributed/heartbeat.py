"""Heartbeats of ranks, so that no rank waits forever for one that is gone.

Every rank writes a heartbeat (its step and activity) to a store and reads those of the others. It
does so in threads, since the main thread may be in a collective that cannot be interrupted. The
first rank that detects a failure posts it, and all ranks end with it: by an exception, or by
exiting the process if the main thread cannot raise one.

The cost is one small request a second from each rank to one store; fewer with more than 64 ranks.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import torch.distributed as dist
from torch._C._distributed_c10d import Store

from rsdl.core.errors import PeerError, PreemptedError
from rsdl.distributed.beat import Beat, keys_of
from rsdl.distributed.failure import Failure, failure_of, first_sentence, means_lost_peer, name_rank
from rsdl.distributed.rank import RankInfo
from rsdl.distributed.rendezvous import SECONDS_TO_CONNECT, RendezvousPoint, open_store

FAILURE = "failure"
BEATS_TO_MISS = 5  # missed heartbeats after which a rank is gone, once a collective has failed
SECONDS_TO_GREET = 0.1  # polling interval at the start, until every rank has sent a heartbeat
PEERS_WAIT_S = 30.0  # limit of that start, after which training begins anyway
SECONDS_TO_RAISE = 5.0  # for the main thread to raise, once a failure is known
SECONDS_TO_UNWIND = 60.0  # for the main thread to end, once it has raised
SECONDS_TO_REPLY = 10.0  # timeout of a request to the store
SECONDS_TO_PART = SECONDS_TO_REPLY + 5.0  # for the threads to end when closing


class Heartbeat:
    """Sends this rank's heartbeats and monitors those of the other ranks.

    Args:
        rank_info: This process's rank.
        point: Address of the store; ``None`` for a single process, which starts nothing.
        timeout_s: Seconds without a heartbeat after which a rank is declared lost.
    """

    def __init__(
        self, rank_info: RankInfo, point: RendezvousPoint | None, timeout_s: float
    ) -> None:
        self._rank_info = rank_info
        self._point = point
        self._timeout_s = timeout_s
        self._interval_s = max(1.0, rank_info.world_size / 64)
        self._beat = Beat(0, 0, 0, "starting", rank_info.host, rank_info.local_rank)
        self._number = 0
        self._others: dict[int, tuple[Beat, float]] = {}  # last heartbeat, and when it changed
        self._clock = 0.0  # seconds in which this process was not suspended
        self._answered: float | None = None  # time of the last reply of the store, by that clock
        self._refused = False  # whether the store is known to be gone
        self._to_post: Failure | None = None
        self._failure: Failure | None = None
        self._known = threading.Event()
        self._peers_met = threading.Event()
        self._raised = threading.Event()
        self._closing = threading.Event()
        self._wake = threading.Event()
        self._threads: list[threading.Thread] = []
        self.on_end: Callable[[Failure], None] = lambda failure: None

    @property
    def is_hosted(self) -> bool:
        """Whether a launcher serves the store, so that it may know earlier attempts."""
        return self._point is not None and self._point.hosted

    def start(self) -> None:
        """Start the threads that exchange heartbeats and detect failures."""
        if self._point is None:
            return
        for work in (self._exchange, self._judge):
            thread = threading.Thread(target=work, name=f"watch-{work.__name__}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def wait_for_peers(self, limit_s: float = PEERS_WAIT_S) -> None:
        """Wait for one heartbeat of every rank, so that a later failure can name rank and host.

        A slow store is not an error: training begins after the limit.

        Raises:
            PeerError: If a rank has failed.
        """
        end = time.monotonic() + limit_s
        while self._threads and time.monotonic() < end and not self._peers_met.wait(0.1):
            self.check()

    def note(self, step: int, doing: str) -> None:
        """Store the main thread's step and activity for the next heartbeat; sends nothing."""
        turns = self._beat.turns + 1
        self._beat = replace(self._beat, turns=turns, step=step, doing=doing, at=time.time())

    def check(self) -> None:
        """Raise if a rank has failed.

        Raises:
            PeerError: If so; the message names the rank.
        """
        if self._failure is not None:
            self._raised.set()
            raise self._failure.to_error(self._rank_info)

    def final_error(self, error: BaseException) -> BaseException:
        """Return the root cause of an error of this process, and post it to the other ranks.

        Args:
            error: The error that ended the main thread's work.

        Returns:
            The same error, or the failure of another rank that caused it.
        """
        self._raised.set()
        known = isinstance(error, PeerError) or type(error) is PreemptedError
        if not self._threads or known:
            return error  # all ranks know it already
        if means_lost_peer(error):
            failure = self._find_lost(first_sentence(error))
        else:
            failure = self._post(failure_of(error, self._rank_info))
        own = failure is None or failure.rank == self._rank_info.rank
        return error if own or failure is None else failure.to_error(self._rank_info)

    def close(self) -> None:
        """Send a last heartbeat that marks a normal end, and join the threads.

        Also joins a thread that waits for the store: a thread in C++ code during interpreter
        shutdown aborts the process (SIGABRT), whatever its exit code was to be.
        """
        self._closing.set()
        self._wake.set()
        end = time.monotonic() + SECONDS_TO_PART
        for thread in self._threads:
            thread.join(max(end - time.monotonic(), 0))

    def _find_lost(self, reason: str) -> Failure | None:
        """Return the failure that made a collective fail; detecting it takes some heartbeats."""
        limit = (2 * BEATS_TO_MISS + 5) * self._interval_s
        end = self._clock + limit
        while self._clock < end and not self._known.wait(0.1):
            silent = self._find_silent(BEATS_TO_MISS * self._interval_s)
            if silent is not None:
                return self._post(silent)
        return self._failure or self._post(self._find_behind(reason))

    def _find_silent(self, limit_s: float) -> Failure | None:
        """Return the failure of a rank or store silent for ``limit_s`` seconds, or ``None``."""
        if self._answered is None:
            return None  # the store may still be starting; the rendezvous has its own timeout
        away = self._clock - self._answered
        if away > limit_s or (self._refused and away > BEATS_TO_MISS * self._interval_s):
            beat = self._others[0][0] if 0 in self._others else None
            last = "" if beat is None else f", last at step {beat.step} ({beat.doing})"
            where = "rank 0" if beat is None else name_rank(0, beat.host)
            text = f"its store at {self._point} has not answered for {away:.0f} s{last}"
            return Failure(None, where, text)
        silent = {
            rank: self._answered - heard
            for rank, (beat, heard) in self._others.items()
            if not beat.gone and self._answered - heard > limit_s
        }
        if not silent:
            return None
        rank = max(silent, key=lambda number: silent[number])
        beat = self._others[rank][0]
        text = f"has not been heard of for {silent[rank]:.0f} s; {_last(beat)}"
        return Failure(rank, name_rank(rank, beat.host), text, 1, beat.local_rank, lost=True)

    def _find_behind(self, reason: str) -> Failure:
        """Return the failure of a rank that is alive but behind the others.

        If no rank is behind this one, no rank is named: another rank came too late for this one.
        """
        ranks = {rank: beat for rank, (beat, _) in self._others.items()}
        ranks[self._rank_info.rank] = self._beat
        rank = min(ranks, key=lambda number: (ranks[number].turns, number))
        beat = ranks[rank]
        if rank == self._rank_info.rank or beat.turns == self._beat.turns:
            text = (
                f"a collective failed, or took longer than trainer.timeout_s={self._timeout_s:g}, "
                f"though none is missing; {_last(beat)}; {reason}"
            )
            return Failure(None, "all ranks", text)
        text = f"does not come forward; {_last(beat)}"
        return Failure(rank, name_rank(rank, beat.host), text, 1, beat.local_rank, lost=True)

    def _post(self, failure: Failure) -> Failure:
        """Post a failure to all ranks; return the failure that was posted first."""
        if self._failure is None:
            self._to_post = failure
            self._wake.set()
            self._known.wait(SECONDS_TO_RAISE)
        return self._failure or failure

    def _exchange(self) -> None:
        """Send heartbeats and read those of the others until closed; runs in a thread."""
        store: Store | None = None
        while True:
            closing = self._closing.is_set()
            try:
                if store is None:
                    assert self._point is not None
                    store = open_store(self._point, timeout_s=SECONDS_TO_CONNECT)
                    store.set_timeout(timedelta(seconds=SECONDS_TO_REPLY))
                self._talk(store, closing)
                self._answered, self._refused = self._clock, False
            except dist.DistError:
                store, self._refused = None, self._answered is not None
            if closing:
                return
            # Poll fast at first, so that the failure of a rank that dies early can name it.
            self._wake.wait(self._interval_s if self._peers_met.is_set() else SECONDS_TO_GREET)
            self._wake.clear()

    def _talk(self, store: Store, closing: bool) -> None:
        self._number += 1
        beat = replace(self._beat, number=self._number, gone=closing)
        keys = keys_of(self._rank_info.world_size)
        store.set(keys[self._rank_info.rank], beat.to_json())
        if self._to_post is not None:
            text = self._to_post.to_json()
            self._learn(store.compare_set(FAILURE, "", text))
        elif self._failure is None and store.check([FAILURE]):
            self._learn(store.get(FAILURE))
        if self._peers_met.is_set() or store.check(keys):
            for rank, said in enumerate(store.multi_get(keys)):
                self._hear(rank, Beat.from_json(said))
            self._peers_met.set()

    def _learn(self, text: bytes | str) -> None:
        if self._failure is None:
            self._failure = Failure.from_json(text)
            self._known.set()

    def _hear(self, rank: int, beat: Beat) -> None:
        if rank == self._rank_info.rank:
            return
        if rank not in self._others or self._others[rank][0] != beat:
            self._others[rank] = (beat, self._clock)

    def _judge(self) -> None:
        """Detect silent ranks until closed; exit the process if the main thread cannot raise."""
        tick = min(self._interval_s, 0.25)
        before, launcher = time.monotonic(), os.getppid()
        known_at: float | None = None
        asked_at: float | None = None
        while not self._closing.wait(tick):
            # Ignore the time in which this process was suspended.
            now = time.monotonic()
            self._clock += min(now - before, 4 * tick)
            before = now
            if self._failure is None and self._to_post is None:
                silent = self._find_silent(self._timeout_s)
                # Without its launcher or the store a rank could not be ended, so it saves.
                alone = self.is_hosted and os.getppid() != launcher
                if asked_at is None and (alone or (silent is not None and self._refused)):
                    asked_at = self._clock
                    os.kill(os.getpid(), signal.SIGTERM)
                elif silent is not None and (
                    asked_at is None or self._clock - asked_at > SECONDS_TO_UNWIND
                ):
                    self._give_up(silent)
            if self._failure is not None:
                known_at = self._clock if known_at is None else known_at
                limit = SECONDS_TO_UNWIND if self._raised.is_set() else SECONDS_TO_RAISE
                if self._clock - known_at > limit:
                    self._leave(self._failure)

    def _give_up(self, failure: Failure) -> None:
        """Accept a failure; post it to the other ranks if the store still answers."""
        self._to_post = failure
        self._wake.set()
        if not self._known.wait(2 * self._interval_s):
            self._learn(failure.to_json())

    def _leave(self, failure: Failure) -> None:
        """Exit the process, since its main thread hangs."""
        error = failure.to_error(self._rank_info)
        if not error.quiet and not self._raised.is_set():
            sys.stderr.write(f"{error}\n")
        last_word = threading.Thread(target=self.on_end, args=(failure,), daemon=True)
        last_word.start()
        last_word.join(SECONDS_TO_RAISE)
        sys.stderr.flush()
        os._exit(error.exit_code)


def _last(beat: Beat) -> str:
    return f"last at step {beat.step} ({beat.doing})"
