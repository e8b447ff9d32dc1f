"""Following a run from elsewhere: a scheduler that is away, an abort that must get through, and words for people."""

from __future__ import annotations

import http.server
import json
import signal
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
from api_harness import PLAN, Api
from loads.scheduler import live_wire
from loads.scheduler.client import follow
from loads.scheduler.client.server import Server, ServerError, path_of, server_of
from loads.scheduler.interrupts import Interrupts
from loads.scheduler.live_data import now_of
from loads.scheduler.results import summary
from loads.scheduler.view import RunView

from loads_queue.address import Address, find_server, kept_token, remove_address, write_address
from loads_queue.model.problems import PlanError
from loads_queue.settings import read_settings

AWAY = ServerError("no answer")


class Script:
    """A server whose answers were written before: values, or exceptions that are raised."""

    url = "http://scripted"

    def __init__(self, **answers: list[Any]) -> None:
        self.answers = answers
        self.asked: list[str] = []

    def get(self, path: str, **_: object) -> Any:
        return self._next(path.rpartition("/")[2])

    def post(self, path: str, **_: object) -> Any:
        return self._next(path.rpartition("/")[2])

    def _next(self, name: str) -> Any:
        self.asked.append(name)
        answers = self.answers[name]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer() if callable(answer) else answer


def live(state: str, final: bool = False) -> Mapping[str, Any]:
    return {"state": state, "final": final, "now": None}


SUMMARY = {**summary(RunView("r", state="finished")), "verdict": "passed", "exit_code": 0}


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "POLL_S", 0.0)


def test_a_scheduler_that_is_away_for_a_while_is_waited_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    server = Script(live=[live("running"), AWAY, AWAY, live("running"), live("finished", True)], summary=[SUMMARY])
    assert follow.follow(server, "r", tmp_path / "out") == 0  # type: ignore[arg-type]
    shown = capsys.readouterr().out
    assert shown.count("waiting for the scheduler") == 1 and "answers again" in shown
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["verdict"] == "passed"


def test_one_that_stays_away_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "AWAY_S", 0.0)
    with pytest.raises(follow.FollowError, match="loads watch r") as raised:
        follow.follow(Script(live=[AWAY]), "r", tmp_path / "out")  # type: ignore[arg-type]
    assert raised.value.exit_code == 4
    assert not (tmp_path / "out").exists()


def test_a_run_that_is_gone_is_not_waited_for(tmp_path: Path) -> None:
    with pytest.raises(ServerError, match="no run"):
        follow.follow(Script(live=[ServerError("there is no run", 404)]), "r", tmp_path)  # type: ignore[arg-type]


def test_an_abort_is_told_until_it_is_heard() -> None:
    server = Script(abort=[AWAY, AWAY, {}], live=[live("running"), live("running"), live("finished", True)])
    with Interrupts() as interrupts:
        signal.raise_signal(signal.SIGTERM)
        following = follow._Following(server, "r", interrupts, quiet=True)  # type: ignore[arg-type]
        assert following.to_the_end()
    assert following.aborted
    assert server.asked == ["live", "abort", "abort", "abort", "live", "live"]


def interrupted() -> Mapping[str, Any]:
    signal.raise_signal(signal.SIGTERM)
    return live("running")


def test_an_aborted_run_says_130_whatever_its_own_code(tmp_path: Path) -> None:
    server = Script(abort=[{}], live=[interrupted, live("finished", True)], summary=[{**SUMMARY, "exit_code": 1}])
    assert follow.follow(server, "r", tmp_path, quiet=True) == 130  # type: ignore[arg-type]
    written = json.loads((tmp_path / "summary.json").read_text())
    assert (written["verdict"], written["exit_code"]) == ("aborted", 130)


def test_a_summary_that_is_being_made_is_waited_for() -> None:
    server = Script(summary=[ServerError("being made", 503), ServerError("being made", 503), SUMMARY])
    assert follow.summary_of(server, "r") == SUMMARY  # type: ignore[arg-type]


