"""What a right ``websocket:`` step becomes: the engine's scenario, defaults, series, files, waiting, warnings."""

from __future__ import annotations

from typing import Any

import pytest

from loads_queue.model.plan import Plan, Step, load_plan
from loads_queue.model.plan_step import FileFacts
from loads_queue.model.scenario import Auth, Branch, Data, Dns, Extract, OneOf, Pause, Repeat, Tls
from loads_queue.model.units import SECOND
from loads_queue.model.websocket import (
    Close,
    Every,
    Expect,
    Hold,
    Loop,
    Ping,
    Reply,
    Say,
    WebSocketScenario,
)

USERS = {"users": 2, "for": "1m"}
RATE = {"rate": 10, "for": "1m"}


def plan_of(*do: Any, load: dict[str, Any] = USERS, step: dict[str, Any] | None = None, **options: Any) -> Plan:
    check_file = options.pop("check_file", None)
    part = {"url": "ws://h/ws", "do": list(do) or [{"hold": 1}], **options}
    return load_plan({"steps": [{"load": load, "websocket": part, **(step or {})}]}, check_file=check_file)


def step_of(*do: Any, **options: Any) -> Step:
    return plan_of(*do, **options).steps[0]


def scenario_of(*do: Any, **options: Any) -> WebSocketScenario:
    return WebSocketScenario.from_wire(step_of(*do, **options).spec)


def action_of(action: dict[str, Any]) -> Any:
    (found,) = scenario_of(action).do
    return found


def warnings_of(*do: Any, **options: Any) -> list[str]:
    return [str(warning) for warning in plan_of(*do, **options).warnings]


class TestTheStep:
    def test_what_is_not_said(self) -> None:
        step = step_of({"hold": "3s"})
        assert (step.engine, step.max_in_flight, step.max_lateness_ns) == ("websocket", 10_000, 30 * SECOND)
        assert WebSocketScenario.from_wire(step.spec) == WebSocketScenario(
            "ws://h/ws", 30 * SECOND, max_message=1_048_576, do=(Hold(3 * SECOND, 3 * SECOND),)
        )

    def test_what_can_be_said(self) -> None:
        found = scenario_of(
            url="WSS://h:99/é?u=${user.number}",
            timeout="7s",
            headers={"X": "${iteration.id}"},
            auth={"bearer": "${secret.T}"},
            subprotocols=["chat.v2", "chat.v1"],
            deflate=True,
            tls={"verify": False, "ca": "ca.pem"},
            dns={"pick": "pin"},
            source_addresses=["127.0.0.2", "[::1]"],
            max_message=5,
            step={"data": {"file": "d.csv"}},
        )
        assert found == WebSocketScenario(
            url="wss://h:99/%C3%A9?u=${user.number}",
            timeout_ns=7 * SECOND,
            headers=(("X", "${iteration.id}"),),
            auth=Auth(bearer="${secret.T}"),
            subprotocols=("chat.v2", "chat.v1"),
            deflate=True,
            tls=Tls(False, "ca.pem"),
            dns=Dns(pick="pin"),
            source_addresses=("127.0.0.2", "::1"),
            max_message=5,
            data=Data("d.csv"),
            do=(Hold(SECOND, SECOND),),
        )

    def test_lateness_is_the_timeout(self) -> None:
        assert step_of(load=RATE, timeout="7s").max_lateness_ns == 7 * SECOND

    @pytest.mark.parametrize("url", ["ws://h", "wss://[::1]:8000/x?y=1", "${row.url}", "ws://${row.host}/x"])
    def test_urls(self, url: str) -> None:
        assert scenario_of(url=url, step={"data": {"file": "d.csv"}}).url == url

    def test_a_name_of_the_plan_stands_for_the_server(self) -> None:
        document = {"env": {"T": "WS://h"}, "steps": [{"websocket": {"url": "${T}/$$x", "do": [{"close": 1000}]}}]}
        assert load_plan(document).steps[0].spec["url"] == "ws://h/$$x"


