"""What is wrong with a ``websocket:`` step, case by case: the path and the message that the user sees."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from loads.scheduler.plan_files import PlanFiles

from loads_queue.model.plan import load_plan
from loads_queue.model.problems import PlanError, path_text

GOOD: dict[str, Any] = {
    "steps": [{"load": {"rate": 5, "for": "10s"}, "websocket": {"url": "ws://h/ws", "do": [{"send": "x"}]}}],
}
Case = tuple[tuple[str | int, ...], Any, str]
"""Where, what is put there, and the problem; ``@`` is the path of where."""
WS = ("steps", 0, "websocket")
DO = (*WS, "do", 0)
ALL = (*WS, "do")
CODES = "not a close code that may be sent, which are 1000 to 1003, 1007 to 1011 and 3000 to 4999"
VERBS = "send, expect, hold, every, loop, ping, close, pause, one_of, repeat"
CLOSES = "is never reached: what stands before it closes the session"
GOES_ON = "is never reached: what stands before it goes on until the load ends: give it `for`"
CLOSE = {"close": 1000}
PASS: list[Any] = [{"ping": {}}]
FOREVER = {"loop": "forever", "do": PASS}


def problems_of(document: object, **options: Any) -> list[str]:
    try:
        load_plan(document, **options)
    except PlanError as error:
        return [str(problem) for problem in error.problems]
    return []


def changed(path: tuple[str | int, ...], value: Any) -> dict[str, Any]:
    """The good plan with one value replaced or added."""
    document = copy.deepcopy(GOOD)
    place: Any = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return document


STEP_CASES: list[Case] = [
    (WS, [], "@: not a mapping: a list"),
    (WS, {"url": "ws://h"}, "@: needs 'do'"),
    (WS, {"do": [CLOSE]}, "@: needs 'url'"),
    ((*WS, "urll"), 1, "@: unknown key (did you mean 'url'?)"),
    ((*WS, "proxy"), 1, "@: not supported by this version"),
    (("steps", 0, "http"), {"do": [{"get": "http://h/"}]},
     "steps[0].websocket: a step has one engine, and this one has 'http' too: make two steps"),
    ((*WS, "url"), "http://h/ws", "@: ws://, not http://: 'http://h/ws'"),
    ((*WS, "url"), "HTTPS://h/ws", "@: wss://, not https://: 'HTTPS://h/ws'"),
    ((*WS, "url"), "/ws", "@: not a ws:// or wss:// URL: '/ws'"),
    ((*WS, "url"), "h:80", "@: not a ws:// or wss:// URL: 'h:80'"),
    ((*WS, "url"), "", "@: an empty URL"),
    ((*WS, "url"), "ws://", "@: not a host and port: '' in 'ws://'"),
    ((*WS, "url"), "ws://h:99999/", "@: not a URL: 'ws://h:99999/' (Port out of range 0-65535)"),
    ((*WS, "url"), "ws://h/#x", "@: a fragment (#...) is never sent: leave it out"),
    ((*WS, "url"), "ws://u:p@h/", "@: a URL has no user and password in it: use `auth: {basic: [USER, PASSWORD]}`"),
    ((*WS, "url"), "ws://h/${row.x}", "@: ${row.x}: the step has no data"),
    ((*WS, "url"), "${T}/ws", "@: nobody defines ${T}: set it with --set T=... or in env"),
    ((*WS, "timeout"), 0, "@: not a duration longer than nothing: 0"),
    ((*WS, "headers"), {"Upgrade": "x"}, "@.Upgrade: the handshake sets this header itself"),
    ((*WS, "headers"), {"sec-webSocket-key": "x"}, "@.sec-webSocket-key: the handshake sets this header itself"),
    ((*WS, "headers"), {"Sec-WebSocket-Protocol": "x"},
     "@.Sec-WebSocket-Protocol: the handshake sets this header itself: use `subprotocols`"),
    ((*WS, "headers"), {"a b": "x"}, "@['a b']: not a header's name"),
    ((*WS, "auth"), {}, "@: needs either basic or bearer"),
    ((*WS, "tls"), {"cert": "x"}, "@: cert and key go together"),
    ((*WS, "dns"), {"pick": "x"}, "@.pick: not one of rotate, pin: 'x'"),
    ((*WS, "deflate"), "on", "@: not true or false: 'on'"),
    ((*WS, "subprotocols"), ["a b"], "@[0]: not a subprotocol (letters, digits and some marks, as chat.v2): 'a b'"),
    ((*WS, "subprotocols"), ["a", "b", "a"], "@[2]: stands twice: 'a'"),
    ((*WS, "subprotocols"), [], "@: an empty list"),
    ((*WS, "source_addresses"), ["127.0.0.1:80"], "@[0]: not an IP address, without a port: '127.0.0.1:80'"),
    ((*WS, "source_addresses"), ["::1", "h", "[::1]"], "@[1]: not an IP address, without a port: 'h'\n"
     "steps[0].websocket.source_addresses[2]: stands twice: '::1'"),
    ((*WS, "max_message"), 0, "@: not a whole number from 1 to 67108864: 0"),
    ((*WS, "max_message"), 67108865, "@: not a whole number from 1 to 67108864: 67108865"),
    ((*WS, "max_message"), "1MiB", "@: not a whole number: '1MiB'"),
    (ALL, [], "@: an empty list"),
]  # fmt: skip
ACTION_CASES: list[Case] = [
    (DO, {}, f"@: not an action: it has one of {VERBS}"),
    (DO, "ping", f"@: not an action: 'ping' (it has one of {VERBS})"),
    (DO, {"sned": "x"}, "@: not an action: unknown key 'sned' (did you mean 'send'?)"),
    (DO, {"get": "/"}, f"@.get: an action of `http:` steps (here: {VERBS})"),
    (DO, {"send": "x", "expect": "y"}, "@: send and expect are two actions: write two items"),
    (DO, {"send": "x", "checks": 1},
     "@.checks: unknown key (known: name, on_error, reply, send, within)"),
    (DO, {"send": "x", "check": {}}, "@.check: not supported by this version"),
    (DO, {"send": None}, "@.send: not a text: nothing"),
    (DO, {"send": ["x"]}, "@.send: not a text: a list"),
    (DO, {"send": {}}, "@.send: a message is one of text, json, binary, file, text_file"),
    (DO, {"send": {"text": "x", "json": 1}}, "@.send: a message is one of text, json, binary, file, text_file"),
    (DO, {"send": {"jsn": 1}}, "@.send.jsn: unknown key (did you mean 'json'?)"),
    (DO, {"send": "${var.x}"}, "@.send: ${var.x}: no request extracts it (the step extracts nothing)"),
    (DO, {"send": {"json": {"a": ["${"]}}},
     "@.send.json.a[0]: no name after '${' (write '$${' where the target should see it)"),
    (DO, {"send": {"binary": "abc"}}, "@.send.binary: not base64: 'abc'"),
    (DO, {"send": {"binary": "ab=c"}}, "@.send.binary: not base64: 'ab=c'"),
    (DO, {"send": {"binary": "é"}}, "@.send.binary: not base64: 'é'"),
    (DO, {"send": {"binary": 1234}}, "@.send.binary: not base64: 1234"),
    (DO, {"send": {"file": "${row.f}"}}, "@.send.file: '${row.f}': what stands here must be known before the run"),
    (DO, {"send": "x", "within": 1}, "@.within: goes with `reply`: nothing is waited for without one"),
    (DO, {"send": "x", "reply": "order", "within": 0}, "@.within: not a duration longer than nothing: 0"),
    (DO, {"send": "x", "reply": "odrer"}, "@.reply: not order or {id: JMESPATH}: 'odrer'"),
    (DO, {"send": "x", "reply": "odrer", "within": 1}, "@.reply: not order or {id: JMESPATH}: 'odrer'"),
    (DO, {"send": "x", "reply": {}}, "@.reply: needs 'id'"),
    (DO, {"send": "5", "reply": {"id": "a["}}, "@.reply.id: not a JMESPath expression: bad a["),
    (DO, {"send": "x", "reply": {"id": "a"}},
     "@.reply: the id of a message is found in JSON, and this one is none: use `reply: order`"),
    (DO, {"send": {"binary": "AAAA"}, "reply": {"id": "a"}},
     "@.reply: the id of a message is found in JSON, and this one is none: use `reply: order`"),
    (DO, {"send": "x", "reply": "order", "name": "connect"},
     "@.name: 'connect' is a series of the engine's own: choose another name"),
    (DO, {"expect": "any", "name": "ping"}, "@.name: 'ping' is a series of the engine's own: choose another name"),
    (DO, {"send": "x", "on_error": "stop"}, "@.on_error: not one of continue, end_iteration: 'stop'"),
    (DO, {"expect": None}, "@.expect: has no value"),
    (DO, {"expect": ["x"]}, "@.expect: not a text: a list"),
    (DO, {"expect": {}},
     "@.expect: needs one of text, regex, json (any message is `expect: any`, the rest beside it)"),
    (DO, {"expect": {"within": 1}},
     "@.expect: needs one of text, regex, json (any message is `expect: any`, the rest beside it)"),
    (DO, {"expect": {"text": "x", "regex": "x"}},
     "@.expect: needs one of text, regex, json (any message is `expect: any`, the rest beside it)"),
    (DO, {"expect": {"txt": "x"}}, "@.expect.txt: unknown key (did you mean 'text'?)"),
    (DO, {"expect": {"text": "x", "name": "y"}},
     "@.expect.name: unknown key (known: extract, json, regex, text, within)"),
    (DO, {"expect": {"json": {}}}, "@.expect.json: an empty mapping"),
    (DO, {"expect": {"json": {"a[": 1}}}, "@.expect.json['a[']: not a JMESPath expression: bad a["),
    (DO, {"expect": {"json": {"a": {"exists": 1}}}}, "@.expect.json.a.exists: not true or false: 1"),
    (DO, {"expect": {"text": "x", "within": 0}}, "@.expect.within: not a duration longer than nothing: 0"),
    (DO, {"expect": "x", "within": "2 parsecs"}, "@.within: not a duration: '2 parsecs'"),
    (DO, {"expect": {"text": "x", "within": 1}, "within": 2}, "@.within: stands in `expect` too: write it once"),
    (DO, {"expect": {"text": "x", "extract": {"a": {"json": "b"}}}, "extract": {"c": {"json": "d"}}},
     "@.extract: stands in `expect` too: write it once"),
    (DO, {"expect": "x", "extract": {"a": {"header": "b"}}}, "@.extract.a.header: unknown key (known: json, regex)"),
    (DO, {"expect": "x", "extract": {"a": {}}}, "@.extract.a: needs one of json and regex"),
    (DO, {"hold": {"between": [2, 1]}}, "@.hold.between: is [LOW, HIGH], the shorter one first"),
    (DO, {"hold": None}, "@.hold: has no value"),
    (DO, {"every": 5}, "@: needs 'do'"),
    (DO, {"every": 0, "do": PASS}, "@.every: not a duration longer than nothing: 0"),
    (DO, {"every": 5, "do": []}, "@.do: an empty list"),
    (DO, {"loop": "forver", "do": PASS}, "@.loop: not forever, or a whole number from 1 to 1000000: 'forver'"),
    (DO, {"loop": 0, "do": PASS}, "@.loop: not forever, or a whole number from 1 to 1000000: 0"),
    (DO, {"loop": 2}, "@: needs 'do'"),
    (DO, {"loop": 2, "do": [{"hodl": 1}]}, "@.do[0]: not an action: unknown key 'hodl' (did you mean 'hold'?)"),
    (DO, {"ping": None}, "@.ping: has no value: write `ping: {}`, or how long to wait for the pong"),
    (DO, {"ping": 0}, "@.ping: not a duration longer than nothing: 0"),
    (DO, {"ping": {"within": 0}}, "@.ping.within: not a duration longer than nothing: 0"),
    (DO, {"close": None}, "@.close: has no value"),
    *((DO, {"close": code}, f"@.close: {CODES}: {code}") for code in (0, 999, 1004, 1005, 1006, 1012, 1015, 2999)),
    (DO, {"close": 5000}, f"@.close: {CODES}: 5000"),
    (DO, {"close": "bye"}, f"@.close: {CODES}: 'bye'"),
    (DO, {"close": {"code": 1015}}, f"@.close.code: {CODES}: 1015"),
    (DO, {"close": {"reason": "é" * 62}}, "@.close.reason: 124 bytes: a close frame has room for 123"),
    (DO, {"close": {"raeson": "x"}}, "@.close.raeson: unknown key (did you mean 'reason'?)"),
    (DO, {"one_of": [{"do": [{"post": "/"}]}]}, f"@.one_of[0].do[0].post: an action of `http:` steps (here: {VERBS})"),
]  # fmt: skip
END_CASES: list[Case] = [
    (ALL, [CLOSE, CLOSE, CLOSE], f"@[1]: {CLOSES}"),
    (ALL, [{"repeat": 2, "do": [{"send": "x"}, CLOSE, {"send": "y"}]}], f"@[0].do[2]: {CLOSES}"),
    (ALL, [{"repeat": 2, "do": [CLOSE]}, {"send": "x"}], f"@[1]: {CLOSES}"),
    (ALL, [{"one_of": [{"do": [CLOSE]}, {"do": [FOREVER]}]}, {"send": "x"}], f"@[1]: {CLOSES}"),
    (ALL, [FOREVER, {"send": "x"}], f"@[1]: {GOES_ON}"),
    (ALL, [{"every": 1, "do": PASS}, {"send": "x"}], f"@[1]: {GOES_ON}"),
    (ALL, [{"loop": 2, "do": [FOREVER]}, {"send": "x"}], f"@[1]: {GOES_ON}"),
    # What is wrong with `for` is that one thing: it does not make the loop endless too.
    (ALL, [{**FOREVER, "for": "x"}, {"send": "x"}], "@[0].for: not a duration: 'x'"),
    (ALL, [{"every": 1, "for": 0, "do": PASS}, {"send": "x"}], "@[0].for: not a duration longer than nothing: 0"),
    (ALL, [{**FOREVER, "loop": "x"}, {"send": "x"}],
     "@[0].loop: not forever, or a whole number from 1 to 1000000: 'x'"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "value", "message"), STEP_CASES + ACTION_CASES + END_CASES)
def test_one_thing_wrong_is_one_problem(path: tuple[str | int, ...], value: Any, message: str) -> None:
    message = path_text(path) + message.removeprefix("@") if message.startswith("@") else message
    check = {"check_jmespath": lambda expression: f"bad {expression}" if expression.endswith("[") else None}
    assert "\n".join(problems_of(changed(path, value), **check)) == message


@pytest.mark.parametrize(
    "do",
    [
        [{"one_of": [{"do": [CLOSE]}, {"do": [{"send": "y"}]}]}, {"send": "x"}],
        [{"every": 1, "for": 5, "do": [CLOSE]}, {"send": "x"}],
        [{**FOREVER, "for": 1}, CLOSE],
        [{"loop": 2, "do": PASS}, FOREVER],
    ],
)
def test_what_may_be_reached_is_right(do: list[Any]) -> None:
    assert problems_of(changed(ALL, do)) == []


def test_regular_expressions_are_compiled() -> None:
    for action, place in (
        ({"expect": {"regex": "("}}, "expect.regex"),
        ({"expect": "x", "extract": {"a": {"regex": "("}}}, "extract.a.regex"),
    ):
        (message,) = problems_of(changed(DO, action))
        assert message.startswith(f"steps[0].websocket.do[0].{place}: not a regular expression: missing )")


def test_an_http_step_says_whose_action_it_is() -> None:
    for verb in ("send", "expect", "hold", "every", "loop", "ping", "close"):
        document = {"steps": [{"http": {"base_url": "http://h", "do": [{verb: 1}]}}]}
        (message,) = problems_of(document)
        assert message.startswith(f"steps[0].http.do[0].{verb}: an action of `websocket:` steps (here: get, ")


def test_all_of_them_come_at_once() -> None:
    do = [
        {"send": {"binary": "x"}, "within": 1},
        {"expect": {"text": "x", "within": 0}},
        {"loop": 2, "do": [{"close": 1005}, {"gte": 1}]},
        CLOSE,
        {"send": "${var.q}"},
    ]
    document = {"steps": [{"http": {"do": [{"get": "x"}]}, "websocket": {"url": "http://h", "do": do, "zzz": 1}}]}
    assert problems_of(document) == [
        "steps[0].http.do[0].get: not a path from / or an http:// or https:// URL: 'x'",
        "steps[0].websocket: a step has one engine, and this one has 'http' too: make two steps",
        "steps[0].websocket.zzz: unknown key (known: auth, deflate, dns, do, headers, max_message, source_addresses, "
        "subprotocols, timeout, tls, url)",
        "steps[0].websocket.url: ws://, not http://: 'http://h'",
        "steps[0].websocket.do[0].within: goes with `reply`: nothing is waited for without one",
        "steps[0].websocket.do[0].send.binary: not base64: 'x'",
        "steps[0].websocket.do[1].expect.within: not a duration longer than nothing: 0",
        f"steps[0].websocket.do[2].do[0].close: {CODES}: 1005",
        f"steps[0].websocket.do[2].do[1]: not an action: it has one of {VERBS}",
        "steps[0].websocket.do[4].send: ${var.q}: no request extracts it (the step extracts nothing)",
        f"steps[0].websocket.do[4]: {CLOSES}",
    ]


def test_a_step_needs_one_engine() -> None:
    assert problems_of({"steps": [{"load": {"rate": 1, "for": 1}}]}) == ["steps[0]: needs an engine: http or websocket"]


def test_a_threshold_on_a_series_that_is_none() -> None:
    document = {**changed(DO, {"expect": "any"}), "thresholds": ["p95(step 1/conect) < 1s"]}
    assert problems_of(document) == [
        "thresholds[0]: step 'step 1' has no requests called 'conect' (did you mean 'connect'?)"
    ]


def test_files_that_are_missing_have_their_place(tmp_path: Path) -> None:
    document = changed(ALL, [{"send": {"file": "no.bin"}}, {"repeat": 2, "do": [{"send": {"text_file": "no.txt"}}]}])
    document["steps"][0]["websocket"]["tls"] = {"ca": "no.pem"}
    found = problems_of(document, check_file=PlanFiles(tmp_path).check)
    assert [each.partition(" (looked")[0] for each in found] == [
        "steps[0].websocket.tls.ca: no such file: 'no.pem'",
        "steps[0].websocket.do[0].send.file: no such file: 'no.bin'",
        "steps[0].websocket.do[1].do[0].send.text_file: no such file: 'no.txt'",
    ]
