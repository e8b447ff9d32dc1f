"""Virtual time: an agenda of what happens when, processes that can be paused and killed, and clocks that are off.

Everything random comes from ``dice(name)``: one stream for each part of the world, so that leaving out one fault
changes as little as possible of all the rest. Nothing here knows what is simulated. Times are true nanoseconds since
the world began; only a ``HostClock`` knows what a host believes.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from typing import Any

SECOND = 1_000_000_000
MS = 1_000_000
START = 1_700_000_000 * SECOND
"""The Unix time at which the world begins."""

Action = Callable[[], Any]


class World:
    """An agenda, and what was found to be wrong while it was worked off."""

    def __init__(self, seed: int, tell: Callable[[str], None] | None = None) -> None:
        self.seed = seed
        self.now = 0
        self.problems: list[str] = []
        self.tell = tell
        self._agenda: list[tuple[int, int, Action]] = []
        self._count = 0

    def dice(self, name: str) -> random.Random:
        """The random numbers of one part of the world."""
        return random.Random(f"{self.seed}.{name}")

    def later(self, delay: int, action: Action) -> None:
        """Do something at a later time; what is due at the same time happens in the order of these calls."""
        self._count += 1
        heapq.heappush(self._agenda, (self.now + max(0, delay), self._count, action))

    def note(self, who: str, what: str) -> None:
        """A line of the trace, where somebody reads it."""
        if self.tell is not None:
            self.tell(f"{self.now / SECOND:9.4f}  {who:<10} {what}")

    def wrong(self, what: str) -> None:
        """An invariant is broken, now."""
        self.problems.append(f"{what} (at {self.now / SECOND:.4f} s)")
        self.note("WRONG", what)

    def run(self, done: Callable[[], bool], limit: int) -> bool:
        """Let time pass until ``done``, which is asked after each event; False where the limit came first."""
        agenda = self._agenda
        while agenda:
            at, _, action = heapq.heappop(agenda)
            if at > limit:
                self.now = limit
                return False
            self.now = at
            action()
            if done():
                return True
        return False


class Process:
    """Something that runs until it is killed, and does nothing while it is stopped (SIGSTOP).

    What falls due meanwhile is done, in order, when it goes on.
    """

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.alive = True
        self.stopped = 0
        """How many reasons there are to stand still."""
        self.resumed_at = -SECOND
        self._due: list[Action] = []

    def after(self, delay: int, action: Action) -> None:
        """Have the process do something later."""
        self.world.later(delay, lambda: self.do(action))

    def do(self, action: Action) -> None:
        """Have the process do something now: not at all if it is dead, later if it stands still."""
        if not self.alive:
            return
        if self.stopped:
            self._due.append(action)
        else:
            action()

    def pause(self) -> None:
        """SIGSTOP."""
        self.stopped += 1

    def resume(self) -> None:
        """SIGCONT: everything that fell due happens now."""
        self.stopped -= 1
        self.resumed_at = self.world.now
        due, self._due = self._due, []
        for action in due:
            self.do(action)

    def kill(self) -> None:
        """SIGKILL; works on what stands still, too."""
        self.alive = False
        self._due.clear()


class HostClock:
    """A host's two clocks: both run a little fast or slow; the wall clock is off, and may be set."""

    def __init__(self, world: World, base: int = 0, ppm: int = 0, offset: int = 0) -> None:
        self.world = world
        self.base, self.ppm, self.offset = base, ppm, offset
        self._since = 0

    def _ran(self) -> int:
        now = self.world.now
        return now + now * self.ppm // 1_000_000

    @property
    def boot(self) -> int:
        """CLOCK_BOOTTIME."""
        return self.base + self._ran() - self._since

    @property
    def wall(self) -> int:
        """Unix time."""
        return START + self._ran() + self.offset

    def until(self, boot: int) -> int:
        """How long, in true time, until CLOCK_BOOTTIME is at least that."""
        left = boot - self.boot
        return 0 if left <= 0 else left * 1_000_000 // (1_000_000 + self.ppm) + 2

    def reboot(self, base: int) -> None:
        """The machine was started again: CLOCK_BOOTTIME begins anew."""
        self.base, self._since = base, self._ran()
