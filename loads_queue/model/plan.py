"""A plan: what a document says, checked as a whole, as frozen values that the scheduler works from.

``load_plan`` takes the plain mapping that a YAML or JSON file, or a Job, holds. It finds every problem before it
raises ``PlanError``, and knows nothing of files: who can read them says which columns a data file has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from .names import Names
from .plan_env import check_shape, resolve_env
from .plan_fields import At, Field, Fields, Json, Kind, ListOf, Reading, Scalar, duration, text, whole
from .plan_http import DATA, HTTP, extracted_variables, mean_pause_ns, read_http, requests_of
from .plan_load import DEFAULT_LOAD, LOAD, STAGE_NAME, Load, LoadPart, read_load
from .problems import NOT_YET, Lines, Path, PlanError, Problem, nearest, path_text
from .profile import OpenLoad
from .template import to_text
from .thresholds import LATENCIES, Threshold, ThresholdError, default_thresholds, parse
from .units import format_duration, shown

RATE_OF_A_SHARD = 5000
USERS_OF_A_SHARD = 1000
MOST_WORKERS = 10_000
MOST_PROBLEMS = 500
ITERATIONS_MAX_TIME_NS = 600_000_000_000
STEP_NAME = STAGE_NAME

CheckFile = Callable[[str, str], Sequence[str]]
"""(``data`` or ``ca``, name in the plan) to the columns of a data file; raises ValueError for what is no such file."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step, checked. Times are nanoseconds; ``spec`` is the engine's part as ``scenario`` describes it."""

    name: str
    index: int
    engine: str
    spec: Mapping[str, Any]
    load: Load
    workers: int | None
    """The number of shards; None is ``auto``."""
    region: str
    delay_ns: int
    run_max_time_ns: int
    """From the step's start; 0 is never."""
    max_in_flight: int
    """Of the whole cluster."""
    max_lateness_ns: int
    graceful_stop_ns: int
    graceful_ramp_down_ns: int
    seed: int
    env: Mapping[str, str]
    files: tuple[str, ...]
    """The files that the step needs, by the names that the plan gives them."""

    @property
    def series(self) -> tuple[str, ...]:
        """The names of its requests, in order, each once."""
        requests = requests_of([*self.spec["before"], *self.spec["do"]])
        return tuple(dict.fromkeys(request["name"] for request in requests))


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
            raise PlanError([Problem(path, _too_few_in_flight(step.max_in_flight, count))])
        return count


def _too_few_in_flight(max_in_flight: int, shards: int) -> str:
    return f"{max_in_flight} can't be shared out over {shards} workers: raise it, or lower `workers`"


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


def _workers(value: object) -> int | None:
    if value == "auto":
        return None
    number = value if isinstance(value, int) and not isinstance(value, bool) else None
    if number is None and isinstance(value, str) and value.isdecimal() and len(value) < 10:
        number = int(value)
    if number is None or not 1 <= number <= MOST_WORKERS:
        raise ValueError(f"not auto or a number from 1 to {MOST_WORKERS}: {shown(value)}")
    return number


class EnvValues(Kind):
    """Names with values; read by ``resolve_env``."""

    def read(self, value: object, at: At) -> Any:
        return value

    def schema(self) -> dict[str, Any]:
        return {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}}


class Raw(Json):
    """A part that has a reader of its own; its table gives the schema."""

    def __init__(self, table: Fields) -> None:
        self._table = table

    def read(self, value: object, at: At) -> Any:
        return value

    def schema(self) -> dict[str, Any]:
        return self._table.schema()


