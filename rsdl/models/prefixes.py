"""Remove the prefixes that other projects add to tensor names: ``module.encoder_q.``."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from rsdl.models.tensors import Tensors

# In order of preference if a file has two networks: a teacher is the average of its student.
WORDS = (
    "teacher", "encoder_q", "student", "backbone", "encoder", "module", "model", "net", "network",
    "_orig_mod",
)  # fmt: skip
CHAIN = re.compile(rf"(?:(?:{'|'.join(WORDS)})\.)+")


@dataclass(frozen=True, slots=True)
class Stripped:
    """The tensors of a file under the names of a network.

    Attributes:
        tensors: Tensors by name, without ``prefix``.
        prefix: The removed prefix; empty if none was removed.
        left_out: Names in the file that do not have the prefix.
    """

    tensors: Tensors
    prefix: str
    left_out: tuple[str, ...]


def strip_prefix(tensors: Tensors, fits: Callable[[Tensors], bool]) -> Stripped:
    """Remove the shortest prefix with which the tensors fit; if none fits, remove nothing.

    Args:
        tensors: Tensors by name in the file.
        fits: Returns whether tensors contain all weights that the network needs.
    """
    whole = Stripped(tensors, "", ())
    if fits(tensors):
        return whole
    for prefix in _prefixes(tensors):
        inner = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        if fits(inner):
            return Stripped(inner, prefix, tuple(k for k in tensors if not k.startswith(prefix)))
    return whole


def _prefixes(tensors: Tensors) -> list[str]:
    """Return every prefix that consists of known words only, shortest first."""
    found: set[tuple[str, ...]] = set()
    for chain in {match[0] for name in tensors if (match := CHAIN.match(name))}:
        words = chain.removesuffix(".").split(".")
        found |= {tuple(words[:size]) for size in range(1, len(words) + 1)}
    order = sorted(found, key=lambda words: (len(words), [WORDS.index(word) for word in words]))
    return [".".join(words) + "." for words in order]
