"""What measured itself instead of the target: the unfit seconds of a run, as JSON-able values and in words.

The limits are ``loads_queue.model.fitness``'s. A second of several steps is unfit where one of them was. Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from loads_queue.model import fitness
from loads_queue.model.ledger import SECOND
from loads_queue.model.summary import Row
from loads_queue.model.thresholds import LATENCIES, Threshold

from . import words
from .results_series import milliseconds
from .threshold_data import ThresholdData
from .view import RunView, StepView

NOT_THE_TARGET = "the generator, not the target"
_BLAMED = (*LATENCIES, "rate", "dropped", "dropped_in_flight", "dropped_late", "dropped_resource")
"""Metrics that a generator can spoil by itself. Errors are the target's word, and other counts depend on the length."""
_MOST_PHRASES = 3


@dataclass(frozen=True)
class Second:
    """How the generator did in one second: why it was unfit, and how it stood at the worst."""

    reasons: tuple[str, ...] = ()
    lag_ns: int = 0
    busiest_ns: int = 0
    wanted_ns: int = 0
    lateness_ns: int = 0

    def with_other(self, other: Second) -> Second:
        """The same second, with another step's engines."""
        found = {*self.reasons, *other.reasons}
        return Second(
            tuple(name for name in fitness.REASONS if name in found),
            max(self.lag_ns, other.lag_ns),
            max(self.busiest_ns, other.busiest_ns),
            max(self.wanted_ns, other.wanted_ns),
            max(self.lateness_ns, other.lateness_ns),
        )


Seconds = Mapping[int, Second]
"""The seconds in which a generator told of itself; no others are fit or unfit."""


@dataclass
class Judged:
    """The seconds of a run's steps, each row judged once.

    Rows are told apart by identity: a view has the same ``Row`` again for as long as nothing about it changes.
    """

    _known: dict[tuple[int, int], tuple[Row, Second]] = field(default_factory=dict)

    def of(self, step: StepView) -> dict[int, Second]:
        """One step's."""
        return {row.second: self._judge(step.index, row) for row in step.rows if fitness.measured(row)}

    def of_all(self, view: RunView) -> dict[int, Second]:
        """Those of all steps, taken together."""
        found: dict[int, Second] = {}
        for step in view.steps:
            for second, one in self.of(step).items():
                found[second] = found[second].with_other(one) if second in found else one
        return found

    def _judge(self, step: int, row: Row) -> Second:
        known = self._known.get((step, row.second))
        if known is not None and known[0] is row:
            return known[1]
        late = fitness.lateness_ns(row)
        found = Second(fitness.reasons(row), row.lag_ns, row.busiest_ns, row.wanted_ns, late)
        self._known[step, row.second] = row, found
        return found


def fitness_summary(seconds: Seconds) -> dict[str, Any]:
    """Fit and unfit seconds, the unfit ones as stretches, the worst that there was, and all that in words."""
    unfit = _unfit(seconds)
    worst = _worst(seconds.values())
    return {
        "fit_seconds": len(seconds) - len(unfit),
        "unfit_seconds": len(unfit),
        "unfit": _stretches(seconds, unfit),
        "worst": {
            "lag_ms": milliseconds(worst.lag_ns or None),
            "cpu": _share(worst.busiest_ns),
            "cpu_wanted": _share(worst.wanted_ns),
            "lateness_ms": milliseconds(worst.lateness_ns or None),
        },
        "verdict": in_words(seconds),
    }


def timeline_fitness(second: Second | None) -> dict[str, Any]:
    """The columns of a second in the timeline."""
    found = second or Second()
    return {
        "lateness_p99": milliseconds(found.lateness_ns or None),
        "lag": milliseconds(found.lag_ns or None),
        "cpu": _share(found.busiest_ns),
        "fit": None if second is None else not second.reasons,
    }


def in_words(seconds: Seconds, phrases: int = _MOST_PHRASES) -> str:
    """``12 of 30 s measured the generator, not the target: engine at 99% CPU``; empty where every second was fit."""
    unfit = _unfit(seconds)
    if not unfit:
        return ""
    counts = Counter(reason for second in unfit for reason in seconds[second].reasons)
    order = sorted(counts, key=lambda reason: (-counts[reason], fitness.REASONS.index(reason)))
    worst = _worst(seconds[second] for second in unfit)
    told = [
        _phrase(reason, worst) + ("" if counts[reason] == len(unfit) else f" (in {counts[reason]})")
        for reason in order[:phrases]
    ]
    return f"{len(unfit)} of {len(seconds)} s measured {NOT_THE_TARGET}: {', '.join(told)}"


def is_the_generators(view: RunView, threshold: Threshold, judged: Judged) -> bool:
    """Whether a threshold that failed did so for the generator's sake: it holds in its fit seconds, or has none."""
    if threshold.metric not in _BLAMED:
        return False
    steps = [step for step in view.steps if threshold.scope.step in (None, step.name)]
    unfit = {step.index: frozenset(_unfit(judged.of(step))) for step in steps}
    whole, fit = ThresholdData(view), ThresholdData(view, unfit)
    if not whole.seconds(threshold.scope) > fit.seconds(threshold.scope):
        return False
    if fit.seconds(threshold.scope):
        return threshold.judge(fit).passed
    return threshold.op not in ("<", "<=") if threshold.metric == "rate" else threshold.op not in (">", ">=")


def _phrase(reason: str, worst: Second) -> str:
    return {
        "cpu": f"engine at {words.percent(_share(worst.busiest_ns))} CPU",
        "starved": "engine starved of CPU by others",
        "lag": f"loop {words.latency(worst.lag_ns / 1e6)} behind",
        "lateness": f"starts {words.latency(worst.lateness_ns / 1e6)} late",
        "dropped_late": "arrivals dropped as late",
        "dropped_resource": "no descriptors, ports or memory left",
    }[reason]


def _unfit(seconds: Seconds) -> list[int]:
    return sorted(second for second, found in seconds.items() if found.reasons)


def _worst(seconds: Iterable[Second]) -> Second:
    worst = Second()
    for second in seconds:
        worst = worst.with_other(second)
    return worst


def _stretches(seconds: Seconds, unfit: list[int]) -> list[dict[str, Any]]:
    """Unfit seconds that follow one another, with every reason of theirs."""
    found: list[dict[str, Any]] = []
    for second in unfit:
        if not found or found[-1]["to"] != second:
            found.append({"from": second, "to": second, "reasons": []})
        last = found[-1]
        last["to"] = second + 1
        every = {*last["reasons"], *seconds[second].reasons}
        last["reasons"] = [name for name in fitness.REASONS if name in every]
    return found


def _share(of_a_second: int) -> float | None:
    return round(of_a_second / SECOND, 4) if of_a_second else None
