"""Laws of ``websocket:`` steps: what is written is read, the schema agrees, and nothing but problems is raised."""

from __future__ import annotations

import base64
import copy
import json
from typing import Any

import jsonschema
from hypothesis import given, settings
from hypothesis import strategies as st
from loads.scheduler.jobs import check_jmespath

from loads_queue.model.plan import Plan, load_plan
from loads_queue.model.plan_actions import every_action, is_endless, mean_pause_ns
from loads_queue.model.plan_websocket import WEBSOCKET
from loads_queue.model.plan_websocket_actions import ACTIONS
from loads_queue.model.plan_websocket_parts import CLOSE, CONTENT, EXPECTED
from loads_queue.model.problems import PlanError
from loads_queue.model.schema import json_schema
from loads_queue.model.template import Template
from loads_queue.model.websocket import WebSocketScenario

VALIDATOR = jsonschema.Draft202012Validator(json_schema())

DURATIONS = st.sampled_from(["1s", 2, "500ms", "1m"])
TEXTS = st.sampled_from(["x", "", "${user.number} $$", "é\n", "${fn.uuid()}"]) | st.text(
    st.characters(codec="utf-8", exclude_characters="$"), max_size=40
)
NAMES = st.sampled_from(["a", "b", "send x", "expect any"])
VALUES = st.recursive(st.none() | st.integers() | TEXTS, lambda inner: st.dictionaries(TEXTS, inner, max_size=2))
MESSAGES = (
    TEXTS
    | st.builds(lambda value: {"text": value}, TEXTS)
    | st.builds(lambda value: {"json": value}, VALUES)
    | st.builds(lambda value: {"binary": base64.b64encode(value).decode()}, st.binary(max_size=50))
    | st.sampled_from([{"file": "f"}, {"text_file": "g"}])
)
EXTRACTS = st.sampled_from([{"v": {"json": "a.b"}}, {"w": {"regex": "(x)"}}])
MATCHES = st.sampled_from(
    ["any", "welcome", {"text": "${x"}, {"regex": "^a$"}, {"json": {"a": 1, "b": {"exists": True}}}]
)
REPLIES = st.fixed_dictionaries({"reply": st.just("order")}, optional={"within": DURATIONS, "name": NAMES})
LEAVES = (
    st.builds(lambda message, more: {"send": message, **more}, MESSAGES, st.just({}) | REPLIES)
    | st.fixed_dictionaries(
        {"expect": MATCHES},
        optional={"within": DURATIONS, "name": NAMES, "extract": EXTRACTS, "on_error": st.just("end_iteration")},
    )
    | st.sampled_from([{"hold": 1}, {"pause": {"between": [0, 1]}}, {"ping": {}}, {"ping": "1s"}])
)


