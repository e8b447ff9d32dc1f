"""What is asked of a run that goes on: to end, pause, go on, or change its load; and of one that is over, to go."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from loads_queue.model.problems import Problem
from loads_queue.model.states import RunState

from .context import here
from .problems import Refused
from .routes import Routes
from .runs import known
from .schemas import AbortSchema, AdjustSchema, OrderedSchema, WhoSchema

routes = Routes("steering", "What is asked of a run: the answer is 202, and what came of it stands in its events.")
LARGEST_FACTOR = 1000
_ENDING = (RunState.STOPPING, RunState.FINALISING, RunState.FINISHED)


@routes.add("POST", "/runs/<string:run>/abort", OrderedSchema, status=202, body=AbortSchema)
def abort(run: str, who: str, terminate: bool) -> Any:
    """End a run now. Answers 200 where it is over already."""
    found = known(run)
    if found["state"] == RunState.FINISHED:
        return _ordered(run, "abort", found), 200
    return _order(run, "abort", {"terminate": terminate}, who)


@routes.add("POST", "/runs/<string:run>/pause", OrderedSchema, status=202, body=WhoSchema)
def pause(run: str, who: str) -> Mapping[str, Any]:
    """Have a run start nothing until it is resumed; its schedule goes on."""
    _check_going(run)
    return _order(run, "pause", {}, who)


@routes.add("POST", "/runs/<string:run>/resume", OrderedSchema, status=202, body=WhoSchema)
def resume(run: str, who: str) -> Mapping[str, Any]:
    """Have a paused run go on as its plan says."""
    _check_going(run)
    return _order(run, "resume", {}, who)


@routes.add("POST", "/runs/<string:run>/adjust", OrderedSchema, status=202, body=AdjustSchema)
def adjust(run: str, who: str, factor: object, step: str | None) -> Mapping[str, Any]:
    """Multiply a step's load, or every step's, from now on."""
    found = _check_going(run)
    steps = [str(each.get("name", "")) for each in found["document"].get("steps", []) if isinstance(each, Mapping)]
    problems = []
    try:
        exact = factor_of(factor)
    except ValueError as error:
        problems.append(Problem("factor", str(error)))
    if step is not None and step not in steps:
        problems.append(Problem("step", f"no step {step[:100]!r}: one of {', '.join(steps)}"))
    if problems:
        raise Refused(422, "; ".join(map(str, problems)), problems)
    return _order(run, "adjust", {"step": step, "factor": str(exact)}, who)


@routes.add("DELETE", "/runs/<string:run>", OrderedSchema, status=202, query=WhoSchema)
def delete(run: str, who: str) -> Mapping[str, Any]:
    """Delete a run that is finished, and everything that it measured."""
    found = known(run)
    if found["state"] != RunState.FINISHED:
        raise Refused(409, f"run {run} is {found['state']}: abort it first")
    return _order(run, "delete", {}, who)


def factor_of(value: object) -> Fraction:
    """A factor, exactly: a number, or text as ``1.5``, ``3/2`` and ``150%``. Raises ValueError."""
    text = str(value).strip() if isinstance(value, (int, float, str)) and not isinstance(value, bool) else ""
    percent = text.endswith("%")
    try:
        if not 0 < len(text) <= 40:
            raise ValueError
        factor = Fraction(text.removesuffix("%")) / (100 if percent else 1)
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"not a factor: {value!r:.60}: write 1.5, 3/2 or 150%") from None
    if not 0 <= factor <= LARGEST_FACTOR:
        raise ValueError(f"a factor is from 0 to {LARGEST_FACTOR}, not {text}")
    if factor.denominator > 10**9:
        raise ValueError(f"a factor has at most nine decimal places: {text}")
    return factor


def _check_going(run: str) -> Mapping[str, Any]:
    found = known(run)
    if found["state"] in _ENDING:
        raise Refused(409, f"run {run} is {found['state']}: its load can't be changed any more")
    return found


def _order(run: str, action: str, args: Mapping[str, Any], who: str) -> Mapping[str, Any]:
    found = known(run)
    here().reader.order(run, action, args, who or "the API")
    return _ordered(run, action, found)


def _ordered(run: str, action: str, found: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"run": run, "action": action, "state": found["state"]}
