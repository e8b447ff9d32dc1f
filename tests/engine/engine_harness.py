"""Plays the agent: starts an engine process, speaks its protocol, and holds every snapshot against the rules."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from loads_queue.model import profile
from loads_queue.model.summary import Row, Series, total

SECOND = 1_000_000_000
FOREVER = 1 << 60
PATH = os.environ.get("LOADS_ENGINE_PATH", "auto")
"""The driver of engines of which a test does not say more."""


def boottime() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def open_load(rate: int, seconds: float) -> dict[str, Any]:
    stage = profile.RateStage(Fraction(rate), Fraction(rate), int(seconds * SECOND))
    return profile.to_wire(profile.OpenLoad((stage,)))


def closed_load(users: int, seconds: float, pace_s: float | None = None) -> dict[str, Any]:
    stage = profile.UserStage(Fraction(users), Fraction(users), int(seconds * SECOND))
    return profile.to_wire(profile.ClosedLoad((stage,), None if pace_s is None else int(pace_s * SECOND)))


def counted_load(users: int, turns: int, shared: bool = False) -> dict[str, Any]:
    return profile.to_wire(profile.IterationsLoad(((users, turns),), shared))


def request(url: str = "/", **more: Any) -> dict[str, Any]:
    action = {
        "type": "request",
        "method": "GET",
        "url": url,
        "name": "",
        "headers": [],
        "body": None,
        "auth": None,
        "timeout_ns": None,
        "check": {"status": [[200, 399]], "body": None, "json": {}, "max_time_ns": None},
        "extract": [],
        "on_error": "continue",
        **more,
    }
    action["check"] = {"status": [[200, 399]], "body": None, "json": {}, "max_time_ns": None, **more.get("check", {})}
    action["name"] = action["name"] or f"{action['method']} {url}"
    return action


def pause(seconds: float) -> dict[str, Any]:
    return {"type": "pause", "low_ns": int(seconds * SECOND), "high_ns": int(seconds * SECOND)}


def scenario(base_url: str, *actions: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "base_url": base_url,
        "timeout_ns": 5 * SECOND,
        "headers": [],
        "tls": {"verify": True, "ca": None},
        "redirects": 5,
        "cookies": True,
        "auth": None,
        "before": [],
        "do": list(actions) or [request()],
        "data": None,
        **more,
    }


class EngineProcess:
    """An engine, and everything that it has said."""

    def __init__(self, name: str = "http", path: str = "") -> None:
        self.path = path or PATH
        to_engine, self._to = os.pipe()
        self._from, from_engine = os.pipe()
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "loads.workers.engine_main",
                name,
                "--in",
                str(to_engine),
                "--out",
                str(from_engine),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=(to_engine, from_engine),
        )
        os.close(to_engine)
        os.close(from_engine)
        self._buffer = b""
        self.rows: dict[int, Row] = {}
        self.lines: list[dict[str, Any]] = []
        self.snapshots: list[dict[str, Any]] = []
        self.end: dict[str, Any] | None = None
        self.base = 0

    def send(self, **line: Any) -> None:
        os.write(self._to, json.dumps(line).encode() + b"\n")

    def spec(self, spec: Mapping[str, Any], load: Mapping[str, Any], **more: Any) -> None:
        line = {
            "type": "spec", "run": "run-1", "step": "step", "shard": 0, "shards": 1, "attempt": 0, "worker": "worker-1",
            "spec": spec, "load": load, "files": {}, "env": {}, "secrets": {}, "delay_ns": 0, "max_in_flight": 1000,
            "max_lateness_ns": 5 * SECOND, "graceful_stop_ns": 5 * SECOND, "run_max_time_ns": 0,
            "graceful_ramp_down_ns": 5 * SECOND, "seed": 1, "path": self.path, **more,
        }  # fmt: skip
        self.send(**line)

    def start(self, after_s: float = 0.05, first: int = 0, **more: Any) -> None:
        self.base = boottime() + int(after_s * SECOND)
        self.send(type="start", at=self.base, first=first, **more)

    def permit(self, until: int = FOREVER, iterations: int = FOREVER, requests: int = FOREVER) -> None:
        self.send(type="permit", until=until, iterations=iterations, requests=requests)

    def stop(self, grace_s: float = 0) -> None:
        self.send(type="stop", grace_ns=int(grace_s * SECOND), cause="stopped")

    def read(self, timeout_s: float = 20) -> dict[str, Any] | None:
        """The next line, or None at the end of the descriptor."""
        deadline = time.monotonic() + timeout_s
        while b"\n" not in self._buffer:
            ready, _, _ = select.select([self._from], [], [], max(0, deadline - time.monotonic()))
            assert ready, f"the engine said nothing for {timeout_s} s; it is {self.process.poll()}"
            data = os.read(self._from, 65536)
            if not data:
                return None
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return self._take(json.loads(line))

    def _take(self, line: dict[str, Any]) -> dict[str, Any]:
        self.lines.append(line)
        if line["type"] == "snapshot":
            assert line["number"] == len(self.snapshots) + 1
            self.snapshots.append(line)
            for wire in line["rows"]:
                row = Row.from_wire(wire)
                self.rows[row.second] = row
            self.check()
        elif line["type"] == "end":
            self.end = line
        return line

    def check(self) -> None:
        """The equations that hold in every snapshot."""
        for row in self.rows.values():
            assert row.started == row.ok + row.failed + row.interrupted + row.in_flight, row
            for series in row.series.values():
                check_series(series)
        totals = self.snapshots[-1]["totals"]
        assert totals["started"] == sum(row.started for row in self.rows.values())
        assert totals["in_flight"] == sum(row.in_flight for row in self.rows.values())
        assert totals["attempted"] == sum(
            series.attempted for row in self.rows.values() for series in row.series.values()
        )

    def until_ready(self) -> None:
        line = self.read()
        assert line == {"type": "ready"}, line

    def until(self, kind: str, timeout_s: float = 30) -> dict[str, Any]:
        deadline = time.monotonic() + timeout_s
        while True:
            line = self.read(max(0.1, deadline - time.monotonic()))
            assert line is not None, f"the engine left: {self.output()}"
            if line["type"] == kind:
                return line

    def finish(self, timeout_s: float = 30) -> dict[str, Any]:
        """Read up to the end; the end line. The engine has then left with status 0."""
        self.until("end", timeout_s)
        assert self.read() is None, "something came after the end"
        assert self.process.wait(10) == 0, self.output()
        assert self.end is not None
        return self.end

    def output(self) -> str:
        out, err = self.process.communicate(timeout=10)
        return (out + err).decode()

    @property
    def total(self) -> Row:
        return total(self.rows.values())

    @property
    def requests(self) -> Series:
        found = Series()
        for series in self.total.series.values():
            found.add(series)
        return found

    def close(self) -> None:
        for fd in (self._to, self._from):
            os.close(fd)
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


def check_series(series: Series) -> None:
    assert series.attempted == series.ok + series.failed + series.interrupted + series.in_flight, series
    assert series.answered <= series.attempted - series.unsent, series
    # The messages of a WebSocket have no status.
    assert series.answered == sum(series.statuses.values()) or not series.statuses, series
    assert series.failed == sum(series.errors.values()), series
    assert series.response.count == series.ok + series.failed, series


def run_shards(spec: Mapping[str, Any], load: Mapping[str, Any], shards: int, **more: Any) -> list[EngineProcess]:
    """Whole runs of all shards at the same time, with endless permits; the ended engines."""
    engines = [EngineProcess() for _ in range(shards)]
    try:
        for shard, engine in enumerate(engines):
            engine.spec(spec, load, shard=shard, shards=shards, **more)
        for engine in engines:
            engine.until_ready()
            engine.permit()
            engine.start(0.2)
        for engine in engines:
            engine.finish()
    finally:
        for engine in engines:
            engine.close()
    return engines


def run_engine(spec: Mapping[str, Any], load: Mapping[str, Any], **more: Any) -> EngineProcess:
    """A whole run of a step with one shard."""
    return run_shards(spec, load, 1, **more)[0]
