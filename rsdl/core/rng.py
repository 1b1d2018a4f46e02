"""Stateless random numbers, each a pure function of a key.

Nothing here has a state: a number depends on the key alone (seed, epoch, sample, purpose), so it is
the same on every machine, rank and worker and after every resume. Permutations are built from raw
Philox bits, which NumPy promises never to change, unlike ``Generator.permutation``.
"""

from collections.abc import Iterable, Iterator
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

UInt64s = NDArray[np.uint64]


def key_of(*parts: int | str) -> int:
    """Return a 128-bit key for ``parts``; equal parts give an equal key on every machine."""
    return int.from_bytes(blake2b(_join(parts).encode(), digest_size=16).digest(), "little")


def text_keys(texts: Iterable[str], *parts: int | str) -> Iterator[bytes]:
    """Yield bytes for each text that sort like ``key_of(*parts, text)``, in a third of the time."""
    head = _join((*parts, ""))
    for text in texts:
        yield blake2b((head + text).encode(), digest_size=16).digest()[::-1]


def _join(parts: tuple[int | str, ...]) -> str:
    # A NumPy integer must give the same key as the equal Python int.
    plain = (part if isinstance(part, str) else int(part) for part in parts)
    return "\x1f".join(f"{type(part).__name__}:{part}" for part in plain)


def permutation(size: int, *parts: int | str) -> NDArray[np.int64]:
    """Return a random permutation of ``range(size)`` that is a function of ``parts``."""
    bits = np.random.Philox(key=key_of(*parts)).random_raw(size)
    return np.argsort(bits, kind="stable")


def mix(values: UInt64s) -> UInt64s:
    """Return 64 well-mixed bits for each value (SplitMix64's finalizer, Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return values ^ (values >> np.uint64(31))


def uniforms(key: int, draws: NDArray[np.integer], count: int) -> NDArray[np.float64]:
    """Return ``count`` independent numbers for every draw.

    Args:
        key: Key of the random stream, from :func:`key_of`.
        draws: Numbers that identify the draws, ``[N]``.
        count: Number of values for each draw.

    Returns:
        Numbers in ``[0, 1)``, ``[N, count]``.
    """
    golden = np.uint64(0x9E3779B97F4A7C15)
    low, high = np.uint64(key & 0xFFFFFFFFFFFFFFFF), np.uint64(key >> 64)
    with np.errstate(over="ignore"):
        base = mix((draws.astype(np.uint64) + np.uint64(1)) * golden ^ low) ^ high
        steps = (np.arange(count, dtype=np.uint64) + np.uint64(1)) * golden
        bits = mix(base[:, None] + steps)
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def to_float32(numbers: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return numbers in ``[0, 1)`` in single precision, clipped where rounding would give 1."""
    below_one = np.nextafter(np.float32(1), np.float32(0))
    return np.minimum(numbers.astype(np.float32), below_one)


def fingerprint(draws: NDArray[np.integer]) -> int:
    """Return the sum of the draws' hashes modulo 2^64, equal for equal multisets."""
    with np.errstate(over="ignore"):
        hashes = mix(draws.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15))
        return int(hashes.sum(dtype=np.uint64))
