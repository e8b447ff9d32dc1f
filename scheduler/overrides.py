"""What the command line changes in a plan before it is read: names, and the load of its one step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from loads_queue.model.plan_load import OPEN_ONLY
from loads_queue.model.problems import PlanError, Problem
from loads_queue.model.profile import IterationsLoad, parse_v1
from loads_queue.model.template import PLAN_NAME
from loads_queue.model.units import format_duration, number, parse_duration, parse_rate


@dataclass(frozen=True)
class Overrides:
    """Values as they were typed; None where an option was not given.

    ``users`` may be Loads v1's ``10:20:30``, then with ``hits`` (``5:10``) or a duration. ``workers`` is the number of
    shards of every step with ``workers: auto``; here it is only checked against ``max_in_flight``.
    """

    sets: Mapping[str, str] = field(default_factory=dict)
    rate: str | None = None
    users: str | None = None
    duration: str | None = None
    iterations: str | None = None
    hits: str | None = None
    workers: int | None = None

    @property
    def load(self) -> bool:
        """Whether the load is replaced."""
        return any(value is not None for value in (self.rate, self.users, self.duration, self.iterations, self.hits))


def parse_sets(pairs: Iterable[str]) -> dict[str, str]:
    """``--set NAME=VALUE``, as often as it was given; the last one of a name counts. Raises PlanError."""
    made, problems = {}, []
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if equals and PLAN_NAME.fullmatch(name):
            made[name] = value
        else:
            problems.append(Problem("--set", f"not NAME=VALUE: {pair!r}"))
    if problems:
        raise PlanError(problems)
    return made


def apply(document: Mapping[str, Any], overrides: Overrides) -> dict[str, Any]:
    """A changed copy of a plan's document, which needs no further environment; raises PlanError."""
    made = dict(document)
    if overrides.sets:
        _apply_sets(made, overrides.sets)
    if overrides.load:
        _apply_load(made, overrides)
    return made


def _apply_sets(document: dict[str, Any], sets: Mapping[str, str]) -> None:
    env = document.get("env") or {}
    if isinstance(env, dict):
        document["env"] = {**env, **sets}
    steps = document.get("steps")
    if isinstance(steps, list):
        document["steps"] = [_without(step, sets) for step in steps]


def _without(step: Any, sets: Mapping[str, str]) -> Any:
    """A step whose own env no longer has the names that are set: those beat it."""
    if not isinstance(step, dict) or not isinstance(step.get("env"), dict):
        return step
    return {**step, "env": {name: value for name, value in step["env"].items() if name not in sets}}


def _apply_load(document: dict[str, Any], overrides: Overrides) -> None:
    _check_values(overrides)
    steps = document.get("steps")
    if not isinstance(steps, list):
        return
    if len(steps) != 1:
        message = f"replace the load of a plan with one step, and this one has {len(steps)}"
        raise PlanError([Problem("--rate, --users, --for and --iterations", message)])
    if isinstance(steps[0], dict):
        document["steps"] = [{**steps[0], "load": _load(steps[0].get("load"), overrides)}]


def _check_values(overrides: Overrides) -> None:
    """Raise for options that say nothing that can be read, or that don't go together."""
    problems = []
    checks: tuple[tuple[str, str | None, Callable[[str], object]], ...] = (
        ("--rate", overrides.rate, parse_rate),
        ("--for", overrides.duration, parse_duration),
    )
    for option, value, check in checks:
        if value is not None:
            try:
                check(value)
            except ValueError as error:
                problems.append(Problem(option, str(error)))
    for option, value in (("--users", overrides.users), ("--iterations", overrides.iterations)):
        if value is not None and ":" not in value and (number(value) or 0) < 1:
            problems.append(Problem(option, f"not a whole number from 1: {value!r}"))
    if overrides.rate is not None and overrides.users is not None:
        problems.append(Problem("--rate", "does not go with --users: one or the other"))
    if overrides.duration is not None and (overrides.iterations is not None or overrides.hits is not None):
        problems.append(Problem("--for", "does not go with --iterations: one or the other"))
    if problems:
        raise PlanError(problems)


def _load(old: Any, overrides: Overrides) -> dict[str, Any]:
    turns = overrides.hits if overrides.hits is not None else overrides.iterations
    if overrides.hits is not None or any(":" in (value or "") for value in (overrides.users, turns)):
        return _v1_load(overrides, turns)
    old = old if isinstance(old, dict) else {}
    made: dict[str, Any] = {}
    if overrides.rate is not None:
        made["rate"] = overrides.rate
    elif overrides.users is not None:
        made["users"] = overrides.users
    elif "rate" in old and not isinstance(old["rate"], list):
        made["rate"] = old["rate"]
    elif "users" in old and not isinstance(old["users"], list):
        made["users"] = old["users"]
    elif not old:
        made["users"] = 1
    else:
        option = "--for" if overrides.duration is not None else "--iterations"
        raise PlanError([Problem(option, "needs --rate or --users: the plan's load has stages")])
    if overrides.duration is not None:
        made["for"] = overrides.duration
    elif overrides.iterations is not None:
        made["iterations"] = overrides.iterations
    else:
        made.update(_length_of(old, "--rate" if overrides.rate is not None else "--users"))
    kept = (*OPEN_ONLY, "graceful_stop") if "rate" in made else ("pace", "graceful_stop")
    return {**made, **{key: old[key] for key in kept if key in old}}


def _v1_load(overrides: Overrides, turns: str | None) -> dict[str, Any]:
    duration_ns = None if overrides.duration is None else parse_duration(overrides.duration)
    try:
        made = parse_v1(overrides.users or "1", turns, duration_ns)
    except ValueError as error:
        raise PlanError([Problem("--users", str(error))]) from None
    if isinstance(made, IterationsLoad):
        return {"cycles": [{"users": users, "iterations": count} for users, count in made.cycles]}
    length = format_duration(duration_ns or 0)
    return {"stages": [{"users": int(stage.start), "for": length} for stage in made.stages]}


def _length_of(old: Mapping[str, Any], option: str) -> dict[str, Any]:
    """How long the load that is replaced would have been."""
    for key in ("for", "iterations"):
        if key in old:
            return {key: old[key]}
    try:
        total = sum(parse_duration(stage["for"]) for stage in old["stages"])
    except (KeyError, TypeError, ValueError):
        raise PlanError([Problem(option, "needs --for or --iterations")]) from None
    return {"for": format_duration(total)}
