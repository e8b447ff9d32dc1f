"""The ledger's columns as plain numbers, with the equations that they must meet; nothing here fills them in."""

from __future__ import annotations

from dataclasses import dataclass, field, fields


@dataclass(slots=True)
class Columns:
    """Iterations by what became of them."""

    planned: int = 0
    surplus: int = 0
    started: int = 0
    dropped_in_flight: int = 0
    dropped_late: int = 0
    dropped_resource: int = 0
    missed: int = 0
    cancelled: int = 0
    ok: int = 0
    failed: int = 0
    interrupted: int = 0
    lost: int = 0
    in_flight: int = 0
    pending: int = 0
    """Planned and not yet due, or not yet decided; 0 once the shard is over."""

    @property
    def dropped(self) -> int:
        """What the generator could not start, all causes."""
        return self.dropped_in_flight + self.dropped_late + self.dropped_resource

    @property
    def balanced(self) -> bool:
        """Whether both equations of iterations hold."""
        decided = self.started + self.dropped + self.missed + self.cancelled + self.pending
        ended = self.ok + self.failed + self.interrupted + self.lost + self.in_flight
        return self.planned + self.surplus == decided and self.started == ended

    def add(self, other: Columns) -> None:
        """Add another ledger's columns."""
        for name in COLUMN_NAMES:
            setattr(self, name, getattr(self, name) + getattr(other, name))


COLUMN_NAMES = tuple(column.name for column in fields(Columns))


@dataclass(slots=True)
class Requests:
    """Requests by what became of them; ``attempted`` is what the attempts say in sum, the rest what the rows say."""

    attempted: int = 0
    unsent: int = 0
    answered: int = 0
    ok: int = 0
    failed: int = 0
    interrupted: int = 0
    lost: int = 0
    in_flight: int = 0

    @property
    def sent(self) -> int:
        """Requests of which at least a byte was, or may have been, written."""
        return self.attempted - self.unsent

    @property
    def balanced(self) -> bool:
        """Whether the equation of requests holds."""
        ended = self.ok + self.failed + self.interrupted + self.lost + self.in_flight
        return self.attempted == ended and self.answered <= self.sent

    def add(self, other: Requests) -> None:
        """Add another ledger's requests."""
        for column in fields(Requests):
            setattr(self, column.name, getattr(self, column.name) + getattr(other, column.name))


@dataclass(slots=True)
class UserTime:
    """User-nanoseconds: planned + surplus = held + missed + cancelled (+ pending until the shard is over)."""

    planned: int = 0
    surplus: int = 0
    held: int = 0
    missed: int = 0
    cancelled: int = 0
    pending: int = 0

    @property
    def balanced(self) -> bool:
        """Whether the equation of user time holds."""
        return self.planned + self.surplus == self.held + self.missed + self.cancelled + self.pending

    def add(self, other: UserTime) -> None:
        """Add another shard's user time."""
        for column in fields(UserTime):
            setattr(self, column.name, getattr(self, column.name) + getattr(other, column.name))


@dataclass(slots=True)
class Ledger:
    """A ledger by second and in total, with requests and user time."""

    seconds: dict[int, Columns] = field(default_factory=dict)
    total: Columns = field(default_factory=Columns)
    requests: Requests = field(default_factory=Requests)
    user_time: UserTime = field(default_factory=UserTime)

    @property
    def balanced(self) -> bool:
        """Whether every equation holds, in every second and in total."""
        return (
            self.total.balanced
            and self.requests.balanced
            and self.user_time.balanced
            and all(columns.balanced for columns in self.seconds.values())
        )

    def at(self, second: int) -> Columns:
        """The columns of a second, made where there are none yet."""
        return self.seconds.setdefault(second, Columns())

    def add(self, other: Ledger) -> None:
        """Add the ledger of another shard, step or run."""
        for second, columns in other.seconds.items():
            self.at(second).add(columns)
        self.total.add(other.total)
        self.requests.add(other.requests)
        self.user_time.add(other.user_time)
