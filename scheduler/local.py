"""Broker, scheduler and worker as child processes of this one, in a private folder, with nothing left behind.

Each child leads a session of its own, so that a Ctrl-C in the terminal reaches this process alone, and holds the
reading end of a pipe from here: however this process ends, they end. The folder, below ``LOADS_HOME``, is locked as
long as this process lives; one whose owner is gone (killed) is removed by the next ``LocalCluster``.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from loads_queue.queue import home_folder
from loads_queue.settings import private_environment

BROKER, SCHEDULER, WORKER = "broker", "scheduler", "worker"
PRELOADED = {
    BROKER: (),
    SCHEDULER: ("loads_queue.kombu_queue", "loads.scheduler.launch"),
    WORKER: ("loads_queue.kombu_queue",),
}
_STOP_S = {WORKER: 4.0, SCHEDULER: 3.0, BROKER: 2.0}
"""In this order they are told to stop, and have that long before they are killed."""
SPARE = 1
_PREFIX = "run-"
_SHOWN_LINES = 15
_LITTLE_ROOM = 1 << 20
_PROBE = 1 << 16


class LocalError(Exception):
    """A child did not start, or ended by itself; the text has the end of what it printed."""

    exit_code = 4


class Child:
    """One child process, its pipe and its output."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self._folder = folder
        self._out = folder / f"{name}.out"
        self._log = folder / f"{name}.log"
        reading, self._pipe = os.pipe()
        try:
            with open(self._out, "wb") as out, open(self._log, "wb") as log:
                self.process = subprocess.Popen(
                    # -P: what lies in the user's folder must not be imported.
                    [sys.executable, "-P", "-m", "loads.scheduler.local_child", name, str(reading), *PRELOADED[name]],
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=log,
                    pass_fds=[reading],
                    start_new_session=True,
                    # What a child would keep for later is of this run alone: two of them don't meet.
                    env={**private_environment(os.environ), "LOADS_HOME": str(folder)},
                )
        finally:
            os.close(reading)

    def order(self, order: Mapping[str, Any]) -> None:
        """Say what the child shall do."""
        # A child that is dead already is found by `check`.
        with contextlib.suppress(BrokenPipeError):
            data = memoryview(json.dumps(order).encode() + b"\n")
            while data:
                data = data[os.write(self._pipe, data) :]

    def ready_line(self) -> str | None:
        """The first line of its output, once it is whole."""
        head, newline, _ = self._out.read_bytes().partition(b"\n")
        return head.decode() if newline else None

    def check(self) -> None:
        """Raise LocalError where the child has ended."""
        code = self.process.poll()
        if code is not None:
            told = self.last_lines() or (f": {no_room(self._folder)}" if is_full(self._folder) else "")
            raise LocalError(f"the {self.name} ended by itself ({_status(code)}){told}")

    def last_lines(self) -> str:
        """The end of what it printed, for people."""
        lines = self._log.read_text(errors="replace").splitlines()[-_SHOWN_LINES:]
        return ":\n" + "\n".join(f"  {line[:500]}" for line in lines) if lines else ""

    def stop(self, timeout_s: float) -> None:
        """TERM, and KILL for the whole session where that is not enough."""
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout_s)
        self.kill()

    def kill(self) -> None:
        """End it, and whatever it started, at once."""
        self.close()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def close(self) -> None:
        """Close the pipe, which ends the child too."""
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1


class LocalCluster:
    """A broker, a scheduler and a worker; a context manager that ends and removes all of it.

    The worker has ``slots`` slots, and ``SPARE`` ones: a shard whose engine is lost has a place at once, even while
    what is left of that engine still holds its own.
    """

    def __init__(self, slots: int, home: Path | None = None) -> None:
        self.slots = slots
        self._home = home or home_folder()
        self.folder = Path()
        self._lock = -1
        self._children: dict[str, Child] = {}

    @property
    def database(self) -> str:
        """The database's URL."""
        return f"sqlite:///{self.folder / 'loads.sqlite3'}"

    @property
    def files(self) -> Path:
        """The folder of the file store."""
        return self.folder / "files"

    def __enter__(self) -> LocalCluster:
        try:
            self._home.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.folder, self._lock = _own_folder(self._home)
        except OSError as error:
            raise LocalError(f"can't use {self._home}: {error.strerror}: set LOADS_HOME to a folder of yours") from None
        try:
            for name in (BROKER, SCHEDULER, WORKER):
                self._children[name] = Child(name, self.folder)
            self._children[BROKER].order({"args": ["--data", str(self.folder / "broker")]})
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None or issubclass(kind, Exception):
                self.stop()
        finally:
            self.kill()

    def broker_url(self) -> str | None:
        """The broker's URL once it is ready."""
        line = self._children[BROKER].ready_line()
        return None if line is None else str(json.loads(line)["url"])

    def submit(self, broker: str, job: Mapping[str, Any]) -> None:
        """Have scheduler and worker begin, with one job (the fields of ``messages.Job``) to be done."""
        name = "local"
        self._children[WORKER].order(
            {
                "args": [
                    "--broker",
                    broker,
                    "--slots",
                    str(self.slots + SPARE),
                    "--name",
                    name,
                    "--files",
                    str(self.files),
                ]
            }
        )
        self._children[SCHEDULER].order(
            {"args": ["--broker", broker, "--db", self.database], "broker": broker, "job": dict(job)}
        )

    def scheduler_ready(self) -> bool:
        """Whether the scheduler acts, so that its database can be read."""
        return self._children[SCHEDULER].ready_line() is not None

    def check(self, names: Sequence[str] = (BROKER, SCHEDULER, WORKER)) -> None:
        """Raise LocalError where one of the children has ended."""
        for name in names:
            self._children[name].check()

    def is_full(self) -> bool:
        """Whether the parts can't write what they must keep."""
        return is_full(self.folder)

    def stop(self) -> None:
        """Have every child end in order."""
        for name, timeout_s in _STOP_S.items():
            if name in self._children:
                self._children[name].stop(timeout_s)
                del self._children[name]

    def kill(self) -> None:
        """End every child at once and remove the folder."""
        for child in self._children.values():
            child.kill()
        self._children.clear()
        if self._lock >= 0:
            shutil.rmtree(self.folder, ignore_errors=True)
            os.close(self._lock)
            self._lock = -1


def is_full(folder: Path) -> bool:
    """Whether nothing more can be written below a folder; where there seems to be little room, it is tried."""
    try:
        room = os.statvfs(folder)
        if room.f_bavail * room.f_frsize > _LITTLE_ROOM:
            return False
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(_PROBE))
    except OSError as error:
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return False


def no_room(folder: Path) -> str:
    """What is the matter with a disk that is full, for people."""
    return f"no space is left for {folder.parent}: make room, or set LOADS_HOME to a folder on another disk"


def _own_folder(home: Path) -> tuple[Path, int]:
    """A new private folder and the lock that says that its owner lives; folders without an owner are removed."""
    with _locked(home / "lock"):
        for folder in home.glob(f"{_PREFIX}*"):
            lock = _try_lock(folder)
            if lock is not None:
                shutil.rmtree(folder, ignore_errors=True)
                os.close(lock)
        folder = home / f"{_PREFIX}{secrets.token_hex(4)}"
        folder.mkdir(mode=0o700)
        lock = _try_lock(folder)
        assert lock is not None
        return folder, lock


def _try_lock(folder: Path) -> int | None:
    """The lock of a folder, or None where its owner lives."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _status(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"


def run_id() -> str:
    """A new id for a run: sorts by time, and is one nobody else has."""
    return f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(2)}"
