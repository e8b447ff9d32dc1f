"""Measures one client once: starts it, waits until it is under way, looks at both ends of a window, ends it.

Everything raises ``RuntimeError`` where there is nothing to measure, with the reason in a line.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, Generic, Protocol, TypeVar

from scripts.target import LOADS as COMMAND

from . import proc
from .children import last_line, running, wait_until
from .clients import PEERS, Task, environment, title, why_missing
from .nginx import Nginx
from .roles import ENGINE, role
from .samples import LOADS, Sample
from .scenarios import FEW, IDLE_S, LATENESS_RATES, LATENESS_S, MANY, PATHS, RATES_S, SHARES, UNNAMED, WARM_S, Scenario

PLANS = Path(__file__).resolve().parent / "plans"
FIRST_REQUEST_S = 40.0
END_S = 60.0
"""How long Loads may take from the end of its load to its summary."""
SPARE_S = 2
"""How much longer the load is than what is measured of it."""


class Target(Protocol):
    """A server that counts by itself."""

    process: subprocess.Popen[bytes]

    def begun(self) -> int:
        """What rises as soon as a client does anything."""

    def count(self) -> int:
        """Requests, or messages, so far."""


Served = TypeVar("Served", bound=Target)


@dataclass
class Bench(Generic[Served]):
    """Where things are measured."""

    target: Served
    core: int
    """The clients' one."""
    window_s: float
    scratch: Path


@dataclass(frozen=True)
class Look:
    """Everything that is counted, at one moment."""

    at: float
    requests: int
    client: dict[int, proc.Stat]
    server: dict[int, proc.Stat]
    busy: int


