"""What all users of an engine share on their way to a target, and the gate that keeps them within its permit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from .http1 import HeadParser, Limits
from .pacer import Pacer
from .permit import Permit
from .resolve import Resolver
from .tls import TlsStream, Trust
from .urls import Origin


class Gate(Protocol):
    """Keeps requests within the permit."""

    permit: Permit
    attempts: int
    """Requests begun."""

    def await_permit(self, resume: Callable[[], object]) -> int:
        """Have ``resume`` called once, in the hub, when the permit may have changed; a number for ``forget``."""

    def forget(self, waiter: int) -> None:
        """Do not call it; harmless after it was called."""


class Net:
    """What all users of an engine share."""

    def __init__(self, hub: Any, pacer: Pacer, gate: Gate, limits: Limits, resolver: Resolver, trust: Trust) -> None:
        self.hub = hub
        self.pacer = pacer
        self.gate = gate
        self.limits = limits
        self.heads = HeadParser()
        self.resolver = resolver
        self.trust = trust

    def prepare_tls(self) -> None:
        """Load certificates, which takes tens of milliseconds, before the first request needs them."""
        self.trust.prepare()

    def tls_stream(self, origin: Origin) -> TlsStream:
        """A new TLS stream to an origin."""
        return self.trust.stream(origin)
