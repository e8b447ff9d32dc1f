"""A plan: what a document says, checked as a whole, as frozen values that the scheduler works from.

``load_plan`` takes the plain mapping that a YAML or JSON file, or a Job, holds. It finds every problem before it
raises ``PlanError``, and knows nothing of files: who can read them says which columns a data file has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from .plan_env import check_shape, resolve_env
from .plan_fields import At, Field, Fields, ListOf, Reading, Scalar, duration, text
from .plan_load import Load
from .plan_step import SEED, STEP, CheckFile, EnvValues, Raw, Step, as_text, read_step, too_few_in_flight
from .problems import NOT_YET, Lines, Path, PlanError, Problem, nearest, path_text
from .profile import OpenLoad
from .thresholds import Threshold, ThresholdError, default_thresholds, parse
from .units import shown

RATE_OF_A_SHARD = 5000
USERS_OF_A_SHARD = 1000
MOST_PROBLEMS = 500

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


def _start(value: object) -> str:
    if value != "when_ready":
        raise ValueError(f"{NOT_YET} (only when_ready): {shown(value)}")
    return "when_ready"


PLAN = Fields(
    {
        "name": Field(text("a name", longest=200), "The plan's name."),
        "env": Field(EnvValues(), "Plan-time names, ${NAME}; --set and the run's environment beat them."),
        "start": Field(Scalar(_start, {"enum": ["when_ready"]}), "When the load begins.", default="when_ready"),
        "ready_timeout": Field(duration(1), "How long to wait for free workers.", default="30s"),
        "seed": Field(SEED, "Of everything random.", default=0),
        "thresholds": Field(ListOf(text("a threshold"), most=1000), "What must hold at the end: p95 < 300ms."),
        "steps": Field(ListOf(Raw(STEP), most=1000), "What is done, side by side.", required=True),
    },
    later=(
        "abort_when", "priority", "on_worker_loss", "setup", "teardown", "notify", "schedule", "budget",
        "instance_type", "description", "enabled",
    ),
)  # fmt: skip


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
        _read_thresholds(found["thresholds"], None, at.down("thresholds"))
        return None
    whole_steps = [step for step in steps if step is not None]
    thresholds = _read_thresholds(found["thresholds"], whole_steps, at.down("thresholds"))
    return Plan(
        name=found["name"] or "plan",
        project=project,
        env=as_text(env),
        ready_timeout_ns=found["ready_timeout"] or 0,
        seed=found["seed"] or 0,
        thresholds=thresholds or default_thresholds(),
        steps=tuple(whole_steps),
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


def _read_thresholds(texts: list[str | None] | None, steps: list[Step] | None, at: At) -> tuple[Threshold, ...]:
    """The thresholds; ``steps`` None where references can't be checked because steps are wrong."""
    made = []
    for index, expression in enumerate(texts or ()):
        if expression is None:
            continue
        place = at.down(index)
        try:
            threshold = parse(expression)
        except ThresholdError as error:
            place.problem(str(error))
            continue
        wrong = None if steps is None else _wrong_reference(threshold, steps)
        if wrong is not None:
            place.problem(wrong)
        made.append(threshold)
    return tuple(made)


def _wrong_reference(threshold: Threshold, steps: list[Step]) -> str | None:
    scope = threshold.scope
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
