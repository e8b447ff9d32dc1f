"""What the ledger is made from: a shard's share of the plan, and what is known of each attempt at it.

Times are schedule times in nanoseconds, but for those of changes and of the ``share`` itself, which are the profile's
own (from the step's start).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, Self

from .stages import Change
from .summary import Row

SECOND = 1_000_000_000
ORDERLY = frozenset({"finished", "stopped", "exhausted", "max_time"})
"""The ends after which nobody goes on: what was not started by then is cancelled."""
ACCOUNTED = ORDERLY | {"lapsed"}
"""The ends after which an engine's own account is complete; a shard that was handed back goes on elsewhere."""


@dataclass(frozen=True, slots=True)
class ClaimEvidence:
    """What is known of one attempt at a shard: what it was given, what it said, and how it ended."""

    attempt: int
    first: int
    base: int | None = None
    """Of counted turns: how many of the shard's were begun by earlier attempts; None is what ``first`` says."""
    permit_until_ns: int | None = None
    bound_iterations: int = 0
    bound_requests: int = 0
    next: int | None = None
    started: int = 0
    attempted: int = 0
    remaining: int = 0
    held_from_ns: int | None = None
    covered_ns: int = 0
    cause: str | None = None
    """How it ended, by its own last report; None while that has not come."""
    dead: bool = False
    """No further report is awaited (its lease ended, or its engine died), whether or not ``cause`` is known."""
    holed: bool = False
    """Reports before its last one are known to be lost, so rows may be missing: what its totals say beyond them is
    lost. Told by the Reports' numbers alone, never by a sum that does not fit."""
    rows: tuple[Row, ...] = ()
    ended_ns: int | None = None
    """When it ended, by its own last report."""
    changes: tuple[Change, ...] | None = None
    """The changes of the profile that its rows and totals go by, in the profile's time; None is all of the share's."""

    @property
    def accounted(self) -> bool:
        """Whether the engine's own last word is here, so that nothing about it is guessed."""
        return self.cause in ACCOUNTED

    @property
    def orderly(self) -> bool:
        """Whether its end was meant to be the end of the shard's load."""
        return self.cause in ORDERLY

    @property
    def unknown(self) -> bool:
        """Whether what its rows have in flight stays unknown."""
        return self.holed or (self.dead and not self.accounted)

    @property
    def unseen(self) -> int:
        """Iterations that it says it started and that no row tells of, since Reports were lost."""
        return max(0, self.started - sum(row.started for row in self.rows)) if self.holed else 0


class OpenShard(Protocol):
    """The questions that the ledger asks of a share of arrivals; see ``profile``."""

    @property
    def planned(self) -> int: ...
    @property
    def end_ns(self) -> int: ...
    @property
    def changes(self) -> tuple[Change, ...]: ...
    def planned_by(self, t_ns: int, /) -> int: ...
    def due(self, k: int, /) -> int: ...
    def changed(self, changes: Sequence[Change], /) -> Self: ...


class ClosedShard(Protocol):
    """The questions that the ledger asks of a share of users held for a time."""

    @property
    def changes(self) -> tuple[Change, ...]: ...
    def user_ns(self, t0: int, t1: int, /) -> int: ...
    def changed(self, changes: Sequence[Change], /) -> Self: ...


class IterationsShard(Protocol):
    """The questions that the ledger asks of a share of users with a number of iterations each."""

    @property
    def planned(self) -> int: ...
    def planned_within(self, bound: int, /) -> int: ...


@dataclass(frozen=True, slots=True)
class ShardEvidence:
    """What is known of one shard: its share of the plan, its attempts in order, and whether and why it is over."""

    kind: str
    """``open``, ``closed`` or ``iterations``."""
    share: OpenShard | ClosedShard | IterationsShard
    end_ns: int | None
    """The end of the load in schedule time; None where only iterations end it."""
    delay_ns: int = 0
    claims: tuple[ClaimEvidence, ...] = ()
    over: bool = False
    stopped_ns: int | None = None
    """When it was told to stop, in schedule time; what was due later is cancelled, not missed."""
