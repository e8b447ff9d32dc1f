"""Thresholds: ``[iteration:|service:|ok:]METRIC[(STEP[@STAGE][/SERIES])] OP VALUE``, read and judged exactly.

A threshold asks ``Results`` for one value and compares. What a value is made of (the cluster's merged histograms
and ledger) is not known here. A quantile, a mean or a ratio over no data fails with that reason; a count over no
data is 0.
"""

from __future__ import annotations

import math
import operator
import re
from dataclasses import dataclass
from difflib import get_close_matches
from fractions import Fraction
from typing import Protocol

from .units import SECOND, format_duration, parse_duration, parse_rate, shown

DEFAULT = "iteration:error_rate < 100%"
"""The one threshold of a plan without any."""
EXAMPLE_ABORT = "error_rate > 20% for 10s"
"""An example of a condition that ends a run early."""

QUANTILES = {
    "p50": Fraction(50, 100), "p75": Fraction(75, 100), "p90": Fraction(90, 100), "p95": Fraction(95, 100),
    "p99": Fraction(99, 100), "p99.9": Fraction(999, 1000), "p99.99": Fraction(9999, 10000),
}  # fmt: skip
LATENCIES = (*QUANTILES, "mean", "min", "max")
RATIOS = ("error_rate", "check_rate")
LEDGER = (
    "planned", "surplus", "started", "dropped", "dropped_in_flight", "dropped_late", "dropped_resource", "missed",
    "cancelled", "ok", "failed", "interrupted", "lost",
)  # fmt: skip
KNOWN_AT_THE_END = ("surplus", "missed", "cancelled", "lost")
COUNTS = ("requests", "user_seconds", *LEDGER)
METRICS = (*LATENCIES, "rate", *RATIOS, *COUNTS)
SOURCES = ("iteration", "service", "ok")
_ALLOWED = {
    "": METRICS,
    "iteration": (*LATENCIES, "rate", "error_rate", *LEDGER),
    "service": LATENCIES,
    "ok": (*LATENCIES, "rate", "requests"),
}
_FOR = re.compile(r"(.*) for ([^()<>=]+)")
_COMPARE = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq}
LONGEST_WINDOW_NS = 3600 * SECOND
_LONGEST = 500
_SHAPE = re.compile(r"(?:(\w+)\s*:\s*)?([A-Za-z_][\w.]*)\s*(?:\((.*)\))?\s*(<=|>=|==|<|>)([^<>=()]*)")


class ThresholdError(ValueError):
    """A text that is no threshold, with a message for people."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What a metric is taken over: everything, one step, one named stage of it, or one series of requests."""

    step: str | None = None
    stage: str | None = None
    series: str | None = None


class Results(Protocol):
    """What a run measured, merged over the cluster."""

    def value(self, source: str, metric: str, scope: Scope) -> int | float | Fraction | None:
        """One metric of ``METRICS``; None where there is no data.

        ``source`` is ``""`` (requests, response time; the ledger for its columns), ``iteration``, ``service`` or
        ``ok``. Times are nanoseconds (``math.inf`` where an iteration dropped for ``in_flight`` or an interrupted
        request stands at that rank), rates are per second, ratios from 0 to 1, the rest counts.
        """

    def planned(self, metric: str, scope: Scope) -> int | float | Fraction | None:
        """What ``%`` of a count is taken of: planned iterations, or planned user-seconds for ``user_seconds``."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a threshold came out; ``value`` is in milliseconds, per second, a ratio from 0 to 1, or a count.

    ``value`` is None where there is no data or it is infinite; ``shown`` is the value for people.
    """

    expression: str
    value: float | None
    passed: bool
    reason: str = ""
    shown: str = ""


@dataclass(frozen=True, slots=True)
class Threshold:
    """One expression, read. ``limit`` is in the unit of the metric; ``of_planned`` where a count has a ``%``."""

    expression: str
    source: str
    metric: str
    scope: Scope
    op: str
    limit: Fraction
    of_planned: bool = False

    def judge(self, results: Results) -> Verdict:
        """Compare; never raises for missing data."""
        value = results.value(self.source, self.metric, self.scope)
        if value is None and self.metric in COUNTS:
            value = 0
        if self.of_planned and value is not None:
            planned = results.planned(self.metric, self.scope)
            value = _exact(value) / _exact(planned) if planned else None
        if value is None:
            return Verdict(self.expression, None, False, "no data", "no data")
        passed = bool(_COMPARE[self.op](value, self.limit))
        text = self._shown(value)
        if isinstance(value, float) and math.isinf(value):
            reason = "" if passed else "dropped and interrupted requests rank as infinite"
            return Verdict(self.expression, None, passed, reason, text)
        number = float(value) / 1e6 if self.metric in LATENCIES else float(value)
        return Verdict(self.expression, number, passed, "" if passed else f"is {text}", text)

    def _shown(self, value: int | float | Fraction) -> str:
        if isinstance(value, float) and math.isinf(value):
            return "infinite"
        if self.metric in LATENCIES:
            return f"{float(value) / 1e6:.4g}ms" if value < 1_000_000_000 else f"{float(value) / 1e9:.4g}s"
        if self.metric in RATIOS or self.of_planned:
            return f"{float(value) * 100:.4g}%"
        if self.metric == "rate":
            return f"{float(value):.4g}/s"
        return str(value) if isinstance(value, int) else f"{float(value):.6g}"


