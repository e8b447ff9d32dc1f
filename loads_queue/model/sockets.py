"""What was measured of sockets that stay open (WebSocket sessions) in one second of one claim.

A session counts from the server's consent to it (the 101) to its end; what came before is a request as any other, in
the row's series. Everything counts in the second in which it happened. Over all rows of a claim, opened = closed +
open at the end, and closed = the sum of ``codes``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .histogram import Histogram
from .row_parts import (
    add_counts,
    by_number,
    counts,
    histograms,
    read_by_name,
    read_by_number,
    read_counts,
    read_histograms,
)

NO_CODE = 1005
"""Of a session that ended by a close frame without a code (RFC 6455, 7.4.1)."""
NO_CLOSE = 1006
"""Of a session that ended without a close frame."""
OTHER_CODE = 0
"""The code that takes what a cap on them leaves over; no close frame has it."""


@dataclass(slots=True)
class Sockets:
    """Sessions of one second: how many began and ended, what went through them, and how they ended.

    Bytes are those of whole frames, before TLS, control frames among them. ``unsolicited`` are messages that nothing
    ever took, in the second in which that was known. ``pings_out`` are the generator's, ``pongs_in`` what came back,
    ``pings_in`` the target's. ``failures`` are of open sessions that ended by one; ``ping`` holds round trips,
    ``lifetime`` times from the 101 to the end, both in nanoseconds.
    """

    opened: int = 0
    closed: int = 0
    messages_in: int = 0
    messages_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    unsolicited: int = 0
    pings_out: int = 0
    pongs_in: int = 0
    pings_in: int = 0
    open: int = 0
    """The most that were open at once."""
    codes: dict[int, int] = field(default_factory=dict)
    """Sessions by close code."""
    failures: dict[str, int] = field(default_factory=dict)
    """Sessions by what they failed for."""
    ping: Histogram = field(default_factory=Histogram)
    lifetime: Histogram = field(default_factory=Histogram)

    def add(self, other: Sockets) -> None:
        """Add those of another claim, or another second. As with the users of a row, the sum of ``open`` means
        something within a second only."""
        for name in SOCKET_NUMBERS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in SOCKET_HISTOGRAMS:
            getattr(self, name).merge(getattr(other, name))
        add_counts(self.codes, other.codes)
        add_counts(self.failures, other.failures)

    def to_wire(self) -> dict[str, Any]:
        """As JSON, zeros left out."""
        wire = {**counts(self, SOCKET_NUMBERS), **histograms(self, SOCKET_HISTOGRAMS)}
        if self.codes:
            wire["codes"] = by_number(self.codes)
        if self.failures:
            wire["failures"] = dict(self.failures)
        return wire

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> Sockets:
        """From JSON; raises ValueError for anything else than ``to_wire`` makes."""
        known = {*SOCKET_NUMBERS, *SOCKET_HISTOGRAMS, "codes", "failures"}
        return cls(
            **read_counts(wire, SOCKET_NUMBERS, known),
            **read_histograms(wire, SOCKET_HISTOGRAMS),
            codes=read_by_number(wire, "codes", "a close code"),
            failures=read_by_name(wire, "failures"),
        )


SOCKET_COUNTS = (
    "opened", "closed", "messages_in", "messages_out", "bytes_in", "bytes_out", "unsolicited", "pings_out", "pongs_in",
    "pings_in",
)  # fmt: skip
SOCKET_NUMBERS = (*SOCKET_COUNTS, "open")
SOCKET_HISTOGRAMS = ("ping", "lifetime")
