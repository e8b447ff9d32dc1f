"""One step of a plan: its keys, and what is made of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from .names import Names
from .plan_actions import extracted_variables, is_endless, mean_pause_ns, placed, scripts_of
from .plan_engines import ENGINES, PlanEngine, files_of
from .plan_env import resolve_env
from .plan_fields import At, Field, Fields, Json, Kind, Scalar, duration, text, whole
from .plan_http import DATA
from .plan_http_net import note_shared
from .plan_load import DEFAULT_LOAD, LOAD, STAGE_NAME, Load, LoadPart, read_load
from .profile import OpenLoad
from .scenario import LARGEST_BODY_FILES
from .template import to_text
from .units import format_duration, shown

MOST_WORKERS = 10_000
ITERATIONS_MAX_TIME_NS = 600_000_000_000
STEP_NAME = STAGE_NAME


class FileFacts(NamedTuple):
    """What a plan must know of a file: the columns of a data file, and how many bytes it has."""

    columns: Sequence[str] = ()
    size: int = 0


CheckFile = Callable[[str, str], FileFacts]
"""(``data``, ``ca``, ``cert`` or ``body``; name in the plan) to its facts. Raises ValueError for no such file."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step, checked. Times are nanoseconds; ``spec`` is as ``scenario`` or ``websocket`` describes it."""

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
        return tuple(dict.fromkeys(ENGINES[self.engine].series(self.spec)))


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


class _StepFields(Fields):
    """Fields of which exactly one names an engine."""

    def schema(self) -> dict[str, Any]:
        return {**super().schema(), "oneOf": [{"required": [engine]} for engine in ENGINES]}


SEED = whole(0, 2**63 - 1)
STEP = _StepFields(
    {
        "name": Field(text("a name without / @ ( )", pattern=STEP_NAME), "Default: step 1, step 2, ..."),
        "run_delay": Field(duration(), "From the run's start to the step's.", default="0s"),
        "run_max_time": Field(duration(), "From the step's start; 0: never. Default: load and graceful_stop."),
        "workers": Field(Scalar(_workers, {"type": ["integer", "string"]}), "A number, or auto.", default="auto"),
        "region": Field(text("a region", pattern=r"[a-z0-9][a-z0-9-]{0,62}"), "Where its workers are.", default="any"),
        "seed": Field(SEED, "Of everything random in the step. Default: the plan's."),
        "env": Field(EnvValues(), "Plan-time names; the plan's and --set beat them."),
        "load": Field(Raw(LOAD), "How much. Default: {users: 1, iterations: 1}."),
        **{name: Field(Raw(engine.table), engine.doc) for name, engine in ENGINES.items()},
        "data": Field(Raw(DATA), "Rows for ${row.COLUMN}, each taken once in the whole cluster."),
    },
    later=(
        "setup", "teardown", "python", "command", "container", "exclusive", "dns_name", "instance_type",
        "budget", "instance_count", "instance_region", "node_delay", "container_name", "container_url",
        "environment_data", "additional_command_args", "port_mapping", "volume_mapping", "docker_series",
        "prune_running", "monitor",
    ),
)  # fmt: skip


def read_step(raw: object, index: int, seed: int, check_file: CheckFile | None, at: At) -> Step | None:
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
    engine, spec = _read_engine(raw, data, check_file, replace(at, names=names))
    if len(at.reading.problems) > before or load is None or spec is None:
        return None
    if engine == "http" and isinstance(load.profile, OpenLoad):
        note_shared(raw["http"], spec, at.down("http"))
    step = _made_step(found, index, (engine, spec), load, seed, at)
    _check_in_flight(step, at)
    return step


def _read_engine(
    raw: Mapping[str, Any], data: dict[str, Any] | None, check_file: CheckFile | None, at: At
) -> tuple[str, dict[str, Any] | None]:
    """The engine of a step, with its normalised part; None, reported, where there is no one engine, or no part."""
    engine, spec = "", None
    for name in ENGINES:
        if name not in raw:
            continue
        if engine:
            at.down(name).problem(f"a step has one engine, and this one has {engine!r} too: make two steps")
        engine, place = name, at.down(name)
        spec = ENGINES[name].read(raw[name], data, place)
        if spec is not None and check_file is not None:
            _check_certificates(spec, check_file, place.down("tls"))
            _check_bodies(ENGINES[name], spec, check_file, place)
    if not engine and not any(key in STEP.later for key in raw):
        at.problem(f"needs an engine: {' or '.join(ENGINES)}")
    return engine, spec


