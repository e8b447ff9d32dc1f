"""An engine's core without an engine: who is asked, and what for, is a list; its connections are socket pairs."""

from __future__ import annotations

import importlib.util
import os
import socket
import sys
import time
from types import SimpleNamespace
from typing import Any

import pytest
from engine_harness import check_series, scenario
from loads.workers.engines.clock import boottime_ns
from loads.workers.engines.http1 import HeadParser, Limits
from loads.workers.engines.permit import Permit
from loads.workers.engines.recorder import Recorder
from loads.workers.engines.scenario_run import Scenario, Settle, Walk
from loads.workers.engines.variables import Fixed, Visit

from loads_queue.model.scenario import HttpScenario
from loads_queue.model.summary import Row

NAME = "loads.workers.engines._core"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
FOREVER = 1 << 60


def load(path: str | None) -> Any:
    """The core that is installed, or one from a file."""
    if path is None:
        return pytest.importorskip(NAME, reason="the compiled core is not built here")
    if NAME in sys.modules:
        return sys.modules[NAME]
    spec = importlib.util.spec_from_file_location(NAME, path)
    assert spec is not None and spec.loader is not None
    module = sys.modules[NAME] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


core = load(os.environ.get("LOADS_CORE"))


class CoreWorld:
    """The hooks of one core, and the far ends of its connections."""

    def __init__(self, *actions: dict[str, Any], max_in_flight: int = 1000, **more: Any) -> None:
        self.scenario = Scenario(HttpScenario.from_wire(scenario("http://target.test", *actions, **more)), lambda: 0)
        self.permit = Permit()
        self.permit.replace(FOREVER, FOREVER, FOREVER, 0, 0)
        self.gate = SimpleNamespace(attempts=0)
        self.recorder = Recorder(boottime_ns())
        self.fixed = Fixed("run", "step", {}, {}, 1)
        self.wanted: list[tuple[Any, Any]] = []
        """Seats that want a connection, and where to."""
        self.ends: dict[int, socket.socket] = {}
        """By seat's id, the far end of its newest connection."""
        self.over: list[Any] = []
        self.faults: list[BaseException | None] = []
        self.asked = self.awaited = self.later = 0
        self.abandoned: tuple[int, int, int] = (1, 0, 0)
        self.on_over = self.over.append
        parser = HeadParser()
        self.heads = SimpleNamespace(known=parser.known, parse=parser.parse)
        net = SimpleNamespace(limits=Limits(), gate=self.gate, heads=self.heads)
        order = SimpleNamespace(max_in_flight=max_in_flight)
        self.core = core.Core(
            self,
            SimpleNamespace(
                scenario=self.scenario,
                net=net,
                permit=self.permit,
                recorder=self.recorder,
                order=order,
                base=self.recorder.base,
            ),
        )
        self.recorder.sources.append(self._bring)
        self.rows: dict[int, Row] = {}

    # What the core asks for

    def walk(self, settle: Settle) -> Walk:
        return Walk(self.scenario, settle)

    def ask_for_more(self) -> None:
        self.asked += 1

    def await_permit(self) -> None:
        self.awaited += 1

    def soon(self) -> None:
        self.later += 1

    def crash(self) -> None:
        self.faults.append(sys.exc_info()[1])
        self.look()

    def connect(self, seat: Any, origin: Any) -> None:
        self.wanted.append((seat, origin))

    def abandon(self, seat: Any) -> tuple[int, int, int]:
        self.wanted = [found for found in self.wanted if found[0] is not seat]
        return self.abandoned

    # What a test does

    def guest(self) -> Any:
        return self.core.seat(lambda seat: self.on_over(seat), True)

    def user(self) -> Any:
        seat = self.core.seat(lambda seat: self.on_over(seat), False)
        seat.enter()
        return seat

    def ride(self, seat: Any) -> None:
        now = boottime_ns()
        seat.ride(Visit(self.fixed, 0, 0, {}, {}, True), now, now, now)

    def give(self, tls: Any = None) -> socket.socket:
        """The connection that was asked for first; gives its far end."""
        seat, _ = self.wanted.pop(0)
        near, far = socket.socketpair()
        near.setblocking(False)
        far.setblocking(False)
        self.ends[id(seat)] = far
        seat.connected(near.detach(), tls, 0, 1, 0)
        return far

    def refuse(self, error: str = "refused: nothing listens there") -> None:
        seat, _ = self.wanted.pop(0)
        seat.refused(error, 0, 0, 0)

    def turn(self) -> None:
        """One turn of the loop."""
        self.core.drain()
        if self.later:
            self.later = 0
            self.core.tell_over()
        if self.awaited:
            self.awaited = 0
            self.core.wake()

    def until(self, true: Any, seconds: float = 10) -> None:
        deadline = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < deadline
            self.turn()

    def look(self) -> Row:
        """Everything so far, in one row; every equation of the books holds."""
        recorder = self.recorder
        for wire in recorder.take(0):
            row = Row.from_wire(wire)
            self.rows[row.second] = row
        total = Row(0)
        for row in self.rows.values():
            assert row.started == row.ok + row.failed + row.interrupted + row.in_flight, row
            assert min(row.ok, row.failed, row.interrupted, row.in_flight) >= 0, row
            for series in row.series.values():
                check_series(series)
                assert min(series.in_flight, series.unsent, series.bytes_in, series.bytes_out) >= 0, series
            total.add(row)
        assert recorder.started == total.started
        assert recorder.in_flight == total.in_flight
        assert recorder.attempted == sum(series.attempted for series in total.series.values())
        return total

    def close(self) -> None:
        self.core.close()
        for end in self.ends.values():
            end.close()

    def _bring(self, floor: int) -> None:
        for second, name, counts, histograms, told in self.core.take(floor):
            if name is None:
                self.recorder.absorb_row(second, counts, histograms)
            else:
                self.recorder.absorb_series(second, name, counts, histograms, told)


def is_closed(end: socket.socket) -> bool:
    """Whether the near end was closed; what it had sent before is passed over."""
    try:
        while end.recv(65536):
            pass
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True
    return True
