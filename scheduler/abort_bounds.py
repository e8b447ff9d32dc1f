"""Between what a metric of one second can come to, whatever becomes of what is still in flight in it. Pure.

A request or iteration in flight may yet be ok or failed, take no longer than it has, or never end.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from loads_queue.model.histogram import Histogram
from loads_queue.model.ledger import SECOND
from loads_queue.model.summary import Row, Series
from loads_queue.model.thresholds import LATENCIES, Threshold

from .threshold_data import latency_value, series_named

Number = int | float | Fraction
Bounds = tuple[Number, Number]
"""The least and the most."""


def metric_bounds(threshold: Threshold, total: Row, planned: int | Fraction) -> Bounds | None:
    """The bounds of a threshold's metric over the rows of a second, added up; None where it has no data.

    ``planned`` is what was planned in that second.
    """
    source, metric = threshold.source, threshold.metric
    if metric == "planned":
        return planned, planned
    if metric == "user_seconds":
        held = Fraction(total.held_ns, SECOND)
        return held, held
    if source == "iteration" and metric in (*LATENCIES, "rate", "error_rate"):
        return _of_iterations(metric, total)
    if metric in (*LATENCIES, "rate", "requests", "error_rate", "check_rate"):
        return _of_requests(source, metric, total, threshold.scope.series)
    count = int(getattr(total, metric))
    return count, count + (total.in_flight if metric in ("ok", "failed", "interrupted") else 0)


def _of_iterations(metric: str, total: Row) -> Bounds | None:
    if metric == "rate":
        return total.started, total.started
    if metric == "error_rate":
        return _ratio(total.failed, total.ok, total.in_flight)
    infinite = total.dropped_in_flight + total.interrupted
    return _latency(total.iteration_response, metric, infinite, total.in_flight)


def _of_requests(source: str, metric: str, total: Row, name: str | None) -> Bounds | None:
    series = Series()
    for each in series_named(total, name):
        series.add(each)
    if metric in ("rate", "requests"):
        count = series.ok if source == "ok" else series.attempted
        return count, count + (series.in_flight if source == "ok" else 0)
    if metric == "error_rate":
        return _ratio(series.failed, series.ok, series.in_flight)
    if metric == "check_rate":
        passed, failed, unknown = (sum(column) for column in zip((0, 0, 0), *_checks(total, name), strict=True))
        return _ratio(passed, failed, unknown)
    if source == "ok":
        return _latency(series.response_ok, metric, 0, series.in_flight)
    infinite = series.interrupted + (total.dropped_in_flight if name is None else 0)
    measured = series.service if source == "service" else series.response
    return _latency(measured, metric, infinite, series.in_flight)


def _checks(total: Row, name: str | None) -> Iterator[tuple[int, int, int]]:
    """(passed, failed, not known yet) of each series."""
    for series in series_named(total, name):
        counts = series.checks.values()
        yield sum(passed for passed, _ in counts), sum(failed for _, failed in counts), series.in_flight * len(counts)


def _latency(measured: Histogram, metric: str, infinite: int, unknown: int) -> Bounds | None:
    most = latency_value(measured, metric, infinite + unknown)
    if not unknown:
        return None if most is None else (most, most)
    soonest = measured.copy()
    soonest.record(0, unknown)
    least = latency_value(soonest, metric, infinite)
    return None if least is None or most is None else (least, most)


def _ratio(part: int, rest: int, unknown: int) -> Bounds | None:
    whole = part + rest + unknown
    return (Fraction(part, whole), Fraction(part + unknown, whole)) if whole else None
