"""The number of nodes of a run: N, or MIN:MAX where nodes come and go while it trains."""

import re
from typing import Annotated

from pydantic import BeforeValidator

MAX_NODES = 64


def node_range(nodes: int | str) -> tuple[int, int]:
    """Return the fewest and the most nodes.

    Args:
        nodes: ``N`` or ``MIN:MAX``.

    Raises:
        ValueError: If it is neither, or out of range.
    """
    found = re.fullmatch(r"([0-9]{1,2})(?::([0-9]{1,2}))?", str(nodes))
    least, most = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    if not 1 <= least <= most <= MAX_NODES:
        raise ValueError(f"must be N or MIN:MAX, with 1 <= MIN <= MAX <= {MAX_NODES}")
    return least, most


def _read(value: object) -> int | str:
    least, most = node_range(value if isinstance(value, int | str) else "")
    return most if least == most else f"{least}:{most}"


Nodes = Annotated[int | str, BeforeValidator(_read)]
NODES = "Pods that train together: N, or MIN:MAX, of which those above MIN come and go."
