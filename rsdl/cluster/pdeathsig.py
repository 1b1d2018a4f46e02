"""``python -m rsdl.cluster.pdeathsig PARENT COMMAND``: run a command that ends with its parent.

When the parent dies for any reason, the kernel sends SIGTERM: a run then saves and ends, instead of
continuing as an orphan beside the next run that writes to its folder. A process can request this
signal only for itself, so this process requests it and then execs the command.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main() -> None:
    """Request the parent-death signal and exec the command."""
    parent, *command = sys.argv[1:]
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM.value, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != int(parent):
        sys.exit(75)  # the parent died before the request
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
