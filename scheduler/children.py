"""Commands of ours as child processes of a daemon: they end with it, however it ends, and are started again.

A child leads a session of its own, so that a Ctrl-C in the terminal reaches the daemon alone, which then ends them in
order. What it shall do comes through a pipe, so that no address or password stands in anybody's arguments; the pipe's
end of file ends it. The process must have been monkey-patched by gevent before this is imported.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import gevent

START_S = 30.0
STOP_S = 3.0
AGAIN_AFTER_S = 0.3
MOST_STARTS = 5
WITHIN_S = 60.0

log = logging.getLogger("loads.scheduler")


class ChildError(Exception):
    """A child did not start, or ended too often; what it printed stands above."""

    exit_code = 4


class Child:
    """A command that is kept running. ``first`` are its arguments at its first start, ``again`` makes those of every
    later one from what it said when it was ready; ``lost`` is called when it can't be kept running."""

    def __init__(
        self,
        name: str,
        first: Sequence[str],
        again: Callable[[dict[str, Any]], Sequence[str]],
        lost: Callable[[str], None],
    ) -> None:
        self.name = name
        self.said: dict[str, Any] = {}
        """What it printed when it was ready the last time."""
        self._first = first
        self._again = again
        self._lost = lost
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe = -1
        self._keeper: gevent.Greenlet | None = None
        self._starts: list[float] = []

    def begin(self) -> None:
        """Start it without waiting for it."""
        self._begin(self._first)

    def start(self) -> dict[str, Any]:
        """Start it, unless it is started, and wait until it is ready; returns what it then printed. Raises
        ChildError."""
        if self._process is None:
            self.begin()
        self._await()
        self._keeper = gevent.spawn(self._keep)
        return self.said

    def stop(self) -> None:
        """End it: TERM, and KILL for what it started too where that is not enough."""
        if self._keeper is not None:
            self._keeper.kill()
        if self._process is None:
            return
        try:
            self._process.terminate()
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            log.warning("the %s does not end; killing it", self.name)
        finally:
            self._kill()

    def _begin(self, args: Sequence[str]) -> None:
        reading, self._pipe = os.pipe()
        try:
            self._process = subprocess.Popen(
                # -P: what lies in the user's folder must not be imported.
                [sys.executable, "-P", "-m", "loads.scheduler.local_child", self.name, str(reading)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                pass_fds=[reading],
                start_new_session=True,
            )
        finally:
            os.close(reading)
        # One that is dead already says so by printing nothing.
        with contextlib.suppress(BrokenPipeError):
            os.write(self._pipe, json.dumps({"args": list(args)}).encode() + b"\n")

    def _await(self) -> None:
        line = b""
        assert self._process is not None and self._process.stdout is not None
        with gevent.Timeout(START_S, False):
            line = self._process.stdout.readline()
        if not line:
            self._kill()
            raise ChildError(f"the {self.name} did not start")
        self.said = json.loads(line)

    def _keep(self) -> None:
        while True:
            assert self._process is not None
            code = self._process.wait()
            now = time.monotonic()
            self._starts = [at for at in self._starts if now - at < WITHIN_S] + [now]
            log.error("the %s ended by itself (%s); starting it again", self.name, _status(code))
            self._kill()
            while True:
                gevent.sleep(AGAIN_AFTER_S)
                try:
                    self._begin(self._again(self.said))
                    self._await()
                    break
                except ChildError as error:
                    self._starts.append(time.monotonic())
                    if len(self._starts) > MOST_STARTS:
                        self._lost(str(error))
                        return
            if len(self._starts) > MOST_STARTS:
                self._lost(f"the {self.name} ended {len(self._starts)} times within {WITHIN_S:.0f} s")
                return

    def _kill(self) -> None:
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1
        if self._process is None:
            return
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            log.debug("the %s is gone", self.name)
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._process = None


def _status(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
