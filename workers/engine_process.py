"""One engine's process: two private descriptors for lines, its output captured, its end seen and tidied.

The child leads a session of its own, reads nothing (/dev/null), has none of the agent's secrets in its environment,
and is killed by the kernel when the agent dies, whatever it is doing. Everything here is for greenlets of one thread,
and for Linux (a process descriptor tells of the child's end, so that no signal handler is needed).
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import gevent
import gevent.queue
from gevent.monkey import get_original
from gevent.os import make_nonblocking, nb_read, nb_write

OUTPUT_KEPT = 4096
LONGEST_LINE = 32 << 20
_READ = 1 << 16
_DRAIN_S = 1.0
"""How long lines of an engine that is gone are still read; only a descriptor that escaped its group takes that long."""
_PR_SET_PDEATHSIG = 1
_SECRET_NAME = re.compile(r"^(LOADS_|AWS_)|SECRET|TOKEN|PASSW|CREDENTIAL|(^|_)KEY($|_)", re.IGNORECASE)
_SURROGATE = re.compile(rb"\\ud[89a-f]", re.IGNORECASE)
_MOST_DIGITS = 40

_fork: Callable[[], int] = get_original("os", "fork")
_waitpid: Callable[[int, int], tuple[int, int]] = get_original("os", "waitpid")


def engine_command(engine: str, reading: int, writing: int) -> list[str]:
    """The program that runs an engine."""
    # -P: what lies in the working folder must not be imported.
    return [
        sys.executable, "-P", "-m", "loads.workers.engine_main", engine, "--in", str(reading), "--out", str(writing),
    ]  # fmt: skip


def engine_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The agent's environment without what is, or by its name might be, a secret."""
    return {name: value for name, value in environ.items() if not _SECRET_NAME.search(name)}


class EngineProcess:
    """A running engine; ``on_line`` gets its lines, ``on_exit`` its status and output, once, after the last line.

    ``command`` gets the numbers that the two descriptors have in the child. Raises OSError where no process can be
    made.
    """

    def __init__(
        self,
        command: Callable[[int, int], list[str]],
        environment: Mapping[str, str],
        on_line: Callable[[Mapping[str, Any] | None], None],
        on_exit: Callable[[int, str], None],
    ) -> None:
        self._on_line = on_line
        self._on_exit = on_exit
        self._lines: gevent.queue.Queue[bytes] = gevent.queue.Queue()
        self._tail = bytearray()
        self._gone = False
        child_in, self._in = os.pipe()
        self._out, child_out = os.pipe()
        self._printed, child_printed = os.pipe()
        theirs = (child_in, child_out, child_printed)
        try:
            self.pid = _start(command(child_in, child_out), environment, theirs)
            self._pidfd = os.pidfd_open(self.pid)
        except OSError:
            for descriptor in (self._in, self._out, self._printed):
                os.close(descriptor)
            raise
        finally:
            for descriptor in theirs:
                os.close(descriptor)
        for descriptor in (self._in, self._out, self._printed):
            make_nonblocking(descriptor)
        self._writer = gevent.spawn(self._write)
        self._readers = [gevent.spawn(self._read_lines), gevent.spawn(self._read_output)]
        gevent.spawn(self._wait)

    def send(self, line: Mapping[str, Any]) -> None:
        """Write a line after those before it; never waits."""
        self._lines.put(json.dumps(line, separators=(",", ":")).encode() + b"\n")

    def kill(self, name: str) -> None:
        """Send ``TERM`` or ``KILL`` to the engine and all that it started and that stayed in its group."""
        if not self._gone:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.Signals[f"SIG{name}"])

    def _wait(self) -> None:
        _readable(self._pidfd)
        # Not reaped yet, so that its number, and its group's, is nobody else's.
        self.kill("KILL")
        self._gone = True
        _, status = _waitpid(self.pid, 0)
        gevent.joinall(self._readers, timeout=_DRAIN_S)
        gevent.killall([*self._readers, self._writer])
        for descriptor in (self._pidfd, self._in, self._out, self._printed):
            os.close(descriptor)
        self._on_exit(os.waitstatus_to_exitcode(status), self._tail.decode(errors="replace"))

    def _write(self) -> None:
        while True:
            data = memoryview(self._lines.get())
            try:
                while data:
                    data = data[nb_write(self._in, data) :]
            except BrokenPipeError:
                return  # It has ended, or wants to hear no more; its end, or its silence, will tell.

    def _read_lines(self) -> None:
        """Hand lines over; after one that is beyond all measure nothing more is read."""
        pending = bytearray()
        while chunk := nb_read(self._out, _READ):
            pending += chunk
            if b"\n" in chunk:
                *lines, rest = bytes(pending).split(b"\n")
                pending = bytearray(rest)
                for line in lines:
                    self._on_line(parse_line(line))
            if len(pending) > LONGEST_LINE:
                self._on_line(None)
                return
        if pending:
            self._on_line(None)

    def _read_output(self) -> None:
        while chunk := nb_read(self._printed, _READ):
            self._tail += chunk
            del self._tail[:-OUTPUT_KEPT]


