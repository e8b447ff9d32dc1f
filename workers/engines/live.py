"""A row while things in it are under way, and what is noted beside it until ``Recorder`` counts it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loads_queue.model.summary import Row, Series

Checks = list[tuple[str, bool]]
"""By name, whether what was looked at was right."""


class LiveRow:
    """A row, how many of its iterations and requests are under way, and what is yet to be counted in it.

    The commonest things are noted as briefly as can be, and counted all together by ``Recorder.fold``.
    """

    __slots__ = ("batches", "dirty", "lateness", "noted", "open", "responses", "row", "services", "wire")

    def __init__(self, row: Row) -> None:
        self.row = row
        self.open = 0
        self.dirty = True
        self.wire: dict[str, Any] = {}
        """As it was last told; it is as it is now where the row is not dirty."""
        self.lateness: list[int] = []
        """Of iterations that have begun."""
        self.responses: list[int] = []
        """Of iterations that have ended and were not interrupted, and their service times."""
        self.services: list[int] = []
        self.batches: list[Batch] = []
        self.noted: list[LiveSeries] = []
        """Those with times that are yet to be counted."""


class LiveSeries:
    """A series of one row, and the times of its requests that went well and are yet to be counted."""

    __slots__ = ("firsts", "live", "responses", "series", "services")

    def __init__(self, live: LiveRow, series: Series) -> None:
        self.live = live
        self.series = series
        self.responses: list[int] = []
        self.services: list[int] = []
        self.firsts: list[int] = []
        """To the first byte of the answer."""

    def count(self) -> None:
        """Count the times that were noted."""
        series = self.series
        series.response_ok.record_all(self.responses)
        series.service.record_all(self.services)
        series.first_byte.record_all(self.firsts)
        for noted in (self.responses, self.services, self.firsts):
            noted.clear()


class Batch:
    """Requests of the same bytes, sent in the same second, that go well and are answered in one piece.

    Whoever sends one adds to ``sent``; once it is answered, to ``answers`` (by status, bytes after the head and bytes
    in all), ``responses`` and ``services`` (times). One that ends otherwise is settled as an exchange of ``found``.
    """

    __slots__ = ("accepted", "answers", "found", "responses", "sent", "services", "size")

    def __init__(self, found: LiveSeries, size: int, accepted: Mapping[int, Checks | None]) -> None:
        self.found = found
        self.size = size
        self.accepted = accepted
        """By status, what was looked at in such an answer."""
        self.sent = 0
        self.answers: dict[tuple[int, int, int], int] = {}
        self.responses: list[int] = []
        self.services: list[int] = []


class Turn:
    """An iteration under way."""

    __slots__ = ("due", "first_sent", "last_ended", "live", "started")

    def __init__(self, live: LiveRow, due: int, started: int) -> None:
        self.live = live
        self.due = due
        self.started = started
        self.first_sent = 0
        self.last_ended = 0
