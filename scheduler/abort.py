"""Whether a plan's ``abort_when`` holds: judged second by second over a trailing window. Pure.

A second is judged by the rows of that second alone. What is still in flight in it may yet end well or badly, at once or
never: the second counts only where the threshold holds, or does not, whatever becomes of it. The window ends at the
newest second that can be judged, so that a target that answers late, or never, is found out once the timeouts come in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from loads_queue.model.ledger import SECOND
from loads_queue.model.profile import ClosedLoad, IterationsLoad, OpenLoad
from loads_queue.model.summary import Row
from loads_queue.model.thresholds import AbortWhen, Scope, Threshold

from .abort_bounds import metric_bounds

LATE_S = 2
"""How long rows take at most to come in, as a rule: a report a second, and its way."""


@dataclass(frozen=True)
class StepRows:
    """One step as it is judged: ``rows`` by second of the schedule, all claims added up; ``load`` after changes."""

    name: str
    load: OpenLoad | ClosedLoad | IterationsLoad
    delay_ns: int
    rows: Mapping[int, Row]


@dataclass
class Judged:
    """What was found of seconds before; one for a run, so that a long window is not judged anew each second."""

    found: dict[tuple[AbortWhen, int], tuple[tuple[Row, ...], bool | None]] = field(default_factory=dict)


def first_held(
    conditions: Sequence[AbortWhen], steps: Sequence[StepRows], now_second: int, judged: Judged | None = None
) -> AbortWhen | None:
    """The first condition that ends the run now; None where the run goes on."""
    return next((each for each in conditions if held(each, steps, now_second, judged)), None)


def held(abort_when: AbortWhen, steps: Sequence[StepRows], now_second: int, judged: Judged | None = None) -> bool:
    """Whether a condition has held in each of its seconds.

    ``now_second`` is the second of the schedule that is under way. The rows of ``abort_when.for_ns``, and of some
    timeouts before, are enough; seconds without rows end the window.
    """
    judged = judged or Judged()
    length = abort_when.for_ns // SECOND
    newest = now_second - 1 - LATE_S
    oldest = min((second for step in steps for second in step.rows), default=newest + 1)
    while newest - length + 1 >= oldest and _judge(abort_when, steps, newest, judged) is None:
        newest -= 1
    if newest - length + 1 < oldest:
        return False
    return all(_judge(abort_when, steps, newest - back, judged) for back in range(length))


def _judge(abort_when: AbortWhen, steps: Sequence[StepRows], second: int, judged: Judged) -> bool | None:
    """Whether the threshold holds in one second; None where there is nothing to judge, or not for certain."""
    rows = tuple(row for step in steps if (row := step.rows.get(second)) is not None)
    known = judged.found.get((abort_when, second))
    # A row that was amended is a new one.
    if known is not None and len(known[0]) == len(rows) and all(map(_same, known[0], rows)):
        return known[1]
    verdict = _verdict(abort_when.threshold, [step for step in steps if second in step.rows], second)
    judged.found[abort_when, second] = (rows, verdict)
    return verdict


def _same(one: Row, other: Row) -> bool:
    return one is other


def _verdict(threshold: Threshold, steps: Sequence[StepRows], second: int) -> bool | None:
    parts = [step for step in steps if _has(threshold.scope, step, second)]
    if not parts:
        return None
    total = Row()
    for step in parts:
        total.add(step.rows[second])
    planned = _planned(threshold, parts, second)
    bounds = metric_bounds(threshold, total, planned)
    if bounds is None or (threshold.of_planned and not planned):
        return None
    low, high = (threshold.judge(_Fixed(each, planned)).passed for each in bounds)
    return low if low == high else None


def _has(scope: Scope, step: StepRows, second: int) -> bool:
    if scope.step not in (None, step.name):
        return False
    at = second * SECOND - step.delay_ns
    spans = step.load.stage_spans()
    return scope.stage is None or any(name == scope.stage and begin <= at < end for name, begin, end in spans)


@dataclass(frozen=True)
class _Fixed:
    """``thresholds.Results`` of one value."""

    found: int | float | Fraction
    of: int | Fraction

    def value(self, source: str, metric: str, scope: Scope) -> int | float | Fraction:
        """The value."""
        return self.found

    def planned(self, metric: str, scope: Scope) -> int | Fraction:
        """What ``%`` is of."""
        return self.of


def _planned(threshold: Threshold, parts: Sequence[StepRows], second: int) -> int | Fraction:
    """What was planned in a second: user-seconds, arrivals, or without due times what was decided about."""
    if threshold.metric == "user_seconds":
        spans = [(step.load, second * SECOND - step.delay_ns) for step in parts]
        held = sum(load.user_ns(max(0, at), max(0, at + SECOND)) for load, at in spans if isinstance(load, ClosedLoad))
        return Fraction(held, SECOND)
    planned = 0
    for step in parts:
        row, load, at = step.rows[second], step.load, second * SECOND - step.delay_ns
        if isinstance(load, OpenLoad):
            planned += load.planned_by(at + SECOND) - load.planned_by(at)
        else:
            planned += row.started + row.dropped + row.missed - row.surplus
    return planned
