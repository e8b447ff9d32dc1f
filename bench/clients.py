"""The load generators that are compared: how each is called, its version, and whether it is there.

All of them keep ``connections`` connections busy until they are stopped, with GETs of one URL, or with round trips of
one text over WebSockets; ``seconds`` bounds how long they would go on by themselves.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from .children import find
from .samples import LOADS

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".bench"
"""Where scripts/bench-peers.sh installs, and says why it could not."""
NGINX, OPENSSL, NODE, WS = "nginx", "openssl", "node", "ws"


@dataclass(frozen=True)
class Task:
    """What a client shall do."""

    base: str
    body: str
    connections: int
    seconds: int
    text: str = ""

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
    tool: str = ""
    """What is installed, where it has another name than the client."""
    file: str = ""
    """The program, where it has another name than the tool."""

    def tool_of(self, name: str) -> str:
        """What a client of that name is."""
        return self.tool or name

    def program(self, name: str) -> str | None:
        """Its path; None where it is not there."""
        tool = self.tool_of(name)
        if self.installed:
            path = CACHE / tool / "bin" / (self.file or tool)
            return str(path) if path.exists() else None
        return find(self.file or tool)


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


def _websocket_client(way: str) -> Peer:
    def command(program: str, task: Task) -> list[str]:
        return [program, str(ROOT / "bench" / "peer_websocket_client.py"), way]

    return Peer(command, installed=True, tool=WEBSOCKET_CLIENT, file="python")


def _bare_sockets(program: str, task: Task) -> list[str]:
    return [program, str(ROOT / "bench" / "peer_bare_sockets.py")]


WEBSOCKET_CLIENT, BARE = "websocket-client", "bare-sockets"
THREADS, ONE, IN_TURN = (f"{WEBSOCKET_CLIENT}-{way}" for way in ("threads", "one", "turns"))
WAYS = (THREADS, ONE)
"""With websocket-client, sessions that go on by themselves; Loads is held against the better way."""
PEERS = {
    "wrk": Peer(_wrk),
    "h2load": Peer(_h2load),
    "hey": Peer(_hey),
    "locust": Peer(_locust, installed=True),
    "molotov": Peer(_molotov, installed=True),
    THREADS: _websocket_client("threads"),
    ONE: _websocket_client("one"),
    IN_TURN: _websocket_client("turns"),
    BARE: Peer(_bare_sockets, file=sys.executable),
}
TITLES = {
    "locust": "Locust FastHttpUser",
    THREADS: "websocket-client, a thread each",
    ONE: "websocket-client, one connection",
    IN_TURN: "websocket-client, all in turn",
    BARE: "bare sockets",
}


def title(client: str) -> str:
    """A client's name for people."""
    if client.startswith(LOADS):
        return f"Loads, {client.removeprefix(LOADS)}"
    return TITLES.get(client, client)


def environment(task: Task) -> dict[str, str]:
    """Of another tool: this process's own, and what the scripts of some ask for."""
    asked = {
        "BENCH_PATH": task.body,
        "BENCH_URL": task.url,
        "BENCH_TEXT": task.text,
        "BENCH_CONNECTIONS": str(task.connections),
        "BENCH_SECONDS": str(task.seconds),
    }
    return {**os.environ, **asked, "PYTHONDONTWRITEBYTECODE": "1"}


def environment_of_node() -> dict[str, str]:
    """Of node: this process's own, and where its library is."""
    return {**os.environ, "NODE_PATH": str(CACHE / WS / "node_modules")}


def why_missing(name: str) -> str:
    """Why a tool is not there: what its installation said."""
    try:
        return (CACHE / f"{name}.reason").read_text().strip() or "not installed"
    except OSError:
        return "not installed: scripts/bench-peers.sh does that"


def versions() -> Mapping[str, str]:
    """Of every tool that is there, of the target, and of what Loads stands on."""
    programs = {peer.tool_of(name): peer.program(name) for name, peer in PEERS.items() if name != BARE}
    found = {tool: _version(tool, program) for tool, program in programs.items() if program}
    for name, argument in ((NGINX, "-v"), (OPENSSL, "version"), (NODE, "--version")):
        if program := find(name):
            found[name] = _said(program, argument).removeprefix("nginx version: ")
    if version := _version_of_ws():
        found[WS] = version
    return found


def _version_of_ws() -> str:
    """Of node's library; empty where it is not there."""
    try:
        return str(json.loads((CACHE / WS / "node_modules" / "ws" / "package.json").read_text())["version"])
    except (OSError, ValueError, KeyError):
        return ""


def _version(name: str, program: str) -> str:
    match name:
        case "wrk":
            return _said(program, "-v").split(" [")[0].removeprefix("wrk ")
        case "hey":  # it has no option for that
            return _said("dpkg-query", "-W", "-f", "${Version}", "hey") or "unknown"
        case "locust":
            return _said(program, "--version").split(" from ")[0].removeprefix("locust ")
        case "websocket-client":
            return _said(program, "-c", "import websocket; print(websocket.__version__)")
        case _:
            return _said(program, "--version")


def _said(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return next(iter((done.stdout or done.stderr).strip().splitlines()), "")
