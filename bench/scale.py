"""``make bench-scale``: one real scheduler against hundreds of simulated workers, and what that costs it.

Each round starts a Redis of its own, ``loads scheduler`` on a SQLite database, and two processes that simulate the
workers (``bench.scale_fleet``): real messages, fake load. A plan of two steps with five series each runs on all of
them, 100 requests a second a worker. CPU is user and system time of the scheduler's own process over the load's
middle; the machine may be busy, wall time does not enter. The exit code is 1 where a run did not end with a balanced
ledger, or the scheduler needed a whole core.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
import redis
from loads.scheduler.reader import Reader
from rich.console import Console
from rich.table import Table

from loads_queue import codec
from loads_queue.messages import JOBS, Job
from loads_queue.queue import connect

LOADS = str(Path(sys.executable).parent / "loads")
_REDIS: Any = redis.Redis
"""Its own annotations are too few to call it from checked code."""
ROOT = Path(__file__).resolve().parent.parent
STEPS = ("browse", "buy")
SERIES = 5
RATE = 10
"""Iterations a second of each step on each worker; an iteration makes ``SERIES`` requests."""
STARTUP_S = 120
FINAL_S = 90
SUMMARY_S = 300
WARM_S = 3


@dataclass(frozen=True)
class Figures:
    """What one round came to. CPU is of the scheduler's process; lags are in seconds."""

    workers: int
    window_s: float
    cores: float
    redis_cores: float
    rss_mib: float
    """At the end of the window."""
    base_mib: float
    """Before any worker came."""
    reports_per_s: float
    report_interval_s: float
    lag_p50_s: float
    lag_p95_s: float
    lag_max_s: float
    """From a Report's making to when the scheduler had received it, for the last Report of each worker, each second."""
    backlog_p50: int
    backlog_max: int
    """Reports in the broker, taken or not, once a second."""
    database_kib_per_s: float
    start_s: float
    """From the job to the first second of the load."""
    final_s: float
    """From the end of the load to the final run."""
    tail_cpu_s: float
    """CPU from the end of the load until the run was final."""
    summary_s: float
    """From there to its summary, which is made by a process of its own; it waits for the machine as others do."""
    balanced: bool
    takeovers: int
    planned: int
    started: int
    missed: int
    fleet: list[dict[str, Any]]

    @property
    def good(self) -> bool:
        """Whether it kept up, and lost nothing."""
        return self.balanced and self.cores < 1 and self.takeovers == 0


