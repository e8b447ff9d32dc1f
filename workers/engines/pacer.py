"""Callbacks at absolute times of CLOCK_BOOTTIME, to about 0.1 ms.

A timerfd watched by gevent's loop is several times more punctual than the loop's own timers, whose waits are rounded
up to milliseconds. Where the C library has none (outside Linux), a loop timer serves instead. Nothing here sleeps,
and callbacks run in the hub: they must not block.
"""

from __future__ import annotations

import ctypes
import heapq
import os
from collections.abc import Callable
from typing import Any

from .clock import BOOTTIME, boottime_ns

_TFD_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC
_TFD_TIMER_ABSTIME = 1
_READ = 1
_LONGEST = 10_000_000
"""Alarms that set others which are due at once leave the loop's other work its turn."""


class Alarm:
    """A callback to come; ``cancel`` forgets it."""

    __slots__ = ("_pacer", "callback", "due")

    def __init__(self, pacer: Pacer, due: int, callback: Callable[[], object]) -> None:
        self._pacer = pacer
        self.due = due
        self.callback: Callable[[], object] | None = callback

    def cancel(self) -> None:
        """Never call it; harmless after it was called."""
        if self.callback is not None:
            self.callback = None
            self._pacer._cancelled()


class Deadline:
    """A time that moves on and on: one alarm at most, which follows it instead of being set anew each time."""

    __slots__ = ("_on_passed", "_pacer", "alarm", "at")

    def __init__(self, pacer: Pacer, on_passed: Callable[[], object]) -> None:
        self._pacer = pacer
        self._on_passed = on_passed
        self.alarm: Alarm | None = None
        self.at = 0
        """0: there is none. It may be taken away by this alone, and be put off, where the alarm rings before it."""

    def set(self, at: int) -> None:
        """Have ``on_passed`` called at a time, in place of any before; an alarm that rings too early stays."""
        self.at = at
        alarm = self.alarm
        if alarm is None:
            self.alarm = self._pacer.at(at, self._ring)
        elif alarm.due > at:
            alarm.cancel()
            self.alarm = self._pacer.at(at, self._ring)

    def close(self) -> None:
        """Give the alarm back."""
        self.at = 0
        if self.alarm is not None:
            self.alarm.cancel()
            self.alarm = None

    def _ring(self) -> None:
        self.alarm = None
        if not self.at:
            return
        if boottime_ns() < self.at:
            self.alarm = self._pacer.at(self.at, self._ring)
            return
        self.at = 0
        self._on_passed()


class Pacer:
    """The alarms of one engine. What a callback raises is for ``on_error``, called within the ``except`` clause."""

    def __init__(self, loop: Any, on_error: Callable[[], object]) -> None:
        self._on_error = on_error
        self._heap: list[tuple[int, int, Alarm]] = []
        """By time and number: no two have the same number, so that alarms are never compared."""
        self._count = 0
        self._armed: int | None = None
        self._lag = 0
        self._dead = 0
        self._closed = False
        self._timer = _open_timer(loop, self._fire)

    def at(self, due: int, callback: Callable[[], object]) -> Alarm:
        """Call back at a time of CLOCK_BOOTTIME in nanoseconds, soon if it has passed."""
        self._count += 1
        alarm = Alarm(self, due, callback)
        heapq.heappush(self._heap, (due, self._count, alarm))
        if not self._closed and (self._armed is None or due < self._armed):
            self._arm(due)
        return alarm

    def take_lag(self) -> int:
        """The greatest lateness of an alarm in nanoseconds since the last call."""
        lag, self._lag = self._lag, 0
        return lag

    def close(self) -> None:
        """Forget every alarm and give the timer back."""
        self._heap.clear()
        self._closed = True
        self._timer.close()

    def _cancelled(self) -> None:
        """Alarms that were cancelled long before their time must not pile up."""
        self._dead += 1
        if self._dead > 1000 and self._dead > len(self._heap) // 2:
            self._heap = [entry for entry in self._heap if entry[2].callback is not None]
            heapq.heapify(self._heap)
            self._dead = 0

    def _arm(self, due: int) -> None:
        self._armed = due
        self._timer.set(due)

    def _fire(self) -> None:
        self._armed = None
        now = boottime_ns()
        longest = now + _LONGEST
        while self._heap and now < longest and (self._heap[0][0] <= now or self._heap[0][2].callback is None):
            _, _, alarm = heapq.heappop(self._heap)
            if alarm.callback is None:
                self._dead = max(0, self._dead - 1)
                continue
            callback, alarm.callback = alarm.callback, None
            self._lag = max(self._lag, now - alarm.due)
            try:
                callback()
            except Exception:
                self._on_error()
            now = boottime_ns()
        if self._heap and not self._closed and (self._armed is None or self._heap[0][0] < self._armed):
            self._arm(self._heap[0][0])


class _Spec(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_long) for name in ("interval_s", "interval_ns", "value_s", "value_ns"))


class _TimerFd:
    """A Linux timerfd, watched by the loop."""

    def __init__(self, loop: Any, library: Any, callback: Callable[[], None]) -> None:
        self._settime = library.timerfd_settime
        self._fd: int = library.timerfd_create(BOOTTIME, _TFD_FLAGS)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create failed")
        self._callback = callback
        self._spec = _Spec()
        self._at = ctypes.byref(self._spec)
        self._watcher = loop.io(self._fd, _READ)
        self._watcher.start(self._ring)

    def set(self, due: int) -> None:
        """Ring at a time of CLOCK_BOOTTIME; 0 would disarm it, so the past becomes 1 ns after the start."""
        self._spec.value_s, self._spec.value_ns = divmod(max(due, 1), 1_000_000_000)
        self._settime(self._fd, _TFD_TIMER_ABSTIME, self._at, None)

    def close(self) -> None:
        """Give the descriptor back."""
        self._watcher.stop()
        self._watcher.close()
        os.close(self._fd)

    def _ring(self) -> None:
        try:
            os.read(self._fd, 8)
        except BlockingIOError:
            return  # It was set anew between the wake-up and this read.
        self._callback()


class _LoopTimer:
    """The loop's own timer, where there is no timerfd."""

    def __init__(self, loop: Any, callback: Callable[[], None]) -> None:
        self._loop = loop
        self._callback = callback
        self._timer: Any = None

    def set(self, due: int) -> None:
        """Ring at a time of the engine's clock."""
        self.close()
        self._timer = self._loop.timer(max(0.0, (due - boottime_ns()) / 1e9))
        self._timer.start(self._callback)

    def close(self) -> None:
        """Stop ringing."""
        if self._timer is not None:
            self._timer.stop()
            self._timer.close()
            self._timer = None


def _open_timer(loop: Any, callback: Callable[[], None]) -> _TimerFd | _LoopTimer:
    library = ctypes.CDLL(None, use_errno=True)
    if not hasattr(library, "timerfd_create"):
        return _LoopTimer(loop, callback)
    try:
        return _TimerFd(loop, library, callback)
    except OSError:
        return _LoopTimer(loop, callback)
