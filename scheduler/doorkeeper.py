"""Which messages the scheduler believes: those that are signed with the cluster's secret, and not too old.

Without a secret everything that can be read is believed, whatever its time. With one, an unsigned or altered message is
refused, and so is one that was written ``MAX_AGE_NS`` before it could have been received: a replay of something
recorded, that is, and never a message that only waited out an outage. For that the age is not counted while the
scheduler did not receive: while none ran, its database or broker was away, or its process was held.

A refused Job becomes a dead letter. Refused Reports do too, but only so many a minute: a worker with another secret, or
with a clock that is wrong, sends some every second, and a Report that is lost is mended by the next one.

Pure but for its own state: times (Unix ns, by the scheduler's clock) are arguments.
"""

from __future__ import annotations

from dataclasses import dataclass

from loads_queue import codec
from loads_queue.messages import JOBS, REPORTS, Job, Message, Report
from loads_queue.model.row_check import check

from .cluster import Event, JobReceived, ReportReceived
from .jobs import field_problem

SECOND = 1_000_000_000
MAX_AGE_NS = 600 * SECOND
HELD_NS = 10 * SECOND
"""A longer time between two turns is a time in which the scheduler did not run."""
MOST_REPORTS = 10
"""Refused Reports that are kept in a minute."""


@dataclass(slots=True)
class _Ear:
    """How well one queue is heard: the last interruption went from ``deaf_from`` to ``since`` (None: it lasts)."""

    deaf_from: int
    since: int | None = None


class Doorkeeper:
    """Signs what goes out, and lets in what is the cluster's own; ``now`` is when it was made."""

    def __init__(self, secret: bytes | None, now: int) -> None:
        self._secret = secret
        self._ears = {name: _Ear(now, now) for name in (JOBS, REPORTS)}
        self._turned_at = now
        self._minute = 0
        self._kept = 0

    # What the scheduler tells it

    def began(self, now: int, acted_until: int | None) -> None:
        """The scheduler acts from now on; the last one on its database did until then (None: there was none)."""
        self._turned_at = now
        for ear in self._ears.values():
            ear.deaf_from, ear.since = min(now, now if acted_until is None else acted_until), now

    def turned(self, now: int) -> None:
        """The scheduler works; where it has not for a while, it did not hear either."""
        if now - self._turned_at > HELD_NS:
            for ear in self._ears.values():
                self._deafen(ear, self._turned_at)
                ear.since = now
        self._turned_at = now

    def heard(self, queue: str, now: int) -> None:
        """A queue could be received from."""
        ear = self._ears[queue]
        if ear.since is None:
            ear.since = now

    def deaf(self, queue: str, now: int) -> None:
        """A queue could not be received from, or what came could not be taken in."""
        self._deafen(self._ears[queue], now)
        self._ears[queue].since = None

    def _deafen(self, ear: _Ear, at: int) -> None:
        # An interruption soon after another one prolongs it: what waited then may be waiting still.
        if ear.since is not None and at - ear.since >= MAX_AGE_NS:
            ear.deaf_from = at

    # Messages

    def encode(self, message: Message, queue: str, now: int) -> str:
        """A message to be sent; raises EncodeError."""
        return codec.encode(message, queue, now, self._secret)

    def renewed(self, body: str, now: int) -> str:
        """An envelope of ours that could not be sent at once, as if it had been written now."""
        return codec.restamp(body, now, self._secret) if self._secret else body

    def admit(self, body: str, queue: str, now: int) -> tuple[Event, str]:
        """What a message from ``queue`` asks of the scheduler, and its envelope's id; raises DecodeError."""
        decoded = codec.decode(body, queue, secret=self._secret)
        if self._secret:
            self._check_age(decoded.time, body, queue, now)
        message = decoded.message
        if queue == JOBS and isinstance(message, Job):
            if problem := field_problem(message):
                raise codec.DecodeError(f"Job: {problem}", body)
            return JobReceived(message), decoded.id
        if queue == REPORTS and isinstance(message, Report):
            _check_rows(message, body)
            return ReportReceived(message, now), decoded.id
        raise codec.DecodeError(f"a {type(message).__name__} on {queue}", body)

    def _check_age(self, time: int, body: str, queue: str, now: int) -> None:
        ear = self._ears[queue]
        caught_up = ear.since is not None and now - ear.since >= MAX_AGE_NS
        horizon = (now if caught_up else ear.deaf_from) - MAX_AGE_NS
        if time < horizon:
            raise codec.DecodeError(f"too old: written {(now - time) // SECOND} s ago", body)
        if time > now + MAX_AGE_NS:
            raise codec.DecodeError(f"from the future: written {(time - now) // SECOND} s ahead of our clock", body)

    def keeps(self, queue: str, now: int) -> bool:
        """Whether a refused message of a queue is to become a dead letter."""
        if queue != REPORTS:
            return True
        minute = now // (60 * SECOND)
        if minute != self._minute:
            self._minute, self._kept = minute, 0
        self._kept += 1
        return self._kept <= MOST_REPORTS


def _check_rows(report: Report, body: str) -> None:
    """Rows are free-form to the codec; what is no row must not reach the ledger. Raises DecodeError."""
    for claim in report.claims:
        for row in claim.rows:
            try:
                check(row)
            except ValueError as error:
                raise codec.DecodeError(f"a row of claim {claim.claim}: {error}", body) from None
