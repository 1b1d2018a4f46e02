"""Signal handling: a signal only sets a flag, and the training loop acts on it between steps.

Before the first step, set-up checks the flag where it can. Where it cannot, as in C++ code that
waits for another rank, a thread ends the process after some seconds: there is no state to save yet.
Afterwards nothing here limits the time: a pod's grace period does (``cluster/resources.py``).
"""

import os
import signal
import threading
from types import FrameType

from rsdl.core.errors import PreemptedError, StoppedEarlyError

SIGNALS = (signal.SIGTERM, signal.SIGINT)

# Seconds that set-up may take to reach a check of the flag.
SETUP_CHECK_S = 5.0


class StopRequest:
    """Whether this process was asked to stop, and by which signal.

    The handler only stores the signal, so it is safe at any time. A second Ctrl-C raises the usual
    KeyboardInterrupt. Of several processes on a node, only one prints a message (``is_reporter``).
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self.is_reporter = True
        self._looked = threading.Event()  # set once set-up is over or has seen the flag
        self._wakeup: int | None = None

    def __bool__(self) -> bool:
        """Return whether a signal was received."""
        return self.signal is not None

    @property
    def reason(self) -> str:
        """The signal's name."""
        return self.signal.name if self.signal is not None else "a signal to another rank"

    def install(self) -> None:
        """Handle the signals from now on."""
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                signal.signal(number, self._remember)

    def guard_setup(self) -> None:
        """Exit with code 75 if set-up does not check the flag within some seconds of a signal.

        Only the command calls this; it is active from the start of the command to :meth:`begin`.
        """
        reader, self._wakeup = os.pipe()
        os.set_blocking(self._wakeup, False)
        # Python runs its handlers between bytecodes, so not while C++ code waits.
        signal.set_wakeup_fd(self._wakeup, warn_on_full_buffer=False)
        threading.Thread(target=self._wait, args=(reader,), name="stop", daemon=True).start()

    def check(self) -> None:
        """Raise if a signal was received; for set-up, where there is no state to save.

        Raises:
            StoppedEarlyError: If a signal was received.
        """
        if self:
            self._looked.set()
            raise self._early(self.reason)

    def begin(self) -> None:
        """Leave signals to the training loop from now on."""
        self._looked.set()
        if self._wakeup is not None:
            signal.set_wakeup_fd(-1)
            os.close(self._wakeup)
            self._wakeup = None

    @staticmethod
    def _early(reason: str) -> StoppedEarlyError:
        return StoppedEarlyError(
            "run", f"stopped by {reason} before the first step", "run it again to go on"
        )

    def _wait(self, reader: int) -> None:
        came = b""
        while came == b"" or came[0] not in SIGNALS:
            if not (came := os.read(reader, 1)):
                os.close(reader)
                return
        if self._looked.wait(SETUP_CHECK_S):
            return
        if self.is_reporter:
            os.write(2, f"{self._early(signal.Signals(came[0]).name)}\n".encode())
        os._exit(PreemptedError.exit_code)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = signal.Signals(number)
        if not self.is_reporter or self._wakeup is not None:
            return
        text = f"\n{self.signal.name}: finishing the step, then saving; Ctrl-C again to quit now\n"
        os.write(2, text.encode())