@dataclass
class Running:
    """A client that is under way."""

    bench: Bench[Any]
    process: subprocess.Popen[bytes]
    tree: proc.Tree
    server: proc.Tree
    output: Path
    first: float = 0.0
    """When its first request was seen, by the monotonic clock."""

    def await_first_request(self, before: int) -> None:
        """Wait until the server has seen something, beyond what it had ``begun`` before."""
        deadline = time.monotonic() + FIRST_REQUEST_S
        while self.bench.target.begun() == before:
            if self.process.poll() is not None:
                raise RuntimeError(f"it ended without a request: {last_line(self.output)}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"it made no request in {FIRST_REQUEST_S:.0f} s: {last_line(self.output)}")
            time.sleep(0.05)
        self.first = time.monotonic()

    def look(self) -> Look:
        """Count now."""
        requests, at = self.bench.target.count(), time.monotonic()
        return Look(at, requests, self.tree.look(), self.server.look(), proc.busy_ticks())

    def watch(self, client: str, round_: int, seconds: float) -> Sample:
        """A window of so many seconds, from now on."""
        before = self.look()
        wait_until(before.at + seconds)
        after = self.look()
        if self.process.poll() is not None:
            raise RuntimeError(f"it ended too early: {last_line(self.output)}")
        memory = proc.memory_of(after.client)
        roles = {pid: role(proc.command_line(pid)) for pid in after.client} if client.startswith(LOADS) else {}
        sample = window(before, after, roles)
        return replace(sample, client=client, round=round_, rss=memory.rss, pss=memory.pss)

    def engine_memory(self) -> int:
        """Bytes of the engine alone."""
        tree = self.tree.look()
        return proc.memory_of(pid for pid in tree if role(proc.command_line(pid)) == ENGINE).pss


def window(before: Look, after: Look, roles: Mapping[int, str]) -> Sample:
    """What lies between two looks."""
    second = proc.ticks_per_second()
    client = proc.spent(before.client, after.client)
    server = proc.spent(before.server, after.server)
    by_role = proc.spent_by(roles, before.client, after.client) if roles else {}
    return Sample(
        "",
        0,
        requests=after.requests - before.requests,
        seconds=after.at - before.at,
        cpu_s=client / second,
        server_cpu_s=server / second,
        others_cpu_s=max(0, after.busy - before.busy - client - server) / second,
        roles={name: ticks / second for name, ticks in sorted(by_role.items())},
    )


@contextmanager
def started(bench: Bench[Any], command: list[str], env: Mapping[str, str]) -> Iterator[Running]:
    """Start a client, and give it once it has made a request."""
    output = bench.scratch / "output"
    before = bench.target.begun()
    with running(command, bench.core, output, env, bench.scratch) as process:
        server = proc.Tree(bench.target.process.pid)
        run = Running(bench, process, proc.Tree(process.pid), server, output)
        run.await_first_request(before)
        yield run


def measure(bench: Bench[Nginx], scenario: Scenario, client: str, round_: int, window_s: float) -> Sample:
    """One client, saturated."""
    base = bench.target.url(tls=scenario.tls)
    seconds = int(WARM_S + window_s + SPARE_S)
    if client.startswith(LOADS):
        settings = {"USERS": scenario.connections, "SECONDS": seconds, "BODY": scenario.body, "TARGET": base}

        def during(run: Running) -> Sample:
            wait_until(run.first + WARM_S)
            return run.watch(client, round_, window_s)

        sample, _ = run_loads(bench, "saturate", settings, client.removeprefix(LOADS), during)
        return sample
    program = PEERS[client].program(client)
    if program is None:
        raise RuntimeError(why_missing(client))
    task = Task(base, scenario.body, scenario.connections, seconds + 20)
    with started(bench, PEERS[client].command(program, task), environment(task)) as run:
        wait_until(run.first + WARM_S)
        return run.watch(client, round_, window_s)


def run_loads(
    bench: Bench[Nginx], plan: str, settings: Mapping[str, object], path: str, during: Callable[[Running], Sample]
) -> tuple[Sample, dict[str, Any]]:
    """A whole ``loads run --quiet``, watched; its sample has what its summary says, which comes with it."""
    before = bench.target.count()
    sample, summary = run_plan(bench, plan, settings, path, during)
    requests = summary["requests"]
    counts = {"server": bench.target.count() - before, "sent": requests["sent"]}
    if not sample.failed:
        counts["answered"] = requests["answered"]
    return replace(sample, counts=counts), summary


def run_plan(
    bench: Bench[Any],
    plan: str,
    settings: Mapping[str, object],
    path: str,
    during: Callable[[Running], Sample],
    limited: Callable[[list[str]], list[str]] = lambda command: command,
) -> tuple[Sample, dict[str, Any]]:
    """The same, whatever its target counts; ``limited`` adds to the command what bounds it."""
    with TemporaryDirectory(prefix="loads-", dir=bench.scratch) as folder:
        out = Path(folder) / "results"
        sets = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
        command = [COMMAND, "run", str(PLANS / f"{plan}.yaml"), *sets, "--out", str(out), "--quiet"]
        ours = {name: value for name, value in os.environ.items() if not name.startswith("LOADS_")}
        env = {**ours, "LOADS_HOME": str(Path(folder) / "home")}
        if path != UNNAMED:
            env["LOADS_ENGINE_PATH"] = path
        with started(bench, limited(command), env) as run:
            sample = during(run)
            try:
                code = run.process.wait(END_S)
            except subprocess.TimeoutExpired:
                raise RuntimeError(f"{title(LOADS + path)} did not end: {last_line(run.output)}") from None
        if code not in (0, 1):
            raise RuntimeError(f"exit code {code}: {last_line(run.output)}")
        summary = json.loads((out / "summary.json").read_text())
    requests = summary["requests"]
    return replace(sample, failed=requests["failed"] + requests["interrupted"], path=path_of(summary)), summary


def path_of(summary: Any) -> str:
    """The engine's path that a summary names, wherever it does; empty where it names none, ``mixed`` for several."""
    found = _paths_in(summary)
    return found.pop() if len(found) == 1 else "mixed" if found else ""


def _paths_in(value: Any) -> set[str]:
    if isinstance(value, str):
        return {value} & set(PATHS)
    if isinstance(value, Mapping):
        return set().union(*(_paths_in(each) for each in [*value, *value.values()]))
    return set().union(*(_paths_in(each) for each in value)) if isinstance(value, list) else set()


def lateness(bench: Bench[Nginx], scenario: Scenario, client: str, round_: int) -> Sample:
    """How late Loads begins what is due, at each of two rates."""
    low, high = LATENESS_RATES
    base = bench.target.url(tls=scenario.tls)
    settings = {"LOW": low, "HIGH": high, "SECONDS": LATENESS_S, "BODY": scenario.body, "TARGET": base}

    def during(run: Running) -> Sample:
        wait_until(run.first + 1)
        return run.watch(client, round_, LATENESS_S * len(LATENESS_RATES) - 2)

    sample, summary = run_loads(bench, "lateness", settings, client.removeprefix(LOADS), during)
    figures: dict[str, float] = {}
    for stage, rate in enumerate(LATENESS_RATES):
        figures |= {f"{rate}_{name}": value for name, value in stage_figures(summary, stage, LATENESS_S).items()}
    return replace(sample, figures=figures)


def stage_figures(summary: Mapping[str, Any], stage: int, seconds: int) -> dict[str, float]:
    """Of one stage of a plan, without its first and its last second: in ms, and percent of what was planned."""
    rows = [row for row in summary["timeline"] if stage * seconds < row["t"] < (stage + 1) * seconds - 1]
    found: dict[str, float] = {}
    for quantile in ("p50", "p99"):
        values = [row[key] for row in rows if row.get(key := f"lateness_{quantile}") is not None]
        if values:
            found[f"{quantile}_ms"] = median(values)
            found[f"{quantile}_worst_ms"] = max(values)
    planned = sum(row["planned"] for row in rows)
    if planned:
        found["off_percent"] = abs(sum(row["began"] for row in rows) - planned) / planned * 100
    return found


def rates(bench: Bench[Nginx], scenario: Scenario, client: str, round_: int, saturation: float) -> Sample:
    """How near Loads comes to what is planned, at shares of the rate at which it is saturated."""
    planned = {f"RATE_{number}": int(saturation * share / 100) for number, share in enumerate(SHARES, 1)}
    settings = {**planned, "SECONDS": RATES_S, "BODY": scenario.body, "TARGET": bench.target.url(tls=scenario.tls)}

    def during(run: Running) -> Sample:
        wait_until(run.first + 1)
        return run.watch(client, round_, RATES_S * len(SHARES) - 2)

    sample, summary = run_loads(bench, "rates", settings, client.removeprefix(LOADS), during)
    figures = {"saturation": saturation}
    for stage, share in enumerate(SHARES):
        figures |= {f"{share}_{name}": value for name, value in stage_figures(summary, stage, RATES_S).items()}
    return replace(sample, figures=figures)


def idle(bench: Bench[Nginx], scenario: Scenario, client: str, round_: int) -> Sample:
    """What an idle user of Loads takes: the engine's memory in a run with few of them and in one with many.

    Two runs, since an engine makes all of a plan's users before the first of them is active.
    """
    found = {users: _idle(bench, scenario, client, round_, users) for users in (FEW, MANY)}
    sizes = {users: sample.figures["engine_bytes"] for users, sample in found.items()}
    return replace(found[MANY], figures=memory_figures(sizes, "user_bytes"))


def memory_figures(engine_bytes: Mapping[int, float], name: str) -> dict[str, float]:
    """The engine's memory with few and with many, and as ``name`` what each takes; from bytes by how many there are."""
    few, many = sorted(engine_bytes)
    each = (engine_bytes[many] - engine_bytes[few]) / (many - few)
    return {"few_bytes": engine_bytes[few], "many_bytes": engine_bytes[many], name: each}


def _idle(bench: Bench[Nginx], scenario: Scenario, client: str, round_: int, users: int) -> Sample:
    settings = {
        "USERS": users,
        "SECONDS": IDLE_S,
        "BODY": scenario.body,
        "TARGET": bench.target.url(tls=scenario.tls),
    }
    before = bench.target.count()

    def during(run: Running) -> Sample:
        wait_until(run.first + IDLE_S - 2)
        if (made := bench.target.count() - before) != users:
            raise RuntimeError(f"{made} of {users} users had made their request by then")
        sample = run.watch(client, round_, 0.5)
        return replace(sample, figures={"engine_bytes": run.engine_memory()})

    sample, _ = run_loads(bench, "idle", settings, client.removeprefix(LOADS), during)
    return sample
