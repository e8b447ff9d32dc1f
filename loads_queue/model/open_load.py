"""The open model: arrivals at a planned rate, each with an absolute due time, whatever the target does.

L(t) is the integral of the rate. Arrival n (from 0) is due at the first t with L(t) > n, or, ``jittered``, with
L(t) > n + h(seed, n), 0 <= h < 1, which keeps their order and shifts none by more than one place. Due times are
floored to whole nanoseconds. ``planned_by(t)`` counts the arrivals with ``due < t``: the two always agree.

Nothing here sleeps or looks at a clock; times are profile times, in ns from the start of the step.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import ClassVar, Literal

from .curve import Curve
from .shard import check_shard, mix, row_index, share
from .stages import (
    MAX_DURATION_NS,
    NEVER,
    Change,
    Piece,
    RateStage,
    Span,
    check_count,
    check_stages,
    normal_changes,
    pieces_of,
    spans_of,
)

EVEN = "even"
JITTERED = "jittered"
MAX_ITERATIONS = 10**15
MAX_SEED = 2**63 - 1

_JITTER_BITS = 32


@dataclass(frozen=True, slots=True)
class OpenLoad:
    """Arrivals by stages of a rate.

    With ``iterations`` that number stands and the end moves: the last stage's rate holds on until it is reached,
    whatever that stage's duration. ``changes`` are factors on the rate (see ``changed``). Raises ValueError for stages
    that are none, and for a number of iterations that the rate does not bring within three years.
    """

    stages: tuple[RateStage, ...]
    iterations: int | None = None
    arrivals: str = EVEN
    seed: int = 0
    changes: tuple[Change, ...] = ()

    kind: ClassVar[Literal["open"]] = "open"
    planned: int = field(init=False, repr=False, compare=False)
    """How many arrivals there are in all."""
    end_ns: int = field(init=False, repr=False, compare=False)
    """When the last one has come; NEVER where a pause without an end keeps ``iterations`` from it."""
    peak_rate: Fraction = field(init=False, repr=False, compare=False)
    """The highest rate, in arrivals a second."""
    _pieces: tuple[Piece, ...] = field(init=False, repr=False, compare=False)
    _curve: Curve = field(init=False, repr=False, compare=False)
    _scale: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_stages(self.stages, RateStage)
        if self.arrivals not in (EVEN, JITTERED):
            raise ValueError(f"arrivals: {EVEN} or {JITTERED}, not {self.arrivals!r:.40}")
        check_count(self.seed, "seed", -MAX_SEED, MAX_SEED)
        self._set(changes=normal_changes(self.changes))
        self._set(_scale=1 if self.arrivals == EVEN else 1 << _JITTER_BITS)
        self._set(
            _pieces=tuple(pieces_of(self.stages, self.changes, until_ns=None if self.iterations is None else NEVER))
        )
        self._set(_curve=Curve(self._pieces, self._scale))
        if self.iterations is None:
            self._set(end_ns=self._curve.end_ns)
            self._set(planned=self._count(self._curve.below(self.end_ns)))
        else:
            self._check_iterations(self.iterations)
            self._set(end_ns=self._curve.reached(self.iterations * self._scale))
            self._set(planned=self.iterations)
        begun = [piece for piece in self._pieces if piece.start_ns < self.end_ns]
        self._set(peak_rate=max((max(piece.low, piece.high) for piece in begun), default=Fraction(0)))

    def due(self, n: int) -> int:
        """When arrival ``n`` is due, in ns; NEVER behind a pause without an end. IndexError beyond ``planned``."""
        if not 0 <= n < self.planned:
            raise IndexError(f"there is no arrival {n} of {self.planned}")
        if self._scale == 1:
            return self._curve.passed(n)
        return self._curve.passed((n << _JITTER_BITS) + (mix(self.seed, n) >> 64 - _JITTER_BITS))

    def planned_by(self, t_ns: int) -> int:
        """How many arrivals are due before ``t_ns``."""
        return min(self._count(self._curve.below(t_ns)), self.planned)

    def rate(self, t_ns: int) -> Fraction:
        """Arrivals a second at ``t_ns``; 0 before the start and from the end on."""
        if not 0 <= t_ns < self.end_ns:
            return Fraction(0)
        piece = self._pieces[bisect_right(self._pieces, t_ns, key=lambda piece: piece.start_ns) - 1]
        if piece.low == piece.high:
            return piece.low
        return piece.low + (piece.high - piece.low) * (t_ns - piece.start_ns) / (piece.end_ns - piece.start_ns)

    def changed(self, changes: Sequence[Change]) -> OpenLoad:
        """This load with the plan's rate multiplied by each factor from its time on; 0 pauses.

        The list is the whole of it: factors are of the plan's rate, not of one another, and take the place of those
        that this load had. What is due before a change stays as it was. The schedule's end stands, unless there are
        ``iterations``: then their number stands and the end moves.
        """
        return replace(self, changes=tuple(changes))

    def shard(self, index: int, count: int) -> OpenShard:
        """Shard ``index`` of ``count``: the arrivals index, index + count, index + 2 · count, ..."""
        return OpenShard(self, index, count)

    def stage_spans(self) -> tuple[Span, ...]:
        """(name or None, start, end) of each stage in ns."""
        return spans_of(self.stages, self.end_ns, held=self.iterations is not None)

    def _count(self, below: int) -> int:
        """How many arrivals n have n·S + h(n) < below."""
        if below <= 0 or self._scale == 1:
            return max(below, 0)
        n, rest = divmod(below - 1, self._scale)
        return n + ((mix(self.seed, n) >> 64 - _JITTER_BITS) <= rest)

    def _check_iterations(self, iterations: int) -> None:
        check_count(iterations, "iterations", 1, MAX_ITERATIONS)
        plain = Curve(pieces_of(self.stages, (), until_ns=MAX_DURATION_NS), 1)
        if plain.reached(iterations) == NEVER:
            raise ValueError(f"iterations: the rate never brings {iterations:,}: raise the last stage's rate")

    def _set(self, **values: object) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)


@dataclass(frozen=True, slots=True)
class OpenShard:
    """Every ``count``-th arrival of a load, from ``index`` on; ``k`` counts the shard's own, from 0."""

    load: OpenLoad
    index: int
    count: int

    kind: ClassVar[Literal["open"]] = "open"

    def __post_init__(self) -> None:
        check_shard(self.index, self.count)

    @property
    def end_ns(self) -> int:
        """When the load's last arrival has come."""
        return self.load.end_ns

    @property
    def changes(self) -> tuple[Change, ...]:
        """The factors that its load has from their times on."""
        return self.load.changes

    def changed(self, changes: Sequence[Change]) -> OpenShard:
        """The same shard of the changed load."""
        return OpenShard(self.load.changed(changes), self.index, self.count)

    @property
    def planned(self) -> int:
        """How many arrivals the shard has."""
        return share(self.load.planned, self.index, self.count)

    def planned_by(self, t_ns: int) -> int:
        """How many of them are due before ``t_ns``."""
        return share(self.load.planned_by(t_ns), self.index, self.count)

    def due(self, k: int) -> int:
        """When the shard's arrival ``k`` is due, in ns; IndexError beyond ``planned``."""
        return self.load.due(self.index + k * self.count)

    def number(self, k: int) -> int:
        """The cluster-wide number of the shard's arrival ``k``."""
        return row_index(self.index, self.count, k)
