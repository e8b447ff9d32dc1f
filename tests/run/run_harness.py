"""``loads`` as a user runs it: a process of its own, a home of its own, and a target that counts."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

COMMAND = (sys.executable, "-P", "-c", "from loads_queue.cli import main; main()")
PATIENCE_S = 30.0


@dataclass(frozen=True)
class Target:
    """The demo target."""

    url: str

    def count(self) -> int:
        """Complete request heads that it has received so far."""
        with urllib.request.urlopen(f"{self.url}/counter", timeout=5) as response:
            return int(json.load(response)["total"])


class Command:
    """Runs ``loads`` with a home and a working folder that nobody else has."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.started: list[subprocess.Popen[str]] = []

    def start(self, *args: str, sink: str = "") -> subprocess.Popen[str]:
        """Start a command in a session of its own; its output is kept, unless there is a ``sink`` for it."""
        env = {name: value for name, value in os.environ.items() if not name.startswith("LOADS_")}
        with _output_to(sink) as stdout:
            process = subprocess.Popen(
                [*COMMAND, *args],
                cwd=self.folder,
                env={**env, "LOADS_HOME": str(self.home)},
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
        self.started.append(process)
        return process

    def run(self, *args: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        process = self.start(*args)
        out, err = process.communicate(timeout=2 * PATIENCE_S)
        return subprocess.CompletedProcess(args, process.returncode, out, err)

    def summary(self, folder: str = "out") -> dict[str, Any]:
        """The summary in a folder of results."""
        found: dict[str, Any] = json.loads((self.folder / folder / "summary.json").read_text())
        return found

    def processes(self) -> list[int]:
        """Who lives with this home, or with a folder in it: the command's children and theirs."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal() and f"LOADS_HOME={self.home}".encode() in _environ(entry):
                found.append(int(entry.name))
        return found

    def left_behind(self) -> list[str]:
        """Processes and files that should be gone."""
        files = [str(path) for path in self.home.rglob("*") if path.name != "lock"]
        return [f"process {pid}" for pid in self.processes()] + files


@contextlib.contextmanager
def _output_to(sink: str) -> Iterator[int]:
    """A descriptor for output: a pipe that is read, one that nobody reads, or a file."""
    if not sink:
        yield subprocess.PIPE
        return
    if sink == "nobody reads":
        reading, writing = os.pipe()
        os.close(reading)
    else:
        writing = os.open(sink, os.O_WRONLY)
    try:
        yield writing
    finally:
        os.close(writing)


def _environ(entry: Path) -> bytes:
    try:
        return (entry / "environ").read_bytes()
    except OSError:
        return b""


def wait_for(condition: Callable[[], object]) -> None:
    """Until it holds; fails after a while."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
