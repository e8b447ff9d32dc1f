"""Shares: what shard ``i`` of ``n`` takes of anything that is counted, from those two numbers alone.

Everything is dealt out in turn, like cards: item ``j`` belongs to shard ``j % n``. So the shards partition whatever
there is, for any ``n``, and no shard has to know what another one did. Integers only; a seed always gives the same.
"""

from __future__ import annotations

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
_ROUNDS = 6


def share(total: int, index: int, count: int) -> int:
    """How many of ``total`` items shard ``index`` of ``count`` takes; the shares of all shards add up to ``total``."""
    check_shard(index, count)
    return (total - index + count - 1) // count if total > index else 0


def row_index(index: int, count: int, counter: int) -> int:
    """The cluster-wide number of the ``counter``-th item (from 0) of shard ``index`` of ``count``."""
    return index + counter * count


def permuted(index: int, length: int, seed: int) -> int:
    """Where a seeded permutation of ``range(length)`` puts ``index``: a bijection that needs no memory.

    A Feistel network over the next power of four, walked along its cycle until it is back in range. Raises
    IndexError for an index out of range.
    """
    if not 0 <= index < length:
        raise IndexError(f"{index} is not in range({length})")
    half = ((length - 1).bit_length() + 1) // 2
    mask = (1 << half) - 1
    while True:
        left, right = index >> half, index & mask
        for turn in range(_ROUNDS):
            left, right = right, left ^ (mix(seed + turn, right) & mask)
        index = left << half | right
        if index < length:
            return index


def mix(seed: int, number: int) -> int:
    """64 well mixed bits from a seed and a number (the finaliser of SplitMix64); not for secrets."""
    z = (seed * 0xD1342543DE82EF95 + (number + 1) * _GOLDEN) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)


def check_shard(index: int, count: int) -> None:
    """Raise ValueError unless ``index`` is one of ``count`` shards."""
    if not 0 <= index < count:
        raise ValueError(f"there is no shard {index} of {count}")
