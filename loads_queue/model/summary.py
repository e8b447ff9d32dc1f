"""What was measured: one row a second of the schedule, per claim, that later snapshots replace.

A ``Row`` is *absolute* for its (claim, second): of two rows with that key, the one with the higher sequence counts
and the other is forgotten. ``RowSet`` holds that rule, which makes merging associative, commutative and safe to
repeat. Adding rows up (``Row.add``) is for rows of different claims or seconds, after the rule was applied.

Iterations are counted in the second in which they were due (closed model: started), requests in the second in which
they were sent, ``began`` and ``completed`` in the second in which it happened; all seconds are offsets in the run's
schedule. Durations are integer nanoseconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from .histogram import Histogram
from .row_parts import (
    add_counts,
    by_number,
    counts,
    histograms,
    read_by_name,
    read_by_number,
    read_count,
    read_counts,
    read_histograms,
    read_mapping,
)
from .sockets import Sockets

OTHER = "(other)"
"""The name that takes what a cap on names (series, errors, checks) leaves over, so that a cap is visible."""


@dataclass(slots=True)
class Series:
    """Requests of one name: attempted = ok + failed + interrupted + in_flight, sent = attempted - unsent.

    The histograms of phases hold what happened, so a request on a kept connection is in none of ``dns``, ``connect``
    and ``tls``, and one whose response came in one piece is not in ``body``: ``phase`` adds it there, as 0.
    """

    attempted: int = 0
    unsent: int = 0
    answered: int = 0
    ok: int = 0
    failed: int = 0
    interrupted: int = 0
    in_flight: int = 0
    redirects: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    response_ok: Histogram = field(default_factory=Histogram)
    response_failed: Histogram = field(default_factory=Histogram)
    service: Histogram = field(default_factory=Histogram)
    dns: Histogram = field(default_factory=Histogram)
    connect: Histogram = field(default_factory=Histogram)
    tls: Histogram = field(default_factory=Histogram)
    first_byte: Histogram = field(default_factory=Histogram)
    body: Histogram = field(default_factory=Histogram)
    statuses: dict[int, int] = field(default_factory=dict)
    errors: dict[str, int] = field(default_factory=dict)
    checks: dict[str, list[int]] = field(default_factory=dict)
    """By name of the check: [passed, failed]."""

    @property
    def response(self) -> Histogram:
        """Response times of ok and failed requests together, as a histogram of its own."""
        both = self.response_ok.copy()
        both.merge(self.response_failed)
        return both

    def phase(self, name: str) -> Histogram:
        """The times of one of ``PHASES``, as a histogram of its own; as many of ``body`` as of ``first_byte``."""
        found: Histogram = getattr(self, name).copy()
        if name == "body" and self.first_byte.count > found.count:
            found.record(0, self.first_byte.count - found.count)
        return found

    def add(self, other: Series) -> None:
        """Add another series of the same name."""
        for name in SERIES_COUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in SERIES_HISTOGRAMS:
            getattr(self, name).merge(getattr(other, name))
        add_counts(self.statuses, other.statuses)
        add_counts(self.errors, other.errors)
        for name, (passed, failed) in other.checks.items():
            mine = self.checks.setdefault(name, [0, 0])
            mine[0] += passed
            mine[1] += failed

    def to_wire(self) -> dict[str, Any]:
        """As JSON, zeros left out."""
        wire = {**counts(self, SERIES_COUNTS), **histograms(self, SERIES_HISTOGRAMS)}
        if self.statuses:
            wire["statuses"] = by_number(self.statuses)
        if self.errors:
            wire["errors"] = dict(self.errors)
        if self.checks:
            wire["checks"] = {name: list(counts) for name, counts in self.checks.items()}
        return wire

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> Series:
        """From JSON; raises ValueError for anything else than ``to_wire`` makes."""
        known = {*SERIES_COUNTS, *SERIES_HISTOGRAMS, "statuses", "errors", "checks"}
        found = cls(
            **read_counts(wire, SERIES_COUNTS, known),
            **read_histograms(wire, SERIES_HISTOGRAMS),
            statuses=read_by_number(wire, "statuses", "a status"),
            errors=read_by_name(wire, "errors"),
        )
        for name, both in read_mapping(wire, "checks").items():
            if not isinstance(both, list) or len(both) != 2:
                raise ValueError("checks: not [passed, failed]")
            found.checks[name] = [read_count(number, "checks") for number in both]
        return found


@dataclass(slots=True)
class Row:
    """One second of one claim: started = ok + failed + interrupted + in_flight.

    ``missed`` are arrivals that the engine passed over because they fell due without a permit, ``surplus`` those it
    started beyond a change of the profile that it had not heard of; ``held_ns`` is the
    planned user-time (in user-nanoseconds) that the engine covered, ``missed_user_ns`` what it passed over without a
    permit or before it had heard of a change, ``surplus_user_ns`` what it held beyond a change that it had not heard
    of (none of it is in ``held_ns``); ``users`` the most users active at once.

    The last figures are of the engines that measured themselves, ``engines`` of them, none where nobody did:
    ``cpu_ns`` is the processor time that they had, and, of the one that stood worst, ``busiest_ns`` that time,
    ``wanted_ns`` what it had or waited for while others had the processor (both of a whole second), ``lag_ns`` what a
    callback of that second had to wait for its loop.
    """

    second: int = 0
    started: int = 0
    dropped_in_flight: int = 0
    dropped_late: int = 0
    dropped_resource: int = 0
    missed: int = 0
    surplus: int = 0
    ok: int = 0
    failed: int = 0
    interrupted: int = 0
    in_flight: int = 0
    began: int = 0
    completed: int = 0
    held_ns: int = 0
    missed_user_ns: int = 0
    surplus_user_ns: int = 0
    users: int = 0
    engines: int = 0
    cpu_ns: int = 0
    busiest_ns: int = 0
    wanted_ns: int = 0
    lag_ns: int = 0
    lateness: Histogram = field(default_factory=Histogram)
    iteration_response: Histogram = field(default_factory=Histogram)
    iteration_service: Histogram = field(default_factory=Histogram)
    series: dict[str, Series] = field(default_factory=dict)
    sockets: Sockets | None = None
    """Of engines that hold sessions open; None where none does."""

    @property
    def dropped(self) -> int:
        """What the generator could not start, all causes."""
        return self.dropped_in_flight + self.dropped_late + self.dropped_resource

    def add(self, other: Row) -> None:
        """Add a row of another claim or second."""
        for name in ROW_COUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ROW_MAXIMA:
            setattr(self, name, max(getattr(self, name), getattr(other, name)))
        for name in ROW_HISTOGRAMS:
            getattr(self, name).merge(getattr(other, name))
        for name, series in other.series.items():
            self.series.setdefault(name, Series()).add(series)
        if other.sockets is not None:
            self.sockets = self.sockets or Sockets()
            self.sockets.add(other.sockets)

    def to_wire(self) -> dict[str, Any]:
        """As JSON, zeros left out."""
        wire = {"second": self.second, **counts(self, (*ROW_COUNTS, *ROW_MAXIMA)), **histograms(self, ROW_HISTOGRAMS)}
        if self.series:
            wire["series"] = {name: series.to_wire() for name, series in self.series.items()}
        if self.sockets is not None:
            wire["sockets"] = self.sockets.to_wire()
        return wire

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> Row:
        """From JSON; raises ValueError for anything else than ``to_wire`` makes."""
        numbers = (*ROW_COUNTS, *ROW_MAXIMA)
        known = {"second", *numbers, *ROW_HISTOGRAMS, "series", "sockets"}
        found = cls(**read_counts(wire, numbers, known), **read_histograms(wire, ROW_HISTOGRAMS))
        second = wire.get("second")
        if not isinstance(second, int) or isinstance(second, bool):
            raise ValueError("second: not a whole number")
        found.second = second
        found.series = {name: Series.from_wire(series) for name, series in read_mapping(wire, "series").items()}
        if "sockets" in wire:
            found.sockets = Sockets.from_wire(wire["sockets"])
        return found


SERIES_COUNTS = (
    "attempted", "unsent", "answered", "ok", "failed", "interrupted", "in_flight", "redirects", "bytes_in", "bytes_out",
)  # fmt: skip
PHASES = ("dns", "connect", "tls", "first_byte", "body")
"""What a request goes through, in this order; none of it is recorded for a request that it did not happen to."""
SERIES_HISTOGRAMS = ("response_ok", "response_failed", "service", *PHASES)
ROW_COUNTS = (
    "started", "dropped_in_flight", "dropped_late", "dropped_resource", "missed", "surplus", "ok", "failed",
    "interrupted", "in_flight", "began", "completed", "held_ns", "missed_user_ns", "surplus_user_ns", "users",
    "engines", "cpu_ns",
)  # fmt: skip
ROW_MAXIMA = ("busiest_ns", "wanted_ns", "lag_ns")
"""What is not added up: the greatest counts."""
ROW_HISTOGRAMS = ("lateness", "iteration_response", "iteration_service")


class RowSet:
    """The rows of any number of claims, each (claim, second) at its highest sequence."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, int], tuple[int, Row]] = {}

    def put(self, claim: str, sequence: int, row: Row) -> bool:
        """Take a row in; False where one of the same or a higher sequence is held already."""
        held = self._rows.get((claim, row.second))
        if held is not None and held[0] >= sequence:
            return False
        self._rows[claim, row.second] = (sequence, row)
        return True

    def merge(self, other: RowSet) -> None:
        """Take in every row of another set."""
        for (claim, _), (sequence, row) in other._rows.items():
            self.put(claim, sequence, row)

    def rows(self, claim: str | None = None) -> Iterator[Row]:
        """The rows of one claim, or of all, by second."""
        for (owner, _), (_, row) in sorted(self._rows.items(), key=lambda item: (item[0][1], item[0][0])):
            if claim is None or owner == claim:
                yield row

    def claims(self) -> set[str]:
        """Whose rows are held."""
        return {claim for claim, _ in self._rows}

    def __len__(self) -> int:
        return len(self._rows)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RowSet) and self._rows == other._rows

    __hash__ = None  # type: ignore[assignment]


def total(rows: Iterable[Row]) -> Row:
    """The sum of rows, with ``second`` 0."""
    out = Row()
    for row in rows:
        out.add(row)
    return out