class TestActions:
    @pytest.mark.parametrize(
        ("send", "kind", "value"),
        [
            ("x ${user.number}", "text", "x ${user.number}"),
            ("", "text", ""),
            (5, "text", "5"),
            ({"text": True}, "text", "true"),
            ({"json": {"a": ["${user.number}", 1, None]}}, "json", {"a": ["${user.number}", 1, None]}),
            ({"json": None}, "json", None),
            ({"binary": "3q2+\n 7w=="}, "binary", "3q2+7w=="),
            ({"binary": ""}, "binary", ""),
            ({"file": "f.bin"}, "file", "f.bin"),
            ({"text_file": "f.txt"}, "text_file", "f.txt"),
        ],
    )
    def test_messages(self, send: Any, kind: str, value: Any) -> None:
        found = action_of({"send": send})
        assert (found.kind, found.value, found.reply, found.within_ns) == (kind, value, None, None)

    def test_replies(self) -> None:
        first, second = scenario_of(
            {"send": "x", "reply": "order", "name": "n", "within": 2, "on_error": "end_iteration"},
            {"send": {"json": {"id": 1}}, "reply": {"id": "a.${b}"}},
        ).do
        assert first == Say("n", "text", "x", Reply("order"), 2 * SECOND, "end_iteration")
        assert second == Say('send {"id":1}', "json", {"id": 1}, Reply("id", "a.${b}"), None, "continue")

    @pytest.mark.parametrize(
        ("expect", "kind", "value"),
        [
            ("any", "any", None),
            ("welcome", "text", "welcome"),
            (42, "text", "42"),
            ({"text": "any"}, "text", "any"),
            ({"regex": "^$(x)"}, "regex", "^$(x)"),
            ({"json": {"a": {"exists": False}, "b": None}}, "json", {"a": {"exists": False}, "b": None}),
        ],
    )
    def test_what_is_expected(self, expect: Any, kind: str, value: Any) -> None:
        found = action_of({"expect": expect})
        assert (found.kind, found.value, found.within_ns, found.extract) == (kind, value, None, ())

    @pytest.mark.parametrize("inside", [True, False])
    def test_within_and_extract_stand_in_it_or_beside_it(self, inside: bool) -> None:
        more = {"within": "2s", "extract": {"a": {"json": "x"}, "b": {"regex": "${y}"}}}
        action = {"expect": {"text": "t", **more}} if inside else {"expect": {"text": "t"}, **more}
        extracts = (Extract("a", "json", "x"), Extract("b", "regex", "${y}"))
        assert action_of({**action, "name": "n"}) == Expect("n", "text", "t", 2 * SECOND, extracts, "continue")

    def test_within_takes_a_name_of_the_plan_where_it_stands_in_the_mapping(self) -> None:
        do = [{"expect": {"text": "t", "within": "${W}"}}]
        plan = load_plan({"steps": [{"websocket": {"url": "ws://h", "do": do}}]}, {"W": "3s"})
        assert plan.steps[0].spec["do"][0]["within_ns"] == 3 * SECOND

    @pytest.mark.parametrize(
        ("action", "expected"),
        [
            ({"hold": {"between": [1, "3s"]}}, Hold(SECOND, 3 * SECOND)),
            ({"every": "5s", "do": [{"pause": 0}]}, Every(5 * SECOND, None, (Pause(0, 0),))),
            ({"every": 5, "for": "1m", "do": [{"pause": 0}]}, Every(5 * SECOND, 60 * SECOND, (Pause(0, 0),))),
            ({"loop": 10, "do": [{"pause": 1}]}, Loop(10, None, (Pause(SECOND, SECOND),))),
            ({"loop": "10", "for": 1, "do": [{"pause": 0}]}, Loop(10, SECOND, (Pause(0, 0),))),
            ({"loop": "forever", "do": [{"ping": {}}]}, Loop(None, None, (Ping(),))),
            ({"loop": "forever", "for": "1m", "do": [{"ping": {}}]}, Loop(None, 60 * SECOND, (Ping(),))),
            ({"ping": "5s"}, Ping(5 * SECOND)),
            ({"ping": {"within": 5}}, Ping(5 * SECOND)),
            ({"close": 1000}, Close()),
            ({"close": {}}, Close()),
            ({"close": "4999"}, Close(4999)),
            ({"close": {"code": 1001, "reason": "é ${user.number}"}}, Close(1001, "é ${user.number}")),
            ({"close": {"reason": "é" * 61 + "x"}}, Close(1000, "é" * 61 + "x")),
            ({"one_of": [{"do": [{"close": 1000}]}]}, OneOf((Branch(1, (Close(),)),))),  # type: ignore[arg-type]
            ({"repeat": 2, "do": [{"ping": {}}]}, Repeat(2, (Ping(),))),  # type: ignore[arg-type]
        ],
    )
    def test_the_others(self, action: dict[str, Any], expected: object) -> None:
        assert action_of(action) == expected

    @pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 4999])
    def test_every_code_that_may_be_sent(self, code: int) -> None:
        assert action_of({"close": code}) == Close(code)