def test_a_view_goes_over_the_wire_as_the_screen_needs_it(api: Api) -> None:
    api.running()
    view = api.service.reader.run_view("r1")
    assert view is not None
    wire = json.loads(json.dumps(live_wire.to_wire(view, now_of(view))))
    again, now = live_wire.from_wire(wire)
    expected = now_of(view)
    assert (now.ledger.total, now.ledger.requests, now.recent) == (
        expected.ledger.total,
        expected.ledger.requests,
        expected.recent,
    )
    assert (again.id, again.state, again.workers, again.events) == (view.id, view.state, view.workers, view.events)
    assert [(step.name, step.load, step.kind) for step in again.steps] == [
        (step.name, step.load, step.kind) for step in view.steps
    ]
    newer = {**wire, "more": 1, "now": {**wire["now"], "recent": {**wire["now"]["recent"], "more": 1}}}
    assert live_wire.from_wire(newer)[0] == again


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers what its class was told to."""

    protocol_version = "HTTP/1.1"
    status, body = 200, b"{}"
    seen: ClassVar[list[str]]

    def do_GET(self) -> None:
        type(self).seen.append(f"{self.command} {self.path} {self.headers['Authorization']}")
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    do_POST = do_PUT = do_GET

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def answering() -> Iterator[tuple[type[Handler], Server]]:
    """A handler to be told what to answer, and a client of it."""
    handler = type("One", (Handler,), {"seen": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield handler, Server(f"http://127.0.0.1:{server.server_port}", "tok")
        server.shutdown()
        thread.join()


class TestServer:
    def test_calls_carry_the_token(self, answering: tuple[type[Handler], Server]) -> None:
        handler, server = answering
        assert server.get(path_of("a/b?c"), x=1, y=None) == {}
        assert handler.seen == ["GET /api/v1/runs/a%2Fb%3Fc?x=1 Bearer tok"]
        server.close()

    @pytest.mark.parametrize(
        ("status", "body", "code", "words"),
        [
            (404, b'{"detail": "there is no run"}', 2, "there is no run"),
            (503, b'{"detail": "try again"}', 4, "try again"),
            (500, b"<html>", 4, "is it a Loads scheduler"),
            (418, b"[]", 2, "is it a Loads scheduler"),
        ],
    )
    def test_refusals_in_words(
        self, answering: tuple[type[Handler], Server], status: int, body: bytes, code: int, words: str
    ) -> None:
        handler, server = answering
        handler.status, handler.body = status, body
        with pytest.raises(ServerError, match=words) as raised:
            server.get("/info")
        assert (raised.value.exit_code, raised.value.status) == (code, status)
        server.close()

    def test_problems_are_a_plans(self, answering: tuple[type[Handler], Server]) -> None:
        handler, server = answering
        handler.status = 422
        handler.body = (
            b'{"detail": "2 problems", "problems": [{"path": "a", "message": "x"}, {"path": "b", "message": "y"}]}'
        )
        with pytest.raises(PlanError, match="a: x\nb: y"):
            server.post("/runs", plan={})
        server.close()

    def test_nobody_there(self) -> None:
        with pytest.raises(ServerError, match="Connection refused") as raised:
            Server("http://127.0.0.1:9", "tok").get("/info")
        assert raised.value.exit_code == 4 and "tok" not in str(raised.value)


class TestAddress:
    def test_what_is_written_is_found_while_its_process_lives(self, tmp_path: Path) -> None:
        assert find_server(tmp_path) is None
        address = Address("http://127.0.0.1:1", kept_token(tmp_path))
        write_address(tmp_path, address)
        assert find_server(tmp_path) == address
        assert {(tmp_path / name).stat().st_mode & 0o777 for name in ("server.json", "token")} == {0o600}
        remove_address(tmp_path)
        assert find_server(tmp_path) is None and kept_token(tmp_path) == address.token

    @pytest.mark.parametrize(
        "text", ["", "{", "[]", '{"url": 1, "token": "t", "pid": 1}', '{"url": "u", "token": "t", "pid": -1}']
    )
    def test_a_damaged_file_is_no_server(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "server.json").write_text(text)
        assert find_server(tmp_path) is None
        remove_address(tmp_path)

    def test_another_process_keeps_its_word(self, tmp_path: Path) -> None:
        (tmp_path / "server.json").write_text('{"url": "u", "token": "t", "pid": 1}')
        remove_address(tmp_path)
        assert (tmp_path / "server.json").exists()

    def test_settings_beat_the_file_and_a_token_goes_to_its_own_server_alone(self, tmp_path: Path) -> None:
        write_address(tmp_path, Address("http://127.0.0.1:1", "own"))
        home = {"LOADS_HOME": str(tmp_path)}
        assert server_of(read_settings(home))._headers["Authorization"] == "Bearer own"
        assert server_of(read_settings({**home, "LOADS_TOKEN": "mine"}))._headers["Authorization"] == "Bearer mine"
        assert server_of(read_settings(home, {"server": "http://127.0.0.1:1/"})).url == "http://127.0.0.1:1"
        with pytest.raises(ServerError, match="LOADS_TOKEN"):
            server_of(read_settings(home, {"server": "http://elsewhere:1"}))
        with pytest.raises(ServerError, match="loads scheduler"):
            server_of(read_settings({"LOADS_HOME": str(tmp_path / "empty")}))


def test_a_submission_is_repeatable(tmp_path: Path) -> None:
    class Recording(Script):
        def post(self, path: str, **body: object) -> Any:
            self.asked.append(str(body["id"]))
            return body

    server = Recording()
    follow.submit(server, follow.Submission(document=PLAN))  # type: ignore[arg-type]
    follow.submit(server, follow.Submission(document=PLAN, run="mine"))  # type: ignore[arg-type]
    assert len(server.asked[0]) > 10 and server.asked[1] == "mine"
