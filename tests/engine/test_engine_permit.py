"""Exclusion: whatever becomes of engine and agent, no request begins after the permit's end."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from engine_harness import FOREVER, SECOND, EngineProcess, boottime, closed_load, open_load, request, scenario
from engine_targets import OK, ScriptedServer, answer
from loads.workers.engines.fence import NOTICE_NS
from test_engine_features import make_certificate

CLOSING = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"


def wait_until(at: int) -> None:
    time.sleep(max(0.0, (at - boottime()) / 1e9))


@pytest.mark.parametrize("kind", ["kept", "closing", "tls"])
def test_a_process_that_is_stopped_over_its_permits_end_never_sends_again(
    engine: EngineProcess, kind: str, tmp_path: Path
) -> None:
    """It may have been stopped between its last look at the clock and the write: the kernel sees to that."""
    dice = random.Random(kind)
    _, context = make_certificate(tmp_path, "target")
    script = {"/": answer(CLOSING if kind == "closing" else OK)}
    with ScriptedServer(script, context if kind == "tls" else None) as server:
        engine.spec(scenario(server.url, request("/"), tls={"verify": False, "ca": None}), closed_load(8, 60))
        engine.until_ready()
        engine.start(0)
        until = boottime() + SECOND
        engine.permit(until=until)
        time.sleep(0.2 + dice.random() * 0.2)
        engine.process.send_signal(signal.SIGSTOP)
        wait_until(until + SECOND // 5)
        before = len(server.heads)  # What had left before the stop is read by now.
        engine.process.send_signal(signal.SIGCONT)
        time.sleep(0.1)
        assert len(server.heads) == before > 20
        assert engine.process.wait(5) == -signal.SIGKILL


@pytest.mark.parametrize("kind", ["kept", "closing"])
def test_one_that_goes_on_before_the_end_but_too_late_to_start_anything_lives(engine: EngineProcess, kind: str) -> None:
    with ScriptedServer({"/": answer(CLOSING if kind == "closing" else OK)}) as server:
        engine.spec(scenario(server.url, request("/")), closed_load(8, 60))
        engine.until_ready()
        engine.start(0)
        until = boottime() + SECOND
        engine.permit(until=until)
        time.sleep(0.3)
        engine.process.send_signal(signal.SIGSTOP)
        wait_until(until - NOTICE_NS + SECOND // 10)
        engine.process.send_signal(signal.SIGCONT)
        wait_until(until)
        seen = len(server.heads)
        time.sleep(0.3)
        assert len(server.heads) == seen  # The permit is over, and nobody was killed for it.
        engine.permit()
        time.sleep(0.3)
        assert len(server.heads) > seen
        engine.stop(1)
        assert engine.finish()["cause"] == "stopped"
        assert engine.requests.attempted - engine.requests.unsent >= len(server.heads) >= engine.requests.answered
        assert engine.requests.failed == 0


def test_permits_that_follow_one_another_are_no_ends(engine: EngineProcess) -> None:
    with ScriptedServer({}) as server:
        engine.spec(scenario(server.url), open_load(100, 1.8))
        engine.until_ready()
        engine.permit(until=boottime() + SECOND)
        engine.start(0.1)
        for _ in range(4):
            time.sleep(0.3)
            engine.permit(until=boottime() + SECOND)
        engine.permit(until=boottime() + 5 * SECOND)
        assert engine.finish()["cause"] == "finished"
        assert (engine.total.started, engine.total.missed) == (180, 0)
        assert len(server.heads) == 180


def test_a_request_that_waited_for_a_permit_is_sent_on_a_connection_that_still_stands(engine: EngineProcess) -> None:
    """The kept connection was closed meanwhile: another one is opened, and nothing has failed."""
    with ScriptedServer({}) as server:
        engine.spec(scenario(server.url, *[request("/")] * 2), closed_load(3, 30))
        engine.until_ready()
        engine.start(0)
        engine.permit(until=boottime() + NOTICE_NS + SECOND // 10)
        time.sleep(0.4)
        for sock in list(server._sockets):
            sock.shutdown(socket.SHUT_RDWR)
        seen = len(server.heads)
        time.sleep(0.1)
        engine.permit(until=FOREVER)
        time.sleep(0.2)
        engine.stop(1)
        engine.finish()
        assert len(server.heads) > seen
        assert engine.requests.failed == 0 and engine.requests.interrupted == 0


def fenced(code: str) -> subprocess.Popen[bytes]:
    start = (
        "import time, sys; from loads.workers.engines.fence import Fence; fence = Fence()\n"
        "def after(s): return time.clock_gettime_ns(time.CLOCK_BOOTTIME) + int(s * 1e9)\n"
        "def ready(): sys.stdout.write('.'); sys.stdout.flush()\n"
    )
    found = subprocess.Popen([sys.executable, "-c", start + code], stdout=subprocess.PIPE)
    assert found.stdout is not None and found.stdout.read(1) == b"."
    return found


def test_the_fence_kills_at_its_time_and_not_where_it_was_moved_or_taken_down() -> None:
    processes = [
        fenced("fence.arm(after(0.3)); ready(); time.sleep(60)"),
        fenced("fence.arm(after(0.3)); fence.arm(after(0.8)); ready(); time.sleep(0.5)"),
        fenced("fence.arm(after(0.3)); fence.disarm(); ready(); time.sleep(0.5)"),
    ]
    try:
        assert [process.wait(10) for process in processes] == [-signal.SIGKILL, 0, 0]
    finally:
        for process in processes:
            process.communicate()


def test_the_fence_kills_a_stopped_process_without_waiting_for_it_to_go_on() -> None:
    process = fenced("fence.arm(after(0.4)); ready(); time.sleep(60)")
    os.kill(process.pid, signal.SIGSTOP)
    try:
        assert process.wait(10) == -signal.SIGKILL
    finally:
        process.communicate()
