"""Stages: a rate or a number of users that goes in a straight line from one value to another.

Values are exact fractions and times integer nanoseconds from the start of the step, so that nothing here rounds.
A stage may last no time at all: it plans nothing, and only says where the value stands after it. Values below 0 or
beyond the limits below are refused by ValueError; the limits are far beyond any cluster, and keep the arithmetic of
a hostile message short.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from math import lcm
from typing import ClassVar, NamedTuple

NANOS = 1_000_000_000
NEVER = 1 << 62
"""A time in nanoseconds that no run lives to see (146 years): when work is due that a lasting pause holds back."""

MAX_RATE = 10**9
MAX_USERS = 10**8
MAX_DURATION_NS = 10**17
MAX_STAGES = 10_000
MAX_CHANGES = 10_000
MAX_FACTOR = 10**6
MAX_DENOMINATOR = 10**30

Change = tuple[int, int, int]
"""(time in ns from the start of the step, numerator, denominator): the factor in force from then on."""
Span = tuple[str | None, int, int]
"""(a stage's name, its start, its end), in ns from the start of the step."""


@dataclass(frozen=True, slots=True)
class _Stage:
    start: Fraction
    end: Fraction
    duration_ns: int
    name: str | None = None

    _what: ClassVar[str]
    _most: ClassVar[int]

    def __post_init__(self) -> None:
        for field in ("start", "end"):
            value = getattr(self, field)
            if isinstance(value, bool) or not isinstance(value, int | Fraction):
                raise ValueError(f"a {self._what} is a whole number or a fraction, not {value!r:.40}")
            if not 0 <= value <= self._most:
                raise ValueError(f"a {self._what} is from 0 to {self._most}, not {_short(value)}")
            object.__setattr__(self, field, Fraction(value))
        check_count(self.duration_ns, "a stage's duration", 0, MAX_DURATION_NS)
        if self.name is not None and not isinstance(self.name, str):
            raise ValueError("a stage's name is text")


@dataclass(frozen=True, slots=True)
class RateStage(_Stage):
    """Arrivals a second, in a straight line from ``start`` to ``end`` over ``duration_ns``."""

    _what = "rate"
    _most = MAX_RATE


@dataclass(frozen=True, slots=True)
class UserStage(_Stage):
    """Users active at once, in a straight line from ``start`` to ``end`` over ``duration_ns``."""

    _what = "number of users"
    _most = MAX_USERS


class Piece(NamedTuple):
    """A stretch of a profile without corners: from ``low`` at ``start_ns`` to ``high`` just before ``end_ns``."""

    start_ns: int
    end_ns: int
    low: Fraction
    high: Fraction


def check_stages(stages: object, kind: type[_Stage]) -> None:
    """Raise ValueError unless these are the stages of a load."""
    if not isinstance(stages, tuple) or not all(isinstance(stage, kind) for stage in stages):
        raise ValueError(f"stages: not a tuple of {kind.__name__}")
    if not 1 <= len(stages) <= MAX_STAGES:
        raise ValueError(f"stages: a load has from 1 to {MAX_STAGES:,} stages, not {len(stages):,}")
    if duration_of(stages) > MAX_DURATION_NS:
        raise ValueError(f"stages: longer than {MAX_DURATION_NS // NANOS:,} s in all")
    _check_denominators("stages", [value.denominator for stage in stages for value in (stage.start, stage.end)])


def normal_changes(changes: Sequence[Change]) -> tuple[Change, ...]:
    """The same changes by time, in lowest terms; of two at one time the later in the list counts.

    Times before 0 are in force from the start. Raises ValueError for what is not a change.
    """
    found: dict[int, Fraction] = {}
    for change in changes:
        if not isinstance(change, list | tuple) or len(change) != 3:
            raise ValueError("changes: not (time in ns, numerator, denominator)")
        at, numerator, denominator = change
        check_count(at, "the time of a change", -NEVER, NEVER)
        check_count(numerator, "the numerator of a change", 0, MAX_DENOMINATOR)
        check_count(denominator, "the denominator of a change", 1, MAX_DENOMINATOR)
        found[at] = Fraction(numerator, denominator)
        if found[at] > MAX_FACTOR:
            raise ValueError(f"changes: a factor is at most {MAX_FACTOR:,}")
    if len(found) > MAX_CHANGES:
        raise ValueError(f"changes: at most {MAX_CHANGES:,}, not {len(found):,}")
    _check_denominators("changes", [factor.denominator for factor in found.values()])
    return tuple((at, *found[at].as_integer_ratio()) for at in sorted(found))


def pieces_of(stages: Sequence[_Stage], changes: Sequence[Change], *, until_ns: int | None = None) -> list[Piece]:
    """The profile that stages and (normal) changes make together; ``until_ns`` holds the last value on until then."""
    times = [at for at, _, _ in changes]
    stretches: list[_Stage] = list(stages)
    if until_ns is not None:
        last = stages[-1].end
        stretches.append(_Stretch(last, last, until_ns - duration_of(stages)))
    pieces, begin = [], 0
    for stage in stretches:
        end = begin + stage.duration_ns
        cuts = times[bisect_right(times, begin) : bisect_left(times, end)]
        for low, high in pairwise([begin, *cuts, end]):
            if low < high:
                latest = bisect_right(times, low) - 1
                factor = Fraction(*changes[latest][1:]) if latest >= 0 else Fraction(1)
                values = (_value(stage, at - begin) * factor for at in (low, high))
                pieces.append(Piece(low, high, *values))
        begin = end
    return pieces


def spans_of(stages: Sequence[_Stage], end_ns: int, *, held: bool = False) -> tuple[Span, ...]:
    """Each stage's name, start and end, none later than ``end_ns``; ``held`` lets the last one last until then."""
    spans: list[Span] = []
    begin = 0
    for stage in stages:
        end = begin + stage.duration_ns
        spans.append((stage.name, min(begin, end_ns), min(end, end_ns)))
        begin = end
    if held:
        spans[-1] = (*spans[-1][:2], end_ns)
    return tuple(spans)


def duration_of(stages: Sequence[_Stage]) -> int:
    """How long the stages last one after another, in ns."""
    return sum(stage.duration_ns for stage in stages)


def check_count(value: object, what: str, least: int, most: int) -> int:
    """The value, where it is a whole number in these limits; raises ValueError otherwise."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{what} is a whole number, not {value!r:.40}")
    if not least <= value <= most:
        raise ValueError(f"{what} is from {least} to {most}, not {_short(value)}")
    return value


class _Stretch(_Stage):
    """The last stage held on, for as long as it takes."""

    def __post_init__(self) -> None:
        """Nothing to check: the value is a checked stage's, and NEVER is longer than a stage may last."""


def _value(stage: _Stage, at: int) -> Fraction:
    if stage.start == stage.end:
        return stage.start
    return stage.start + (stage.end - stage.start) * at / stage.duration_ns


def _check_denominators(what: str, denominators: list[int]) -> None:
    common = 1
    for denominator in denominators:
        common = lcm(common, denominator)
        if common > MAX_DENOMINATOR:
            raise ValueError(f"{what}: the fractions are too fine to add up: round them")


def _short(value: int | Fraction) -> str:
    """The value for people, who don't want to read a thousand digits."""
    exact = Fraction(value)
    brief = max(abs(exact.numerator), exact.denominator) < 10**20
    return str(exact) if brief else "a number of so many digits"
