"""Ctrl-C twice: the first signal asks for an orderly end, the second one leaves at once."""

from __future__ import annotations

import os
import select
import signal
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Leave(BaseException):
    """The second signal: give up what is under way, but clean up."""


class Interrupts:
    """Counts the signals that end a command, while the context lasts; for the main thread.

    The second one raises ``Leave`` wherever the program stands, and further ones do nothing.
    """

    def __init__(self) -> None:
        self.count = 0
        self.last = 0
        """The number of the last signal."""
        self._before: dict[signal.Signals, Any] = {}
        self._reading = self._writing = -1

    def __enter__(self) -> Interrupts:
        self._reading, self._writing = os.pipe()
        os.set_blocking(self._reading, False)
        for number in SIGNALS:
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.close(self._reading)
        os.close(self._writing)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        self.last = number
        if self.count == 1:
            os.write(self._writing, b"!")
            return
        for each in SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        raise Leave

    def wait(self, seconds: float) -> None:
        """Sleep, but not past a signal."""
        if select.select([self._reading], [], [], seconds)[0]:
            os.read(self._reading, 100)

    def forget(self) -> None:
        """Take the first signal as answered, so that the next one is a first one again."""
        self.count = 0