def _names(raw: Mapping[str, Any], data: Mapping[str, Any] | None, check_file: CheckFile | None, at: At) -> Names:
    """The run-time names of a step; a data file that can't be used is reported."""
    variables = frozenset[str]().union(*(extracted_variables(raw.get(engine)) for engine in ENGINES))
    if "data" not in raw:
        return Names(frozenset(), variables)
    columns = None
    if data is not None and data["file"] is not None and check_file is not None:
        try:
            columns = frozenset(check_file("data", data["file"]).columns)
        except ValueError as error:
            at.down("data").down("file").problem(str(error))
    return Names(columns, variables)


def _check_certificates(spec: Mapping[str, Any], check_file: CheckFile, at: At) -> None:
    for kind in ("ca", "cert"):
        name = (spec["tls"] or {}).get(kind)
        if name is None:
            continue
        try:
            check_file(kind, name)
        except ValueError as error:
            at.down(kind).problem(str(error))


def _check_bodies(engine: PlanEngine, spec: Mapping[str, Any], check_file: CheckFile, at: At) -> None:
    """Report files of bodies that can't be read, each once, and those of a request that are too large together."""
    told: set[str] = set()
    for place, action in (found for key, do in scripts_of(spec) for found in placed(do, at.down(key))):
        size = 0
        keys, names = engine.files_in(action)
        for key in keys:
            place = place.down(key)
        kind = "text" if keys[-1:] == ("text_file",) else "body"
        for name in names:
            try:
                size += check_file(kind, name).size
            except ValueError as error:
                if name not in told:
                    place.problem(str(error))
                told.add(name)
        if size > LARGEST_BODY_FILES:
            place.problem(f"{size} bytes of files in one request: at most {LARGEST_BODY_FILES}")


def _made_step(
    found: Mapping[str, Any], index: int, part: tuple[str, dict[str, Any]], load: LoadPart, seed: int, at: At
) -> Step:
    engine, spec = part
    end_ns = load.profile.end_ns
    ends = ITERATIONS_MAX_TIME_NS if end_ns is None else end_ns + load.graceful_stop_ns
    max_time = found["run_max_time"]
    if max_time and end_ns is not None and max_time < end_ns:
        at.down("run_max_time").warning(f"ends the step before its load does, after {format_duration(end_ns)}")
    return Step(
        name=found["name"] or f"step {index + 1}",
        index=index,
        engine=engine,
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
        env=as_text(at.env or {}),
        files=files_of(engine, spec),
    )


def _check_in_flight(step: Step, at: At) -> None:
    """Report a ``max_in_flight`` that can't be kept, and note what will come to more."""
    actions = [action for _, do in scripts_of(step.spec) for action in do]
    endless = is_endless(actions)
    if endless and step.load.end_ns is None:
        at.down(step.engine).down("do").warning(
            "goes on until the load ends, and a load of `iterations` has no end of its own: `run_max_time` ends it"
        )
    if not isinstance(step.load, OpenLoad):
        return
    place = at.down("load").down("max_in_flight")
    shards = step.workers or 1
    if step.max_in_flight < shards:
        place.problem(too_few_in_flight(step.max_in_flight, shards))
    pause = mean_pause_ns(actions)
    needed = step.load.peak_rate * pause / 1_000_000_000
    if endless and step.load.planned > step.max_in_flight:
        place.warning(
            f"all {step.load.planned} iterations go on until the load ends, and max_in_flight is "
            f"{step.max_in_flight}: the rest will be dropped"
        )
    elif needed > step.max_in_flight and not endless:
        place.warning(
            f"{float(step.load.peak_rate):.6g} iterations a second that pause for {format_duration(pause)} are "
            f"{int(needed)} in flight, and max_in_flight is {step.max_in_flight}: the rest will be dropped"
        )


def too_few_in_flight(max_in_flight: int, shards: int) -> str:
    """The problem of a ``max_in_flight`` that can't be shared out."""
    return f"{max_in_flight} can't be shared out over {shards} workers: raise it, or lower `workers`"


def as_text(env: Mapping[str, object]) -> dict[str, str]:
    """Names with their values as text."""
    return {name: to_text(value) for name, value in env.items()}