def _within(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    do = st.lists(inner, min_size=1, max_size=3)
    return (
        st.fixed_dictionaries({"every": DURATIONS, "do": do, "for": DURATIONS})
        | st.fixed_dictionaries({"loop": st.integers(1, 9), "do": do}, optional={"for": DURATIONS})
        | st.fixed_dictionaries({"loop": st.just("forever"), "do": do, "for": DURATIONS})
        | st.fixed_dictionaries({"repeat": st.integers(1, 9), "do": do})
        | st.builds(lambda ways: {"one_of": [{"do": way} for way in ways]}, st.lists(do, min_size=1, max_size=2))
    )


ACTION = st.recursive(LEAVES, _within, max_leaves=8)
LAST = st.sampled_from(
    [
        {"close": 4000},
        {"close": {"reason": "bye"}},
        {"every": 1, "do": [{"send": "x"}]},
        {"loop": "forever", "do": [{"ping": {}}]},
    ]
)
SCRIPTS = st.builds(lambda do, last: [*do, *last], st.lists(ACTION, min_size=1, max_size=4), st.lists(LAST, max_size=1))
PARTS = st.fixed_dictionaries(
    {"url": st.sampled_from(["ws://h", "wss://h:1/${row.a}?b"]), "do": SCRIPTS},
    optional={
        "timeout": DURATIONS,
        "headers": st.just({"A": "${iteration.id}"}),
        "auth": st.just({"basic": ["u", "${secret.P}"]}),
        "subprotocols": st.just(["a", "b"]),
        "deflate": st.booleans(),
        "tls": st.just({"verify": False}),
        "dns": st.just({"hosts": {"h": ["::1"]}}),
        "source_addresses": st.just(["127.0.0.2"]),
        "max_message": st.integers(1, 1000),
    },
)


def document_of(part: dict[str, Any]) -> dict[str, Any]:
    return {"steps": [{"load": {"users": 1, "for": 1}, "data": {"file": "d.csv"}, "websocket": part}]}


def read(document: object) -> Plan:
    return load_plan(document, check_jmespath=check_jmespath)


@given(PARTS)
def test_what_is_written_is_read_and_the_schema_agrees(part: dict[str, Any]) -> None:
    document = document_of(part)
    VALIDATOR.validate(document)
    spec = read(document).steps[0].spec
    scenario = WebSocketScenario.from_wire(spec)
    assert WebSocketScenario.from_wire(json.loads(json.dumps(spec, sort_keys=True))) == scenario
    assert [type(action).__name__ for action in scenario.do] == [
        {"send": "Say", "one_of": "OneOf"}.get(action["type"], action["type"].capitalize()) for action in spec["do"]
    ]


@given(PARTS)
def test_every_round_trip_has_a_name_that_can_be_a_threshold(part: dict[str, Any]) -> None:
    document = document_of(part)
    step = read(document).steps[0]
    named = [f"p95(step 1/{name.replace('$', '$$')}) < 1s" for name in step.series]
    assert len(read({**document, "thresholds": named}).thresholds) == len(step.series)
    made = [
        action["name"]
        for action in every_action(step.spec["do"])
        if action["type"] == "expect" or (action["type"] == "send" and action["reply"])
    ]
    assert {*made} <= {*step.series}
    assert all(made.count(name) == 1 for name in {*made} - names_in(part))


def names_in(value: Any) -> set[str]:
    """Every name that a plan gives."""
    if isinstance(value, list):
        return {name for inner in value for name in names_in(inner)}
    if not isinstance(value, dict):
        return set()
    own = {value["name"]} if isinstance(value.get("name"), str) else set()
    return own.union(*(names_in(inner) for inner in value.values()))


@given(SCRIPTS, st.integers(1, 5))
def test_waiting_adds_up(do: list[Any], times: int) -> None:
    spec = read(document_of({"url": "ws://h/${row.a}", "do": do})).steps[0].spec
    repeated = [{"type": "repeat", "times": times, "do": spec["do"]}]
    assert mean_pause_ns(repeated) == times * mean_pause_ns(spec["do"])
    assert is_endless(repeated) == is_endless(spec["do"])


KEYS = sorted(
    {*WEBSOCKET.fields, *ACTIONS, *CONTENT.fields, *EXPECTED.fields, *CLOSE.fields, "reply", "id", "for", "zzz"}
)
ODD = st.sampled_from(
    ["ws://h", "http://h", "ws://[", "any", "order", "forever", "${A}", "${row.x}", "${", "1s", "(", "a["]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ODD | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS) | ODD, inner, max_size=4),
    max_leaves=20,
)
EVERYTHING: dict[str, Any] = {
    "url": "ws://h/${row.a}", "timeout": 1, "headers": {"A": "b"}, "auth": {"bearer": "x"}, "subprotocols": ["a"],
    "deflate": True, "tls": {"verify": True}, "dns": {"resolve": "each"}, "source_addresses": ["::1"], "max_message": 9,
    "do": [
        {"send": {"json": {"id": "${iteration.id}"}}, "reply": {"id": "id"}, "within": 1, "name": "n"},
        {"expect": {"json": {"a": 1}, "within": 1, "extract": {"v": {"json": "a"}}}},
        {"every": 1, "do": [{"one_of": [{"weight": 1, "do": [{"send": "${var.v}"}]}]}], "for": 5},
        {"loop": 2, "do": [{"hold": 1}, {"ping": {"within": 1}}], "for": 5},
        {"close": {"code": 1000, "reason": "x"}},
    ],
}  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every path in a document."""
    found = [path]
    if isinstance(value, dict):
        found.extend(each for key, inner in value.items() for each in places(inner, (*path, key)))
    if isinstance(value, list):
        found.extend(each for index, inner in enumerate(value) for each in places(inner, (*path, index)))
    return found


def check_plan(document: Any) -> None:
    """Read a plan: it raises nothing but problems, and an engine can read whatever is right."""
    try:
        plan = read(document)
    except PlanError as error:
        assert error.problems
        return
    for step in plan.steps:
        scenario = WebSocketScenario.from_wire(step.spec)
        Template.parse(scenario.url)
        assert step.series


@settings(max_examples=300)
@given(st.sampled_from([path for path in places(EVERYTHING) if path]), JSON, st.booleans(), st.sampled_from(KEYS))
def test_a_right_plan_with_one_thing_changed(path: tuple[Any, ...], value: Any, below: bool, key: str) -> None:
    part = copy.deepcopy(EVERYTHING)
    place: Any = part
    for each in path[:-1]:
        place = place[each]
    if below and isinstance(place[path[-1]], dict):
        place[path[-1]][key] = value
    else:
        place[path[-1]] = value
    check_plan(document_of(part))


@given(JSON)
def test_any_part(part: Any) -> None:
    check_plan(document_of(part))


@given(st.lists(st.dictionaries(st.sampled_from(KEYS), JSON, min_size=1, max_size=3), min_size=1, max_size=3))
def test_any_actions(do: list[Any]) -> None:
    check_plan(document_of({"url": "ws://h/${row.a}", "do": do}))


def test_the_plan_that_they_are_made_from_is_right() -> None:
    assert read(document_of(EVERYTHING)).warnings == ()
