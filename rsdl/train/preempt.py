"""Being asked to stop: a signal only sets a flag, the training loop acts on it between steps."""

import os
import signal
import threading
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopRequest:
    """Whether this process was asked to stop, and by which signal.

    The handler does nothing but remember, so it is safe at any moment. A second Ctrl-C gives the
    user the usual KeyboardInterrupt. Of several processes on a node one ``says_so``.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self.says_so = True

    def __bool__(self) -> bool:
        """Return whether a signal came."""
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

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = signal.Signals(number)
        if not self.says_so:
            return
        text = f"\n{self.signal.name}: finishing the step, then saving; Ctrl-C again to quit now\n"
        os.write(2, text.encode())
