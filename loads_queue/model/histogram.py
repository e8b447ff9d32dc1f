"""A log-linear latency histogram: exact count, sum, min and max; quantiles within 0.8 %.

Values are integer nanoseconds. Below 64 every value has a bucket of its own; from 2^6 to 2^42 (73 minutes) each
octave has 64 buckets, so that a bucket is at most 1/64 of its value wide and its midpoint at most 1/128 (0.79 %)
off. Values from 2^42 on land in the last bucket and are counted in ``clamped``; ``min``, ``max`` and ``sum`` stay
exact for them. Merging is addition: of no two histograms is an average of percentiles ever taken.

The encoding is the same from the engine to the database, so that nothing is rounded on the way.
"""

from __future__ import annotations

import base64
import binascii
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from fractions import Fraction
from math import ceil

SUB_BITS = 6
SUB_BUCKETS = 1 << SUB_BITS
TOP_BITS = 42
TOP_BUCKET = (TOP_BITS - SUB_BITS) * SUB_BUCKETS + SUB_BUCKETS - 1
_FORMAT = 1


def bucket_of(value: int) -> int:
    """The bucket of a value in nanoseconds, 0 to ``TOP_BUCKET``."""
    if value < SUB_BUCKETS:
        return value
    octave = value.bit_length() - 1 - SUB_BITS
    bucket = (octave << SUB_BITS) + (value >> octave)
    return bucket if bucket < TOP_BUCKET else TOP_BUCKET


def bucket_bounds(bucket: int) -> tuple[int, int]:
    """The lowest value of a bucket and the lowest one above it, in nanoseconds."""
    if bucket < 2 * SUB_BUCKETS:
        return bucket, bucket + 1
    octave = (bucket >> SUB_BITS) - 1
    low = (SUB_BUCKETS + (bucket & (SUB_BUCKETS - 1))) << octave
    return low, low + (1 << octave)


