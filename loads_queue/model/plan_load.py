"""The ``load:`` of a step: its forms, what goes with which, and the profile that it makes.

{stages: [{rate: R | [A, B], for: D, name: N}, ...]}   {rate: R | [A, B], for: D}    {rate: R, iterations: N}
{stages: [{users: U | [A, B], for: D, name: N}, ...]}  {users: U | [A, B], for: D}   {users: U, iterations: N}
{cycles: [{users: U, iterations: N}, ...]}             one after the other, as Loads v1's 10:20:30
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from .plan_fields import At, Field, Fields, Kind, ListOf, choice, duration, flag, rate, text, whole
from .profile import ClosedLoad, IterationsLoad, OpenLoad, RateStage, UserStage

Load = OpenLoad | ClosedLoad | IterationsLoad

MAX_USERS = 10_000_000
MAX_ITERATIONS = 10**12
DEFAULT_LOAD = {"users": 1, "iterations": 1}
DEFAULT_MAX_IN_FLIGHT = 10_000
DEFAULT_MAX_LATENESS_NS = 1_000_000_000
STAGE_NAME = r"[^\s/@()][^/@()]{0,99}"


class Ramp(Kind):
    """One value, or ``[A, B]``; a pair of Fractions."""

    def __init__(self, one: Kind) -> None:
        self._one = one

    def read(self, value: object, at: At) -> Any:
        if not isinstance(value, list):
            found = self._one.read(value, at)
            return None if found is None else (Fraction(found), Fraction(found))
        if len(value) != 2:
            return at.problem(f"a ramp is [FROM, TO], not {len(value)} values")
        start, end = (self._one.read(item, at.down(index)) for index, item in enumerate(value))
        return None if start is None or end is None else (Fraction(start), Fraction(end))

    def schema(self) -> dict[str, Any]:
        one = self._one.schema()
        return {"anyOf": [one, {"type": "array", "minItems": 2, "maxItems": 2, "items": one}]}


_RATE = Ramp(rate())
_USERS = Ramp(whole(0, MAX_USERS))
_ITERATIONS = whole(1, MAX_ITERATIONS)

STAGE = Fields(
    {
        "rate": Field(_RATE, "Iterations started a second (open model), or [FROM, TO]: 50, 300/m, 1/10s."),
        "users": Field(_USERS, "Users at work at once (closed model), or [FROM, TO]."),
        "for": Field(duration(), "How long the stage lasts.", required=True),
        "name": Field(text("a stage's name", pattern=STAGE_NAME), "For thresholds: p95(STEP@NAME) < 300ms."),
    }
)
CYCLE = Fields(
    {
        "users": Field(whole(1, MAX_USERS), "Users at work at once.", required=True),
        "iterations": Field(_ITERATIONS, "Iterations of each of them.", required=True),
    }
)
LOAD = Fields(
    {
        "stages": Field(ListOf(STAGE, most=1000), "Stages one after the other, all of rates or all of users."),
        "rate": Field(_RATE, "Short for one stage of a rate; with `for` or `iterations`."),
        "users": Field(_USERS, "Short for one stage of users; with `for` or `iterations`."),
        "for": Field(duration(1), "How long, with `rate` or `users`."),
        "iterations": Field(_ITERATIONS, "How many: in all with `rate`, for each user with `users`."),
        "shared": Field(flag(), "With `users` and `iterations`: the iterations are in all, not for each user."),
        "cycles": Field(ListOf(CYCLE, most=1000), "Numbers of users with iterations, one after the other."),
        "pace": Field(duration(1), "Each user starts an iteration that often (with users)."),
        "max_in_flight": Field(whole(1, MAX_USERS), "Iterations under way at once, in the whole cluster (with rates)."),
        "max_lateness": Field(duration(), "Iterations later than that are dropped (with rates); default: the timeout."),
        "arrivals": Field(choice("even", "jittered"), "How arrivals are spread (with rates)."),
        "graceful_stop": Field(duration(), "What is in flight at the end has that long.", default="30s"),
        "graceful_ramp_down": Field(duration(), "A user sent away has that long to end its iteration (with stages)."),
    }
)

_FORMS = ("stages", "rate", "users", "cycles")
OPEN_ONLY = ("max_in_flight", "max_lateness", "arrivals")


@dataclass(frozen=True)
class LoadPart:
    """What ``load:`` says, read."""

    profile: Load
    max_in_flight: int
    max_lateness_ns: int | None
    graceful_stop_ns: int
    graceful_ramp_down_ns: int


def read_load(value: object, at: At, seed: int) -> LoadPart | None:
    """The load of a step; None, reported, where something is wrong with it."""
    before = len(at.reading.problems)
    found = LOAD.read(value, at)
    if found is None or not isinstance(value, dict):
        return None
    _check_combination(value, at)
    if len(at.reading.problems) > before:
        return None
    try:
        profile = _profile(value, found, at, seed)
    except ValueError as error:
        at.problem(str(error))
        return None
    if profile is None:
        return None
    if isinstance(profile, OpenLoad) and profile.planned == 0:
        at.warning("this load starts no iteration at all")
    if isinstance(profile, ClosedLoad) and profile.max_users == 0:
        at.warning("this load has no users at all")
    return LoadPart(
        profile=profile,
        max_in_flight=found["max_in_flight"] or DEFAULT_MAX_IN_FLIGHT,
        max_lateness_ns=found["max_lateness"],
        graceful_stop_ns=found["graceful_stop"],
        graceful_ramp_down_ns=30_000_000_000 if found["graceful_ramp_down"] is None else found["graceful_ramp_down"],
    )


def _check_combination(given: Mapping[str, object], at: At) -> None:
    """Report keys that don't go together: none of them is ever ignored."""
    forms = [form for form in _FORMS if form in given]
    if len(forms) > 1:
        at.problem(f"{' and '.join(forms)} don't go together")
        return
    form = forms[0] if forms else None
    if form is None and "iterations" not in given:
        at.problem("needs stages, rate, users, cycles or iterations")
    if form in ("rate", "users"):
        if ("for" in given) == ("iterations" in given):
            at.problem(f"{form} needs either `for` or `iterations`")
        if "iterations" in given and isinstance(given[form], list):
            at.down(form).problem("a ramp goes with `for`, not with `iterations`")
    else:
        for key in ("for", "iterations") if form else ("for",):
            if key in given:
                at.down(key).problem(f"does not go with {form or 'iterations alone'}")
    _check_extras(given, form, at)


