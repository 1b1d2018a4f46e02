"""``python -m rsdl.cluster.pdeathsig PARENT COMMAND``: a command that never outlives its parent.

When the parent is gone, however it went, the kernel sends SIGTERM here: a run then saves and ends,
rather than to go on as an orphan beside the next one that writes to its folder. Python can ask the
kernel for that only from within the process itself, so this one asks, and becomes the command.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main() -> None:
    """Bind this process to its parent and become the command."""
    parent, *command = sys.argv[1:]
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM.value, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != int(parent):
        sys.exit(75)  # it went before we had asked
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
