"""Counts: every iteration and request that the engine begins ends in exactly one column of exactly one row.

Rows are kept by second of the schedule and are absolute: a row is handed out again, whole, whenever it has changed,
and forgotten once nothing can change it any more, so that memory stays flat over hours. Names are bounded too: what
a cap leaves over is counted under ``OTHER``. No clock here; all times are CLOCK_BOOTTIME nanoseconds given by others.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping
from typing import Any

from loads_queue.model.histogram import Histogram
from loads_queue.model.summary import OTHER, Row, Series

from .exchange import Exchange
from .live import Batch, Checks, LiveRow, LiveSeries, Turn

SECOND = 1_000_000_000
MOST_SERIES = 500
MOST_ERRORS = 100
MOST_CHECKS = 200
ARCHIVED_SECONDS = 150
"""Rows that are settled are kept packed that long: an engine may hear of a change of its profile for as long as its
agent lets it run without a word from the scheduler, and then has to amend every second from the change on."""


class Recorder:
    """The rows of one claim. ``base`` is when the run's schedule began."""

    def __init__(self, base: int) -> None:
        self.base = base
        self.started = 0
        self.attempted = 0
        """Requests that stand in rows: sent, or ended without."""
        self.dropped = 0
        self.in_flight = 0
        self.sources: list[Callable[[int], None]] = []
        """Called with the first second that is kept, whenever rows are looked at: what was counted elsewhere since the
        last time is to be brought here by ``absorb_row`` and ``absorb_series``."""
        self._floor = 0
        self._rows: dict[int, LiveRow] = {}
        self._series: dict[tuple[int, str], LiveSeries] = {}
        self._names: set[str] = set()
        self._errors: set[str] = set()
        self._checks: set[str] = set()
        self._archive: dict[int, bytes] = {}
        """By second, rows in which nothing is under way any more, packed."""
        self._present: LiveRow | None = None
        """The row that was asked for last by a time, which lay from ``since`` on and before ``until``."""
        self._since = self._until = 0

    def _live_at(self, at: int) -> LiveRow:
        """``live`` of the second that a time lies in."""
        live = self._present
        if live is None or not self._since <= at < self._until:
            second = self.second_of(at)
            self._present = live = self.live(second)
            self._since = self.base + live.row.second * SECOND
            self._until = self._since + SECOND
        live.dirty = True
        return live

    def second_of(self, at: int) -> int:
        """The second of the schedule that a time lies in; what came before it counts as its first."""
        return max(0, (at - self.base) // SECOND)

    def live(self, second: int) -> LiveRow:
        """The row of a second, made where there is none, as one that is about to change.

        A row that was packed is unpacked. One that was forgotten is never begun again, since it would replace the whole
        one: what still comes for it counts in the first second that is kept.
        """
        live = self._rows.get(second)
        if live is None and second < self._floor:
            if second in self._archive:
                packed = self._archive.pop(second)
                live = self._rows[second] = LiveRow(Row.from_wire(json.loads(zlib.decompress(packed))))
            elif second < self._floor - ARCHIVED_SECONDS:
                return self.live(self._floor)
        if live is None:
            live = self._rows[second] = LiveRow(Row(second))
        live.dirty = True
        return live

    def start(self, key: int, due: int, now: int) -> Turn:
        """An iteration begins; it is counted in the second of ``key`` (its due time, or its start for users)."""
        live = self._live_at(key)
        row = live.row
        live.lateness.append(now - due)
        if key == now:
            row.began += 1
        else:
            self._live_at(now).row.began += 1
        self.in_flight += 1
        return Turn(live, due, now)

    def follow(self, turn: Turn, ok: bool, now: int) -> None:
        """An iteration has ended, and its user begins another one at once."""
        live = turn.live
        live.responses.append(now - turn.due)
        live.services.append(turn.last_ended - turn.first_sent)
        if not ok:
            self._count_failed(live)
        live = self._live_at(now)
        row = live.row
        row.completed += 1
        row.began += 1
        live.lateness.append(0)
        turn.live = live
        turn.due = turn.started = now
        turn.first_sent = turn.last_ended = 0

    def end(self, turn: Turn, outcome: str, now: int) -> None:
        """An iteration ends as ``ok``, ``failed`` or ``interrupted``."""
        live = turn.live
        self.in_flight -= 1
        if outcome == "interrupted":
            live.dirty = True
            live.open -= 1
            live.row.in_flight -= 1
            live.row.interrupted += 1
            return
        if outcome == "failed":
            self._count_failed(live)
        self._live_at(now).row.completed += 1
        live.responses.append(now - turn.due)
        live.services.append((turn.last_ended or now) - (turn.first_sent or turn.started))

    def _count_failed(self, live: LiveRow) -> None:
        """``fold`` will take it for one that is ok, by its times."""
        live.dirty = True
        live.row.failed += 1
        live.row.ok -= 1

    def fold(self, live: LiveRow) -> None:
        """Count in a row what was noted beside it."""
        row, begun, ended = live.row, len(live.lateness), len(live.responses)
        if begun:
            row.started += begun
            self.started += begun
            row.lateness.record_all(live.lateness)
            live.lateness.clear()
        if ended:
            row.ok += ended
            row.iteration_response.record_all(live.responses)
            row.iteration_service.record_all(live.services)
            live.responses.clear()
            live.services.clear()
        if begun or ended:
            live.dirty = True
            row.in_flight += begun - ended
            live.open += begun - ended
        for found in live.noted:
            found.count()
        live.noted.clear()
        for batch in live.batches:
            if batch.sent or batch.responses:
                self._fold_batch(live, batch)

    def _fold_batch(self, live: LiveRow, batch: Batch) -> None:
        series, sent, answered = batch.found.series, batch.sent, len(batch.responses)
        live.dirty = True
        batch.sent = 0
        self.attempted += sent
        series.attempted += sent
        series.in_flight += sent - answered
        live.open += sent - answered
        series.ok += answered
        series.answered += answered
        series.bytes_out += batch.size * answered
        for (status, _, received), count in batch.answers.items():
            series.statuses[status] = series.statuses.get(status, 0) + count
            series.bytes_in += received * count
            if checks := batch.accepted[status]:
                self._take_checks(series, checks, count)
        batch.services.sort()
        for histogram in (series.service, series.first_byte):
            histogram.record_all(batch.services)
        series.response_ok.record_all(batch.responses)
        for noted in (batch.answers, batch.responses, batch.services):
            noted.clear()

    def drop(self, column: str, due: int, count: int = 1) -> None:
        """Arrivals that were not started: ``dropped_in_flight``, ``dropped_late``, ``dropped_resource``, ``missed``."""
        row = self.live(self.second_of(due)).row
        setattr(row, column, getattr(row, column) + count)
        self.dropped += count

    def gather(self) -> None:
        """Have everything that was counted stand in the rows."""
        for bring in self.sources:
            bring(self._floor)

    def replan(self, second: int, excess: int) -> None:
        """So many arrivals more (or fewer) were decided about in a second than a change heard of late has planned.

        What was passed over for want of a permit was not to be started after all; of the rest as many as were started
        are surplus. Fewer are missed, unless an earlier change had made them surplus.
        """
        self.gather()
        live = self.live(second)
        self.fold(live)
        row = live.row
        if excess > 0:
            spared = min(excess, row.missed)
            row.missed -= spared
            surplus = min(excess - spared, row.started - row.surplus)
            row.surplus += surplus
            excess -= spared + surplus
            for column in ("dropped_in_flight", "dropped_late", "dropped_resource"):
                undone = min(excess, getattr(row, column))
                setattr(row, column, getattr(row, column) - undone)
                excess -= undone
        else:
            planned = min(-excess, row.surplus)
            row.surplus -= planned
            row.missed += -excess - planned

    def users(self, second: int, count: int) -> None:
        """So many users were active at once at some time of a second."""
        live = self._rows.get(second)
        if live is None or live.row.users < count:
            self.live(second).row.users = count

    def vitals(self, second: int, lag_ns: int, cpu_ns: int, wanted_ns: int) -> None:
        """How the engine did in a second, where there is a row of it to stand in; the worst that was told counts."""
        self.gather()
        live = self._rows.get(second)
        if live is None:
            return
        row = live.row
        worst = max(row.lag_ns, lag_ns), max(row.busiest_ns, cpu_ns), max(row.wanted_ns, wanted_ns)
        if worst != (row.lag_ns, row.busiest_ns, row.wanted_ns):
            row.lag_ns, row.busiest_ns, row.wanted_ns = worst
            row.engines, row.cpu_ns = (1, row.busiest_ns) if row.busiest_ns else (0, 0)
            live.dirty = True

    def hold(self, second: int, held_ns: int, missed_ns: int = 0, surplus_ns: int = 0) -> None:
        """User-time: planned and held, planned and passed over, held beyond the plan; less than 0 takes back."""
        if held_ns or missed_ns or surplus_ns:
            row = self.live(second).row
            row.held_ns += held_ns
            row.missed_user_ns += missed_ns
            row.surplus_user_ns += surplus_ns

    def sent(self, x: Exchange) -> None:
        """The first byte of a request was written, at ``x.sent``."""
        found = self._open_series(x, x.sent)
        found.live.open += 1
        series = found.series
        series.attempted += 1
        series.in_flight += 1
        if x.hop:
            series.redirects += 1
        x.series = found

    def unsend(self, x: Exchange) -> None:
        """Not one byte was written after all: the request will be counted where it ends."""
        found = x.series
        assert isinstance(found, LiveSeries), "only what was sent is taken back"
        found.live.open -= 1
        found.live.dirty = True
        found.series.attempted -= 1
        found.series.in_flight -= 1
        if x.hop:
            found.series.redirects -= 1
        self.attempted -= 1
        x.sent = 0
        x.series = None

    def settle(self, x: Exchange) -> None:
        """A request is over and judged: ok, or failed for ``x.error``."""
        found = self._closed_series(x)
        series = found.series
        if x.checks is not None:
            self._take_checks(series, x.checks)
        if x.error is None and x.sent:
            series.ok += 1
            if not found.responses:
                found.live.noted.append(found)
            found.responses.append(x.ended - x.due)
            found.services.append(x.ended - x.sent)
            if x.first:
                found.firsts.append(x.first - x.sent)
            _take_other_phases(series, x)
            return
        if x.error is None:
            series.ok += 1
            series.response_ok.record(x.ended - x.due)
        else:
            series.failed += 1
            series.response_failed.record(x.ended - x.due)
            _count(series.errors, self._errors, x.error, MOST_ERRORS)
        if x.sent:
            series.service.record(x.ended - x.sent)
        if x.first:
            series.first_byte.record(x.first - x.sent)
        _take_other_phases(series, x)

    def interrupt(self, x: Exchange) -> None:
        """A request was cut off by the end of its run."""
        self._closed_series(x).series.interrupted += 1

    def _closed_series(self, x: Exchange) -> LiveSeries:
        found = x.series
        if isinstance(found, LiveSeries):
            found.live.dirty = True
            found.live.open -= 1
            found.series.in_flight -= 1
        else:
            found = self._open_series(x, x.ended)
            found.series.attempted += 1
            found.series.unsent += 1
            if x.hop:
                found.series.redirects += 1
        series = found.series
        if x.status is not None:
            series.answered += 1
            status = x.status
            if status:
                series.statuses[status] = series.statuses.get(status, 0) + 1
        series.bytes_in += x.bytes_in
        series.bytes_out += x.bytes_out
        x.series = None
        return found

    def batch(self, name: str, at: int, size: int, accepted: Mapping[int, Checks | None]) -> tuple[Batch, int]:
        """For requests of ``size`` bytes that are sent from a time on; and up to when."""
        second = self.second_of(at)
        found = self._series_of(name, second)
        batch = Batch(found, size, accepted)
        found.live.batches.append(batch)
        return batch, self.base + (second + 1) * SECOND

    def _open_series(self, x: Exchange, at: int) -> LiveSeries:
        self.attempted += 1
        found = self._series_of(x.name, self.second_of(at))
        found.live.dirty = True
        return found

    def _series_of(self, called: str, second: int) -> LiveSeries:
        found = self._series.get((second, called))
        if found is None:
            live = self.live(second)
            if live.row.second != second:
                return self._series_of(called, live.row.second)  # Forgotten: it counts in the first one that is kept.
            name = called
            if name not in self._names:
                if len(self._names) >= MOST_SERIES:
                    name = OTHER
                else:
                    self._names.add(name)
            found = LiveSeries(live, live.row.series.setdefault(name, Series()))
            self._series[second, called] = found
        return found

    def absorb_row(self, second: int, counts: Mapping[str, int], histograms: Mapping[str, Histogram]) -> None:
        """Iterations that were counted elsewhere: by how much a row's columns change, and ``open``, those under way."""
        live = self.live(second)
        _absorb(live, live.row, counts, histograms)

    def absorb_series(
        self,
        second: int,
        name: str,
        counts: Mapping[str, int],
        histograms: Mapping[str, Histogram],
        told: Mapping[str, list[tuple[Any, int]]],
    ) -> None:
        """Requests counted elsewhere; ``told`` has statuses, errors and checks (passed, failed) with counts."""
        found = self._series_of(name, second)
        series = found.series
        _absorb(found.live, series, counts, histograms)
        for status, count in told.get("statuses", ()):
            series.statuses[status] = series.statuses.get(status, 0) + count
        for error, count in told.get("errors", ()):
            _count(series.errors, self._errors, error, MOST_ERRORS, count)
        for passed in (True, False):
            for check, count in told.get("passed" if passed else "failed", ()):
                self._take_checks(series, [(check, passed)], count)

    def _take_checks(self, series: Series, checks: list[tuple[str, bool]], times: int = 1) -> None:
        for name, passed in checks:
            counts = series.checks.get(name)
            if counts is None:
                if name not in self._checks:
                    if len(self._checks) >= MOST_CHECKS:
                        name = OTHER
                    else:
                        self._checks.add(name)
                counts = series.checks.setdefault(name, [0, 0])
            counts[0 if passed else 1] += times

    def take(self, settled: int) -> list[dict[str, Any]]:
        """The rows that have changed since the last call, by second.

        Rows of seconds below ``settled``, in which nothing can begin any more, are packed once nothing of them is under
        way, and forgotten later.
        """
        self.gather()
        self._floor = max(self._floor, settled)
        out = []
        for second in sorted(self._rows):
            live = self._rows[second]
            self.fold(live)
            if live.dirty:
                live.wire = live.row.to_wire()
                live.dirty = False
                out.append(live.wire)
            if second < settled and not live.open:
                self._pack(second)
        for second in [second for second in self._archive if second < self._floor - ARCHIVED_SECONDS]:
            del self._archive[second]
        return out

    def _pack(self, second: int) -> None:
        live = self._rows.pop(second)
        if live is self._present:
            self._present = None
        self._archive[second] = zlib.compress(json.dumps(live.wire).encode(), 1)
        for name in live.row.series:
            self._series.pop((second, name), None)
        if OTHER in live.row.series:
            for key in [key for key in self._series if key[0] == second]:
                del self._series[key]


def _take_other_phases(series: Series, x: Exchange) -> None:
    if x.first and x.ended > x.first:
        series.body.record(x.ended - x.first)
    if x.connect_ns:
        series.connect.record(x.connect_ns)
        if x.tls_ns:
            series.tls.record(x.tls_ns)
    if x.dns_ns:
        series.dns.record(x.dns_ns)


def _absorb(live: LiveRow, into: Row | Series, counts: Mapping[str, int], histograms: Mapping[str, Histogram]) -> None:
    live.dirty = True
    for column, count in counts.items():
        if column == "open":
            live.open += count
        else:
            setattr(into, column, getattr(into, column) + count)
    for column, histogram in histograms.items():
        getattr(into, column).merge(histogram)


def _count(counts: dict[str, int], known: set[str], name: str, most: int, times: int = 1) -> None:
    if name not in known:
        if len(known) >= most:
            name = OTHER
        else:
            known.add(name)
    counts[name] = counts.get(name, 0) + times
