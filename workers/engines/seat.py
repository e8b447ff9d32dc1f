"""Between a load model, which decides when iterations start, and what carries one out.

A load model runs in the hub and never blocks. It has seats, one for each user or each arrival in flight, and has an
iteration carried out by ``ride``; once that is over the seat tells it, in the hub or in a greenlet of its own that
must not block either. What sits in a seat (a greenlet, a state machine of callbacks, a compiled one) is the driver's
own business: ``drivers`` chooses it, once an engine.

What every seat promises:

* ``ride`` returns at once. The iteration is counted in the recorder, from its start to its end, by the seat.
* ``on_over`` is called once for each ``ride``, never before that has returned, and the seat may be ridden again from
  within it. So a target (or a mistake in a plan) that ends iterations at once neither recurses nor starves the loop:
  an iteration that has waited for nothing ends in a later turn of the loop.
* Nothing is sent without the permit (``net.Gate``), and no exception leaves a seat: its own faults go to
  ``World.guard``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from .variables import Visit


class Seat(Protocol):
    """One iteration after another, one at a time."""

    busy: bool
    """An iteration is under way."""
    kept: dict[str, Any]
    """What ``before`` extracted since ``enter``, for the user's later iterations."""

    def enter(self) -> None:
        """A user becomes active: with fresh connections, a fresh cookie jar, and nothing ``kept``."""

    def leave(self) -> None:
        """Not ridden for a while, or ever again: what belongs to the seat alone is given back."""

    def reserve(self) -> None:
        """Make sure that the first request finds a socket; raises Resource (or MemoryError) where none is left."""

    def ride(self, visit: Visit, due: int, key: int, now: int) -> None:
        """Start an iteration ``now``; it was ``due`` then, and is counted in the second of ``key``."""

    def interrupt(self) -> None:
        """End the iteration, if there is one, as interrupted."""

    def finish(self) -> None:
        """Its user is no longer planned: an iteration that only waits for the load's end ends."""

    def again(self, until: int) -> None:
        """Where ``Seats.repeats``: an iteration of a user that ends before a time may be followed by another one at
        once, without ``on_over``, as far as the permit goes; with 0 none is."""


OnOver = Callable[[Seat], object]


class Turns(Protocol):
    """Turns of users: whoever begins one counts it here, a load model or the seats themselves."""

    turns: int
    """How many have begun."""
    stopped: bool
    """Seats begin none by themselves any more."""


class OwnTurns:
    """Of a load model whose seats begin none by themselves."""

    __slots__ = ("stopped", "turns")

    def __init__(self) -> None:
        self.turns = 0
        self.stopped = False


class Seats(Protocol):
    """The seats of one engine."""

    path: str
    """``greenlets``, ``callbacks`` or ``compiled``."""
    lasting: bool
    """Iterations hold connections for as long as users are planned: users that join late do so at the plan's pace, and
    are told when they are no longer planned (``finish``)."""
    bare: bool
    """Rides look at nothing of their visit: any will do."""
    repeats: Turns | None
    """Where users' seats make use of ``again`` (they do only if they are ``bare``): what they count turns in."""

    def guest(self, on_over: OnOver) -> Seat:
        """A seat for arrivals: each is a user of its own, without cookies or anything kept from others before it.

        Connections come from a pool that all guests share. ``enter`` is not called for it.
        """

    def user(self, on_over: OnOver) -> Seat:
        """A seat for a user, who has to ``enter`` first: connections and cookies last until ``leave``."""

    def cover(self, now: int) -> None:
        """Rows are about to be told: what lasts has to stand in them up to now."""

    def stop(self) -> None:
        """Nothing begins any more: an iteration that only waits for the load's end ends."""

    def close(self) -> None:
        """Give back what the seats share."""
