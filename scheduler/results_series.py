"""What a step measured, as JSON-able values: latencies in milliseconds, series of requests, ledgers, spans of time.

Percentiles are of merged histograms, never of percentiles. Nothing here judges; see ``results``.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from fractions import Fraction
from typing import Any

from loads_queue.model.histogram import Histogram
from loads_queue.model.ledger import SECOND, Columns, Ledger, Requests, UserTime
from loads_queue.model.summary import PHASES, Row, Series
from loads_queue.model.thresholds import QUANTILES

from .view import RunView, StepView

LATENCY_KEYS = ("min", "mean", *QUANTILES, "max")
PHASE_KEYS = ("count", "mean", "p50", "p95", "p99", "max")
LEDGER_KEYS = (
    "planned", "surplus", "started", "dropped", "missed", "cancelled", "ok", "failed", "interrupted", "lost",
)  # fmt: skip
REQUEST_KEYS = ("attempted", "unsent", "sent", "answered", "ok", "failed", "interrupted", "lost")
USER_KEYS = ("planned", "surplus", "held", "missed", "cancelled")


def milliseconds(value: int | float | None) -> float | None:
    """Nanoseconds as milliseconds; None stays None."""
    return None if value is None else value / 1_000_000


def latency(histogram: Histogram) -> dict[str, float | None]:
    """Min, mean, percentiles and max in milliseconds; each None where nothing was measured."""
    if not histogram.count:
        return dict.fromkeys(LATENCY_KEYS)
    found: dict[str, float | None] = {"min": milliseconds(histogram.min), "mean": milliseconds(histogram.mean)}
    for name, quantile in QUANTILES.items():
        found[name] = milliseconds(histogram.quantile(quantile))
    found["max"] = milliseconds(histogram.max)
    return found


def phase_summary(histogram: Histogram) -> dict[str, float | None]:
    """How many requests a phase happened to, and its times in milliseconds; each None where it happened to none."""
    found = latency(histogram)
    return {key: histogram.count if key == "count" else found[key] for key in PHASE_KEYS}


def merged_series(rows: Iterable[Row]) -> dict[str, Series]:
    """The series of all rows, by name."""
    found: dict[str, Series] = {}
    for row in rows:
        for name, series in row.series.items():
            found.setdefault(name, Series()).add(series)
    return found


def error_rate(ok: int, failed: int) -> float | None:
    """Failed of those with a result, 0 to 1; None where none has one (interrupted and lost ones have none)."""
    return failed / (ok + failed) if ok + failed else None


def series_summary(name: str, series: Series, outside_gaps: Histogram, span_ns: int) -> dict[str, Any]:
    """One series as the summary shows it; the most frequent errors first.

    ``outside_gaps`` are its response times in the seconds without a gap.
    """
    errors = sorted(series.errors.items(), key=lambda item: (-item[1], item[0]))
    return {
        "name": name,
        "requests": series.attempted,
        "rate": per_second(series.attempted, span_ns),
        "error_rate": error_rate(series.ok, series.failed),
        "response": latency(series.response),
        "response_outside_gaps": latency(outside_gaps),
        "service": latency(series.service),
        "phases": {phase: phase_summary(series.phase(phase)) for phase in PHASES},
        "statuses": {str(status): series.statuses[status] for status in sorted(series.statuses)},
        "errors": [{"message": message, "count": count} for message, count in errors],
        "checks": {
            check: {"passed": passed, "failed": failed} for check, (passed, failed) in sorted(series.checks.items())
        },
        "bytes_in": series.bytes_in,
        "bytes_out": series.bytes_out,
    }


def iteration_summary(rows: Iterable[Row]) -> dict[str, dict[str, float | None]]:
    """The latencies of whole iterations."""
    response, service = Histogram(), Histogram()
    for row in rows:
        response.merge(row.iteration_response)
        service.merge(row.iteration_service)
    return {"response": latency(response), "service": latency(service)}


def ledger_summary(ledger: Ledger) -> dict[str, Any]:
    """The columns of iterations, and whether every equation holds with nothing left undecided."""
    return {**columns_summary(ledger.total), "balanced": settled(ledger)}


def columns_summary(columns: Columns) -> dict[str, int]:
    """The columns of iterations."""
    return {name: getattr(columns, name) for name in LEDGER_KEYS}


def settled(ledger: Ledger) -> bool:
    """Whether a ledger balances, by second and in total, and nothing in it is pending or in flight."""
    total, requests = ledger.total, ledger.requests
    undecided = total.pending or total.in_flight or requests.in_flight or ledger.user_time.pending
    return ledger.balanced and not undecided and _sums_agree(ledger)


def _sums_agree(ledger: Ledger) -> bool:
    return all(
        sum(getattr(columns, name) for columns in ledger.seconds.values()) == getattr(ledger.total, name)
        for name in LEDGER_KEYS
    )


def requests_summary(requests: Requests) -> dict[str, int]:
    """The columns of requests."""
    return {name: getattr(requests, name) for name in REQUEST_KEYS}


def user_seconds_summary(time: UserTime) -> dict[str, float]:
    """User time in seconds; all zero for a load without a duration for its users."""
    return {name: getattr(time, name) / SECOND for name in USER_KEYS}


def per_second(count: int, span_ns: int) -> float:
    """A count over a span as a rate; 0 over no time."""
    return float(Fraction(count * SECOND, span_ns)) if span_ns > 0 else 0.0


def span_of(view: RunView, step: StepView) -> tuple[int, int]:
    """From when to when a step made its load, in schedule time: to its load's end, or to where it was ended before."""
    start = step.delay_ns
    ends = [] if step.load.end_ns is None else [start + step.load.end_ns]
    until = view.ended_at if view.final else view.now_at
    if until is not None and view.started_at is not None:
        ends.append(until - view.started_at)
    if view.final:
        told = [claim.ended_ns for claim in step.claims if claim.ended_ns is not None]
        if told or step.rows:
            ends.append(max(told) if told else (step.rows[-1].second + 1) * SECOND)
    return start, max(start, min(ends, default=start))


def iso_time(at: int | None) -> str | None:
    """Unix nanoseconds as ISO 8601 in UTC, to the microsecond."""
    if at is None:
        return None
    seconds, rest = divmod(at, 1_000_000_000)
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC).replace(microsecond=rest // 1000)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