_SEED = whole(0, 2**63 - 1)
STEP = Fields(
    {
        "name": Field(text("a name without / @ ( )", pattern=STEP_NAME), "Default: step 1, step 2, ..."),
        "run_delay": Field(duration(), "From the run's start to the step's.", default="0s"),
        "run_max_time": Field(duration(), "From the step's start; 0: never. Default: load and graceful_stop."),
        "workers": Field(Scalar(_workers, {"type": ["integer", "string"]}), "A number, or auto.", default="auto"),
        "region": Field(text("a region", pattern=r"[a-z0-9][a-z0-9-]{0,62}"), "Where its workers are.", default="any"),
        "seed": Field(_SEED, "Of everything random in the step. Default: the plan's."),
        "env": Field(EnvValues(), "Plan-time names; the plan's and --set beat them."),
        "load": Field(Raw(LOAD), "How much. Default: {users: 1, iterations: 1}."),
        "http": Field(Raw(HTTP), "What: HTTP requests."),
        "data": Field(Raw(DATA), "Rows for ${row.COLUMN}, each taken once in the whole cluster."),
    },
    later=(
        "setup", "teardown", "websocket", "python", "command", "container", "exclusive", "dns_name", "instance_type",
        "budget", "instance_count", "instance_region", "node_delay", "container_name", "container_url",
        "environment_data", "additional_command_args", "port_mapping", "volume_mapping", "docker_series",
        "prune_running", "monitor",
    ),
)  # fmt: skip
PLAN = Fields(
    {
        "name": Field(text("a name", longest=200), "The plan's name."),
        "env": Field(EnvValues(), "Plan-time names, ${NAME}; --set and the run's environment beat them."),
        "start": Field(Scalar(_start, {"enum": ["when_ready"]}), "When the load begins.", default="when_ready"),
        "ready_timeout": Field(duration(1), "How long to wait for free workers.", default="30s"),
        "seed": Field(_SEED, "Of everything random.", default=0),
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
        _read_step(raw, index, found["seed"] or 0, check_file, at.down("steps").down(index))
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
        env=_as_text(env),
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


def _read_step(raw: object, index: int, seed: int, check_file: CheckFile | None, at: At) -> Step | None:
    """One step; None, reported, where something is wrong with it."""
    before = len(at.reading.problems)
    if not isinstance(raw, dict):
        at.problem(f"not a mapping: {shown(raw)}")
        return None
    outer = at.env or {}
    at = At(at.reading, at.path, resolve_env(raw.get("env"), outer, at.down("env")))
    own = raw.get("env")
    for name in outer.keys() & own.keys() if isinstance(own, dict) else ():
        at.down("env").down(name).warning("not used: the plan's or the run's value beats it")
    found = STEP.read(raw, at)
    data = None if "data" not in raw else DATA.read(raw["data"], at.down("data"))
    names = _names(raw, data, check_file, at)
    if found["seed"] is not None:
        seed = found["seed"]
    load = read_load(raw.get("load", DEFAULT_LOAD), at.down("load"), seed)
    spec = None
    if "http" in raw:
        spec = read_http(raw["http"], data, At(at.reading, (*at.path, "http"), at.env, names))
        if spec is not None:
            _check_ca(spec, check_file, at)
    elif not any(key in STEP.later for key in raw):
        at.problem("needs an engine: http")
    if len(at.reading.problems) > before or load is None or spec is None:
        return None
    step = _made_step(found, index, spec, load, seed, at)
    _check_in_flight(step, at)
    return step


def _names(raw: Mapping[str, Any], data: Mapping[str, Any] | None, check_file: CheckFile | None, at: At) -> Names:
    """The run-time names of a step; a data file that can't be used is reported."""
    variables = extracted_variables(raw.get("http"))
    if "data" not in raw:
        return Names(frozenset(), variables)
    columns = None
    if data is not None and data["file"] is not None and check_file is not None:
        try:
            columns = frozenset(check_file("data", data["file"]))
        except ValueError as error:
            at.down("data").down("file").problem(str(error))
    return Names(columns, variables)


def _check_ca(spec: Mapping[str, Any], check_file: CheckFile | None, at: At) -> None:
    ca = (spec["tls"] or {}).get("ca")
    if ca is None or check_file is None:
        return
    try:
        check_file("ca", ca)
    except ValueError as error:
        at.down("http").down("tls").down("ca").problem(str(error))


def _made_step(found: Mapping[str, Any], index: int, spec: dict[str, Any], load: LoadPart, seed: int, at: At) -> Step:
    end_ns = load.profile.end_ns
    ends = ITERATIONS_MAX_TIME_NS if end_ns is None else end_ns + load.graceful_stop_ns
    max_time = found["run_max_time"]
    if max_time and end_ns is not None and max_time < end_ns:
        at.down("run_max_time").warning(f"ends the step before its load does, after {format_duration(end_ns)}")
    files = [name for name in (spec["tls"]["ca"], (spec["data"] or {}).get("file")) if name is not None]
    return Step(
        name=found["name"] or f"step {index + 1}",
        index=index,
        engine="http",
        spec=spec,
        load=load.profile,
        workers=found["workers"],
        region=found["region"],
        delay_ns=found["run_delay"],
        run_max_time_ns=ends if max_time is None else max_time,
        max_in_flight=load.max_in_flight,
        max_lateness_ns=spec["timeout_ns"] if load.max_lateness_ns is None else load.max_lateness_ns,
        graceful_stop_ns=load.graceful_stop_ns,
        graceful_ramp_down_ns=load.graceful_ramp_down_ns,
        seed=seed,
        env=_as_text(at.env or {}),
        files=tuple(dict.fromkeys(files)),
    )


def _check_in_flight(step: Step, at: At) -> None:
    if not isinstance(step.load, OpenLoad):
        return
    place = at.down("load").down("max_in_flight")
    shards = step.workers or 1
    if step.max_in_flight < shards:
        place.problem(_too_few_in_flight(step.max_in_flight, shards))
    pause = mean_pause_ns([*step.spec["before"], *step.spec["do"]])
    needed = step.load.peak_rate * pause / 1_000_000_000
    if needed > step.max_in_flight:
        place.warning(
            f"{float(step.load.peak_rate):.6g} iterations a second that pause for {format_duration(pause)} are "
            f"{int(needed)} in flight, and max_in_flight is {step.max_in_flight}: the rest will be dropped"
        )


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
        if threshold.source == "ok" and threshold.metric in LATENCIES:
            place.problem(f"ok:{threshold.metric}: {NOT_YET}")
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


def _as_text(env: Mapping[str, object]) -> dict[str, str]:
    return {name: to_text(value) for name, value in env.items()}
