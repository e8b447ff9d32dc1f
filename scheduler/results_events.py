"""What happened to a run beside its load, as JSON-able values: gaps, changes and events, in seconds of the schedule."""

from __future__ import annotations

from typing import Any

from loads_queue.model.histogram import Histogram
from loads_queue.model.ledger import SECOND
from loads_queue.model.summary import Series

from .gaps import gap_seconds, in_gap
from .results_series import iso_time, merged_series
from .view import RunView, StepView


def gaps_summary(view: RunView) -> list[dict[str, Any]]:
    """Every gap of every step, by when it began."""
    found = [
        {
            "step": step.name,
            "shard": gap.shard,
            "worker": gap.worker,
            "attempt": gap.attempt,
            "from": gap.begin_ns / SECOND,
            "to": None if gap.end_ns is None else gap.end_ns / SECOND,
            "cause": gap.cause,
            "missed": gap.missed,
            "lost": gap.lost,
        }
        for step in view.steps
        for gap in step.gaps
    ]
    return sorted(found, key=lambda gap: (gap["from"], gap["step"], gap["shard"]))


def gap_seconds_of(view: RunView, length: int) -> set[int]:
    """The seconds, of so many, that a gap of any step touches."""
    spans = [gap_seconds(gap) for step in view.steps for gap in step.gaps]
    return {second for span in spans for second in range(max(0, span.start), min(span.stop, length))}


def responses_outside_gaps(step: StepView, series: dict[str, Series]) -> dict[str, Histogram]:
    """Response times by series, of the seconds that no gap of the step touches; ``series`` are those of all of them."""
    if step.gaps:
        within = merged_series(row for row in step.rows if not in_gap(step, row.second))
        return {name: within[name].response if name in within else Histogram() for name in series}
    return {name: each.response for name, each in series.items()}


def changes_summary(view: RunView) -> list[dict[str, Any]]:
    """Changes of the load, by when they came into force."""
    return [
        {"step": change.step, "from": change.at_ns / SECOND, "factor": float(change.factor)} for change in view.changes
    ]


def events_summary(view: RunView) -> list[dict[str, Any]]:
    """What happened, in order; ``t`` is None where the schedule never began, and less than 0 before it did."""
    return [
        {
            "at": iso_time(event.at),
            "t": None if view.started_at is None else (event.at - view.started_at) // 1_000_000 / 1000,
            "who": event.who,
            "what": event.text,
        }
        for event in view.events
    ]
