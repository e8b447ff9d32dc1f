"""What a scenario decides, without a socket: a driver that answers from a table."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from engine_harness import SECOND, pause, request, scenario
from loads.workers.engines.cookies import CookieJar
from loads.workers.engines.exchange import Exchange, Rest
from loads.workers.engines.http1 import HeadParser
from loads.workers.engines.scenario_run import Scenario, Walk
from loads.workers.engines.variables import Fixed, Visit

from loads_queue.model.scenario import HttpScenario

BASE = "http://shop.test:8000"
JSON, FORM = b"application/json", b"application/x-www-form-urlencoded"
Answer = tuple[int, list[str], bytes]
FIXED = Fixed("run-1", "browse", {"RUN_ID": "run-1"}, {"TOKEN": "s3cret"}, 7)


@dataclass
class Drive:
    """What a scenario did, and what became of it."""

    answers: Callable[[str, str], Answer]
    wires: list[tuple[str, bytes]] = field(default_factory=list)
    settled: list[Exchange] = field(default_factory=list)
    rests: list[int] = field(default_factory=list)
    jar: CookieJar = field(default_factory=CookieJar)
    kept: dict[str, Any] = field(default_factory=dict)
    now: int = 0

    def run(self, spec: dict[str, Any], user: int = 3, number: int = 0, row: dict[str, Any] | None = None) -> bool:
        visit = Visit(FIXED, user, number, row or {}, dict(self.kept), number == 0)
        walk = Walk(Scenario(HttpScenario.from_wire(spec), lambda: 1000), self.settled.append)
        walk.begin(visit, self.jar, self.kept)
        while (effect := walk.step()) is not None:
            if isinstance(effect, Rest):
                self.rests.append(effect.duration_ns)
            elif effect.error is None:
                self._answer(effect)
        return walk.ok

    def _answer(self, x: Exchange) -> None:
        assert x.origin is not None
        self.wires.append((x.origin.authority, x.wire))
        x.due, x.sent, self.now = self.now, self.now, self.now + SECOND
        x.ended = self.now
        status, headers, body = self.answers(x.method, x.wire.split(b" ")[1].decode())
        block = "\r\n".join((f"HTTP/1.1 {status} X", *headers)).encode("latin-1")
        x.status, x.head, x.body = status, HeadParser().parse(block), body if x.keep_body else b""

    @property
    def lines(self) -> list[str]:
        return [wire.decode().partition(" HTTP/1.1")[0] for _, wire in self.wires]

    @property
    def errors(self) -> list[str | None]:
        return [x.error for x in self.settled]


def ok(method: str, target: str) -> Answer:
    return 200, [], b"fine"


def drive(spec: dict[str, Any], answers: Callable[[str, str], Answer] = ok, **how: Any) -> tuple[Drive, bool]:
    found = Drive(answers)
    return found, found.run(spec, **how)


def one(action: dict[str, Any], answers: Callable[[str, str], Answer] = ok, **how: Any) -> Drive:
    return drive(scenario(BASE, action), answers, **how)[0]


class TestRequests:
    def test_the_simplest_one(self) -> None:
        found, passed = drive(scenario(BASE))
        assert passed
        assert found.wires == [
            (
                "shop.test:8000",
                b"GET / HTTP/1.1\r\nHost: shop.test:8000\r\nUser-Agent: loads-cluster\r\n"
                b"Accept-Encoding: gzip, deflate\r\n\r\n",
            )
        ]

    @pytest.mark.parametrize(
        ("body", "sent", "kind"),
        [
            ({"kind": "json", "value": {"id": "${row.id}", "s": "a${row.id}"}}, b'{"id":7,"s":"a7"}', JSON),
            ({"kind": "form", "value": [["a b", "${row.id}"], ["c", "&=ü"]]}, b"a+b=7&c=%26%3D%C3%BC", FORM),
            ({"kind": "raw", "value": "x${row.id}$${y}"}, b"x7${y}", None),
        ],
    )  # fmt: skip
    def test_bodies(self, body: dict[str, Any], sent: bytes, kind: bytes | None) -> None:
        found = one(request("/", method="PUT", body=body), row={"id": 7})
        head, _, content = found.wires[0][1].partition(b"\r\n\r\n")
        assert content == sent
        assert b"Content-Length: %d" % len(sent) in head
        assert (kind is None) == (b"Content-Type" not in head)
        assert kind is None or b"Content-Type: " + kind in head

    def test_a_post_without_a_body_says_so(self) -> None:
        assert b"Content-Length: 0\r\n" in one(request("/", method="POST")).wires[0][1]
        assert b"Content-Length" not in one(request("/", method="DELETE")).wires[0][1]

    def test_headers_of_the_request_beat_those_of_the_step(self) -> None:
        action = request("/", headers=[["accept", "b"], ["User-Agent", "me"]])
        found = drive(scenario(BASE, action, headers=[["Accept", "a"], ["X", "${iteration.id}"]]))[0]
        lines = found.wires[0][1].decode().split("\r\n")
        assert "accept: b" in lines and "User-Agent: me" in lines
        assert any(re.fullmatch("X: run-1-[0-9a-f]{8}-3-0", line) for line in lines)
        assert sum(line.lower().startswith("accept:") for line in lines) == 1

    @pytest.mark.parametrize(
        ("auth", "sent"),
        [
            ({"basic": ["u", "${secret.TOKEN}"]}, b"Basic dTpzM2NyZXQ="),
            ({"bearer": "${secret.TOKEN}"}, b"Bearer s3cret"),
        ],
    )
    def test_credentials(self, auth: dict[str, Any], sent: bytes) -> None:
        assert b"Authorization: " + sent + b"\r\n" in one(request("/", auth=auth)).wires[0][1]
        found = drive(scenario(BASE, auth=auth))[0]
        assert b"Authorization: " + sent + b"\r\n" in found.wires[0][1]

    def test_names_and_functions(self) -> None:
        url = "/${user.number}/${iteration.number}/${RUN_ID}/${fn.random_int(5, 5)}/${fn.base64('ab')}"
        assert one(request(url)).lines == ["GET /3/0/run-1/5/YWI="]
        assert len(one(request("/${fn.uuid()}")).lines[0]) == len("GET /") + 36

    def test_what_a_url_can_not_have_is_encoded(self) -> None:
        assert one(request("/${row.q}?a=${row.q}"), row={"q": "ü b%20"}).lines == ["GET /%C3%BC%20b%20?a=%C3%BC%20b%20"]

    def test_another_host_by_a_whole_url(self) -> None:
        assert one(request("http://${row.host}/x"), row={"host": "Other.test:81"}).wires[0][0] == "other.test:81"


class TestRefused:
    @pytest.mark.parametrize(
        ("action", "error"),
        [
            (request("/", headers=[["X-Id", "${row.bad}"]]), "refused: a line break in the header X-Id"),
            (request("/${row.bad}"), "refused: a character that a URL can't have"),
            (request("/", auth={"bearer": "${row.bad}"}), "refused: a line break in the header Authorization"),
            (request("/${var.nothing}"), "template: var.nothing has no value"),
            (request("${row.bad}"), "refused: a character that a URL can't have"),
            (request("http://${row.odd}/"), "refused: not a host in the URL"),
        ],
    )
    def test_it_is_a_failed_request_of_which_nothing_was_sent(self, action: dict[str, Any], error: str) -> None:
        found, passed = drive(scenario(BASE, action), row={"bad": "a\r\nInjected: b", "odd": "a b"})
        assert not passed and found.wires == []
        assert found.errors == [error] and found.settled[0].sent == 0


class TestJudgement:
    @pytest.mark.parametrize(("status", "passes"), [(200, True), (399, True), (400, False), (503, False)])
    def test_the_default_is_any_good_status(self, status: int, passes: bool) -> None:
        found, passed = drive(scenario(BASE), lambda method, target: (status, [], b""))
        assert passed is passes
        assert found.errors == [None if passes else f"status: {status}"]
        assert found.settled[0].checks is None

    def test_checks_are_all_made_and_the_first_failure_names_the_error(self) -> None:
        wanted = {"items[0].id": 7, "none": {"exists": False}, "items": {"exists": True}}
        check = {"status": [200, [300, 304]], "body": "items", "json": wanted, "max_time_ns": SECOND // 2}
        good = json.dumps({"items": [{"id": 7}]}).encode()
        x = one(request(check=check), lambda method, target: (304, [], good)).settled[0]
        names = ["status", "body", "json items[0].id", "json none", "json items"]
        assert x.checks == [*((name, True) for name in names), ("max_time", False)]
        assert x.error == "check: max_time"
        x = one(request(check={**check, "max_time_ns": None}), lambda method, target: (500, [], b"{")).settled[0]
        assert x.error == "status: 500"
        assert [passed for _, passed in x.checks or ()] == [False] * 5

    def test_one_is_not_true(self) -> None:
        check = {"json": {"a": True}}
        assert one(request(check=check), lambda method, target: (200, [], b'{"a": 1}')).errors == ["check: json a"]

    def test_what_is_extracted_is_there_for_the_next_request(self) -> None:
        extract = [
            {"var": "id", "kind": "json", "expr": "items[0].id"},
            {"var": "word", "kind": "regex", "expr": '"word-([a-z]+)"'},
            {"var": "tag", "kind": "header", "expr": "ETag"},
        ]
        page = b'{"items": [{"id": 9}], "x": "word-abc"}'
        then = request("/${var.word}/${var.tag}/${var.id}")
        found, passed = drive(scenario(BASE, request(extract=extract), then), lambda *_: (200, ["ETag: t1"], page))
        assert passed and found.lines[1] == "GET /abc/t1/9"

    def test_what_can_not_be_extracted_fails_both_requests(self) -> None:
        extract = [{"var": "word", "kind": "regex", "expr": "nowhere"}]
        found, passed = drive(scenario(BASE, request(extract=extract), request("/${var.word}")))
        assert not passed and found.errors == ["extract: word", "template: var.word has no value"]

    def test_types_survive_extraction(self) -> None:
        extract = [{"var": "id", "kind": "json", "expr": "id"}]
        body = {"kind": "json", "value": {"id": "${var.id}"}}
        found, passed = drive(
            scenario(BASE, request(extract=extract), request("/", method="POST", body=body)),
            lambda method, target: (200, [], b'{"id": [1, null]}'),
        )
        assert passed and found.wires[1][1].endswith(b'{"id":[1,null]}')

    def test_an_extraction_that_fails_forgets_what_was_there(self) -> None:
        extract = [{"var": "a", "kind": "header", "expr": "A"}]
        answers = iter([["A: 1"], []])
        found, _ = drive(
            scenario(BASE, request(extract=extract), request(extract=extract), request("/${var.a}")),
            lambda method, target: (200, next(answers), b""),
        )
        assert found.errors == [None, "extract: a", "template: var.a has no value"]

    def test_a_deep_document_is_no_crash(self) -> None:
        check = {"json": {"a": {"exists": True}}}
        deep = b"[" * 100_000
        assert one(request(check=check), lambda method, target: (200, [], deep)).errors == ["check: json a"]


class TestFlow:
    def test_going_on_after_an_error_or_not(self) -> None:
        def fails(method: str, target: str) -> Answer:
            return 500, [], b""

        found, passed = drive(scenario(BASE, request("/a"), request("/b")), fails)
        assert not passed and found.lines == ["GET /a", "GET /b"]
        found, passed = drive(scenario(BASE, request("/a", on_error="end_iteration"), request("/b")), fails)
        assert not passed and found.lines == ["GET /a"]

    def test_repeat_and_pause(self) -> None:
        spec = scenario(BASE, {"type": "repeat", "times": 3, "do": [request("/a"), pause(0.5)]}, request("/b"))
        found, passed = drive(spec)
        assert passed and found.lines == ["GET /a"] * 3 + ["GET /b"]
        assert found.rests == [SECOND // 2] * 3

    def test_pauses_are_spread_and_the_same_for_the_same_seed(self) -> None:
        spread = {"type": "pause", "low_ns": SECOND, "high_ns": 3 * SECOND}
        spec = scenario(BASE, {"type": "repeat", "times": 50, "do": [spread]})
        first, again = drive(spec)[0].rests, drive(spec)[0].rests
        assert first == again != drive(spec, user=4)[0].rests
        assert min(first) >= SECOND and max(first) <= 3 * SECOND and len(set(first)) > 40

    def test_choices_follow_their_weights(self) -> None:
        ways = [
            {"weight": 3, "do": [request("/a")]},
            {"weight": 1, "do": [request("/b")]},
            {"weight": 0, "do": [request("/c")]},
        ]
        found, _ = drive(scenario(BASE, {"type": "repeat", "times": 400, "do": [{"type": "one_of", "branches": ways}]}))
        count = found.lines.count("GET /a")
        assert 260 <= count <= 340 and count + found.lines.count("GET /b") == 400

    def test_before_comes_once_and_what_it_extracts_stays(self) -> None:
        login = request("/login", extract=[{"var": "t", "kind": "header", "expr": "T"}])
        spec = scenario(BASE, request("/${var.t}"), before=[login])
        found = Drive(lambda method, target: (200, ["T: abc"], b""))
        assert found.run(spec, number=0) and found.run(spec, number=1)
        assert found.lines == ["GET /login", "GET /abc", "GET /abc"]


class TestRedirects:
    @pytest.mark.parametrize(
        ("status", "method", "then"),
        [
            (301, "POST", "GET"), (302, "POST", "GET"), (303, "POST", "GET"), (303, "PUT", "GET"),
            (303, "HEAD", "HEAD"),
            (301, "GET", "GET"), (302, "PUT", "PUT"), (307, "POST", "POST"), (308, "PUT", "PUT"),
        ],
    )  # fmt: skip
    def test_methods_as_browsers_rewrite_them(self, status: int, method: str, then: str) -> None:
        def answers(asked: str, target: str) -> Answer:
            return (status, ["Location: ../b?c=d#e"], b"") if target == "/x/y/a" else (200, [], b"")

        body = None if method in ("GET", "HEAD") else {"kind": "json", "value": 1}
        found, passed = drive(scenario(BASE, request("/x/y/a", method=method, body=body)), answers)
        assert passed and found.lines == [f"{method} /x/y/a", f"{then} /x/b?c=d"]
        assert found.wires[1][1].endswith(b"\r\n\r\n1") == (then == method and body is not None)
        assert (b"Content-Type" in found.wires[1][1]) == (then == method and body is not None)
        assert [x.hop for x in found.settled] == [False, True]

    def test_credentials_and_cookies_stay_with_their_host(self) -> None:
        def answers(method: str, target: str) -> Answer:
            to = {"/a": "http://other.test/b", "/b": f"{BASE}/c"}.get(target)
            return (302, [f"Location: {to}", "Set-Cookie: s=1"], b"") if to else (200, [], b"")

        headers = [["Authorization", "mine"], ["Cookie", "own=1"], ["X-Kept", "yes"]]
        found, passed = drive(scenario(BASE, request("/a", headers=headers)), answers)
        assert passed
        assert [host for host, _ in found.wires] == ["shop.test:8000", "other.test", "shop.test:8000"]
        first, second, third = (wire.decode() for _, wire in found.wires)
        assert "Authorization: mine" in first and "Cookie: own=1" in first
        for hop in (second, third):
            assert "Authorization" not in hop and "own=1" not in hop and "X-Kept: yes" in hop
        assert "Cookie" not in second and "Cookie: s=1\r\n" in third

    def test_too_many_and_none(self) -> None:
        def answers(method: str, target: str) -> Answer:
            return 302, [f"Location: {target}x"], b""

        found, passed = drive(scenario(BASE, redirects=2), answers)
        assert not passed and found.errors == [None, None, "redirect: more than 2"]
        found, passed = drive(scenario(BASE, redirects=0), answers)
        assert passed and found.lines == ["GET /"]

    def test_a_redirect_without_a_place_is_an_answer(self) -> None:
        assert drive(scenario(BASE), lambda method, target: (302, [], b""))[1]

    def test_a_place_in_utf8(self) -> None:
        where = "/é".encode().decode("latin-1")
        found, _ = drive(
            scenario(BASE),
            lambda method, target: (302, [f"Location: {where}"], b"") if target == "/" else (200, [], b""),
        )
        assert found.lines[1] == "GET /%C3%A9"


class TestCookies:
    def test_they_come_back_beside_the_plans_own(self) -> None:
        spec = scenario(BASE, request("/a"), request("/b", headers=[["Cookie", "own=1"]]))
        found, _ = drive(spec, lambda method, target: (200, ["Set-Cookie: s=1; Path=/", "Set-Cookie: t=ü"], b""))
        assert b"Cookie: own=1; s=1; t=\xfc\r\n" in found.wires[1][1]