class TestNames:
    def test_a_step_has_its_own_series_and_those_of_round_trips(self) -> None:
        step = step_of(
            {"send": "first"},
            {"send": "second", "reply": "order", "name": "two"},
            {"repeat": 2, "do": [{"expect": "x", "name": "three"}, {"ping": {}}]},
            {"one_of": [{"do": [{"send": "z", "reply": "order", "name": "two"}]}, {"do": [{"expect": "any"}]}]},
        )
        assert step.series == ("connect", "two", "three", "expect any", "ping")
        assert step_of({"hold": 1}).series == ("connect",)

    @pytest.mark.parametrize(
        ("action", "name"),
        [
            ({"send": "hello ${user.number}!", "reply": "order"}, "send hello {user.number}!"),
            ({"send": "a\n\tb  c\x00d", "reply": "order"}, "send a b c d"),
            ({"send": "x" * 40, "reply": "order"}, "send " + "x" * 30),
            ({"send": " ", "reply": "order"}, "send empty"),
            ({"send": {"json": {"${": "${user.number}", "b": 'x"y'}}, "reply": {"id": "b"}},
             'send {"${":"{user.number}","b":"x\\"'),
            ({"send": {"binary": "AAAA"}, "reply": "order"}, "send binary"),
            ({"send": {"file": "a b.bin"}, "reply": "order"}, "send a b.bin"),
            ({"expect": "any"}, "expect any"),
            ({"expect": {"json": {"type": "ready"}}}, 'expect {"type":"ready"}'),
            ({"expect": {"regex": "^ok$"}}, "expect ^ok$"),
        ],
    )  # fmt: skip
    def test_without_a_name(self, action: dict[str, Any], name: str) -> None:
        assert step_of(action).series == ("connect", name)

    def test_no_two_without_a_name_are_called_alike(self) -> None:
        step = step_of(
            {"expect": "any"},
            {"expect": "any"},
            {"expect": "x", "name": "expect any #3"},
            {"expect": "any"},
            {"send": "any"},
        )
        assert [action["name"] for action in step.spec["do"]] == [
            "expect any", "expect any #2", "expect any #3", "expect any #4", "send any",
        ]  # fmt: skip

    def test_thresholds_know_them(self) -> None:
        document = {
            "thresholds": ["p95(step 1/connect) < 1s", "p95(step 1/expect any) < 1s"],
            "steps": [{"websocket": {"url": "ws://h", "do": [{"expect": "any"}]}}],
        }
        assert len(load_plan(document).thresholds) == 2

    def test_what_is_extracted_can_be_sent(self) -> None:
        for extracted in ({"expect": "any", "extract": {"v": {"json": "x"}}},
                          {"expect": {"text": "t", "extract": {"v": {"json": "x"}}}}):  # fmt: skip
            step = step_of({"every": 1, "for": 5, "do": [extracted]}, {"send": "${var.v}"})
            assert step.spec["do"][1]["value"] == "${var.v}"


