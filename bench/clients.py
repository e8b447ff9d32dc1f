"""The load generators that are compared: how each is called, its version, and whether it is there.

All of them keep ``connections`` connections busy with GETs of one URL until they are stopped; ``seconds`` bounds how
long they would go on by themselves.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from .children import find

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".bench"
"""Where scripts/bench-peers.sh installs, and says why it could not."""
NGINX, OPENSSL = "nginx", "openssl"


@dataclass(frozen=True)
class Task:
    """What a client shall do."""

    base: str
    body: str
    connections: int
    seconds: int

    @property
    def url(self) -> str:
        """The whole of it."""
        return self.base + self.body


@dataclass(frozen=True)
class Peer:
    """Another tool."""

    command: Callable[[str, Task], list[str]]
    """The program's path and a task to its arguments."""
    installed: bool = False
    """Whether it is in a virtual environment of its own."""

    def program(self, name: str) -> str | None:
        """Its path; None where it is not there."""
        if self.installed:
            path = CACHE / name / "bin" / name
            return str(path) if path.exists() else None
        return find(name)


def _wrk(program: str, task: Task) -> list[str]:
    return [program, "-t1", f"-c{task.connections}", f"-d{task.seconds}s", task.url]


def _hey(program: str, task: Task) -> list[str]:
    return [program, "-z", f"{task.seconds}s", "-c", str(task.connections), task.url]


def _h2load(program: str, task: Task) -> list[str]:
    return [program, "--h1", "-t1", f"-c{task.connections}", "-D", str(task.seconds), task.url]


def _locust(program: str, task: Task) -> list[str]:
    users = str(task.connections)
    script = str(ROOT / "bench" / "peer_locust.py")
    options = ["--headless", "--only-summary", "--loglevel", "ERROR", "-t", f"{task.seconds}s"]
    return [program, "-f", script, "-H", task.base, "-u", users, "-r", users, *options]


def _molotov(program: str, task: Task) -> list[str]:
    script = str(ROOT / "bench" / "peer_molotov.py")
    return [program, "-q", "-p1", "-w", str(task.connections), "-d", str(task.seconds), script]


PEERS = {
    "wrk": Peer(_wrk),
    "h2load": Peer(_h2load),
    "hey": Peer(_hey),
    "locust": Peer(_locust, installed=True),
    "molotov": Peer(_molotov, installed=True),
}
TITLES = {"locust": "Locust FastHttpUser"}


def title(client: str) -> str:
    """A client's name for people."""
    first, slash, path = client.partition("/")
    return f"Loads, {path}" if slash else TITLES.get(first, first)


def environment(task: Task) -> dict[str, str]:
    """Of another tool: this process's own, and what the scripts of some ask for."""
    return {**os.environ, "BENCH_PATH": task.body, "BENCH_URL": task.url, "PYTHONDONTWRITEBYTECODE": "1"}


def why_missing(name: str) -> str:
    """Why a tool is not there: what its installation said."""
    try:
        return (CACHE / f"{name}.reason").read_text().strip() or "not installed"
    except OSError:
        return "not installed: scripts/bench-peers.sh does that"


def versions() -> Mapping[str, str]:
    """Of every tool that is there, of the target, and of what Loads stands on."""
    found = {name: _version(name, program) for name, peer in PEERS.items() if (program := peer.program(name))}
    for name, argument in ((NGINX, "-v"), (OPENSSL, "version")):
        if program := find(name):
            found[name] = _said(program, argument).removeprefix("nginx version: ")
    return found


def _version(name: str, program: str) -> str:
    match name:
        case "wrk":
            return _said(program, "-v").split(" [")[0].removeprefix("wrk ")
        case "hey":  # it has no option for that
            return _said("dpkg-query", "-W", "-f", "${Version}", "hey") or "unknown"
        case "locust":
            return _said(program, "--version").split(" from ")[0].removeprefix("locust ")
        case _:
            return _said(program, "--version")


def _said(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return next(iter((done.stdout or done.stderr).strip().splitlines()), "")
