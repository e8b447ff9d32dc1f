"""What passes between a scenario, which decides, and its driver, which does: the effects."""

from __future__ import annotations

from .http1 import Head
from .urls import Origin


class Exchange:
    """One request and what became of it; all times are CLOCK_BOOTTIME nanoseconds.

    The scenario fills in the first half, the driver the second, and ``error``: the name under which a failure is
    counted (None: none so far). A scenario sets it beforehand where a request can't be built: then nothing is sent.
    The durations of ``dns_ns``, ``connect_ns`` and ``tls_ns`` are of phases that came to their end for this request;
    0: that was not so, say because it took a kept connection or the address was known.
    """

    __slots__ = (
        "body", "bytes_in", "bytes_out", "checks", "closing", "connect_ns", "dns_ns", "due", "ended", "error", "first",
        "head", "hop", "keep_body", "method", "name", "origin", "sent", "series", "status", "timeout_ns", "tls_ns",
        "wire",
    )  # fmt: skip

    def __init__(self, name: str, timeout_ns: int, keep_body: bool) -> None:
        self.name = name
        self.method = "GET"
        self.origin: Origin | None = None
        self.wire = b""
        self.timeout_ns = timeout_ns
        self.keep_body = keep_body
        self.closing = False
        self.hop = False
        """It follows a redirect."""
        self.due = 0
        self.sent = 0
        """When its first byte was written; 0 until then."""
        self.first = 0
        """When the first byte of what came back was read (an interim response's too); 0 until then."""
        self.ended = 0
        """When the last byte of the response was read, or the request had failed."""
        self.dns_ns = 0
        self.connect_ns = 0
        """With the addresses that were tried before."""
        self.tls_ns = 0
        self.status: int | None = None
        """0: it was answered in a protocol that has none."""
        self.head: Head | None = None
        self.body = b""
        self.bytes_in = 0
        self.bytes_out = 0
        self.error: str | None = None
        self.checks: list[tuple[str, bool]] | None = None
        self.series: object = None
        """The recorder's own."""


class Rest:
    """Wait for so many nanoseconds from the end of the last request."""

    __slots__ = ("duration_ns",)

    def __init__(self, duration_ns: int) -> None:
        self.duration_ns = duration_ns


Effect = Exchange | Rest