def main() -> int:
    """Measure each size, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", default="100,300,1000", help="sizes, one round each (default 100,300,1000)")
    parser.add_argument("--for", dest="seconds", type=int, default=20, help="seconds of load (default 20)")
    parser.add_argument("--fleets", type=int, default=2, help="processes that simulate (default 2)")
    parser.add_argument("--out", type=Path, help="write the figures there as JSON")
    options = parser.parse_args()
    rounds = []
    for size in (int(text) for text in options.workers.split(",")):
        rounds.append(measure(size, options.seconds, options.fleets))
        sys.stderr.write(f"{json.dumps(asdict(rounds[-1]))}\n")
    if options.out:
        options.out.write_text(json.dumps([asdict(each) for each in rounds], indent=2) + "\n")
    Console(width=110).print(table(rounds))
    return int(not all(each.good for each in rounds))


def plan(workers: int, seconds: int) -> dict[str, Any]:
    """Two steps on every worker."""
    gets = [{"get": f"/{place}", "name": f"page {place}"} for place in range(SERIES)]
    steps = [
        {
            "name": name,
            "workers": workers,
            "load": {"rate": RATE * workers, "for": f"{seconds}s", "max_in_flight": 100 * workers},
            "http": {"base_url": "http://127.0.0.1:9", "do": gets},
        }
        for name in STEPS
    ]
    return {"name": "scale", "ready_timeout": f"{STARTUP_S}s", "steps": steps}


@contextmanager
def process(command: list[str], log: Path, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A child process, ended by its id."""
    with log.open("ab") as errors:
        child = subprocess.Popen(command, stderr=errors, cwd=ROOT, start_new_session=True, **options)
    try:
        yield child
    finally:
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        if child.poll() is None:
            child.terminate()
            try:
                child.wait(20)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def free_port() -> int:
    """A port of 127.0.0.1 that was free just now."""
    with closing(socket.socket()) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def measure(workers: int, seconds: int, fleets: int) -> Figures:
    """One round."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="loads-scale-")))
        return Round(stack, folder, workers, seconds, fleets).run()


class Round:
    """One size: its processes, and what is read from them."""

    def __init__(self, stack: ExitStack, folder: Path, workers: int, seconds: int, fleets: int) -> None:
        self.workers = workers
        self.seconds = seconds
        self.fleets = fleets
        self.folder = folder
        self.stack = stack
        port = free_port()
        self.broker = f"redis://127.0.0.1:{port}/0"
        self.database = folder / "loads.sqlite3"
        redis_server = shutil.which("redis-server")
        if redis_server is None:
            raise SystemExit("redis-server is not installed")
        settings = f"--bind 127.0.0.1 --port {port} --save  --appendonly yes --dir {folder}".split(" ")
        with (folder / "redis.log").open("ab") as output:
            self.redis = stack.enter_context(process([redis_server, *settings], folder / "redis.log", stdout=output))
        _wait(lambda: _answers(port), 10, "redis-server did not start", self.redis)
        self.queue = connect(self.broker)
        self.client = _REDIS.from_url(self.broker)
        stack.callback(self.client.close)
        stack.callback(self.queue.close)
        command = [LOADS, "scheduler", "--broker", self.broker, "--db", f"sqlite:///{self.database}"]
        command += ["--listen", "127.0.0.1:0"]
        env = {**os.environ, "LOADS_HOME": str(folder / "home")}
        self.scheduler = stack.enter_context(
            process(command, folder / "scheduler.log", stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, env=env)
        )
        assert self.scheduler.stdout is not None
        if not self.scheduler.stdout.readline():
            raise SystemExit(f"the scheduler did not start:\n{self.log()}")
        self.watched = psutil.Process(self.scheduler.pid)
        self.base = self.watched.memory_info().rss
        self.ident = f"scale-{uuid.uuid4().hex[:8]}"

    def log(self) -> str:
        """The end of what the scheduler said."""
        return (self.folder / "scheduler.log").read_text()[-4000:]

    def run(self) -> Figures:
        """Start the fleet, run the plan, measure its middle."""
        fleets = [self._fleet(number) for number in range(self.fleets)]
        _wait(lambda: self._slots() >= 2 * self.workers, STARTUP_S, "the workers did not come", *fleets)
        submitted = time.time_ns()
        job = Job(id=self.ident, plan=plan(self.workers, self.seconds), submitted_at=submitted)
        self.queue.declare(JOBS, 20)
        self.queue.send(JOBS, [codec.encode(job, JOBS, submitted)])
        _wait(lambda: self._run("start_at") is not None, STARTUP_S, "the run did not start", *fleets)
        began = self._run("start_at")
        window = self._window(began)
        _wait(lambda: time.time_ns() >= began + self.seconds * 10**9, STARTUP_S, "a fleet ended", *fleets)
        tail = self._cpu()
        _wait(lambda: self._run("ended_at") is not None, FINAL_S, "the run did not become final", *fleets)
        tail = self._cpu() - tail
        final = time.monotonic()
        _wait(lambda: self._summarised(), SUMMARY_S, f"the run was not summarised\n{self.log()}", *fleets)
        summarised = time.monotonic() - final
        reader = Reader(f"sqlite:///{self.database}")
        found = reader.summary(self.ident) or {}
        reader.close()
        ledger = found["ledger"]
        return Figures(
            workers=self.workers,
            **window,
            base_mib=self.base / 2**20,
            start_s=(began - submitted) / 1e9,
            final_s=(self._run("ended_at") - began) / 1e9 - self.seconds,
            tail_cpu_s=tail,
            summary_s=summarised,
            balanced=ledger["balanced"],
            takeovers=self._one("select count(*) from claims where attempt > 1"),
            planned=ledger["planned"],
            started=ledger["started"],
            missed=ledger["missed"],
            fleet=[_figures(fleet) for fleet in fleets],
        )

    def _fleet(self, number: int) -> subprocess.Popen[bytes]:
        share = [self.workers * place // self.fleets for place in (number, number + 1)]
        command = [sys.executable, "-m", "gevent.monkey", "--module", "bench.scale_fleet", "--broker", self.broker]
        command += ["--first", str(share[0]), "--count", str(share[1] - share[0])]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        return self.stack.enter_context(process(command, self.folder / f"fleet{number}.log", **pipes))

    def _window(self, began: int) -> dict[str, Any]:
        """What is measured between two moments of the load."""
        warm = began + min(WARM_S, self.seconds // 4) * 10**9
        _wait(lambda: time.time_ns() >= warm, STARTUP_S, "the scheduler ended", self.scheduler)
        start, cpu, redis, size = time.monotonic(), self._cpu(), self._redis_cpu(), self._size()
        reports = self._one("select sum(report_sequence) from workers")
        lags: list[float] = []
        backlog: list[int] = []
        while time.time_ns() < began + (self.seconds - 1) * 10**9:
            time.sleep(1)
            lags += self._lags()
            backlog.append(self._backlog())
        span = time.monotonic() - start
        taken = self._one("select sum(report_sequence) from workers") - reports
        lags.sort()
        return {
            "window_s": span,
            "cores": (self._cpu() - cpu) / span,
            "redis_cores": (self._redis_cpu() - redis) / span,
            "rss_mib": self.watched.memory_info().rss / 2**20,
            "reports_per_s": taken / span,
            "report_interval_s": self.workers * span / max(taken, 1),
            "lag_p50_s": lags[len(lags) // 2],
            "lag_p95_s": lags[len(lags) * 95 // 100],
            "lag_max_s": lags[-1],
            "backlog_p50": sorted(backlog)[len(backlog) // 2],
            "backlog_max": max(backlog),
            "database_kib_per_s": (self._size() - size) / 1024 / span,
        }

    def _cpu(self) -> float:
        times = self.watched.cpu_times()
        return float(times.user + times.system)

    def _redis_cpu(self) -> float:
        times = psutil.Process(self.redis.pid).cpu_times()
        return float(times.user + times.system)

    def _size(self) -> int:
        return sum(each.stat().st_size for each in self.folder.glob("loads.sqlite3*"))

    def _backlog(self) -> int:
        return int(self.client.llen("loads-reports")) + int(self.client.hlen("loads-reports.unacked"))

    def _lags(self) -> list[float]:
        rows = self._all("select last_report_at - report_sent_at from workers")
        return [lag / 1e9 for (lag,) in rows]

    def _slots(self) -> int:
        return int(self._one("select coalesce(sum(slots), 0) from workers"))

    def _summarised(self) -> bool:
        return bool(self._one(f"select count(*) from summaries where run = '{self.ident}'"))

    def _run(self, column: str) -> Any:
        rows = self._all(f"select {column}, state, reason from runs where id = '{self.ident}'")
        if not rows:
            return None
        value, state, reason = rows[0]
        if value is None and state == "finished":
            raise SystemExit(f"the run ended: {reason}\n{self.log()}")
        return value

    def _one(self, statement: str) -> Any:
        return self._all(statement)[0][0]

    def _all(self, statement: str) -> list[Any]:
        with closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True, timeout=10)) as connection:
            return connection.execute(statement).fetchall()


def _answers(port: int) -> bool:
    with suppress(OSError), closing(socket.create_connection(("127.0.0.1", port), timeout=1)) as sock:
        sock.sendall(b"PING\r\n")
        return sock.recv(16).startswith(b"+PONG")
    return False


def _wait(true: Callable[[], bool], limit_s: float, otherwise: str, *alive: subprocess.Popen[bytes]) -> None:
    """Return once something is so; end where it takes too long, or a process that it takes has ended."""
    deadline = time.monotonic() + limit_s
    while not true():
        if time.monotonic() > deadline or any(each.poll() is not None for each in alive):
            raise SystemExit(otherwise)
        time.sleep(0.1)


def _figures(fleet: subprocess.Popen[bytes]) -> dict[str, Any]:
    """End a fleet, and read what it saw."""
    fleet.terminate()
    assert fleet.stdout is not None
    found: dict[str, Any] = json.loads(fleet.stdout.readline())
    return found


def table(rounds: list[Figures]) -> Table:
    """The figures, a column a size."""
    shown = Table(title="one scheduler, SQLite, Redis")
    shown.add_column("workers")
    for each in rounds:
        shown.add_column(str(each.workers), justify="right")
    lines: list[tuple[str, Callable[[Figures], str]]] = [
        ("CPU of the scheduler (cores)", lambda each: f"{each.cores:.2f}"),
        ("CPU per 100 workers (cores)", lambda each: f"{each.cores / each.workers * 100:.3f}"),
        ("memory of the scheduler (MiB)", lambda each: f"{each.rss_mib:.0f}"),
        ("memory per 100 workers (MiB)", lambda each: f"{(each.rss_mib - each.base_mib) / each.workers * 100:.1f}"),
        ("reports a second", lambda each: f"{each.reports_per_s:.0f}"),
        ("report interval, measured (s)", lambda each: f"{each.report_interval_s:.2f}"),
        ("age of reports taken in, p50 / p95 / max (s)",
         lambda each: f"{each.lag_p50_s:.2f} / {each.lag_p95_s:.2f} / {each.lag_max_s:.2f}"),
        ("reports in the broker, median / max", lambda each: f"{each.backlog_p50} / {each.backlog_max}"),
        ("database growth (KiB/s)", lambda each: f"{each.database_kib_per_s:.0f}"),
        ("CPU of Redis (cores)", lambda each: f"{each.redis_cores:.2f}"),
        ("job to load (s)", lambda each: f"{each.start_s:.1f}"),
        ("end of load to final (s)", lambda each: f"{each.final_s:.1f}"),
        ("CPU of the scheduler for that (s)", lambda each: f"{each.tail_cpu_s:.1f}"),
        ("from final to the summary (s)", lambda each: f"{each.summary_s:.1f}"),
        ("takeovers", lambda each: str(each.takeovers)),
        ("iterations planned", lambda each: str(each.planned)),
        ("iterations missed", lambda each: str(each.missed)),
        ("ledger balanced", lambda each: "yes" if each.balanced else "NO"),
    ]  # fmt: skip
    for name, value in lines:
        shown.add_row(name, *(value(each) for each in rounds))
    return shown


if __name__ == "__main__":
    sys.exit(main())
