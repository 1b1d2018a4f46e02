"""Asking a cluster until it answers: who waits for Jobs does not give up when its server restarts.

A server that has just come back answers before it knows who may do what, and refuses everybody
for a second or so; only a refusal that stays is one.
"""

import time
from collections.abc import Callable
from typing import TypeVar

from rsdl.core.errors import (
    ForbiddenClusterError,
    RsdlError,
    UnreachableClusterError,
    UnreachableError,
)

PASSING = (UnreachableClusterError, UnreachableError)
SETTLE_S = 30.0  # for so long after an outage a refusal is not believed

Answer = TypeVar("Answer")


def retry_until_answered(
    look: Callable[[], Answer], every_s: float, say: Callable[[str], None]
) -> Answer:
    """Return what there is to see, as soon as the cluster and the bucket answer.

    Args:
        look: Asks.
        every_s: Seconds between two times.
        say: Is told what was wrong, a line each time.

    Raises:
        RsdlError: Whatever will not pass by itself.
    """
    back_at: float | None = None  # the server answers again, after it did not
    away = False
    while True:
        try:
            return look()
        except PASSING as error:
            away, back_at, line = True, None, str(error)
        except ForbiddenClusterError as error:
            now = time.monotonic()
            back_at = now if back_at is None else back_at
            if not away or now - back_at > SETTLE_S:
                raise
            line = str(error)
        except RsdlError as error:
            # A crash of ours, such as a record that is being written, may be none the next time.
            if error.exit_code == 2:
                raise
            line = str(error)
        say(f"{line}; trying again")
        time.sleep(every_s)
