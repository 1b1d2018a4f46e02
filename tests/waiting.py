"""Wait for what another thread or process does."""

import time
from collections.abc import Callable


def wait_for(condition: Callable[[], object], limit_s: float = 120) -> None:
    """Wait until a condition holds."""
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)
