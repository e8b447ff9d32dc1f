"""The permit's hard end: a process that is held up over it is killed by the kernel before it can write another byte.

Whoever reads the clock and then writes may be stopped between the two (a signal, a frozen container, a suspended
machine), and would write when it goes on, long after its permit. So a timer of the kernel's own is set to the end of
each permit, with SIGKILL as its signal: a stopped process dies of it without running a single instruction more. A
process that runs takes the timer down ``NOTICE_NS`` before, and starts nothing from then on.
"""

from __future__ import annotations

import ctypes
import os
import signal

from .clock import BOOTTIME

NOTICE_NS = 500_000_000
"""The last part of a permit, in which nothing is started and the timer is taken down."""
_TIMER_ABSTIME = 1
_SECOND = 1_000_000_000


class _SigEvent(ctypes.Structure):
    _fields_ = (
        ("value", ctypes.c_void_p),
        ("signo", ctypes.c_int),
        ("notify", ctypes.c_int),
        ("rest", ctypes.c_byte * 64),
    )


class _TimerSpec(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_long) for name in ("interval_s", "interval_ns", "value_s", "value_ns"))


class Fence:
    """One timer of the kernel's, not set at first; raises OSError where the system has none."""

    def __init__(self, signo: int = signal.SIGKILL) -> None:
        library = ctypes.CDLL(None, use_errno=True)
        if not hasattr(library, "timer_create"):
            library = ctypes.CDLL("librt.so.1", use_errno=True)
        self._timer = ctypes.c_void_p()
        event = _SigEvent(signo=signo)
        if library.timer_create(BOOTTIME, ctypes.byref(event), ctypes.byref(self._timer)):
            raise OSError(ctypes.get_errno(), "timer_create failed")
        self._set = library.timer_settime

    def arm(self, at: int) -> None:
        """Have this process killed at a time of CLOCK_BOOTTIME, in nanoseconds, in place of any time before."""
        seconds, nanoseconds = divmod(max(at, 1), _SECOND)
        self._settime(_TimerSpec(0, 0, seconds, nanoseconds))

    def disarm(self) -> None:
        """Have it live."""
        self._settime(_TimerSpec(0, 0, 0, 0))

    def _settime(self, spec: _TimerSpec) -> None:
        if self._set(self._timer, _TIMER_ABSTIME, ctypes.byref(spec), None):
            number = ctypes.get_errno()
            raise OSError(number, f"timer_settime failed: {os.strerror(number)}")