class TestFiles:
    def test_they_are_named_and_asked_for(self) -> None:
        asked: list[tuple[str, str]] = []

        def check(kind: str, name: str) -> FileFacts:
            asked.append((kind, name))
            return FileFacts(("a",), 5)

        step = step_of(
            {"send": {"file": "b.bin"}},
            {"repeat": 2, "do": [{"send": {"text_file": "t.txt"}}, {"send": {"file": "b.bin"}}]},
            tls={"ca": "ca.pem"},
            step={"data": {"file": "d.csv"}},
            check_file=check,
        )
        assert step.files == ("ca.pem", "d.csv", "b.bin", "t.txt")
        assert sorted(set(asked)) == [("body", "b.bin"), ("ca", "ca.pem"), ("data", "d.csv"), ("text", "t.txt")]


class TestWarnings:
    def in_flight(self, *do: Any, limit: int) -> list[str]:
        return warnings_of(*do, load={**RATE, "max_in_flight": limit})

    @pytest.mark.parametrize(
        ("do", "pause"),
        [
            ([{"hold": "20s"}, {"pause": "10s"}], 30),
            ([{"every": "5s", "for": "30s", "do": [{"pause": "1s"}]}], 30),
            ([{"loop": 10, "do": [{"hold": {"between": [2, 4]}}]}], 30),
            ([{"loop": "forever", "for": "30s", "do": [{"pause": "1s"}]}], 30),
            ([{"loop": 10, "for": "30s", "do": [{"hold": "20s"}]}], 30),
            ([{"loop": 10, "for": "50s", "do": [{"hold": "3s"}]}], 30),
            ([{"one_of": [{"do": [{"hold": 60}]}, {"do": [{"ping": "60s"}]}]}], 30),
        ],
    )
    def test_sessions_beyond_max_in_flight(self, do: list[Any], pause: int) -> None:
        assert self.in_flight(*do, limit=10 * pause) == []
        (warning,) = self.in_flight(*do, limit=10 * pause - 1)
        assert f"10 iterations a second that pause for {pause}s are {10 * pause} in flight" in warning

    @pytest.mark.parametrize(
        "action",
        [
            {"every": "1s", "do": [{"send": "x"}]},
            {"repeat": 2, "do": [{"loop": "forever", "do": [{"pause": 1}]}]},
            {"one_of": [{"do": [{"every": 1, "do": [{"ping": {}}]}]}]},
        ],
    )
    def test_sessions_that_stay_until_the_end(self, action: dict[str, Any]) -> None:
        assert self.in_flight({"hold": "5m"}, action, limit=600) == []
        assert self.in_flight(action, limit=599) == [
            "steps[0].load.max_in_flight: all 600 iterations go on until the load ends, and max_in_flight is 599: the "
            "rest will be dropped"
        ]
        assert warnings_of(action, load={"users": 2, "iterations": 1}) == [
            "steps[0].websocket.do: goes on until the load ends, and a load of `iterations` has no end of its own: "
            "`run_max_time` ends it"
        ]
        assert warnings_of(action, load=USERS) == []

    def test_a_choice_that_may_end_has_an_end(self) -> None:
        ways = [{"do": [{"every": 1, "do": [{"send": "x"}]}]}, {"do": [{"send": "x"}]}]
        assert self.in_flight({"one_of": ways}, limit=599) == []

    def test_names_that_are_not_filled_in(self) -> None:
        text = "looked for as it is written: no names are filled in here (${var.NAME} can be sent, not expected)"
        assert warnings_of(
            {"expect": "${user.number}"}, {"expect": {"text": "x${A}"}}, {"expect": {"json": {"id": "${var.x}"}}}
        ) == [
            f"steps[0].websocket.do[0].expect: {text}",
            f"steps[0].websocket.do[1].expect.text: {text}",
            f"steps[0].websocket.do[2].expect.json: {text}",
        ]
        assert warnings_of({"expect": "5 $"}, {"expect": {"regex": r"^\$\{a\}$"}}) == []

    def test_a_name_that_names_nothing(self) -> None:
        assert warnings_of({"send": "x", "name": "n"}) == [
            "steps[0].websocket.do[0].name: names nothing: only a message with a `reply` has a series"
        ]

    def test_a_loop_in_which_nothing_waits(self) -> None:
        text = "nothing in it waits: it sends as fast as it can (pause, or expect what comes back)"
        flood = {"loop": "forever", "do": [{"send": "x"}, {"repeat": 2, "do": [{"pause": 0}]}]}
        assert warnings_of({"repeat": 3, "do": [flood]}) == [f"steps[0].websocket.do[0].do[0]: {text}"]
        assert warnings_of({"loop": 5, "do": [{"send": "x"}]}) == []
        waits: tuple[dict[str, Any], ...] = ({"expect": "any"}, {"ping": {}}, {"pause": 1}, {"hold": 1})
        for wait in waits:
            assert warnings_of({"loop": "forever", "do": [{"send": "x"}, wait]}) == []