def parse_line(data: bytes) -> Mapping[str, Any] | None:
    """An engine's line as an object that can travel in a Report, or None where it is none."""
    try:
        line = json.loads(data, parse_constant=_refuse, parse_int=_whole)
        if _SURROGATE.search(data):
            line = json.loads(json.dumps(line, ensure_ascii=False).encode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None
    return line if isinstance(line, dict) else None


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _whole(text: str) -> int:
    if len(text) > _MOST_DIGITS:
        raise ValueError(f"a whole number of {len(text)} digits")
    return int(text)


def _readable(descriptor: int) -> None:
    watcher = gevent.get_hub().loop.io(descriptor, 1)
    try:
        gevent.get_hub().wait(watcher)
    finally:
        watcher.close()


def _start(command: list[str], environment: Mapping[str, str], descriptors: tuple[int, int, int]) -> int:
    """Fork and execute. ``descriptors``: those that stay open in the child as they are, and the one for its output."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    null = os.open(os.devnull, os.O_RDONLY)
    agent = os.getpid()
    try:
        pid = _fork()
        if pid == 0:
            _become(command, environment, descriptors, null, prctl, agent)
        return pid
    finally:
        os.close(null)


def _become(
    command: list[str],
    environment: Mapping[str, str],
    descriptors: tuple[int, int, int],
    null: int,
    prctl: Callable[[int, int], int],
    agent: int,
) -> NoReturn:
    """In the child: become the engine, or end with status 127 and the reason as output."""
    try:
        reading, writing, printed = descriptors
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != agent:
            os._exit(0)
        os.setsid()
        os.dup2(null, 0)
        os.dup2(printed, 1)
        os.dup2(printed, 2)
        os.set_inheritable(reading, True)
        os.set_inheritable(writing, True)
        for number in (signal.SIGPIPE, signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        os.execve(command[0], command, dict(environment))
    except BaseException as error:
        os.write(2, f"can't start {command[0]}: {error}\n".encode())
    finally:
        os._exit(127)


class PidFiles:
    """A folder with one file for each engine process, by which a later agent finds what a killed one left behind."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, pid: int) -> None:
        """Remember a child of this process."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / str(pid)).write_text(json.dumps({"pid": pid, "started": _started(pid), "boot": _boot()}))

    def remove(self, pid: int) -> None:
        """Forget it."""
        (self.folder / str(pid)).unlink(missing_ok=True)

    def end_leftovers(self) -> list[int]:
        """Kill every remembered process that still lives, with its group, and return their numbers.

        A number that another process has by now (it started at another time) is left alone.
        """
        ended = []
        for path in sorted(self.folder.glob("*")) if self.folder.is_dir() else []:
            try:
                found = json.loads(path.read_text())
                pid, started = int(found["pid"]), found["started"]
                if found["boot"] == _boot() and started is not None and _started(pid) == started:
                    os.killpg(pid, signal.SIGKILL)
                    ended.append(pid)
            except (ValueError, KeyError, TypeError, ProcessLookupError):
                pass  # Half written by a killed agent, or gone in between: either way nothing is left to end.
            path.unlink(missing_ok=True)
        return ended


def _started(pid: int) -> int | None:
    """When a process started, in ticks since boot; None where there is none, or where only its end is left."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    state, *fields = stat.rpartition(")")[2].split()
    return None if state in "ZX" else int(fields[18])


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
