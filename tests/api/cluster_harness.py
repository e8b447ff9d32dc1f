"""A cluster of real processes with a home of its own: scheduler, workers, demo target, and the client's commands."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

COMMAND = (sys.executable, "-P", "-c", "from loads_queue.cli import main; main()")
PATIENCE_S = 30.0
T = TypeVar("T")


def wait_for(condition: Callable[[], T], patience_s: float = PATIENCE_S) -> T:
    """What it returns, once that is something; fails after a while."""
    deadline = time.monotonic() + patience_s
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
    return found


def plan_text(target: str, load: str = "{rate: 20, for: 2s}", more: str = "", plan: str = "") -> str:
    """A plan of two shards on a target; ``more`` is the step's, ``plan`` the plan's."""
    return f"""
name: shop
plans:
  - name: evening
    {plan}
    steps:
      - name: browse
        workers: 2
        load: {load}
        http: {{base_url: "{target}", do: [{{get: "/echo"}}]}}
        {more}
"""


class Process:
    """A process whose output goes to files."""

    def __init__(self, name: str, folder: Path, args: tuple[str, ...], env: dict[str, str]) -> None:
        self.out, self.log = folder / f"{name}.out", folder / f"{name}.log"
        with open(self.out, "wb") as out, open(self.log, "wb") as log:
            self.popen = subprocess.Popen(
                [*COMMAND, *args], cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=log,
                start_new_session=True,
            )  # fmt: skip

    def ready(self) -> str:
        """The first line of its output, once it is whole."""

        def line() -> str:
            assert self.popen.poll() is None, self.log.read_text()
            head, newline, _ = self.out.read_text().partition("\n")
            return head if newline else ""

        return wait_for(line)

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal; the exit status."""
        self.popen.send_signal(number)
        return self.popen.wait(PATIENCE_S)


class Cluster:
    """One home, and the processes that live with it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.processes: list[Process] = []
        clean = {name: value for name, value in os.environ.items() if not name.startswith("LOADS_")}
        self.env = {**clean, "LOADS_HOME": str(self.home)}

    def start(self, *args: str, name: str = "", env: dict[str, str] | None = None) -> Process:
        """Start a command; its files bear its name."""
        name = name or f"{args[0]}-{len(self.processes)}"
        process = Process(name, self.folder, args, {**self.env, **(env or {})})
        self.processes.append(process)
        return process

    def scheduler(self, *args: str) -> Process:
        """Start a scheduler and wait until it acts."""
        if "--listen" not in args:
            args = ("--listen", "127.0.0.1:0", *args)
        process = self.start("scheduler", *args)
        assert json.loads(process.ready())["ready"]
        return process

    def workers(self, *names: str) -> None:
        """Start workers with one slot each, all at once, and wait until they take offers."""
        for process in [self.start("worker", "--slots", "1", "--name", name) for name in names]:
            process.ready()

    def target(self, *workers: str) -> str:
        """Start a demo target, and workers meanwhile; its URL."""
        target = self.start("demo-target", "--port", "0")
        self.workers(*workers)
        return target.ready().split()[0].rstrip("/")

    def loads(self, *args: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run a client command to its end."""
        return subprocess.run(
            [*COMMAND, *args], cwd=self.folder, env={**self.env, **(env or {})}, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=2 * PATIENCE_S,
        )  # fmt: skip

    def json(self, *args: str) -> Any:
        """What a client command prints with ``--json``; it must succeed."""
        done = self.loads(*args, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def write(self, name: str, text: str) -> str:
        """A file in the working folder; its name."""
        (self.folder / name).write_text(text)
        return name

    def state(self, run: str, *states: str) -> Any:
        """The run, once it is in one of these states."""

        def found() -> Any:
            run_now = self.get(f"/runs/{run}")
            return run_now if run_now is not None and run_now["state"] in states else None

        return wait_for(found)

    def get(self, path: str) -> Any:
        """The JSON at a path of the API; None where there is none."""
        status, answer = self.http("GET", f"/api/v1{path}")
        assert status in (200, 404), answer
        return json.loads(answer) if status == 200 else None

    @property
    def address(self) -> dict[str, Any]:
        """What stands in ``server.json``."""
        found: dict[str, Any] = json.loads((self.home / "server.json").read_text())
        return found

    def abort(self, run: str) -> Any:
        """Abort a run that a test is done with; the run, once it is over."""
        assert self.http("POST", f"/api/v1/runs/{run}/abort")[0] in (200, 202)
        return self.state(run, "finished")

    def http(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, bytes]:
        """A raw call, with the token: status and body."""
        host, _, port = self.address["url"].removeprefix("http://").partition(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=PATIENCE_S)
        try:
            given = {"Authorization": f"Bearer {self.address['token']}", **headers}
            connection.request(method, path, body, {name.replace("_", "-"): value for name, value in given.items()})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def raw(self, data: bytes) -> bytes:
        """What the server answers to these bytes, until it closes."""
        host, _, port = self.address["url"].removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port)), PATIENCE_S) as sock:
            sock.sendall(data)
            found = bytearray()
            while chunk := sock.recv(65536):
                found += chunk
            return bytes(found)

    def living(self) -> list[int]:
        """Who lives with this home: the commands' processes and theirs."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal() and f"LOADS_HOME={self.home}".encode() in _read(entry / "environ"):
                found.append(int(entry.name))
        return found

    def child_of(self, process: Process, name: str) -> int:
        """The pid of a scheduler's child."""
        wanted = f"loads.scheduler.local_child\0{name}\0".encode()
        found = [pid for pid in self.living() if wanted in _read(Path(f"/proc/{pid}/cmdline"))]
        mine = [
            pid for pid in found if f"\nPPid:\t{process.popen.pid}\n".encode() in _read(Path(f"/proc/{pid}/status"))
        ]
        return mine[0] if mine else 0

    def close(self) -> None:
        """End everything, whatever state it is in."""
        for process in self.processes:
            if process.popen.poll() is None:
                process.popen.kill()
            process.popen.wait()
        for pid in self.living():
            os.kill(pid, signal.SIGKILL)


def count(target: str) -> int:
    """How many requests a demo target has received."""
    with urllib.request.urlopen(f"{target}/counter", timeout=5) as response:
        return int(json.load(response)["total"])


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