class Histogram:
    """Counts of durations in nanoseconds."""

    __slots__ = ("clamped", "count", "counts", "max", "min", "sum")

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}
        self.count = 0
        self.sum = 0
        self.min = 0
        self.max = 0
        self.clamped = 0

    def record(self, value: int, times: int = 1) -> None:
        """Count a duration in nanoseconds; a negative one (a clock's rounding) counts as 0."""
        if value < SUB_BUCKETS:
            bucket = value = max(value, 0)
        else:
            octave = value.bit_length() - 7  # As in ``bucket_of``, without the call.
            bucket = (octave << 6) + (value >> octave)
            if bucket > TOP_BUCKET:
                bucket = TOP_BUCKET
        counts = self.counts
        counts[bucket] = counts.get(bucket, 0) + times
        if self.count == 0 or value < self.min:
            self.min = value
        if value > self.max:
            self.max = value
        self.count += times
        self.sum += value * times
        if value >> TOP_BITS:
            self.clamped += times

    def record_all(self, values: Iterable[int]) -> None:
        """``record`` each of some durations, in a fraction of the time: sorted, those of a bucket stand together."""
        ordered = sorted(values)
        if not ordered:
            return
        if ordered[0] < 0:
            ordered = [max(value, 0) for value in ordered]
        counts, done, total = self.counts, 0, len(ordered)
        while done < total:
            bucket = bucket_of(ordered[done])
            upto = total if bucket == TOP_BUCKET else bisect_left(ordered, bucket_bounds(bucket)[1], done)
            counts[bucket] = counts.get(bucket, 0) + upto - done
            done = upto
        if self.count == 0 or ordered[0] < self.min:
            self.min = ordered[0]
        self.max = max(self.max, ordered[-1])
        self.count += total
        self.sum += sum(ordered)
        self.clamped += total - bisect_left(ordered, 1 << TOP_BITS)

    def merge(self, other: Histogram) -> None:
        """Add another histogram's counts to this one."""
        if other.count == 0:
            return
        for bucket, times in other.counts.items():
            self.counts[bucket] = self.counts.get(bucket, 0) + times
        self.min = other.min if self.count == 0 else min(self.min, other.min)
        self.max = max(self.max, other.max)
        self.count += other.count
        self.sum += other.sum
        self.clamped += other.clamped

    def quantile(self, q: Fraction | float, infinite: int = 0) -> int | None:
        """The value in nanoseconds at nearest rank ``ceil(q * count)``, clamped to min and max.

        ``infinite`` ranks that many values above all recorded ones (work that never answered); a quantile that
        falls among them, or over no data at all, is None. A float is taken as the decimal that it is written as: 0.9
        of 10 values is the 9th. Raises ValueError for a quantile that is not from 0 to 1.
        """
        exact = Fraction(repr(q)) if isinstance(q, float) else Fraction(q)
        if not 0 <= exact <= 1:
            raise ValueError(f"a quantile is from 0 to 1, not {q}")
        total = self.count + infinite
        if total == 0:
            return None
        rank = max(1, ceil(exact * total))
        if rank > self.count:
            return None
        if rank == 1:
            return self.min
        if rank == self.count:
            return self.max
        seen = 0
        for bucket in sorted(self.counts):
            seen += self.counts[bucket]
            if seen >= rank:
                low, high = bucket_bounds(bucket)
                return min(max((low + high) // 2, self.min), self.max)
        return self.max

    @property
    def mean(self) -> float | None:
        """The exact mean in nanoseconds, or None over no data."""
        return self.sum / self.count if self.count else None

    def copy(self) -> Histogram:
        """An independent histogram with the same counts."""
        other = Histogram()
        other.merge(self)
        return other

    def encode(self) -> bytes:
        """The histogram as bytes: varints of format, clamped, sum, min, max, then (bucket step, count) pairs."""
        out = bytearray()
        for number in (_FORMAT, self.clamped, self.sum, self.min, self.max, len(self.counts)):
            _put(out, number)
        last = 0
        for bucket in sorted(self.counts):
            _put(out, bucket - last)
            _put(out, self.counts[bucket])
            last = bucket
        return bytes(out)

    @classmethod
    def decode(cls, data: bytes) -> Histogram:
        """The histogram that ``encode`` made; raises ValueError for any other bytes."""
        numbers = _numbers(data)
        try:
            if next(numbers) != _FORMAT:
                raise ValueError("histogram: unknown format")
            found = cls()
            found.clamped, found.sum, found.min, found.max = next(numbers), next(numbers), next(numbers), next(numbers)
            last = 0
            for position in range(next(numbers)):
                step, times = next(numbers), next(numbers)
                last += step
                if last > TOP_BUCKET or times == 0 or (position and step == 0):
                    raise ValueError("histogram: buckets out of order")
                found.counts[last] = times
                found.count += times
        except StopIteration:
            raise ValueError("histogram: truncated") from None
        if next(numbers, None) is not None:
            raise ValueError("histogram: bytes left over")
        found._check()
        return found

    def _check(self) -> None:
        """Raise ValueError where the exact figures can't belong to these buckets."""
        if not self.counts:
            if self.sum or self.min or self.max or self.clamped:
                raise ValueError("histogram: figures without counts")
            return
        if bucket_of(self.min) != min(self.counts) or bucket_of(self.max) != max(self.counts):
            raise ValueError("histogram: min or max outside its bucket")
        if not self.min * self.count <= self.sum <= self.max * self.count:
            raise ValueError("histogram: sum outside min and max")
        if self.clamped > self.counts.get(TOP_BUCKET, 0) or bool(self.clamped) != bool(self.max >> TOP_BITS):
            raise ValueError("histogram: clamped values that neither the top bucket nor max show")

    def to_text(self) -> str:
        """``encode`` as base64, for JSON."""
        return base64.b64encode(self.encode()).decode()

    @classmethod
    def from_text(cls, text: str) -> Histogram:
        """The histogram that ``to_text`` made; raises ValueError for any other text."""
        try:
            return cls.decode(base64.b64decode(text, validate=True))
        except binascii.Error as error:
            raise ValueError(f"histogram: {error}") from None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Histogram) and self.encode() == other.encode()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Histogram(count={self.count}, min={self.min}, max={self.max})"


def _put(out: bytearray, number: int) -> None:
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)


def _numbers(data: bytes) -> Iterator[int]:
    number = shift = 0
    for byte in data:
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            if byte == 0 and shift > 7:
                raise ValueError("histogram: number with leading zeros")
            yield number
            number = shift = 0
        elif shift > 140:
            raise ValueError("histogram: number too wide")
    if shift:
        raise ValueError("histogram: truncated")
