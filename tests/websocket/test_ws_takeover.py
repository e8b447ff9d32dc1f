"""The user-time of users that a successor opens again little by little, whatever is changed in between."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from contextlib import ExitStack
from fractions import Fraction
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from hypothesis import example, given
from hypothesis import strategies as st
from loads.workers.engines import closed, users
from loads.workers.engines.closed import ClosedUsers
from loads.workers.engines.pacer import Alarm
from loads.workers.engines.permit import Permit
from loads.workers.engines.recorder import Recorder

from loads_queue.model.profile import ClosedLoad, UserStage
from loads_queue.model.summary import total

SECOND = 1_000_000_000
FOREVER = 1 << 62


class Seat:
    """Holds its session until it is told that its user is no longer planned."""

    def __init__(self, scene: Takeover, on_over: Callable[[Any], object]) -> None:
        self._scene = scene
        self._on_over = on_over
        self.busy = False
        self.kept: dict[str, Any] = {}

    def enter(self) -> None: ...

    def leave(self) -> None: ...

    def reserve(self) -> None: ...

    def ride(self, visit: object, due: int, key: int, now: int) -> None:
        self.busy = True
        self._scene.open_now(1)

    def finish(self) -> None:
        self.busy = False
        self._scene.open_now(-1)
        self._scene.at(self._scene.now, lambda: self._on_over(self))

    interrupt = finish


class Takeover:
    """A shard of a closed load that is heard of late, in virtual time."""

    lasting, bare, repeats = True, True, None

    def __init__(self, load: ClosedLoad, heard: int) -> None:
        self.now = heard
        self.held = 0
        """User-time, as the seats see it."""
        self._open = 0
        self._since = heard
        self._heap: list[tuple[int, int, Alarm]] = []
        self._count = 0
        self.recorder = Recorder(0)
        permit = Permit()
        permit.replace(FOREVER, FOREVER, FOREVER, 0, 0)
        world: Any = SimpleNamespace(
            base=0, order=SimpleNamespace(delay_ns=0, shard=0, shards=1, graceful_ramp_down_ns=0), permit=permit,
            net=SimpleNamespace(gate=SimpleNamespace(attempts=0)), seats=self, recorder=self.recorder, pacer=self,
            rows=None, load_over=lambda: self.model.stop(), maybe_over=lambda: None, ask_for_more=lambda: None,
        )  # fmt: skip
        self.model = ClosedUsers(world, load, 0, heard)

    def user(self, on_over: Callable[[Any], object]) -> Seat:
        return Seat(self, on_over)

    def open_now(self, change: int) -> None:
        self.held += self._open * (self.now - self._since)
        self._open, self._since = self._open + change, self.now

    def at(self, due: int, callback: Callable[[], object]) -> Alarm:
        self._count += 1
        alarm = Alarm(self, due, callback)  # type: ignore[arg-type]
        heapq.heappush(self._heap, (due, self._count, alarm))
        return alarm

    def _cancelled(self) -> None: ...

    def let_pass(self, until: int) -> None:
        while self._heap and self._heap[0][0] <= until:
            due, _, alarm = heapq.heappop(self._heap)
            self.now = max(self.now, due)
            callback, alarm.callback = alarm.callback, None
            if callback is not None:
                callback()
        self.now = max(self.now, until)
        self.model.cover(self.now)
        self.open_now(0)


TENTHS = SECOND // 10
FACTORS = st.sampled_from([(0, 1), (1, 2), (1, 1), (2, 1)])


@given(
    up=st.integers(1, 30),
    flat=st.integers(1, 30),
    users_in_all=st.integers(1, 12),
    heard=st.integers(0, 50),
    changes=st.lists(st.tuples(st.integers(1, 10), st.integers(0, 12), FACTORS), max_size=3),
)
@example(up=20, flat=40, users_in_all=10, heard=30, changes=[(2, 0, (1, 2))])
def test_user_time_is_what_was_held(
    up: int, flat: int, users_in_all: int, heard: int, changes: list[tuple[int, int, tuple[int, int]]]
) -> None:
    """Held and surplus are what the seats have seen, held and missed what the plan has; a change comes some time after
    the one before it, and is heard of some time after it."""
    stages = (
        UserStage(Fraction(0), Fraction(users_in_all), up * TENTHS),
        UserStage(Fraction(users_in_all), Fraction(users_in_all), flat * TENTHS),
    )
    load = ClosedLoad(stages)
    begun = min(heard * TENTHS, load.end_ns - 1)
    with ExitStack() as stack:
        scene: list[Takeover] = []
        for module in (closed, users):
            stack.enter_context(patch.object(module, "boottime_ns", lambda: scene[0].now))
        scene.append(Takeover(load, begun))
        model = scene[0].model
        model.begin()
        told: list[tuple[int, int, int]] = []
        for after, late, (top, bottom) in changes:
            at = max(scene[0].now, told[-1][0] if told else 0) + after * TENTHS
            if at + late * TENTHS >= load.end_ns:
                break
            told.append((at, top, bottom))
            scene[0].let_pass(at + late * TENTHS)
            model.change(told)
        scene[0].let_pass(load.end_ns)
        row = total([live.row for live in scene[0].recorder._rows.values()])
        planned = load.changed(told).user_ns(begun, load.end_ns)
    assert row.held_ns + row.missed_user_ns == planned
    assert abs(row.held_ns + row.surplus_user_ns - scene[0].held) <= 100, (row.held_ns, row.surplus_user_ns, told)
