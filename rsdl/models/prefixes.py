"""Names of tensors that other projects put a prefix to: ``module.encoder_q.``, ``teacher.``."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from rsdl.models.tensors import Tensors

# Of two networks in one file the first of these is taken: a teacher is the average of its student.
WORDS = (
    "teacher", "encoder_q", "student", "backbone", "encoder", "module", "model", "net", "network",
    "_orig_mod",
)  # fmt: skip
CHAIN = re.compile(rf"(?:(?:{'|'.join(WORDS)})\.)+")


@dataclass(frozen=True, slots=True)
class Stripped:
    """The tensors of a file under the names that a network has for them.

    Attributes:
        tensors: By name, free of ``prefix``.
        prefix: What was taken off, empty where nothing was.
        left_out: Names in the file of what does not have the prefix.
    """

    tensors: Tensors
    prefix: str
    left_out: tuple[str, ...]


def strip_prefix(tensors: Tensors, fits: Callable[[Tensors], bool]) -> Stripped:
    """Take the shortest prefix off with which everything fits; none where none makes it fit.

    Args:
        tensors: By name in the file.
        fits: Whether the network has all that it needs in tensors of these names.
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
    """Return every prefix made of known words alone, short ones first."""
    found: set[tuple[str, ...]] = set()
    for chain in {match[0] for name in tensors if (match := CHAIN.match(name))}:
        words = chain.removesuffix(".").split(".")
        found |= {tuple(words[:size]) for size in range(1, len(words) + 1)}
    order = sorted(found, key=lambda words: (len(words), [WORDS.index(word) for word in words]))
    return [".".join(words) + "." for words in order]
