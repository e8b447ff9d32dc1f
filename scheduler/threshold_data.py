"""What thresholds ask for, answered from a run: ``thresholds.Results`` over the cluster's merged rows and ledger.

Percentiles, mean and max of a step rank as infinite one request for each iteration dropped for ``in_flight`` and
each interrupted request, so that a generator that gave up can't pass. A stage has those seconds of the schedule that
begin in it. Rates are of what was started (iterations) and attempted (requests), over the time in which the step made
its load. An error rate is of what has a result: interrupted and lost work has none. Seconds may be left out: what is
left is judged as if there were nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from fractions import Fraction

from loads_queue.model.histogram import Histogram
from loads_queue.model.ledger import SECOND, Columns
from loads_queue.model.profile import ClosedLoad
from loads_queue.model.summary import Row, Series
from loads_queue.model.thresholds import LATENCIES, LEDGER, QUANTILES, Scope

from .results_series import span_of
from .view import RunView, StepView

Value = int | float | Fraction | None
Spans = list[tuple[int, int]]


class ThresholdData:
    """One run's results, as ``thresholds.Results``; ``without``: seconds by step that are left out."""

    def __init__(self, view: RunView, without: Mapping[int, Collection[int]] | None = None) -> None:
        self.view = view
        self._without = without
        self._parts: dict[tuple[str | None, str | None], _Part] = {}

    def value(self, source: str, metric: str, scope: Scope) -> Value:
        """One metric; None where there is no data. See ``thresholds.Results``."""
        part = self._part(scope)
        if metric == "user_seconds":
            return Fraction(part.held_ns(), SECOND)
        if metric in LEDGER:
            return int(getattr(part.columns(), metric))
        if source == "iteration":
            return _of_iterations(part, metric)
        return _of_requests(part, source, metric, scope.series)

    def planned(self, metric: str, scope: Scope) -> Value:
        """Planned iterations, or planned user-seconds."""
        part = self._part(scope)
        if metric == "user_seconds":
            return Fraction(part.planned_user_ns(), SECOND)
        return part.columns().planned

    def seconds(self, scope: Scope) -> int:
        """How many rows of steps it looks at."""
        part = self._part(scope)
        return sum(part.has(step, row.second) for step in part.steps for row in step.rows)

    def _part(self, scope: Scope) -> _Part:
        key = (scope.step, scope.stage)
        if key not in self._parts:
            steps = [step for step in self.view.steps if scope.step in (None, step.name)]
            self._parts[key] = _Part(self.view, steps, scope.stage, self._without)
        return self._parts[key]


class _Part:
    """The steps that a scope names, whole or one stage of them."""

    def __init__(
        self,
        view: RunView,
        steps: list[StepView],
        stage: str | None,
        without: Mapping[int, Collection[int]] | None = None,
    ) -> None:
        self.view = view
        self.steps = steps
        self.stage = stage
        self.without = without or {}
        self.whole = stage is None and without is None
        self._total: Row | None = None

    def total(self) -> Row:
        """All rows of the part, added up."""
        if self._total is None:
            self._total = Row()
            for step in self.steps:
                for row in step.rows:
                    if self.has(step, row.second):
                        self._total.add(row)
        return self._total

    def columns(self) -> Columns:
        """The ledger of the part."""
        found = Columns()
        for step in self.steps:
            if self.whole:
                found.add(step.ledger.total)
                continue
            for second, columns in step.ledger.seconds.items():
                if self.has(step, second):
                    found.add(columns)
        return found

    def requests(self) -> int:
        """Requests attempted; of a whole step also those that may have been, and were lost."""
        if self.whole:
            return sum(step.ledger.requests.attempted for step in self.steps)
        return sum(series.attempted for series in self.total().series.values())

    def held_ns(self) -> int:
        """User-nanoseconds that users were held for."""
        if self.whole:
            return sum(step.ledger.user_time.held for step in self.steps)
        return self.total().held_ns

    def planned_user_ns(self) -> int:
        """User-nanoseconds planned."""
        return sum(
            step.load.user_ns(start - step.delay_ns, end - step.delay_ns)
            for step in self.steps
            if isinstance(step.load, ClosedLoad)
            for start, end in self._spans(step)
        )

    def span_ns(self) -> int:
        """For how long load was made: from the first begin to the last end."""
        spans = []
        for step in self.steps:
            begun, ended = span_of(self.view, step)
            found = [(begun, ended)] if self.whole else self._spans(step)
            spans += [
                (max(start, begun), min(end, ended)) for start, end in found if max(start, begun) < min(end, ended)
            ]
        if self.whole:
            return max((end for _, end in spans), default=0) - min((start for start, _ in spans), default=0)
        return sum(end - start for start, end in spans)

    def has(self, step: StepView, second: int) -> bool:
        """Whether a second of a step belongs to the part."""
        if second in self.without.get(step.index, ()):
            return False
        return self.stage is None or any(start <= second * SECOND < end for start, end in self._stage_spans(step))

    def _spans(self, step: StepView) -> Spans:
        """The part's stretches of a step, in schedule time."""
        spans = self._stage_spans(step)
        if self.stage is None:
            last = (step.rows[-1].second + 1) * SECOND if step.rows else 0
            end = step.load.end_ns
            spans = [(step.delay_ns, last if end is None else step.delay_ns + end)]
        return [piece for span in spans for piece in _pieces(span, self.without.get(step.index, ()))]

    def _stage_spans(self, step: StepView) -> Spans:
        delay = step.delay_ns
        return [(delay + start, delay + end) for name, start, end in step.load.stage_spans() if name == self.stage]


