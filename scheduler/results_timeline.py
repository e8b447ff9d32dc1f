"""The timeline of a run: one row for each second of its schedule, from 0 to the end.

Iterations stand in the second in which they were due (without due times: started), requests in the second in which
they were sent; the sums over all rows are the totals of the ledger.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from loads_queue.model.histogram import Histogram
from loads_queue.model.ledger import SECOND, Columns
from loads_queue.model.profile import NEVER, ClosedLoad, IterationsLoad
from loads_queue.model.summary import Row

from .results_events import gap_seconds_of
from .results_fitness import Judged, timeline_fitness
from .results_series import LEDGER_KEYS, columns_summary, milliseconds
from .results_sockets import TIMELINE_SOCKET_KEYS, has_sockets, timeline_sockets
from .view import RunView, StepView

P50, P95, P99 = Fraction(50, 100), Fraction(95, 100), Fraction(99, 100)
TIMELINE_KEYS = (
    "t", *LEDGER_KEYS, "began", "completed", "users_planned", "users", "lateness_p50", "lateness_p99",
    "p50", "p95", "p99", "gap", "lag", "cpu", "fit",
)  # fmt: skip


def timeline(view: RunView, judged: Judged | None = None) -> list[dict[str, Any]]:
    """A row a second; times in milliseconds, None where nothing was measured in that second. With the columns of
    sessions where the run has any."""
    fit = (judged or Judged()).of_all(view)
    rows: dict[int, list[Row]] = {}
    for step in view.steps:
        for row in step.rows:
            rows.setdefault(row.second, []).append(row)
    seconds = length(view)
    gaps = gap_seconds_of(view, seconds)
    keys = (*TIMELINE_KEYS, *(TIMELINE_SOCKET_KEYS if any(map(has_sockets, view.steps)) else ()))
    found = (
        {
            **_row(view, second, rows.get(second, []), second in gaps),
            **timeline_fitness(fit.get(second)),
            **timeline_sockets(rows.get(second, [])),
        }
        for second in range(seconds)
    )
    return [{name: row[name] for name in keys} for row in found]


def timeline_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows of ``timeline`` as CSV with a header; None is an empty field, ``gap`` and ``fit`` are true or false."""
    out = io.StringIO()
    sockets = (key for key in TIMELINE_SOCKET_KEYS if rows and key in rows[0])
    writer = csv.DictWriter(out, (*TIMELINE_KEYS, *sockets), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({key: str(each).lower() if isinstance(each, bool) else each for key, each in row.items()})
    return out.getvalue()


def length(view: RunView) -> int:
    """How many seconds of schedule there are: to the end of the last load, and to the last thing that happened."""
    last = 0
    for step in view.steps:
        seconds = {row.second for row in step.rows} | set(step.ledger.seconds)
        if step.load.end_ns is not None:
            seconds.add(-(-(step.delay_ns + step.load.end_ns) // SECOND) - 1)
        # What a lasting pause holds back falls due in no second that could have a row.
        last = max([last, *(second + 1 for second in seconds if second < NEVER // SECOND)])
    return last


def _row(view: RunView, second: int, rows: list[Row], gap: bool) -> dict[str, Any]:
    columns = Columns()
    for step in view.steps:
        if (found := step.ledger.seconds.get(second)) is not None:
            columns.add(found)
    lateness, response = Histogram(), Histogram()
    for row in rows:
        lateness.merge(row.lateness)
        for series in row.series.values():
            response.merge(series.response)
    return {
        "t": second,
        **columns_summary(columns),
        "began": sum(row.began for row in rows),
        "completed": sum(row.completed for row in rows),
        "users_planned": _all_planned_users(view, second),
        "users": sum(row.users for row in rows),
        "lateness_p50": milliseconds(lateness.quantile(P50)),
        "p50": milliseconds(response.quantile(P50)),
        "p95": milliseconds(response.quantile(P95)),
        "p99": milliseconds(response.quantile(P99)),
        "gap": gap,
    }


def _all_planned_users(view: RunView, second: int) -> int | None:
    found = 0
    for step in view.steps:
        users = planned_users(step, second)
        if users is None:
            return None
        found += users
    return found


def planned_users(step: StepView, second: int) -> int | None:
    """The most users planned at once in a second; None where the plan doesn't say (several cycles of iterations)."""
    load = step.load
    start, end = second * SECOND - step.delay_ns, (second + 1) * SECOND - step.delay_ns
    if end <= 0:
        return 0
    if isinstance(load, ClosedLoad):
        corners = [corner for _, low, high in load.stage_spans() for corner in (low, high - 1)]
        corners += [at + side for at, _, _ in load.changes for side in (-1, 0)]
        within = [corner for corner in corners if max(start, 0) <= corner < end]
        return max(load.users_at(at) for at in (max(start, 0), end - 1, *within))
    if isinstance(load, IterationsLoad) and step.rows and second <= step.rows[-1].second:
        return load.max_users if len(load.cycles) == 1 else None
    return 0
