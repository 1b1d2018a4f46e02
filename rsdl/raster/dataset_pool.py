"""Open files for many threads, a few for each.

A GDAL data set must not be read by two threads at once, and opening one for every tile costs more
than reading it. So each thread keeps its own, and closes the one it used longest ago when it holds
too many: the number of open files is bounded by threads x limit however many scenes there are.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from contextlib import ExitStack
from typing import Any

# Python's warning filters belong to the process. rasterio swaps them while it opens or rasterizes,
# and two threads at once would undo each other's: whoever makes it do so holds this lock.
WARNINGS = threading.RLock()


class DatasetPool:
    """Things that are opened once for each thread and closed when others push them out.

    Args:
        limit: How many stay open in one thread, at least 1.
    """

    def __init__(self, limit: int = 8) -> None:
        self._limit = limit
        self._local = threading.local()

    def get(self, key: Hashable, open_one: Callable[[ExitStack], Any]) -> Any:  # noqa: ANN401 - data set or VRT
        """Return what ``open_one`` opened under ``key`` in this thread, opening it if needed.

        Args:
            key: Names the thing.
            open_one: Opens it; what must be closed with it is entered into the given stack.
        """
        held: OrderedDict[Hashable, tuple[Any, ExitStack]] = self._held()
        if key not in held:
            with WARNINGS, ExitStack() as stack:
                opened = open_one(stack)
                held[key] = (opened, stack.pop_all())
        held.move_to_end(key)
        while len(held) > self._limit:
            held.popitem(last=False)[1][1].close()
        return held[key][0]

    def close(self) -> None:
        """Close everything that this thread holds."""
        held = self._held()
        while held:
            held.popitem()[1][1].close()

    def _held(self) -> OrderedDict[Hashable, tuple[Any, ExitStack]]:
        if not hasattr(self._local, "held"):
            self._local.held = OrderedDict()
        held: OrderedDict[Hashable, tuple[Any, ExitStack]] = self._local.held
        return held
