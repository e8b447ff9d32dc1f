"""The driver for WebSockets: the seats of one engine, and what they share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from loads_queue.model.websocket import WebSocketScenario

from .clock import boottime_ns
from .connection import Pool
from .errors import RequestError
from .recorder_sockets import SocketRecorder
from .seat import OnOver, Turns
from .world import World
from .ws_program import Script
from .ws_script import Conversation
from .ws_talk import Talk
from .ws_upgrade import Upgrade
from .ws_wire import Wire

LINGER_NS = 1_000_000_000
"""A target that has said good-bye has so long to hang up, so that it is its port, not ours, that stays reserved."""
MOST_CLOSE_NS = 10_000_000_000
AT_A_TIME = 50
BREATH_NS = 5_000_000
"""So many sessions are closed so often at the load's end: 10,000 in a second."""


class Talks:
    """The seats of an engine, each a ``Talk``."""

    path = "callbacks"
    lasting = True
    bare = False
    repeats: Turns | None = None

    def __init__(self, world: World, spec: WebSocketScenario, script: Script, upgrade: Upgrade) -> None:
        self.hub = world.hub
        self.net = world.net
        self.pacer = world.pacer
        self.gate = world.net.gate
        self.permit = world.permit
        self.heads = world.net.heads
        self.recorder = world.recorder
        self.guard = world.guard
        self.soon: Callable[..., Any] = world.hub.loop.run_callback
        self.sockets = SocketRecorder(world.recorder)
        self.upgrade = upgrade
        self.origin = upgrade.origin()
        self.script = Conversation(script, self.gate, world.recorder, self.sockets)
        self.timeout_ns = spec.timeout_ns
        self.close_ns = min(spec.timeout_ns, MOST_CLOSE_NS)
        self.max_message = spec.max_message
        self.subprotocols = spec.subprotocols
        self.deflate = spec.deflate
        self.no_pool = Pool(0)
        self.stopped = False
        self._talks: set[Talk] = set()
        self._lingering: set[Wire] = set()

    def guest(self, on_over: OnOver) -> Talk:
        """A seat for arrivals."""
        return self._made(Talk(self, on_over, True))

    def user(self, on_over: OnOver) -> Talk:
        """A seat for a user."""
        return self._made(Talk(self, on_over, False))

    def _made(self, talk: Talk) -> Talk:
        self._talks.add(talk)
        return talk

    def cover(self, now: int) -> None:
        """Count the sessions that are open."""
        self.sockets.cover(now)

    def stop(self) -> None:
        """The load is over: what only waits for that ends."""
        self.stopped = True
        self._finish(list(self._talks))

    def _finish(self, talks: list[Talk]) -> None:
        """Some of them at a time: others' answers are still read on time, and the target is not flooded."""
        with self.guard():
            for talk in talks[:AT_A_TIME]:
                talk.finish()
            if len(talks) > AT_A_TIME:
                self.pacer.at(boottime_ns() + BREATH_NS, lambda: self._finish(talks[AT_A_TIME:]))

    def linger(self, wire: Wire) -> None:
        """Have the target hang up first, if it does so soon; what it still says is nobody's."""
        self._lingering.add(wire)
        alarm = self.pacer.at(boottime_ns() + LINGER_NS, lambda: self._hang_up(wire))

        def look() -> None:
            with self.guard():
                try:
                    data = wire.read()
                except RequestError:
                    data = b""
                if not data and data is not None:
                    alarm.cancel()
                    self._hang_up(wire)

        wire.attach(look, _nothing, self.gate)

    def _hang_up(self, wire: Wire) -> None:
        self._lingering.discard(wire)
        wire.close()

    def close(self) -> None:
        """Close what lingers."""
        for wire in list(self._lingering):
            self._hang_up(wire)


def _nothing() -> None:
    """What still leaves is nobody's either."""
