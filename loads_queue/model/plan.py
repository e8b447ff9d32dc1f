"""A plan: what a document says, checked as a whole, as frozen values that the scheduler works from.

``load_plan`` takes the plain mapping that a YAML or JSON file, or a Job, holds. It finds every problem before it
raises ``PlanError``, and knows nothing of files: who can read them says which columns a data file has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from .plan_env import check_shape, resolve_env
from .plan_fields import At, Field, Fields, ListOf, Reading, Scalar, choice, duration, text, whole
from .plan_load import Load
from .plan_step import SEED, STEP, CheckFile, EnvValues, Raw, Step, as_text, read_step, too_few_in_flight
from .plan_thresholds import read_abort_when, read_thresholds
from .problems import Lines, Path, PlanError, Problem, path_text
from .profile import OpenLoad
from .thresholds import AbortWhen, Threshold, default_thresholds
from .units import names_no_zone, parse_time, shown

RATE_OF_A_SHARD = 5000
USERS_OF_A_SHARD = 1000
MOST_PROBLEMS = 500
WHEN_READY = "when_ready"
RECOVER, FAIL = "recover", "fail"
HIGHEST_PRIORITY = 1000

__all__ = ["PLAN", "STEP", "CheckFile", "Plan", "Step", "load_plan"]


@dataclass(frozen=True, slots=True)
class Plan:
    """One plan, checked; ``warnings`` are what can be run and was likely not meant."""

    name: str
    project: str
    env: Mapping[str, str]
    ready_timeout_ns: int
    seed: int
    thresholds: tuple[Threshold, ...]
    steps: tuple[Step, ...]
    start_at_ns: int | None = None
    """When its schedule begins at the earliest, in Unix ns; None is as soon as there are workers for all of it."""
    priority: int = 0
    """Among runs that wait for workers the higher one is first."""
    on_worker_loss: str = RECOVER
    """``recover``: another worker takes over; ``fail``: the run ends."""
    abort_when: tuple[AbortWhen, ...] = ()
    warnings: tuple[Problem, ...] = field(default=(), compare=False)

    @property
    def files(self) -> tuple[str, ...]:
        """The files that any of its steps needs, each once."""
        return tuple(dict.fromkeys(name for step in self.steps for name in step.files))

    def shards_of(self, step: Step, slots: int | None = None, workers: int | None = None) -> int:
        """How many shards a step has: its own ``workers``, else ``workers`` (``--workers``), else by its peak.

        By its peak it is one for 5000 arrivals a second or 1000 users, at most ``slots``. Raises PlanError where
        ``max_in_flight`` can't be shared out over so many.
        """
        count = step.workers or workers or _shards_by_peak(step.load, slots)
        if isinstance(step.load, OpenLoad) and step.max_in_flight < count:
            path = path_text(("steps", step.index, "load", "max_in_flight"))
            raise PlanError([Problem(path, too_few_in_flight(step.max_in_flight, count))])
        return count


def _shards_by_peak(load: Load, slots: int | None) -> int:
    peak = (
        load.peak_rate / RATE_OF_A_SHARD if isinstance(load, OpenLoad) else Fraction(load.max_users, USERS_OF_A_SHARD)
    )
    wanted = max(1, -(-peak.numerator // peak.denominator))
    return min(wanted, max(slots, 1)) if slots is not None else wanted


class Start(Scalar):
    """``when_ready`` (None), or a time in Unix ns; one without a zone is UTC, with a warning."""

    def __init__(self) -> None:
        super().__init__(_start, {"type": "string"})

    def read(self, value: object, at: At) -> Any:
        """The time; see ``_start``."""
        found = super().read(value, at)
        if found is not None and names_no_zone(at.settled(value)):
            at.warning(f"names no zone, and is read as UTC: {shown(value)} (write Z for UTC, or +02:00)")
        return found


def _start(value: object) -> int | None:
    return None if value == WHEN_READY else parse_time(value)


PLAN = Fields(
    {
        "name": Field(text("a name", longest=200), "The plan's name."),
        "env": Field(EnvValues(), "Plan-time names, ${NAME}; --set and the run's environment beat them."),
        "start": Field(Start(), "When the load begins: when_ready, or a time (ISO 8601).", default=WHEN_READY),
        "ready_timeout": Field(duration(1), "How long to wait for free workers.", default="30s"),
        "priority": Field(whole(-HIGHEST_PRIORITY, HIGHEST_PRIORITY), "Higher ones get free workers first.", default=0),
        "on_worker_loss": Field(choice(RECOVER, FAIL), "Whether another worker takes over.", default=RECOVER),
        "seed": Field(SEED, "Of everything random.", default=0),
        "thresholds": Field(ListOf(text("a threshold"), most=1000), "What must hold at the end: p95 < 300ms."),
        "abort_when": Field(
            ListOf(text("a condition"), most=100), "What ends the run early: error_rate > 20% for 10s."
        ),
        "steps": Field(ListOf(Raw(STEP), most=1000), "What is done, side by side.", required=True),
    },
    later=("setup", "teardown", "notify", "schedule", "budget", "instance_type", "description", "enabled"),
)


def load_plan(
    document: object,
    env: Mapping[str, object] | None = None,
    *,
    project: str = "",
    lines: Lines | None = None,
    prefix: Path = (),
    check_file: CheckFile | None = None,
    check_jmespath: Callable[[str], str | None] | None = None,
) -> Plan:
    """Check a plan; raises PlanError with every problem.

    ``env`` is ``--set`` over the run's environment. ``lines`` and ``prefix`` say where in a file the document stands.
    ``check_file`` is asked about every file; without it, files and columns are not checked. ``check_jmespath`` says
    what is wrong with an expression, or None.
    """
    reading = Reading(lines=lines or {}, check_jmespath=check_jmespath)
    at = At(reading, prefix, {})
    plan = None
    if check_shape(dict(env or {}), at.down("env")) and check_shape(document, at):
        plan = _read_plan(document, env or {}, check_file, project, at)
    if reading.problems or plan is None:
        more = len(reading.problems) - MOST_PROBLEMS
        rest = [Problem("", f"and {more} more problems")] if more > 0 else []
        raise PlanError([*reading.problems[:MOST_PROBLEMS], *rest])
    return plan


def _read_plan(
    document: object, run_env: Mapping[str, object], check_file: CheckFile | None, project: str, at: At
) -> Plan | None:
    if not isinstance(document, dict):
        at.problem(f"not a plan (a mapping with `steps`): {shown(document)}")
        return None
    outer = resolve_env(dict(run_env), {}, at.down("env"))
    env = resolve_env(document.get("env"), outer, at.down("env"))
    at = At(at.reading, at.path, env)
    found = PLAN.read(document, at)
    raw_steps = found["steps"] or []
    steps = [
        read_step(raw, index, found["seed"] or 0, check_file, at.down("steps").down(index))
        for index, raw in enumerate(raw_steps)
    ]
    _check_step_names(raw_steps, steps, at.down("steps"))
    if at.reading.problems and None in steps:
        read_thresholds(found["thresholds"], None, at.down("thresholds"))
        read_abort_when(found["abort_when"], None, at.down("abort_when"))
        return None
    whole_steps = [step for step in steps if step is not None]
    thresholds = read_thresholds(found["thresholds"], whole_steps, at.down("thresholds"))
    return Plan(
        name=found["name"] or "plan",
        project=project,
        env=as_text(env),
        ready_timeout_ns=found["ready_timeout"] or 0,
        seed=found["seed"] or 0,
        thresholds=thresholds or default_thresholds(),
        steps=tuple(whole_steps),
        start_at_ns=found["start"],
        priority=found["priority"] or 0,
        on_worker_loss=found["on_worker_loss"] or RECOVER,
        abort_when=read_abort_when(found["abort_when"], whole_steps, at.down("abort_when")),
        warnings=tuple(at.reading.warnings),
    )


def _check_step_names(raw_steps: list[object], steps: list[Step | None], at: At) -> None:
    seen: dict[str, int] = {}
    for index, step in enumerate(steps):
        if step is None:
            continue
        if step.name in seen:
            at.down(index).down("name").problem(f"steps[{seen[step.name]}] is called {step.name!r} too")
        seen.setdefault(step.name, index)
