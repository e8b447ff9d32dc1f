"""The rows of a run as its readers hold them: full figures by step and second, counts alone by claim.

The ledger looks at each claim, but at its counts only; times and names are wanted of a step as a whole. Histograms of
every claim would take gigabytes for a large fleet's quarter of an hour.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, select

from loads_queue.model.histogram import Histogram
from loads_queue.model.row_check import read
from loads_queue.model.summary import SERIES_COUNTS, SERIES_HISTOGRAMS, Row, Series

from . import tables
from .upserts import unpack_row

AT_ONCE = 500
"""Claims asked for with one statement."""
_NO_TIMES = Histogram()
"""One for all: nobody records into what is held."""
_NO_SERIES_TIMES: dict[str, Any] = dict.fromkeys(SERIES_HISTOGRAMS, _NO_TIMES)
_Seconds = dict[tuple[int, int], list[Row]]
"""Rows by (step, second)."""


class RunRows:
    """The newest rows of a run. What ``by_step`` and ``by_claim`` hold is never changed, only replaced."""

    def __init__(self) -> None:
        self.version = 0
        self.by_claim: dict[str, dict[int, Row]] = {}
        """Counts alone; the requests of all names stand under one."""
        self.by_step: dict[int, dict[int, Row]] = {}
        self._owners: dict[int, set[str]] = {}

    def refresh(self, connection: Connection, run: str) -> None:
        """Read what is newer than what is held."""
        new: _Seconds = {}
        amended: set[tuple[int, int]] = set()
        for found in connection.execute(
            select(tables.rows)
            .where(tables.rows.c.run == run, tables.rows.c.version > self.version)
            .order_by(tables.rows.c.version)
            .execution_options(yield_per=AT_ONCE)
        ):
            row = read(unpack_row(found.data))
            key = found.step, row.second
            self._owners.setdefault(found.step, set()).add(found.claim)
            if row.second in self.by_claim.setdefault(found.claim, {}):
                amended.add(key)
            elif key not in amended:
                new.setdefault(key, []).append(row)
            self.by_claim[found.claim][row.second] = _slim(row)
            self.version = found.version
            if len(new.get(key, ())) >= AT_ONCE:
                self._add(key, new.pop(key))
        for key, rows in new.items():
            if key not in amended:
                self._add(key, rows)
        for key in amended:
            self._merge_anew(connection, key)

    def _add(self, key: tuple[int, int], rows: Iterable[Row]) -> None:
        """Add rows of claims that had none of that second."""
        step, second = key
        held = self.by_step.setdefault(step, {}).get(second)
        self.by_step[step][second] = _sum(second, rows if held is None else [held, *rows])

    def _merge_anew(self, connection: Connection, key: tuple[int, int]) -> None:
        """Add a second up from the store, since a row that was added before has changed."""
        step, second = key
        self.by_step[step][second] = _sum(second, self._stored(connection, step, second))

    def _stored(self, connection: Connection, step: int, second: int) -> Iterator[Row]:
        # Of these claims alone: one that came in between is still to be added.
        claims = [claim for claim in self._owners[step] if second in self.by_claim[claim]]
        for at in range(0, len(claims), AT_ONCE):
            wanted = select(tables.rows.c.claim, tables.rows.c.data).where(
                tables.rows.c.claim.in_(claims[at : at + AT_ONCE]), tables.rows.c.second == second
            )
            for found in connection.execute(wanted):
                row = read(unpack_row(found.data))
                self.by_claim[found.claim][second] = _slim(row)
                yield row


def _sum(second: int, rows: Iterable[Row]) -> Row:
    total = Row(second)
    for row in rows:
        total.add(row)
    return total


def _slim(row: Row) -> Row:
    """A row less its times and names."""
    series: dict[str, Series] = {}
    if row.series:
        total = Series(**_NO_SERIES_TIMES)
        for each in row.series.values():
            for name in SERIES_COUNTS:
                setattr(total, name, getattr(total, name) + getattr(each, name))
        series[""] = total
    return replace(
        row,
        lateness=_NO_TIMES,
        iteration_response=_NO_TIMES,
        iteration_service=_NO_TIMES,
        series=series,
        sockets=None,
    )
