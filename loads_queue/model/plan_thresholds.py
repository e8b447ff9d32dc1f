"""What must hold: ``thresholds`` at the end of a run, ``abort_when`` while it goes on, with their steps checked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from .plan_fields import At
from .plan_step import Step
from .problems import nearest
from .thresholds import AbortWhen, Scope, Threshold, ThresholdError, parse, parse_abort

T = TypeVar("T", Threshold, AbortWhen)


def read_thresholds(texts: Sequence[str | None] | None, steps: Sequence[Step] | None, at: At) -> tuple[Threshold, ...]:
    """The thresholds; ``steps`` None where references can't be checked because steps are wrong."""
    return _read(texts, parse, lambda threshold: threshold.scope, steps, at)


def read_abort_when(texts: Sequence[str | None] | None, steps: Sequence[Step] | None, at: At) -> tuple[AbortWhen, ...]:
    """The conditions under which a run is ended early; ``steps`` as above."""
    return _read(texts, parse_abort, lambda condition: condition.threshold.scope, steps, at)


def _read(
    texts: Sequence[str | None] | None,
    parsed: Callable[[str], T],
    scope_of: Callable[[T], Scope],
    steps: Sequence[Step] | None,
    at: At,
) -> tuple[T, ...]:
    made = []
    for index, expression in enumerate(texts or ()):
        if expression is None:
            continue
        place = at.down(index)
        try:
            one = parsed(expression)
        except ThresholdError as error:
            place.problem(str(error))
            continue
        wrong = None if steps is None else _wrong_reference(scope_of(one), steps)
        if wrong is not None:
            place.problem(wrong)
        made.append(one)
    return tuple(made)


def _wrong_reference(scope: Scope, steps: Sequence[Step]) -> str | None:
    if scope.step is None:
        return None
    step = next((step for step in steps if step.name == scope.step), None)
    if step is None:
        return f"no step is called {scope.step!r}{nearest(scope.step, [step.name for step in steps])}"
    stages = [name for name, _, _ in step.load.stage_spans() if name is not None]
    if scope.stage is not None and scope.stage not in stages:
        return f"step {step.name!r} has no stage {scope.stage!r}{nearest(scope.stage, stages)}"
    if scope.series is not None and scope.series not in step.series:
        return f"step {step.name!r} has no requests called {scope.series!r}{nearest(scope.series, step.series)}"
    return None
