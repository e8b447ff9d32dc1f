"""Processes that the bench starts: each on one core, in a session of its own, and ended again by its pid.

However this process ends, they end: a signal that ends it runs the ``with`` blocks, and where even that can't be (it is
killed) the kernel tells its children. None of them outlives its block with a child of its own.
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from .proc import Stat, Tree, read_stats

STOP_S = 12.0
"""How long a process has from TERM to KILL."""
SYSTEM_FOLDERS = ("/usr/local/sbin", "/usr/sbin", "/sbin")
"""Daemons live there; it is not on everyone's PATH."""


def end_in_order() -> None:
    """Have signals that end a process end this one with its ``finally`` blocks run, also where a shell ignores them."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda got, _: sys.exit(128 + got))


def allow_many_sockets() -> None:
    """Let this process and its children open as many descriptors as they may."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def find(command: str) -> str | None:
    """The path of a command, daemons' folders included."""
    return shutil.which(command, path=os.pathsep.join([os.environ.get("PATH", ""), *SYSTEM_FOLDERS]))


@contextmanager
def running(
    command: Sequence[str],
    core: int,
    output: Path,
    environment: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command on a core for as long as the block runs; what it prints goes to a file.

    RuntimeError where it can't be started.
    """
    leave = [found, "--pdeathsig", "TERM"] if (found := shutil.which("setpriv")) else []
    try:
        with output.open("wb") as file:
            process = subprocess.Popen(
                [*leave, "taskset", "-c", str(core), *command],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=dict(environment) if environment is not None else None,
                cwd=cwd,
                start_new_session=True,
            )
    except OSError as error:
        raise RuntimeError(f"{command[0]} can't be started: {error.strerror}") from None
    tree = Tree(process.pid)
    try:
        yield process
    finally:
        stop(process, tree)


def stop(process: subprocess.Popen[bytes], tree: Tree) -> None:
    """End a process, and after it whatever it leaves of its tree. Another Ctrl-C meanwhile changes nothing."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        members = tree.look()
        with suppress(ProcessLookupError):
            process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_S)
        if process.poll() is None:
            process.kill()
            process.wait()
        _end_the_rest(stat for pid, stat in members.items() if pid != process.pid)
    finally:
        signal.signal(signal.SIGINT, before)


def _end_the_rest(members: Iterable[Stat]) -> None:
    """Kill and, where they are ours by now, bury those that are still what they were."""
    alive = {stat.key for stat in read_stats()}
    for stat in members:
        if stat.key in alive:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(stat.pid, signal.SIGKILL)
            with suppress(ChildProcessError):
                os.waitpid(stat.pid, 0)


def last_line(output: Path) -> str:
    """The end of what a command printed, for people."""
    lines = [line.strip() for line in output.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:200] if lines else "it printed nothing"


def wait_until(deadline: float) -> None:
    """Sleep until a time of the monotonic clock."""
    time.sleep(max(0.0, deadline - time.monotonic()))
