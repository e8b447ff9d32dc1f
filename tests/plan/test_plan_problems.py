"""What is wrong with a plan, case by case: the path and the message that the user sees."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from loads_queue.model.plan import load_plan
from loads_queue.model.plan_step import FileFacts
from loads_queue.model.problems import PlanError, path_text

GOOD: dict[str, Any] = {
    "name": "p",
    "steps": [{"load": {"rate": 5, "for": "10s"}, "http": {"base_url": "http://h", "do": [{"get": "/"}]}}],
}
Case = tuple[tuple[str | int, ...], Any, str]
"""Where, what is put there, and the problem; ``@`` is the path of where."""
HTTP = ("steps", 0, "http")
LOAD = ("steps", 0, "load")
DO = (*HTTP, "do", 0)


def changed(path: tuple[str | int, ...], value: Any) -> dict[str, Any]:
    """The good plan with one value replaced or added."""
    document = copy.deepcopy(GOOD)
    place: Any = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return document


def problems_of(document: object, **options: Any) -> list[str]:
    try:
        load_plan(document, **options)
    except PlanError as error:
        return [str(problem) for problem in error.problems]
    return []


PLAN_CASES: list[Case] = [
    (("nmae",), 1, "nmae: unknown key (did you mean 'name'?)"),
    (
        ("zzz",),
        1,
        "zzz: unknown key (known: abort_when, env, name, on_worker_loss, priority, ready_timeout, seed, "
        "start, steps, thresholds)",
    ),
    (("steps",), [], "steps: an empty list"),
    (("steps",), {}, "steps: not a list: a mapping"),
    (("steps", 0), 7, "steps[0]: not a mapping: 7"),
    (("start",), "tomorrow", "start: not a time, such as '2026-01-31T10:00:00Z': 'tomorrow'"),
    (("start",), "2026-01-01", "start: not a time, such as '2026-01-31T10:00:00Z': '2026-01-01'"),
    (("start",), "2026-02-30 10:00Z", "start: not a time: '2026-02-30 10:00Z' (day is out of range for month)"),
    (("start",), "2300-01-01T00:00Z", "start: not a time from 1970 to 2199: '2300-01-01T00:00Z'"),
    (("start",), None, "start: has no value"),
    (("start",), "${AT}", "start: nobody defines ${AT}: set it with --set AT=... or in env"),
    (("priority",), 1001, "priority: not a whole number from -1000 to 1000: 1001"),
    (("priority",), "high", "priority: not a whole number: 'high'"),
    (("on_worker_loss",), "retry", "on_worker_loss: not one of recover, fail: 'retry'"),
    (("abort_when",), "error_rate > 20% for 10s", "abort_when: not a list: 'error_rate > 20% for 10s'"),
    (
        ("abort_when",),
        ["error_rate > 20%"],
        "abort_when[0]: for how long? end it with 'for DURATION', as in 'error_rate > 20% for 10s'",
    ),
    (("abort_when",), ["p95 > 3 for 10s"], "abort_when[0]: not a duration: '3' (a time needs a unit, as '300ms')"),
    (("abort_when",), ["p95 > 3s for 10"], "abort_when[0]: not a duration: '10'"),
    (("abort_when",), ["p95 > 3s for 1500ms"], "abort_when[0]: not whole seconds, from 1s to 1h: '1500ms'"),
    (("abort_when",), ["p95 > 3s for 2h"], "abort_when[0]: not whole seconds, from 1s to 1h: '2h'"),
    (("abort_when",), ["p95(nope) > 3s for 1s"], "abort_when[0]: no step is called 'nope' (known: step 1)"),
    (("ready_timeout",), "5 parsecs", "ready_timeout: not a duration: '5 parsecs'"),
    (("ready_timeout",), 0, "ready_timeout: not a duration longer than nothing: 0"),
    (("seed",), -1, "seed: not a whole number from 0 to 9223372036854775807: -1"),
    (("env",), {"RUN_ID": "x"}, "env.RUN_ID: the worker fills this name in: choose another"),
    (("env",), {"a-b": "x"}, "env.a-b: not a name (letters, digits and _)"),
    (("env",), {"A": "${B}", "B": "${A}"}, "env.A: is made from itself: A > B > A"),
    (("env",), {"A": [1]}, "env.A: not a text or a number: a list"),
    (("env",), [], "env: not a mapping: a list"),
    (("env",), {"A": "${X}"}, "env.A: nobody defines ${X}: set it with --set X=... or in env"),
    (("thresholds",), ["p95 < 3"], "thresholds[0]: not a duration: '3' (a time needs a unit, as '300ms')"),
    (("thresholds",), ["p95(nope) < 3s"], "thresholds[0]: no step is called 'nope' (known: step 1)"),
    (("thresholds",), ["p95(step 1@x) < 3s"], "thresholds[0]: step 'step 1' has no stage 'x'"),
    (
        ("thresholds",),
        ["p95(step 1/GET) < 3s"],
        "thresholds[0]: step 'step 1' has no requests called 'GET' (did you mean 'GET /'?)",
    ),
    *(((key,), [], f"{key}: not supported by this version") for key in ("setup", "notify", "budget")),
]
STEP_CASES: list[Case] = [
    (("steps", 0, "python"), {}, "steps[0].python: not supported by this version"),
    (("steps", 0, "container_name"), "x", "steps[0].container_name: not supported by this version"),
    (("steps", 0, "name"), "a/b", "steps[0].name: not a name without / @ ( ): 'a/b'"),
    (("steps", 0, "workers"), 0, "steps[0].workers: not auto or a number from 1 to 10000: 0"),
    (("steps", 0, "region"), "US west", "steps[0].region: not a region: 'US west'"),
    (("steps", 0, "data"), {"order": "random"}, "steps[0].data: needs 'file'"),
    (LOAD, {"rate": 5}, "steps[0].load: rate needs either `for` or `iterations`"),
    (LOAD, {"rate": 5, "for": 1, "iterations": 3}, "steps[0].load: rate needs either `for` or `iterations`"),
    (LOAD, {"rate": 5, "users": 1, "for": 1}, "steps[0].load: rate and users don't go together"),
    (LOAD, {}, "steps[0].load: needs stages, rate, users, cycles or iterations"),
    (LOAD, {"users": "10:20:30", "for": 1}, "steps[0].load.users: not a whole number: '10:20:30'"),
    (LOAD, {"users": 1.5, "for": 1}, "steps[0].load.users: not a whole number: 1.5"),
    (LOAD, {"rate": [1, 2, 3], "for": 1}, "steps[0].load.rate: a ramp is [FROM, TO], not 3 values"),
    (LOAD, {"rate": [1, 2], "iterations": 5}, "steps[0].load.rate: a ramp goes with `for`, not with `iterations`"),
    (LOAD, {"rate": 0, "iterations": 5}, "steps[0].load.rate: a rate of 0 never starts an iteration"),
    (LOAD, {"users": 0, "iterations": 5}, "steps[0].load.users: 0 users never do an iteration"),
    (LOAD, {"rate": 5, "for": 1, "pace": 1}, "steps[0].load.pace: goes with users only: a rate is a pace already"),
    (LOAD, {"users": 5, "for": 1, "shared": True}, "steps[0].load.shared: goes with `users` and `iterations` only"),
    (
        LOAD,
        {"users": 5, "for": 1, "max_in_flight": 3},
        "steps[0].load.max_in_flight: goes with rates only: users wait for one another's turns, and are never late",
    ),
    (LOAD, {"stages": [{"rate": 1}]}, "steps[0].load.stages[0]: needs 'for'"),
    (LOAD, {"stages": [{"for": 1}]}, "steps[0].load.stages[0]: needs either `rate` or `users`"),
    (LOAD, {"stages": [{"rate": 1, "for": 0}]}, "steps[0].load.stages: the stages last no time at all"),
    (
        LOAD,
        {"stages": [{"rate": 1, "for": 1}, {"users": 1, "for": 1}]},
        "steps[0].load.stages: rates and users don't go together: use two steps",
    ),
    (
        LOAD,
        {"stages": [{"rate": 1, "for": 1, "name": "a"}, {"rate": 1, "for": 1, "name": "a"}]},
        "steps[0].load.stages[1].name: a second stage is called 'a'",
    ),
    (LOAD, {"rate": "many", "for": 1}, "steps[0].load.rate: not a rate: 'many'"),
    (LOAD, {"rate": 1, "for": 1, "arrivals": "odd"}, "steps[0].load.arrivals: not one of even, jittered: 'odd'"),
]
HTTP_CASES: list[Case] = [
    (HTTP, [], "steps[0].http: not a mapping: a list"),
    (HTTP, {"base_url": "http://h"}, "steps[0].http: needs 'do'"),
    ((*HTTP, "base_url"), "ftp://h", "@: not an http:// or https:// URL: 'ftp://h'"),
    ((*HTTP, "base_url"), "http://h:99999", "@: not a URL: 'http://h:99999' (Port out of range 0-65535)"),
    ((*HTTP, "base_url"), "http://", "@: not a host and port: '' in 'http://'"),
    ((*HTTP, "base_url"), "http://h?x=1", "@: has no query and no fragment: 'http://h?x=1'"),
    (
        (*HTTP, "base_url"),
        "http://u:p@h",
        "@: a URL has no user and password in it: use `auth: {basic: [USER, PASSWORD]}`",
    ),
    (
        (*HTTP, "base_url"),
        "http://${row.h}",
        "@: 'http://${row.h}': what stands here must be known before the run",
    ),
    ((*HTTP, "headers"), {"a b": "x"}, "@['a b']: not a header's name"),
    ((*HTTP, "headers"), {"A": "x\r\nB: y"}, "@.A: a header has no line breaks and control characters"),
    ((*HTTP, "headers"), {"A": "1", "a": "2"}, "@: the same header twice, apart from capitals"),
    ((*HTTP, "headers"), {"Content-Length": 3}, "@.Content-Length: the engine sets this header from the body"),
    ((*HTTP, "tls"), {"cert": "x"}, "@: cert and key go together"),
    ((*HTTP, "tls"), {"key": "${secret.K}"}, "@: cert and key go together"),
    (
        (*HTTP, "tls"),
        {"cert": "x", "key": "-----BEGIN PRIVATE KEY-----"},
        "@.key: is the name of a secret of the workers, as ${secret.CLIENT_KEY}: a key stands in no plan",
    ),
    (
        (*HTTP, "tls"),
        {"cert": "x", "key": "a${secret.K}"},
        "@.key: is the name of a secret of the workers, as ${secret.CLIENT_KEY}: a key stands in no plan",
    ),
    ((*HTTP, "tls"), {"verify": "on"}, "@.verify: not true or false: 'on'"),
    ((*HTTP, "redirects"), 99, "@: not a whole number from 0 to 50: 99"),
    ((*HTTP, "http2"), True, "@: not supported by this version"),
    ((*HTTP, "proxy"), "http://p:3128", "@: not supported by this version"),
    ((*HTTP, "dns"), {"pick": "random"}, "@.pick: not one of rotate, pin: 'random'"),
    ((*HTTP, "dns"), {"resolve": 60}, "@.resolve: not one of cached, each: 60"),
    ((*HTTP, "dns"), {"hosts": {"h:80": ["127.0.0.1"]}}, "@.hosts['h:80']: not a host's name, without a port"),
    ((*HTTP, "dns"), {"hosts": {"10.0.0.1": ["10.0.0.2"]}}, "@.hosts['10.0.0.1']: not a host's name, without a port"),
    ((*HTTP, "dns"), {"hosts": {"h": []}}, "@.hosts.h: an empty list"),
    ((*HTTP, "dns"), {"hosts": {"h": "127.0.0.1"}}, "@.hosts.h: not a list: '127.0.0.1'"),
    (
        (*HTTP, "dns"),
        {"hosts": {"h": ["127.0.0.1:80"]}},
        "@.hosts.h[0]: not an IP address, without a port: '127.0.0.1:80'",
    ),
    ((*HTTP, "dns"), {"hosts": {"h": ["other"]}}, "@.hosts.h[0]: not an IP address, without a port: 'other'"),
    ((*HTTP, "dns"), {"hosts": {"h": ["::1"], "H": ["::1"]}}, "@.hosts: the same name twice, apart from capitals"),
    ((*HTTP, "keep_alive"), "no", "@: not true or false: 'no'"),
    ((*HTTP, "reuse"), 1, "@: not true or false: 1"),
    ((*HTTP, "connections_per_user"), 0, "@: not a whole number from 1 to 1000: 0"),
    ((*HTTP, "auth"), {"basic": ["u"]}, "@.basic: is [USER, PASSWORD]"),
    ((*HTTP, "auth"), {}, "@: needs either basic or bearer"),
    (DO, {"gett": "/"}, "@: not an action: unknown key 'gett' (did you mean 'get'?)"),
    (DO, {"get": "/", "post": "/"}, "@: get and post are two actions: write two items"),
    (
        DO,
        {"send": "x"},
        "@.send: an action of `websocket:` steps (here: get, head, post, put, patch, delete, options, method, pause, "
        "one_of, repeat)",
    ),
    (DO, {"get": "x"}, "@.get: not a path from / or an http:// or https:// URL: 'x'"),
    (DO, {"get": ""}, "@.get: an empty URL (write / for the root)"),
    (DO, {"get": "/a b"}, "@.get: a URL has no spaces and line breaks: write %20 for a space"),
    (DO, {"get": "/a#b"}, "@.get: a fragment (#...) is never sent: leave it out"),
    (DO, {"get": "/${row.x}"}, "@.get: ${row.x}: the step has no data"),
    (DO, {"get": "/${var.x}"}, "@.get: ${var.x}: no request extracts it (the step extracts nothing)"),
    (DO, {"get": "/${HOTS}"}, "@.get: nobody defines ${HOTS}: set it with --set HOTS=... or in env"),
    (DO, {"get": "/${fn.uid()}"}, "@.get: unknown function ${fn.uid} (did you mean 'fn.uuid'?)"),
    (DO, {"get": "/${fn.uuid}"}, "@.get: fn.uuid() takes no arguments"),
    (
        DO,
        {"get": "/${fn.random_int(3, 1)}"},
        "@.get: fn.random_int(LOW, HIGH) takes two whole numbers, the lower one first",
    ),
    (DO, {"get": "/${CONTAINER_ID}"}, "@.get: ${CONTAINER_ID}: not supported by this version"),
    (
        DO,
        {"get": "/${user.nubmer}"},
        "@.get: unknown name ${user.nubmer} (did you mean 'user.number'?)",
    ),
    (DO, {"get": "/${a-b}"}, "@.get: not a name: ${a-b} (write '$${' where the target should see it)"),
    (DO, {"post": "/", "json": 1, "body": "x"}, "@: json and body: a request has one body"),
    (DO, {"post": "/", "json": {"a": ["${var.q}"]}},
     "@.json.a[0]: ${var.q}: no request extracts it (the step extracts nothing)"),
    (DO, {"post": "/", "multipart": {}}, "@.multipart: not a list: a mapping"),
    (DO, {"post": "/", "multipart": []}, "@.multipart: an empty list"),
    (DO, {"post": "/", "multipart": [{"value": "x"}]}, "@.multipart[0]: needs 'name'"),
    (DO, {"post": "/", "multipart": [{"name": "x"}]}, "@.multipart[0]: needs either value or file"),
    (
        DO,
        {"post": "/", "multipart": [{"name": "x", "value": "v", "file": "f"}]},
        "@.multipart[0]: needs either value or file",
    ),
    (
        DO,
        {"post": "/", "multipart": [{"name": "x", "value": "v", "content_type": "a\r\nb"}]},
        "@.multipart[0].content_type: a header has no line breaks and control characters",
    ),
    (
        DO,
        {"post": "/", "multipart": [{"name": "x", "file": "${row.f}"}]},
        "@.multipart[0].file: '${row.f}': what stands here must be known before the run",
    ),
    (
        DO,
        {"post": "/", "headers": {"content-type": "a/b"}, "multipart": [{"name": "x", "value": "v"}]},
        "@.headers.content-type: multipart sets this header itself, with the boundary of its parts",
    ),
    (DO, {"post": "/", "file": "f", "body": "x"}, "@: body and file: a request has one body"),
    (DO, {"method": "CONNECT", "url": "/"}, "@.method: not a method in capitals: 'CONNECT'"),
    (DO, {"get": "/", "name": "page ${row.x}"},
     "@.name: 'page ${row.x}': what stands here must be known before the run"),
    (DO, {"get": "/", "check": {"status": "3yy"}}, "@.check.status: not a status, as 200, 2xx or 200-204: '3yy'"),
    (DO, {"get": "/", "check": {"json": {"a[": 1}}}, "@.check.json['a[']: not a JMESPath expression: bad a["),
    (DO, {"get": "/", "extract": {"a": {}}}, "@.extract.a: needs one of json, regex and header"),
    (DO, {"get": "/", "extract": {"a b": {"json": "x"}}},
     "@.extract['a b']: not the name of a variable (letters, digits and _)"),
    (DO, {"get": "/", "on_error": "stop"}, "@.on_error: not one of continue, end_iteration: 'stop'"),
    (DO, {"pause": {"between": ["3s", "1s"]}}, "@.pause.between: is [LOW, HIGH], the shorter one first"),
    (DO, {"repeat": 0, "do": [{"get": "/"}]}, "@.repeat: not a whole number from 1 to 1000000: 0"),
    (DO, {"repeat": 2}, "@: needs 'do'"),
    (DO, {"one_of": [{"weight": 1}]}, "@.one_of[0]: needs 'do'"),
    (DO, {"one_of": []}, "@.one_of: an empty list"),
    (DO, {"get": None}, "@.get: not a text: nothing"),
    (DO, {"get": "/", "timeout": None}, "@.timeout: has no value"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "value", "message"), PLAN_CASES + STEP_CASES + HTTP_CASES)
def test_one_thing_wrong_is_one_problem(path: tuple[str | int, ...], value: Any, message: str) -> None:
    message = message.replace("@", path_text(path), 1) if message.startswith("@") else message
    check = {"check_jmespath": lambda expression: f"bad {expression}" if expression.endswith("[") else None}
    assert problems_of(changed(path, value), **check) == [message]


def test_the_plan_that_they_are_made_from_is_right() -> None:
    assert problems_of(GOOD) == []


def test_all_of_them_come_at_once() -> None:
    document = copy.deepcopy(GOOD)
    document["steps"].append(
        {
            "load": {"stages": [{"rate": 1, "for": 1}, {"rate": 1, "for": "5 parsecs"}]},
            "http": {"base_url": "http://h", "do": [{"get": "/${A}${var.b}"}, {"gte": "/"}]},
            "wokers": 2,
        }
    )
    document["thresholds"] = ["p95 < 3", "p95(nope) < 1s"]
    document["abort_when"] = ["p95 > 3s"]
    assert problems_of(document) == [
        "steps[1].wokers: unknown key (did you mean 'workers'?)",
        "steps[1].load.stages[1].for: not a duration: '5 parsecs'",
        "steps[1].http.do[0].get: nobody defines ${A}: set it with --set A=... or in env",
        "steps[1].http.do[0].get: ${var.b}: no request extracts it (the step extracts nothing)",
        "steps[1].http.do[1]: not an action: unknown key 'gte' (did you mean 'get'?)",
        "thresholds[0]: not a duration: '3' (a time needs a unit, as '300ms')",
        "abort_when[0]: for how long? end it with 'for DURATION', as in 'error_rate > 20% for 10s'",
    ]


def test_regular_expressions_are_compiled() -> None:
    (message,) = problems_of(changed(DO, {"get": "/", "extract": {"a": {"regex": "("}}}))
    assert message.startswith("steps[0].http.do[0].extract.a.regex: not a regular expression: missing )")


def test_two_steps_have_two_names() -> None:
    document = copy.deepcopy(GOOD)
    document["steps"] = [{**GOOD["steps"][0], "name": "a"}] * 2
    assert problems_of(document) == ["steps[1].name: steps[0] is called 'a' too"]


def test_a_path_needs_a_base() -> None:
    document = changed(HTTP, {"do": [{"repeat": 2, "do": [{"get": "/x"}]}]})
    assert problems_of(document) == ["steps[0].http.do[0].do[0]: '/x' is a path, and http has no base_url"]


def test_columns_are_checked_where_the_file_is_known() -> None:
    document = changed(DO, {"get": "/${row.nmae}"})
    document["steps"][0]["data"] = {"file": "d.csv"}
    assert problems_of(document) == []
    assert problems_of(document, check_file=lambda kind, name: FileFacts(("name", "city"))) == [
        "steps[0].http.do[0].get: ${row.nmae}: the data has no such column (did you mean 'name'?)"
    ]


def test_more_workers_than_in_flight() -> None:
    document = changed(LOAD, {"rate": 5, "for": 1, "max_in_flight": 3})
    document["steps"][0]["workers"] = 4
    message = "steps[0].load.max_in_flight: 3 can't be shared out over 4 workers: raise it, or lower `workers`"
    assert problems_of(document) == [message]
    document["steps"][0]["workers"] = "auto"
    plan = load_plan(document)
    assert plan.shards_of(plan.steps[0], 8, 3) == 3
    with pytest.raises(PlanError, match="over 4 workers"):
        plan.shards_of(plan.steps[0], 8, 4)


@pytest.mark.parametrize("document", [None, 1, "x", [], True, [{}], 1.5])
def test_what_is_no_mapping_is_no_plan(document: object) -> None:
    (message,) = problems_of(document)
    assert message.startswith("not a plan (a mapping with `steps`)")


def test_problems_are_bounded() -> None:
    messages = problems_of(changed((*HTTP, "do"), [{"get": "x"}] * 600))
    assert len(messages) == 501
    assert messages[-1] == "and 100 more problems"


def test_documents_are_bounded() -> None:
    deep: Any = "x"
    for _ in range(5000):
        deep = [deep]
    assert "nested more than 60 deep" in problems_of({"steps": deep})[0]
    wide = [[0] * 1000] * 1000
    assert "more than 200000 values" in problems_of({"steps": wide})[0]
    assert problems_of({"steps": float("inf")}) == ["steps: not a finite number"]
    assert problems_of({"steps": {1: 2}}) == ["steps: not a key: 1"]
    assert problems_of({"steps": b"x"}) == ["steps: not a value that a plan can have: bytes"]
    assert problems_of({"name": "\ud800"}) == ["name: not a text that can be encoded"]