class TestAScenarioThatIsNone:
    DO = (
        {"send": "x", "reply": "order", "within": 1},
        {"expect": {"regex": "x"}, "extract": {"a": {"json": "b"}}},
        {"every": 1, "for": 1, "do": [{"ping": 1}]},
        {"loop": 2, "for": 1, "do": [{"hold": 1}]},
        {"close": 1000},
    )

    @pytest.mark.parametrize("key", sorted(WebSocketScenario.__dataclass_fields__))
    def test_a_key_of_it(self, key: str) -> None:
        wire = dict(step_of(*self.DO).spec)
        assert key in wire
        with pytest.raises(ValueError):
            WebSocketScenario.from_wire({**wire, key: 1.5})
        del wire[key]
        with pytest.raises(ValueError):
            WebSocketScenario.from_wire(wire)

    @pytest.mark.parametrize(
        ("index", "key"),
        [(index, key) for index, action in enumerate(step_of(*DO).spec["do"]) for key in action if key != "expr"],
    )
    def test_a_key_of_an_action(self, index: int, key: str) -> None:
        wire = step_of(*self.DO).spec
        for broken in ({**wire["do"][index], key: 1.5}, {k: v for k, v in wire["do"][index].items() if k != key}):
            do = [*wire["do"][:index], broken, *wire["do"][index + 1 :]]
            with pytest.raises(ValueError):
                WebSocketScenario.from_wire({**wire, "do": do})

    @pytest.mark.parametrize(
        ("index", "changes"),
        [
            (0, {"kind": "binary", "value": "x"}),
            (0, {"kind": "file", "value": None}),
            (0, {"reply": {"by": "id"}}),
            (0, {"reply": {"by": "luck"}}),
            (0, {"within_ns": 0}),
            (1, {"value": "("}),
            (1, {"kind": "json", "value": "x"}),
            (1, {"kind": "header"}),
            (1, {"extract": [{"var": "a", "kind": "header", "expr": "b"}]}),
            (2, {"period_ns": 0}),
            (3, {"times": -1}),
            (4, {"code": 1005}),
            (4, {"code": 1012}),
            (4, {"type": "request"}),
        ],
    )
    def test_what_no_plan_makes(self, index: int, changes: dict[str, Any]) -> None:
        wire = step_of(*self.DO).spec
        do = [action if at != index else {**action, **changes} for at, action in enumerate(wire["do"])]
        with pytest.raises(ValueError):
            WebSocketScenario.from_wire({**wire, "do": do})
