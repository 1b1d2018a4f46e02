"""A pool of open GDAL datasets, a few for each thread.

A GDAL dataset must not be read by two threads at once, and opening one for every tile costs more
than reading it. So each thread keeps its own and closes the least recently used one when it exceeds
its limit: the number of open files is at most threads x limit, whatever the number of scenes.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from contextlib import ExitStack
from typing import Any

# Python's warning filters are global to the process. rasterio replaces them while it opens or
# rasterizes, and two threads would overwrite each other's: hold this lock around such calls.
WARNINGS = threading.RLock()


class DatasetPool:
    """Datasets opened once for each thread, with LRU eviction.

    Args:
        limit: Datasets kept open in each thread, at least 1.
    """

    def __init__(self, limit: int = 8) -> None:
        self._limit = limit
        self._local = threading.local()

    def get(self, key: Hashable, open_one: Callable[[ExitStack], Any]) -> Any:  # noqa: ANN401 - dataset or VRT
        """Return this thread's dataset for ``key``; open it if needed.

        Args:
            key: Identifies the dataset.
            open_one: Opens it, and enters everything to be closed with it into the given stack.
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
        """Close all datasets of this thread."""
        held = self._held()
        while held:
            held.popitem()[1][1].close()

    def _held(self) -> OrderedDict[Hashable, tuple[Any, ExitStack]]:
        if not hasattr(self._local, "held"):
            self._local.held = OrderedDict()
        held: OrderedDict[Hashable, tuple[Any, ExitStack]] = self._local.held
        return held