@dataclass(frozen=True, slots=True)
class AbortWhen:
    """A threshold that ends the run once it has held in each second of the last ``for_ns`` (whole seconds)."""

    threshold: Threshold
    for_ns: int

    @property
    def expression(self) -> str:
        """As it is written in a plan."""
        return f"{self.threshold.expression} for {format_duration(self.for_ns)}"


def _exact(value: int | float | Fraction) -> Fraction:
    return Fraction(value)


def parse(text: str) -> Threshold:
    """Read a threshold; raises ``ThresholdError``. Whether its step, stage and series exist is the plan's to check."""
    if not isinstance(text, str) or len(text) > _LONGEST:
        raise ThresholdError(f"not a threshold: {shown(text)}")
    expression = " ".join(text.split())
    found = _SHAPE.fullmatch(expression)
    if found is None:
        raise ThresholdError(f"not a threshold: {shown(text)} (write METRIC OP VALUE, as 'p95 < 300ms')")
    source, metric, inside, op, value = found.groups()
    source = source or ""
    _check_metric(source, metric)
    scope = _scope(inside)
    if scope.series is not None and (source == "iteration" or metric in LEDGER or metric == "user_seconds"):
        raise ThresholdError(f"{metric}: is counted for iterations, which have no series {scope.series!r}")
    limit, of_planned = _limit(metric, value.strip())
    return Threshold(expression, source, metric, scope, op, limit, of_planned)


def parse_abort(text: str) -> AbortWhen:
    """Read a threshold with ``for DURATION`` behind it; raises ``ThresholdError``."""
    if not isinstance(text, str) or len(text) > _LONGEST:
        raise ThresholdError(f"not a condition: {shown(text)}")
    found = _FOR.fullmatch(" ".join(text.split()))
    if found is None:
        parse(text)
        raise ThresholdError(f"for how long? end it with 'for DURATION', as in {EXAMPLE_ABORT!r}")
    threshold, duration = parse(found[1]), found[2]
    if threshold.metric in KNOWN_AT_THE_END:
        raise ThresholdError(f"{threshold.metric}: is known for certain at the end of a run only")
    try:
        for_ns = parse_duration(duration, unit_needed=True)
    except ValueError as error:
        raise ThresholdError(str(error)) from None
    if for_ns % SECOND or not SECOND <= for_ns <= LONGEST_WINDOW_NS:
        raise ThresholdError(f"not whole seconds, from 1s to 1h: {duration!r}")
    return AbortWhen(threshold, for_ns)


def _check_metric(source: str, metric: str) -> None:
    if source not in _ALLOWED:
        raise ThresholdError(f"unknown prefix {source!r}: one of {', '.join(SOURCES)}")
    if metric not in METRICS:
        near = get_close_matches(metric, METRICS, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"one of {', '.join(METRICS)}"
        raise ThresholdError(f"unknown metric {metric!r}: {hint}")
    if metric not in _ALLOWED[source]:
        raise ThresholdError(f"{metric!r} does not go with '{source}:', only {', '.join(_ALLOWED[source])}")


def _scope(inside: str | None) -> Scope:
    if inside is None:
        return Scope()
    front, slash, series = inside.partition("/")
    step, at, stage = front.partition("@")
    step, stage, series = step.strip(), stage.strip(), series.strip()
    if not step or (at and not stage) or (slash and not series):
        raise ThresholdError(f"not a step: '({inside})' ('(STEP)', '(STEP@STAGE)' or '(STEP/SERIES)')")
    return Scope(step, stage or None, series or None)


def _limit(metric: str, value: str) -> tuple[Fraction, bool]:
    try:
        if metric in LATENCIES:
            return Fraction(parse_duration(value, unit_needed=True)), False
        if metric == "rate":
            return parse_rate(value), False
    except ValueError as error:
        hint = " (a time needs a unit, as '300ms')" if metric in LATENCIES else ""
        raise ThresholdError(f"{error}{hint}") from None
    percent = value.endswith("%")
    digits = value.removesuffix("%").strip()
    if not re.fullmatch(r"[0-9]{1,18}(\.[0-9]{1,18})?", digits):
        raise ThresholdError(f"not a {'ratio' if metric in RATIOS else 'count'}: {value!r}")
    limit = Fraction(digits) / 100 if percent else Fraction(digits)
    if metric in RATIOS and limit > 1:
        raise ThresholdError(f"not a ratio from 0 to 1 or a percentage: {value!r}")
    if percent and metric == "requests":
        raise ThresholdError("requests: '%' is of planned, and requests are not planned")
    return limit, percent and metric in COUNTS


def default_thresholds() -> tuple[Threshold, ...]:
    """The thresholds of a plan without any."""
    return (parse(DEFAULT),)