def _check_extras(given: Mapping[str, object], form: str | None, at: At) -> None:
    stages = given.get("stages")
    first = stages[0] if isinstance(stages, list) and stages else None
    is_open = form == "rate" or (isinstance(first, dict) and "rate" in first)
    counted = not is_open and (form in (None, "cycles") or "iterations" in given)
    for key in OPEN_ONLY:
        if key in given and not is_open:
            at.down(key).problem("goes with rates only: users wait for one another's turns, and are never late")
    if is_open and "pace" in given:
        at.down("pace").problem("goes with users only: a rate is a pace already")
    if "graceful_ramp_down" in given and (is_open or counted):
        at.down("graceful_ramp_down").problem("goes with stages of users only")
    if "shared" in given and (not counted or form == "cycles"):
        at.down("shared").problem("goes with `users` and `iterations` only")


def _profile(given: Mapping[str, object], found: Mapping[str, Any], at: At, seed: int) -> Load | None:
    pace = found["pace"]
    if found["cycles"] is not None:
        cycles = tuple((cycle["users"], cycle["iterations"]) for cycle in found["cycles"])
        return IterationsLoad(cycles=cycles, pace_ns=pace)
    if found["rate"] is None and found["iterations"] is not None:
        users = 1 if found["users"] is None else int(found["users"][0])
        if users == 0:
            at.down("users").problem("0 users never do an iteration")
            return None
        return IterationsLoad(cycles=((users, found["iterations"]),), shared=bool(found["shared"]), pace_ns=pace)
    arrivals = found["arrivals"] or "even"
    if found["iterations"] is not None:
        steady, _ = found["rate"]
        if steady == 0:
            at.down("rate").problem("a rate of 0 never starts an iteration")
            return None
        stage = RateStage(steady, steady, 0)
        return OpenLoad(stages=(stage,), iterations=found["iterations"], arrivals=arrivals, seed=seed)
    stages = found["stages"] if found["stages"] is not None else [{**found, "name": None}]
    kind = _kind_of(stages, at)
    if kind is None:
        return None
    if kind == "rate":
        return OpenLoad(stages=tuple(RateStage(*_line(stage, kind)) for stage in stages), arrivals=arrivals, seed=seed)
    return ClosedLoad(tuple(UserStage(*_line(stage, kind)) for stage in stages), pace_ns=pace)


def _line(stage: Mapping[str, Any], kind: str) -> tuple[Fraction, Fraction, int, str | None]:
    start, end = stage[kind]
    return start, end, stage["for"], stage["name"]


def _kind_of(stages: list[dict[str, Any]], at: At) -> str | None:
    """``rate`` or ``users``; None, reported, where the stages are not all of one kind."""
    before = len(at.reading.problems)
    kinds, names = set(), set()
    for index, stage in enumerate(stages):
        place = at.down("stages").down(index)
        given = [key for key in ("rate", "users") if stage[key] is not None]
        if len(given) != 1:
            place.problem("needs either `rate` or `users`")
        kinds.update(given)
        if stage["name"] is not None and stage["name"] in names:
            place.down("name").problem(f"a second stage is called {stage['name']!r}")
        names.add(stage["name"])
    if len(kinds) > 1:
        at.down("stages").problem("rates and users don't go together: use two steps")
    if not any(stage["for"] for stage in stages):
        at.down("stages").problem("the stages last no time at all")
    return kinds.pop() if len(at.reading.problems) == before else None
