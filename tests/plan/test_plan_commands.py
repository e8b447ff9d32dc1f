"""The commands as a user types them, and the schema that editors use."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner
from loads.scheduler.plan_commands import init, schema, validate
from loads.scheduler.plan_template import TEMPLATE
from loads.scheduler.planfile import parse_text

from loads_queue.model.plan import load_plan
from loads_queue.model.problems import PlanError
from loads_queue.model.schema import json_schema

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.yaml"))
VALIDATOR = jsonschema.Draft202012Validator(json_schema())


def test_init_writes_a_plan_that_validates(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    made = CliRunner().invoke(init, [str(path)])
    assert made.exit_code == 0
    found = CliRunner().invoke(validate, [str(path)])
    assert (found.exit_code, found.output) == (0, f"{path}: my first plan: 2 steps, no problems\n")


def test_init_keeps_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("mine")
    refused = CliRunner().invoke(init, [str(path)])
    assert refused.exit_code == 2
    assert "is there already" in refused.output
    assert path.read_text() == "mine"
    assert CliRunner().invoke(init, [str(path), "--force"]).exit_code == 0
    assert path.read_text() == TEMPLATE
    nowhere = CliRunner().invoke(init, [str(tmp_path / "no" / "x.yaml")])
    assert nowhere.exit_code == 2
    assert "can't write" in nowhere.output


def test_validate_lists_every_problem(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text("steps:\n  - load: {rate: x, for: 1s}\n    http: {do: [{get: '${URL}'}]}\n")
    found = CliRunner().invoke(validate, [str(path)])
    assert found.exit_code == 2
    assert found.stdout == ""
    assert found.stderr.splitlines() == [
        "steps[0].load.rate: not a rate: 'x' (line 2)",
        "steps[0].http.do[0].get: nobody defines ${URL}: set it with --set URL=... or in env (line 3)",
        f"{path}: 2 problems",
    ]
    found = CliRunner().invoke(validate, [str(path), "--set", "URL=http://h/", "--set", "nope"])
    assert (found.exit_code, found.stderr.splitlines()[0]) == (2, "--set: not NAME=VALUE: 'nope'")


def test_validate_shows_warnings_and_passes(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text("steps:\n  - load: {rate: 0, for: 1s}\n    http: {do: [{get: 'http://h/'}]}\n")
    found = CliRunner().invoke(validate, [str(path)])
    assert found.exit_code == 0
    assert found.stderr == "warning: steps[0].load: this load starts no iteration at all (line 2)\n"
    assert found.stdout == f"{path}: p: 1 step, no problems\n"


def test_validate_checks_all_plans_or_one(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    one = "{name: NAME, steps: [{http: {do: [{get: 'http://h/'}]}}]}"
    path.write_text(f"plans:\n  - {one.replace('NAME', 'a')}\n  - {one.replace('NAME', 'b').replace('get', 'gte')}\n")
    assert CliRunner().invoke(validate, [str(path)]).exit_code == 2
    assert CliRunner().invoke(validate, [str(path), "--plan", "a"]).exit_code == 0
    assert CliRunner().invoke(validate, [str(path), "--plan", "b"]).exit_code == 2


def test_the_schema_is_a_schema() -> None:
    printed = CliRunner().invoke(schema)
    assert printed.exit_code == 0
    assert json.loads(printed.output) == json_schema()
    jsonschema.Draft202012Validator.check_schema(json_schema())


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_the_examples_are_right_by_the_schema(example: Path) -> None:
    VALIDATOR.validate(parse_text(example.read_text())[0])


def test_the_template_is_right_by_the_schema() -> None:
    VALIDATOR.validate(parse_text(TEMPLATE)[0])
    VALIDATOR.validate({"name": "project", "plans": [parse_text(TEMPLATE)[0]]})


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("nmae",), 1),
        (("steps",), []),
        (("steps", 0, "wokers"), 1),
        (("steps", 0, "load", "stages", 0), {"rate": 1}),
        (("steps", 0, "load", "arrivals"), "odd"),
        (("steps", 0, "http", "do", 0), {"gte": "/"}),
        (("steps", 0, "http", "do", 0), {"get": "/", "post": "/"}),
        (("steps", 0, "http", "do", 0), {"repeat": 2}),
        (("steps", 0, "http", "redirects"), 51),
        (("steps", 0, "http", "tls"), {"cert": "x"}),
        (("steps", 0, "http", "tls"), {"cert": "x", "key": "-----BEGIN PRIVATE KEY-----"}),
        (("steps", 0, "http", "dns"), {"pick": "random"}),
        (("steps", 0, "http", "keep_alive"), "sometimes"),
        (("steps", 0, "http", "do", 0), {"post": "/", "multipart": [{"name": "n"}]}),
        (("steps", 0, "http", "do", 0), {"post": "/", "multipart": [{"name": "n", "value": "v", "file": "f"}]}),
        (("steps", 0, "websocket"), {"url": "ws://h", "do": [{"send": "x"}]}),
        (("steps", 0, "data"), {"order": "random"}),
        (("plans",), []),
    ],
)
def test_the_schema_refuses(path: tuple[Any, ...], value: Any) -> None:
    document = copy.deepcopy(parse_text(TEMPLATE)[0])
    place = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    assert not VALIDATOR.is_valid(document)


def test_the_schema_lets_names_stand_for_numbers() -> None:
    document = copy.deepcopy(parse_text(TEMPLATE)[0])
    document["steps"][0]["http"]["redirects"] = "${N}"
    document["steps"][1]["load"] = {"users": "${USERS}", "for": "${LENGTH}"}
    VALIDATOR.validate(document)


def test_the_schema_knows_connections_and_bodies() -> None:
    document = copy.deepcopy(parse_text(TEMPLATE)[0])
    http = document["steps"][0]["http"]
    http["tls"] = {"cert": "client.pem", "key": "${secret.CLIENT_KEY}"}
    http["dns"] = {"resolve": "each", "pick": "pin", "hosts": {"h": ["10.0.0.1", "::1"]}}
    http.update(keep_alive=False, connections_per_user=2, reuse="${REUSE}")
    parts = [{"name": "n", "value": 1}, {"name": "f", "file": "f.bin", "content_type": "a/b", "filename": "f"}]
    http["do"] += [{"put": "/", "file": "f.bin"}, {"post": "/", "multipart": parts}]
    VALIDATOR.validate(document)


def websocket_plan() -> dict[str, Any]:
    """The template with a WebSocket step in which everything is said."""
    do: list[Any] = [
        {"send": "x"},
        {"send": 5, "name": "n", "reply": "order", "within": "1s", "on_error": "end_iteration"},
        {"send": {"json": {"id": 1}}, "reply": {"id": "id"}},
        *({"send": {kind: "eA=="}} for kind in ("text", "binary", "file", "text_file")),
        {"expect": "any", "within": 1, "extract": {"v": {"json": "a"}}, "name": "m"},
        *({"expect": match} for match in ("x", 5, {"text": "x", "within": 1}, {"regex": "x"}, {"json": {"a": 1}})),
        {"hold": {"between": [1, 2]}},
        {"every": 5, "for": "1m", "do": [{"ping": {}}, {"ping": "2s"}, {"ping": {"within": 1}}]},
        {"loop": 3, "do": [{"loop": "forever", "for": 1, "do": [{"pause": 1}]}]},
        {"one_of": [{"do": [{"close": 1000}]}, {"do": [{"close": {"code": "${CODE}", "reason": "x"}}]}]},
    ]
    document: dict[str, Any] = copy.deepcopy(parse_text(TEMPLATE)[0])
    document["steps"][0]["websocket"] = {
        "url": "wss://h/ws", "timeout": "5s", "headers": {"A": "b"}, "auth": {"bearer": "x"}, "subprotocols": ["a"],
        "deflate": "${DEFLATE}", "tls": {"verify": False}, "dns": {"pick": "pin"}, "source_addresses": ["127.0.0.2"],
        "max_message": 1, "do": do,
    }  # fmt: skip
    del document["steps"][0]["http"]
    return document


def test_the_schema_knows_websocket_steps() -> None:
    VALIDATOR.validate(websocket_plan())


@pytest.mark.parametrize(
    "change",
    [
        {"url": {}},
        {"max_message": 0},
        {"subprotocols": ["a", "a"]},
        {"deflate": "maybe"},
        {"before": [{"send": "x"}]},
        *(
            {"do": [action]}
            for action in (
                {},
                {"get": "/"},
                {"send": "x", "expect": "y"},
                {"send": {}},
                {"send": {"text": "x", "json": 1}},
                {"send": "x", "within": 1},
                {"send": "x", "reply": "odrer"},
                {"send": "x", "reply": {}},
                {"expect": {}},
                {"expect": {"text": "x", "regex": "x"}},
                {"expect": {"json": {}}},
                {"expect": "x", "extract": {"a": {"header": "b"}}},
                {"every": 5},
                {"loop": 0, "do": [{"hold": 1}]},
                {"loop": "forver", "do": [{"hold": 1}]},
                {"ping": None},
                {"close": 999},
                {"close": {"code": 5000}},
                {"close": {"raeson": "x"}},
                {"one_of": [{"do": [{"get": "/"}]}]},
            )
        ),
    ],
    ids=str,
)
def test_what_the_schema_refuses_of_websocket_steps_is_refused(change: dict[str, Any]) -> None:
    document = websocket_plan()
    document["steps"][0]["websocket"].update(change)
    assert not VALIDATOR.is_valid(document)
    with pytest.raises(PlanError):
        load_plan(document, {"CODE": 1000, "DEFLATE": True})


def test_a_step_has_one_engine() -> None:
    document = websocket_plan()
    load_plan(document, {"CODE": 1000, "DEFLATE": True})
    del document["steps"][0]["websocket"]
    assert not VALIDATOR.is_valid(document)


def test_every_key_is_described() -> None:
    def walk(value: Any) -> None:
        if isinstance(value, dict):
            for name, entry in value.get("properties", {}).items() if value.get("type") == "object" else ():
                assert entry.get("description"), name
            for inner in value.values():
                walk(inner)
        elif isinstance(value, list):
            for inner in value:
                walk(inner)

    walk(json_schema())
