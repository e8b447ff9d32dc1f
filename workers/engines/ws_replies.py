"""Replies that are awaited while a script goes on, by their order or by what they have in common with what was sent.

Pure: it knows exchanges and times, and no clock. A reply that comes too late, to what was given up, still takes its
place in the order: the next one is not mistaken for it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable

from .exchange import Exchange

MOST = 1000
"""So many may be outstanding (or late) in a session."""


class Replies:
    """The outstanding replies of one session; each exchange has until ``sent`` + ``timeout_ns``."""

    __slots__ = ("_by_id", "_order", "outstanding")

    def __init__(self) -> None:
        self._order: deque[Exchange | None] = deque()
        """None: one that was given up."""
        self._by_id: dict[Hashable, Exchange] = {}
        self.outstanding = 0

    @property
    def full(self) -> bool:
        """No more can be awaited."""
        return len(self._order) + len(self._by_id) >= MOST

    @property
    def ordered(self) -> bool:
        """The next message is a reply, also one that comes too late."""
        return bool(self._order)

    def await_next(self, x: Exchange) -> None:
        """The reply is the next message that is no other's."""
        self._order.append(x)
        self.outstanding += 1

    def await_id(self, key: Hashable, x: Exchange) -> bool:
        """The reply is the message with that key; False where another one is awaited with it."""
        if key in self._by_id:
            return False
        self._by_id[key] = x
        self.outstanding += 1
        return True

    def next(self) -> Exchange | None:
        """Who the next message is for; None: for one that was given up."""
        x = self._order.popleft()
        if x is not None:
            self.outstanding -= 1
        return x

    def of(self, key: Hashable) -> Exchange | None:
        """Who a message with a key is for."""
        x = self._by_id.pop(key, None)
        if x is not None:
            self.outstanding -= 1
        return x

    def due(self) -> int:
        """When the first one of them is given up; 0 where none is outstanding."""
        times = [x.sent + x.timeout_ns for x in (*self._order, *self._by_id.values()) if x is not None]
        return min(times, default=0)

    def overdue(self, now: int) -> list[Exchange]:
        """Those that are given up."""
        found: list[Exchange] = []
        for index, x in enumerate(self._order):
            if x is not None and x.sent + x.timeout_ns <= now:
                found.append(x)
                self._order[index] = None
        for key, x in list(self._by_id.items()):
            if x.sent + x.timeout_ns <= now:
                found.append(x)
                del self._by_id[key]
        self.outstanding -= len(found)
        return found

    def close(self) -> list[Exchange]:
        """All that are outstanding; none is any more."""
        found = [x for x in (*self._order, *self._by_id.values()) if x is not None]
        self._order.clear()
        self._by_id.clear()
        self.outstanding = 0
        return found
