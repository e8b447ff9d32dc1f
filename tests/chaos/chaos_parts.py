"""The processes of a chaos run: each can be killed, stopped, continued and started again, by its own id alone.

Every process gets the run's mark in its environment, so that what is left of a run can be found, and nothing else is.
Signals go to a ``Popen`` that is not reaped, or through a process descriptor: never to a number that may have been
given to somebody else.
"""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import psutil

LAUNCHER = Path(__file__).with_name("chaos_launcher.py")
MARK = "CHAOS_MARK"
START_S = 60.0
RETRY_S = 0.5
LAWFUL = (0, 4)
"""Exit statuses of a part that nobody killed: 4 says that the broker, or the epoch, is not to be had."""


def wait_until(holds: Callable[[], object], seconds: float, what: str, every_s: float = 0.05) -> Any:
    """What it comes to as soon as that is true; raises TimeoutError."""
    deadline = time.monotonic() + seconds
    while not (found := holds()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds:.0f} s")
        time.sleep(every_s)
    return found


class Part:
    """One process that ought to be up, started again when it ends by itself, as an init system would do.

    ``command`` gives the arguments at each start. ``strange`` collects ends that no fault explains.
    """

    def __init__(
        self, name: str, folder: Path, command: Callable[[], list[str]], environ: Callable[[], Mapping[str, str]]
    ) -> None:
        self.name = name
        self.folder = folder
        self.log = folder / f"{name}.log"
        self.strange: list[str] = []
        self.starts = 0
        self._command = command
        self._environ = environ
        self._process: subprocess.Popen[bytes] | None = None
        self._wanted = False
        self._killed: set[int] = set()
        """Its processes that a fault killed."""
        self._ready_from = 0
        self._lock = threading.RLock()

    def start(self) -> None:
        """Start it, unless it runs."""
        with self._lock:
            self._wanted = True
            if self._process is not None and self._process.poll() is None:
                return
            self._ready_from = self.output().stat().st_size if self.output().exists() else 0
            with self.log.open("ab") as log, self.output().open("ab") as output:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", str(LAUNCHER), *self._command()], stdin=subprocess.DEVNULL,
                    stdout=output, stderr=log, cwd=self.folder, env=dict(self._environ()), start_new_session=True,
                )  # fmt: skip
            self.starts += 1

    def output(self) -> Path:
        """Where its standard output goes."""
        return self.folder / f"{self.name}.out"

    def first_line(self) -> str:
        """The first line since the latest start, or nothing yet."""
        text = self.output().read_bytes()[self._ready_from :].decode() if self.output().exists() else ""
        return text.partition("\n")[0] if "\n" in text else ""

    def wait_ready(self) -> str:
        """The first line of its output, once it has come."""
        return str(wait_until(self.first_line, START_S, f"{self.name} starts; its log is {self.log}"))

    @property
    def pid(self) -> int | None:
        """Its process id, where it runs."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def signal(self, number: signal.Signals) -> bool:
        """Send a signal, where it runs."""
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                return False
            self._process.send_signal(number)
            return True

    def kill(self) -> None:
        """SIGKILL; it stays away until it is started again."""
        with self._lock:
            self._wanted = False
            if self._process is not None:
                self._killed.add(self._process.pid)
                self._process.kill()
                self._process.wait()

    def leave(self, seconds: float) -> int:
        """SIGTERM, and its exit status: 0 also where another fault killed it meanwhile, or where it was not up yet;
        after so many seconds SIGKILL."""
        with self._lock:
            self._wanted = False
            process = self._process
        if process is None:
            return 0
        lawful = {0} if self.first_line() else {0, -signal.SIGTERM}  # until it is ready nothing handles a signal
        process.send_signal(signal.SIGCONT)
        process.terminate()
        try:
            status = process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()
        return 0 if process.pid in self._killed or status in lawful else status

    def tend(self) -> None:
        """Start it again where it ended by itself."""
        with self._lock:
            if not self._wanted or self._process is None or (status := self._process.poll()) is None:
                return
            if status not in LAWFUL:
                self.strange.append(f"{self.name} ended with {status}: {tail(self.log)}")
            self.start()

    def engines(self) -> list[int]:
        """The processes that it started, by id."""
        return [] if (pid := self.pid) is None else children(pid)


def children(pid: int) -> list[int]:
    """What a process has started, and that what it started, by id."""
    with suppress(psutil.NoSuchProcess):
        return [child.pid for child in psutil.Process(pid).children(recursive=True)]
    return []


class Held:
    """A process of somebody else's, held by a descriptor, so that a signal can't reach another one."""

    def __init__(self, pid: int) -> None:
        self._descriptor = os.pidfd_open(pid)

    def signal(self, number: signal.Signals) -> None:
        """Send it, where the process is still there."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._descriptor, number)

    def close(self) -> None:
        """Let go."""
        os.close(self._descriptor)


@contextmanager
def held(pids: list[int]) -> Any:
    """Descriptors of those processes that still are."""
    found: list[Held] = []
    for pid in pids:
        with suppress(ProcessLookupError, OSError):
            found.append(Held(pid))
    try:
        yield found
    finally:
        for each in found:
            each.close()


class Clock:
    """A wall clock's offset, as the launcher reads it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.set(0.0)

    def set(self, seconds: float) -> None:
        """Jump."""
        if not self.path.exists():
            self.path.write_bytes(bytes(8))
        with self.path.open("r+b") as stream:
            stream.write(struct.pack("<q", int(seconds * 1e9)))


class Disk:
    """A small file system for the database, where this process may mount one; else an ordinary folder."""

    SIZE = 24 << 20

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={self.SIZE},mode=700", "loads-chaos", str(folder)],
            capture_output=True, check=False,
        ) if os.geteuid() == 0 else None  # fmt: skip
        self.small = done is not None and done.returncode == 0

    def fill(self) -> None:
        """Leave no byte."""
        with (self.folder / "filler").open("wb", buffering=0) as filler, suppress(OSError):
            while True:
                filler.write(bytes(65536))
        with (self.folder / "filler.2").open("wb", buffering=0) as filler, suppress(OSError):
            while True:
                filler.write(bytes(512))

    def clear(self) -> None:
        """Give the room back."""
        for path in self.folder.glob("filler*"):
            path.unlink()

    def close(self) -> None:
        """Unmount it."""
        if self.small:
            self.small = False
            subprocess.run(["umount", "-l", str(self.folder)], check=True)


def tail(path: Path, count: int = 1500) -> str:
    """The end of a file."""
    return path.read_bytes()[-count:].decode(errors="replace") if path.exists() else ""


def counted(target: str) -> dict[str, Any]:
    """The target's own count: ``total`` and ``paths``."""
    with urlopen(f"{target}/counter", timeout=5) as response:
        found: dict[str, Any] = json.load(response)
        return found


def marked(mark: str) -> list[str]:
    """Processes, but for this one, that carry the mark."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        with suppress(OSError):
            if f"{MARK}={mark}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                if words:  # else it is gone but for its parent's wait
                    found.append(f"{entry.name}: {words[:200]}")
    return found


def end_marked(mark: str) -> None:
    """SIGKILL to whatever still carries the mark; the last resort of a run that failed."""
    for line in marked(mark):
        with held([int(line.partition(":")[0])]) as left:
            for each in left:
                each.signal(signal.SIGKILL)
