"""The target of the WebSocket parts: an echo server under node, with the library ``ws``, on a core of its own.

It counts what comes by itself (``echo.js``). Of the servers that were tried it is the one that costs least: an echo
takes half the processor time that it takes with the library ``websockets`` under asyncio.
"""

from __future__ import annotations

import http.client
import json
import resource
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .children import find, last_line, running
from .clients import CACHE, NODE, WS, environment_of_node, why_missing
from .nginx import HOST

SCRIPT = Path(__file__).resolve().parent / "echo.js"
DESCRIPTORS = 20_000
"""What server and client may open each."""
READY_S = 10.0
QUIET_S = 15.0


@dataclass(frozen=True)
class Counts:
    """What the server has seen since it started."""

    connections: int
    """Handshakes that it consented to."""
    open: int
    messages: int

    def since(self, before: Counts) -> Counts:
        """What came after ``before``; ``open`` is that of now."""
        return Counts(self.connections - before.connections, self.open, self.messages - before.messages)


def parse_counts(text: str) -> Counts:
    """From what it answers; raises RuntimeError for anything else."""
    try:
        found: dict[str, Any] = json.loads(text)
        return Counts(int(found["connections"]), int(found["open"]), int(found["messages"]))
    except (ValueError, KeyError, TypeError):
        raise RuntimeError(f"the echo server does not count: {text[:100]!r}") from None


class Echo:
    """A running echo server, seen from outside."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.process = process
        self._port = port
        self._connection = http.client.HTTPConnection(HOST, port, timeout=10)

    def url(self) -> str:
        """Where sessions are opened."""
        return f"ws://{HOST}:{self._port}/"

    def counts(self) -> Counts:
        """Now."""
        try:
            self._connection.request("GET", "/")
            return parse_counts(self._connection.getresponse().read().decode())
        except (OSError, http.client.HTTPException):
            self._connection.close()
            raise

    def count(self) -> int:
        """Messages so far."""
        return self.counts().messages

    def begun(self) -> int:
        """Sessions so far."""
        return self.counts().connections

    def await_quiet(self) -> Counts:
        """Wait until no session is open any more, so that nothing of an earlier client is counted; gives the counts."""
        deadline = time.monotonic() + QUIET_S
        while (found := self.counts()).open:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{found.open:,} sessions of an earlier client are still open")
            time.sleep(0.05)
        return found

    def close(self) -> None:
        """Give the connection up."""
        self._connection.close()


def limited(command: list[str]) -> list[str]:
    """The same with the descriptors that each side has; raises RuntimeError where there are not so many."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY and hard < DESCRIPTORS:
        raise RuntimeError(
            f"{DESCRIPTORS:,} descriptors are needed for each side, and no more than {hard:,} may be open here: "
            f"ulimit -Hn {DESCRIPTORS}"
        )
    return ["prlimit", f"--nofile={DESCRIPTORS}:{DESCRIPTORS}", *command]


@contextmanager
def echo(core: int, folder: Path) -> Iterator[Echo]:
    """One that runs as long as the block; what it says stands in ``folder``. RuntimeError where it does not start."""
    node = find(NODE)
    if node is None:
        raise RuntimeError(f"there is no node: {why_missing(NODE)}")
    if not (CACHE / WS / "node_modules" / "ws").is_dir():
        raise RuntimeError(f"there is no ws, node's library: {why_missing(WS)}")
    output = folder / "output"
    with running(limited([node, str(SCRIPT), HOST]), core, output, environment_of_node()) as process:
        served = Echo(process, _port(process, output))
        with closing(served):
            served.counts()
            yield served


def _port(process: subprocess.Popen[bytes], output: Path) -> int:
    """Where it says that it listens."""
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline and process.poll() is None:
        said = output.read_text(errors="replace")
        if said.endswith("\n"):
            try:
                return int(json.loads(said.splitlines()[-1])["port"])
            except (ValueError, KeyError, TypeError):
                break
        time.sleep(0.05)
    raise RuntimeError(f"the echo server did not start: {last_line(output)}")
