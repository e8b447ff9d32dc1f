"""The closed model: users who take one turn after another, for a time or for a number of turns.

Users carry cluster-wide numbers from 0; shard i of n has the users i, i + n, i + 2n, ... User k is active in those
whole nanoseconds t in which U(t) > k, U being the stages' straight lines; ``active``, ``users_at`` and ``user_ns``
are three views of that one rule and agree to the nanosecond. The highest numbers come last and leave first.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from math import lcm
from typing import ClassVar, Literal, NamedTuple

from .shard import check_shard, share
from .stages import (
    MAX_DURATION_NS,
    MAX_USERS,
    Change,
    Piece,
    Span,
    UserStage,
    check_count,
    check_stages,
    duration_of,
    normal_changes,
    pieces_of,
    spans_of,
)

MAX_TURNS = 10**15
MAX_CYCLES = 10_000


@dataclass(frozen=True, slots=True)
class ClosedLoad:
    """Users by stages, for the stages' duration; with ``pace_ns`` each has a turn due that often."""

    stages: tuple[UserStage, ...]
    pace_ns: int | None = None
    changes: tuple[Change, ...] = ()

    kind: ClassVar[Literal["closed"]] = "closed"
    end_ns: int = field(init=False, repr=False, compare=False)
    """When nobody starts anything any more, in ns."""
    max_users: int = field(init=False, repr=False, compare=False)
    """The most users active at once; they are numbered 0 to ``max_users`` - 1."""
    _lines: tuple[_Line, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_stages(self.stages, UserStage)
        check_pace(self.pace_ns)
        object.__setattr__(self, "changes", normal_changes(self.changes))
        lines = tuple(_line(piece) for piece in pieces_of(self.stages, self.changes))
        object.__setattr__(self, "_lines", lines)
        object.__setattr__(self, "end_ns", duration_of(self.stages))
        ends = [line.users(t, 0, 1) for line in lines for t in (line.start_ns, line.end_ns - 1)]
        object.__setattr__(self, "max_users", max(ends, default=0))

    def users_at(self, t_ns: int) -> int:
        """How many users are active at ``t_ns``."""
        return self._users_at(t_ns, 0, 1)

    def active(self, user: int) -> tuple[tuple[int, int], ...]:
        """When a user is active: (start, end) in ns, the end excluded, in order and apart from one another."""
        spans: list[tuple[int, int]] = []
        for line in self._lines:
            start, end = line.above(user)
            if start >= end:
                continue
            if spans and spans[-1][1] == start:
                start = spans.pop()[0]
            spans.append((start, end))
        return tuple(spans)

    def user_ns(self, t0_ns: int, t1_ns: int) -> int:
        """The planned user-nanoseconds in [t0, t1): what ``active`` of all users covers of it."""
        return self._user_ns(t0_ns, t1_ns, 0, 1)

    def changed(self, changes: Sequence[Change]) -> ClosedLoad:
        """This load with the plan's users multiplied by each factor from its time on; 0 lets all of them go.

        The list is the whole of it: factors are of the plan's numbers, not of one another, and take the place of
        those that this load had. The end stands.
        """
        return replace(self, changes=tuple(changes))

    def shard(self, index: int, count: int) -> ClosedShard:
        """Shard ``index`` of ``count``."""
        return ClosedShard(self, index, count)

    def ramp_ns(self) -> int:
        """The time from one user to the next where the plan rises the fastest, rounded up; 0 where users jump."""
        fastest, before = Fraction(0), Fraction(0)
        for stage in self.stages:
            if stage.start > before or (stage.end > stage.start and not stage.duration_ns):
                return 0
            if stage.duration_ns:
                fastest = max(fastest, (stage.end - stage.start) / stage.duration_ns)
            before = stage.end
        return -(-fastest.denominator // fastest.numerator) if fastest else 0

    def stage_spans(self) -> tuple[Span, ...]:
        """(name or None, start, end) of each stage in ns."""
        return spans_of(self.stages, self.end_ns)

    def _users_at(self, t_ns: int, index: int, count: int) -> int:
        if not 0 <= t_ns < self.end_ns:
            return 0
        line = self._lines[bisect_right(self._lines, t_ns, key=lambda line: line.start_ns) - 1]
        return line.users(t_ns, index, count)

    def _user_ns(self, t0_ns: int, t1_ns: int, index: int, count: int) -> int:
        first = max(bisect_right(self._lines, t0_ns, key=lambda line: line.start_ns) - 1, 0)
        held = 0
        for line in self._lines[first:]:
            if line.start_ns >= t1_ns:
                break
            held += line.user_ns(t0_ns, t1_ns, index, count)
        return held


@dataclass(frozen=True, slots=True)
class ClosedShard:
    """The users ``index``, ``index`` + ``count``, ... of a closed load."""

    load: ClosedLoad
    index: int
    count: int

    kind: ClassVar[Literal["closed"]] = "closed"

    def __post_init__(self) -> None:
        check_shard(self.index, self.count)

    @property
    def changes(self) -> tuple[Change, ...]:
        """The factors that its load has from their times on."""
        return self.load.changes

    def changed(self, changes: Sequence[Change]) -> ClosedShard:
        """The same shard of the changed load."""
        return ClosedShard(self.load.changed(changes), self.index, self.count)

    def users(self) -> range:
        """The cluster-wide numbers of the shard's users."""
        return range(self.index, self.load.max_users, self.count)

    @property
    def max_users(self) -> int:
        """The most of them active at once."""
        return share(self.load.max_users, self.index, self.count)

    def users_at(self, t_ns: int) -> int:
        """How many of them are active at ``t_ns``."""
        return self.load._users_at(t_ns, self.index, self.count)

    def user_ns(self, t0_ns: int, t1_ns: int) -> int:
        """Their planned user-nanoseconds in [t0, t1)."""
        return self.load._user_ns(t0_ns, t1_ns, self.index, self.count)


@dataclass(frozen=True, slots=True)
class IterationsLoad:
    """Users with a number of turns each: cycles of (users, iterations), one after another.

    ``shared``: the iterations of a cycle are those of all its users together. Every cycle has the users 0 to users - 1;
    a user of cycle c starts cycle c + 1 when every user *of its shard* has ended cycle c, so that shards need not wait
    for one another. Loads v1's ``-u 10:20 --hits 5:10`` is the cycles (10, 5), (10, 10), (20, 5), (20, 10).
    """

    cycles: tuple[tuple[int, int], ...]
    shared: bool = False
    pace_ns: int | None = None

    kind: ClassVar[Literal["iterations"]] = "iterations"
    end_ns: ClassVar[None] = None
    """Nobody knows how long the turns will take."""

    def __post_init__(self) -> None:
        if not isinstance(self.cycles, tuple) or not 1 <= len(self.cycles) <= MAX_CYCLES:
            raise ValueError(f"cycles: not from 1 to {MAX_CYCLES:,} pairs (users, iterations)")
        for cycle in self.cycles:
            if not isinstance(cycle, tuple) or len(cycle) != 2:
                raise ValueError("cycles: not a pair (users, iterations)")
            check_count(cycle[0], "users", 1, MAX_USERS)
            check_count(cycle[1], "iterations", 1, MAX_TURNS)
        if not isinstance(self.shared, bool):
            raise ValueError("shared: true or false")
        check_pace(self.pace_ns)

    @property
    def planned(self) -> int:
        """How many turns there are in all."""
        return sum(iterations * (1 if self.shared else users) for users, iterations in self.cycles)

    @property
    def max_users(self) -> int:
        """The most users active at once; they are numbered 0 to ``max_users`` - 1."""
        return max(users for users, _ in self.cycles)

    def iterations_of(self, user: int) -> int:
        """How many turns a user takes over all cycles; ``shared``: at most, if it took all of every cycle of its."""
        return sum(iterations for users, iterations in self.cycles if 0 <= user < users)

    def changed(self, changes: Sequence[Change]) -> IterationsLoad:
        """This load: its numbers stand whatever the factor (a factor of 0 only makes its users wait)."""
        normal_changes(changes)
        return self

    def shard(self, index: int, count: int) -> IterationsShard:
        """Shard ``index`` of ``count``."""
        return IterationsShard(self, index, count)

    def stage_spans(self) -> tuple[Span, ...]:
        """None: counted turns have no stages."""
        return ()


class Cycle(NamedTuple):
    """A shard's part of a cycle: its users, and the turns of each (``shared``: of all of them together)."""

    users: range
    iterations: int


@dataclass(frozen=True, slots=True)
class IterationsShard:
    """The users ``index``, ``index`` + ``count``, ... of a load, or, ``shared``, every ``count``-th turn of it.

    A shared cycle with fewer users than shards is dealt out to the shards that have one.
    """

    load: IterationsLoad
    index: int
    count: int

    kind: ClassVar[Literal["iterations"]] = "iterations"

    def __post_init__(self) -> None:
        check_shard(self.index, self.count)

    def cycles(self) -> tuple[Cycle, ...]:
        """The shard's part of each cycle, in order; a cycle that has nothing for it is there with no users or turns."""
        found = []
        for users, iterations in self.load.cycles:
            mine = iterations
            if self.load.shared:
                dealt = min(self.count, users)
                mine = share(iterations, self.index, dealt) if self.index < dealt else 0
            found.append(Cycle(range(self.index, users, self.count), mine))
        return tuple(found)

    def users(self) -> range:
        """The cluster-wide numbers of the shard's users."""
        return range(self.index, self.load.max_users, self.count)

    @property
    def max_users(self) -> int:
        """The most of them active at once."""
        return share(self.load.max_users, self.index, self.count)

    @property
    def planned(self) -> int:
        """How many turns the shard has."""
        return sum(cycle.iterations * (1 if self.load.shared else len(cycle.users)) for cycle in self.cycles())

    def planned_within(self, bound: int) -> int:
        """How many of its turns are below a bound on each user's turns (``shared``: on the shard's)."""
        if self.load.shared:
            return min(max(0, bound), self.planned)
        cycles = self.cycles()
        found = low = 0
        for size in sorted({len(cycle.users) for cycle in cycles}):
            each = sum(cycle.iterations for cycle in cycles if len(cycle.users) >= size)
            found += (size - low) * min(max(0, bound), each)
            low = size
        return found

    def iterations_of(self, user: int) -> int:
        """How many turns one of its users takes over all cycles (``shared``: at most); 0 for another shard's user."""
        return sum(cycle.iterations for cycle in self.cycles() if user in cycle.users)


class _Line(NamedTuple):
    """U(t) = (base + slope · (t - start)) / denominator, in integers, for start <= t < end."""

    start_ns: int
    end_ns: int
    base: int
    slope: int
    denominator: int

    def users(self, t_ns: int, index: int, count: int) -> int:
        """How many k of index, index + count, ... are below U(t): the ceiling of (U - index) / count.

        It is never below 0, since U >= 0 and index < count.
        """
        over = self.base - index * self.denominator + self.slope * (t_ns - self.start_ns)
        return -(-over // (self.denominator * count))

    def above(self, user: int) -> tuple[int, int]:
        """From when to when U(t) > user; nothing where the end is not after the start."""
        over = self.base - user * self.denominator
        if self.slope == 0:
            return self.start_ns, self.end_ns if over > 0 else self.start_ns
        if self.slope > 0:
            return self.start_ns + max(-over // self.slope + 1, 0), self.end_ns
        return self.start_ns, min(self.start_ns - (over // self.slope), self.end_ns)

    def user_ns(self, t0_ns: int, t1_ns: int, index: int, count: int) -> int:
        """The sum of ``users`` over the whole nanoseconds of [t0, t1) that are this line's."""
        begin, end = max(t0_ns, self.start_ns), min(t1_ns, self.end_ns)
        if begin >= end:
            return 0
        over = self.base - index * self.denominator + self.slope * (begin - self.start_ns)
        below = self.denominator * count
        return floor_sum(end - begin, below, self.slope, over + below - 1)


def floor_sum(length: int, divisor: int, slope: int, base: int) -> int:
    """The sum of ``(base + slope * i) // divisor`` for i in range(length), in the steps of Euclid's algorithm."""
    found = 0
    while length > 0:
        found += length * (length - 1) // 2 * (slope // divisor) + length * (base // divisor)
        slope, base = slope % divisor, base % divisor
        top = slope * length + base
        if top < divisor:
            break
        # What is left counts lattice points under a line: count them by columns of the other axis.
        length, base = divmod(top, divisor)
        divisor, slope = slope, divisor
    return found


def check_pace(pace_ns: object) -> None:
    """Raise ValueError unless this is a pace."""
    if pace_ns is not None:
        check_count(pace_ns, "pace", 1, MAX_DURATION_NS)


def _line(piece: Piece) -> _Line:
    slope = (piece.high - piece.low) / (piece.end_ns - piece.start_ns)
    denominator = lcm(piece.low.denominator, slope.denominator)
    base = piece.low.numerator * (denominator // piece.low.denominator)
    return _Line(piece.start_ns, piece.end_ns, base, slope.numerator * (denominator // slope.denominator), denominator)