def _pieces(span: tuple[int, int], without: Collection[int]) -> Spans:
    """A stretch of time less whole seconds."""
    found, (at, end) = [], span
    for second in sorted(without):
        if at < (second + 1) * SECOND and second * SECOND < end:
            found.append((at, second * SECOND))
            at = (second + 1) * SECOND
    return [(start, stop) for start, stop in [*found, (at, end)] if start < stop]


def _of_iterations(part: _Part, metric: str) -> Value:
    total, columns = part.total(), part.columns()
    if metric in LATENCIES:
        return latency_value(total.iteration_response, metric, columns.dropped_in_flight + columns.interrupted)
    if metric == "rate":
        return _rate(columns.started, part.span_ns())
    return _ratio(columns.failed, columns.ok)


def _of_requests(part: _Part, source: str, metric: str, name: str | None) -> Value:
    series = _series(part, name)
    if metric in LATENCIES:
        infinite = series.interrupted
        if name is None:
            infinite += part.columns().dropped_in_flight
        if source == "ok":
            return latency_value(series.response_ok, metric, 0)
        return latency_value(series.service if source == "service" else series.response, metric, infinite)
    count = series.ok if source == "ok" else series.attempted if name is not None else part.requests()
    if metric == "requests":
        return count
    if metric == "rate":
        return _rate(count, part.span_ns())
    if metric == "error_rate":
        return _ratio(series.failed, series.ok)
    passed = sum(counts[0] for counts in series.checks.values())
    return _ratio(passed, sum(counts[1] for counts in series.checks.values()))


def _series(part: _Part, name: str | None) -> Series:
    found = Series()
    for series in series_named(part.total(), name):
        found.add(series)
    return found


def series_named(row: Row, name: str | None) -> Iterator[Series]:
    """The series of that name, if there is one; None is all of them."""
    if name is None:
        yield from row.series.values()
    elif name in row.series:
        yield row.series[name]


def latency_value(histogram: Histogram, metric: str, infinite: int) -> Value:
    """A latency with so many infinite ones among those measured; None over nothing."""
    if histogram.count + infinite == 0:
        return None
    if metric == "min":
        return histogram.min if histogram.count else math.inf
    if metric in ("mean", "max"):
        return math.inf if infinite else Fraction(histogram.sum, histogram.count) if metric == "mean" else histogram.max
    found = histogram.quantile(QUANTILES[metric], infinite)
    return math.inf if found is None else found


def _rate(count: int, span_ns: int) -> Fraction | None:
    return Fraction(count * SECOND, span_ns) if span_ns > 0 else None


def _ratio(part: int, rest: int) -> Fraction | None:
    return Fraction(part, part + rest) if part + rest else None
