"""Retry requests to a cluster until it answers, so that waiting survives an API server restart.

A restarted API server answers before it has loaded its permissions, and forbids all requests for a
second or so. So a "forbidden" after an outage counts only if it persists.
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
SETTLE_S = 30.0  # time after an outage in which "forbidden" is retried

Answer = TypeVar("Answer")


def retry_until_answered(
    look: Callable[[], Answer], every_s: float, say: Callable[[str], None]
) -> Answer:
    """Return the result of a request, retried until cluster and bucket answer.

    Args:
        look: Makes the request.
        every_s: Seconds between two tries.
        say: Prints one line for each failed try.

    Raises:
        RsdlError: If a retry cannot help.
    """
    back_at: float | None = None  # time of the first answer after an outage
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
            # Another error may be gone at the next try, as for a record that is being written.
            if error.exit_code == 2:
                raise
            line = str(error)
        say(f"{line}; trying again")
        time.sleep(every_s)
