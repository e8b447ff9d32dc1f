"""Counts of sessions that stay open: every frame, beginning and end stands in the row of the second it happened in.

What is called for every message counts in the second that is under way, looked up once a second. That one is let go of
whenever rows are looked at, so that a row is never changed behind the recorder's back: the next call looks it up anew.
All times are CLOCK_BOOTTIME nanoseconds given by others, as in ``recorder``.
"""

from __future__ import annotations

from typing import TypeVar

from loads_queue.model.sockets import OTHER_CODE, Sockets
from loads_queue.model.summary import OTHER

from .recorder import ARCHIVED_SECONDS, MOST_ERRORS, SECOND, Recorder

MOST_CODES = 100

Name = TypeVar("Name", int, str)


class SocketRecorder:
    """The sessions of one claim. Sizes are bytes of whole frames, as they are on the wire before TLS.

    Whoever holds sessions calls ``cover`` before rows are taken, so that those show in seconds without any event.
    """

    __slots__ = (
        "_causes", "_codes", "_covered", "_floor", "_lifetimes", "_pings", "_recorder", "_since", "_sockets", "_until",
        "open",
    )  # fmt: skip

    def __init__(self, recorder: Recorder) -> None:
        self.open = 0
        """How many are open now."""
        self._recorder = recorder
        self._sockets = Sockets()
        """Of the second that a time was in last, which lay from ``since`` on and before ``until``."""
        self._since = self._until = 0
        self._covered = -1
        """Up to this second it stands in the rows how many were open."""
        self._floor = 0
        self._pings: list[int] = []
        """Of the same second, yet to be counted, as are lifetimes."""
        self._lifetimes: list[int] = []
        self._codes: set[int] = set()
        self._causes: set[str] = set()
        recorder.sources.append(self._let_go)

    def opened(self, now: int) -> None:
        """The server has consented to a session."""
        if not self._since <= now < self._until:
            self._enter(now)
        sockets = self._sockets
        sockets.opened += 1
        self.open += 1
        if self.open > sockets.open:
            sockets.open = self.open

    def closed(self, now: int, code: int, failure: str | None, lifetime_ns: int) -> None:
        """A session that was open is no more. ``code``: of the close frame that ended it, 1005 where it had none, 1006
        where there was no such frame; ``failure``: what it failed for, None where it did not."""
        if not self._since <= now < self._until:
            self._enter(now)
        sockets = self._sockets
        sockets.closed += 1
        self.open -= 1
        code = _within(self._codes, code, MOST_CODES, OTHER_CODE)
        sockets.codes[code] = sockets.codes.get(code, 0) + 1
        if failure is not None:
            failure = _within(self._causes, failure, MOST_ERRORS, OTHER)
            sockets.failures[failure] = sockets.failures.get(failure, 0) + 1
        self._lifetimes.append(lifetime_ns)

    def message_out(self, now: int, size: int) -> None:
        """A message was sent."""
        if not self._since <= now < self._until:
            self._enter(now)
        sockets = self._sockets
        sockets.messages_out += 1
        sockets.bytes_out += size

    def message_in(self, now: int, size: int, unsolicited: bool = False) -> None:
        """A message has come, whole; ``unsolicited`` where it is known by now that nothing takes it."""
        if not self._since <= now < self._until:
            self._enter(now)
        sockets = self._sockets
        sockets.messages_in += 1
        sockets.bytes_in += size
        if unsolicited:
            sockets.unsolicited += 1

    def unsolicited(self, now: int, count: int = 1) -> None:
        """So many messages that came before will be taken by nothing."""
        if not self._since <= now < self._until:
            self._enter(now)
        self._sockets.unsolicited += count

    def ping_out(self, now: int, size: int) -> None:
        """A ping was sent."""
        if not self._since <= now < self._until:
            self._enter(now)
        self._sockets.pings_out += 1
        self._sockets.bytes_out += size

    def pong_in(self, now: int, size: int, rtt_ns: int | None) -> None:
        """A pong has come; ``rtt_ns`` since its ping was sent, None where it answers none of ours."""
        if not self._since <= now < self._until:
            self._enter(now)
        self._sockets.pongs_in += 1
        self._sockets.bytes_in += size
        if rtt_ns is not None:
            self._pings.append(rtt_ns)

    def ping_in(self, now: int, size: int) -> None:
        """A ping of the target's has come."""
        if not self._since <= now < self._until:
            self._enter(now)
        self._sockets.pings_in += 1
        self._sockets.bytes_in += size

    def frame_out(self, now: int, size: int) -> None:
        """A frame was sent that is counted nowhere else: a pong, a close, a part of a message that was cut off."""
        if not self._since <= now < self._until:
            self._enter(now)
        self._sockets.bytes_out += size

    def frame_in(self, now: int, size: int) -> None:
        """A frame has come that is counted nowhere else."""
        if not self._since <= now < self._until:
            self._enter(now)
        self._sockets.bytes_in += size

    def cover(self, now: int) -> None:
        """Have it stand in the rows of all seconds up to a time how many sessions were open, whatever happened there.

        The first time there is a row in any case: it says that there are sessions here, even if none ever opens.
        """
        if now < self._recorder.base:
            return
        if self._covered < 0:
            self._enter(now)
        else:
            self._cover(self._recorder.second_of(now))

    def _cover(self, second: int) -> None:
        """From the last event on nothing has changed. What was forgotten by now stays as it was."""
        if self.open:
            for each in range(max(self._covered + 1, self._floor - ARCHIVED_SECONDS), second + 1):
                sockets, _ = self._of(each)
                sockets.open = max(sockets.open, self.open)
        self._covered = second

    def _enter(self, now: int) -> None:
        """Count in the second of ``now`` from here on."""
        self._let_go(self._floor)
        second = self._recorder.second_of(now)
        self._cover(second)
        self._sockets, stands_in = self._of(second)
        self._since = self._recorder.base + stands_in * SECOND
        self._until = self._since + SECOND

    def _of(self, second: int) -> tuple[Sockets, int]:
        """The sockets of a second, made where there are none, and of which second their row in fact is."""
        row = self._recorder.live(second).row
        if row.sockets is None:
            row.sockets = Sockets()
        return row.sockets, row.second

    def _let_go(self, floor: int) -> None:
        """Count what was noted, and hold no row any more: it may be packed, or handed out as it is."""
        self._floor = floor
        self._since = self._until = 0
        if self._pings:
            self._sockets.ping.record_all(self._pings)
            self._pings.clear()
        if self._lifetimes:
            self._sockets.lifetime.record_all(self._lifetimes)
            self._lifetimes.clear()


def _within(known: set[Name], name: Name, most: int, other: Name) -> Name:
    """A name as it is counted: only so many different ones are."""
    if name in known:
        return name
    if len(known) >= most:
        return other
    known.add(name)
    return name
