"""No document and no text makes the reading of plans raise anything but PlanError."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from loads.scheduler.jobs import check_jmespath
from loads.scheduler.overrides import Overrides, apply
from loads.scheduler.plan_template import TEMPLATE
from loads.scheduler.planfile import parse_text

from loads_queue.model.plan import PLAN, STEP, load_plan
from loads_queue.model.plan_http import ACTIONS, HTTP
from loads_queue.model.plan_load import LOAD
from loads_queue.model.problems import PlanError
from loads_queue.model.profile import from_wire, to_wire
from loads_queue.model.rows import RowError, read_rows
from loads_queue.model.scenario import HttpScenario
from loads_queue.model.websocket import WebSocketScenario

SCENARIOS = {"http": HttpScenario.from_wire, "websocket": WebSocketScenario.from_wire}
KEYS = sorted({*PLAN.fields, *STEP.fields, *HTTP.fields, *LOAD.fields, *ACTIONS, "check", "extract", "json", "zzz"})
TEXTS = st.sampled_from(
    ["/", "http://h", "http://[", "1s", "5/m", "p95 < 1s", "${A}", "${row.x}", "${", "${fn.uuid()}", "auto", "10:20",
     "x", "", "$$", "p95 > 1s for 5s", "2026-01-31 10:00"]
) | st.text(max_size=12)  # fmt: skip
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | TEXTS
JSON = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS) | TEXTS, inner, max_size=4),
    max_leaves=20,
)
ENVS = st.dictionaries(st.sampled_from(["A", "B", "RUN_ID", "a-b"]), TEXTS, max_size=3)


def check_plan(document: object, env: dict[str, Any]) -> None:
    """Read a plan; whatever is accepted must be usable by the engine and go over the wire."""
    try:
        plan = load_plan(document, env, check_jmespath=check_jmespath)
    except PlanError as error:
        assert error.problems
        return
    for step in plan.steps:
        SCENARIOS[step.engine](step.spec)
        assert from_wire(to_wire(step.load)) == step.load
        assert plan.shards_of(step, 100) >= 1


@given(JSON, ENVS)
def test_any_document(document: object, env: dict[str, Any]) -> None:
    check_plan(document, env)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every path in a document."""
    found = [path]
    if isinstance(value, dict):
        found.extend(each for key, inner in value.items() for each in places(inner, (*path, key)))
    if isinstance(value, list):
        found.extend(each for index, inner in enumerate(value) for each in places(inner, (*path, index)))
    return found


GOOD = parse_text(TEMPLATE)[0]
PLACES = [path for path in places(GOOD) if path]


@settings(max_examples=250)
@given(st.sampled_from(PLACES), JSON, st.booleans(), st.sampled_from(KEYS))
def test_a_right_plan_with_one_thing_changed(path: tuple[Any, ...], value: Any, below: bool, key: str) -> None:
    document = copy.deepcopy(GOOD)
    place = document
    for part in path[:-1]:
        place = place[part]
    if below and isinstance(place[path[-1]], dict):
        place[path[-1]][key] = value
    else:
        place[path[-1]] = value
    check_plan(document, {})


Five = tuple[str | None, str | None, str | None, str | None, str | None]
OPTIONS = st.tuples(*[st.none() | TEXTS | st.integers(-5, 100).map(str)] * 5)


@given(JSON, OPTIONS, ENVS)
def test_any_override(
    document: Any, options: tuple[str | None, str | None, str | None, str | None, str | None], env: dict[str, str]
) -> None:
    for candidate in (document, GOOD, {**GOOD, "steps": GOOD["steps"][:1]}):
        if isinstance(candidate, dict):
            try:
                made = apply(candidate, Overrides(env, *options))
            except PlanError:
                continue
            check_plan(made, {})


@given(st.text(max_size=60) | st.text(alphabet="ab:-[]{},&*!|>'\"#?%@` \n\t01", max_size=60), st.booleans())
def test_any_text(text: str, is_json: bool) -> None:
    try:
        document, _ = parse_text(text, is_json=is_json)
    except PlanError:
        return
    check_plan(document, {})


@settings(max_examples=150)
@given(st.integers(0, len(TEMPLATE) - 1), st.integers(0, 8), st.text(alphabet="ab:-[]{},&*!|>'\"#$ \n\t01", max_size=4))
def test_the_template_with_a_piece_replaced(start: int, length: int, piece: str) -> None:
    try:
        document, lines = parse_text(TEMPLATE[:start] + piece + TEMPLATE[start + length :])
    except PlanError:
        return
    assert all(line >= 1 for line in lines.values())
    check_plan(document, {})


@given(st.lists(st.text(alphabet="ab,\"'{}:[]1\\\x00 ", max_size=12)), st.sampled_from(["d.csv", "d.jsonl"]))
def test_any_data_file(lines: list[str], name: str) -> None:
    try:
        rows = list(read_rows(name, [f"{line}\n" for line in lines]))
    except RowError as error:
        assert error.line >= 1
        return
    assert len({frozenset(row) for row in rows}) <= 1
