"""What all users of an engine share on their way to a target, and the gate that keeps them within its permit."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Sequence
from itertools import cycle
from typing import Any, Protocol

from .connection import open_socket
from .errors import Resource, from_os_error
from .http1 import HeadParser, Limits
from .pacer import Pacer
from .permit import Permit
from .resolve import Resolver
from .tls import TlsStream, Trust
from .urls import Origin

_BIND_ADDRESS_NO_PORT = getattr(socket, "IP_BIND_ADDRESS_NO_PORT", 24)


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
    """What all users of an engine share. Raises ValueError where this host lacks one of the ``sources``."""

    def __init__(
        self,
        hub: Any,
        pacer: Pacer,
        gate: Gate,
        limits: Limits,
        resolver: Resolver,
        trust: Trust,
        sources: tuple[str, ...] = (),
    ) -> None:
        self.hub = hub
        self.pacer = pacer
        self.gate = gate
        self.limits = limits
        self.heads = HeadParser()
        self.resolver = resolver
        self.trust = trust
        self._sources = {family: cycle(found) for family, found in _by_family(sources).items()}
        """Local addresses by family."""

    def open_socket(self, family: int) -> socket.socket:
        """A socket, on the next of the local addresses that the plan names; raises Resource."""
        sock = open_socket(family)
        source = self._sources.get(family)
        if source is None:
            return sock
        try:
            _bind(sock, next(source))
        except OSError as error:
            sock.close()
            raise Resource(str(from_os_error(error))) from None
        return sock

    def prepare_tls(self) -> None:
        """Load certificates, which takes tens of milliseconds, before the first request needs them."""
        self.trust.prepare()

    def tls_stream(self, origin: Origin) -> TlsStream:
        """A new TLS stream to an origin."""
        return self.trust.stream(origin)


def _bind(sock: socket.socket, address: str) -> None:
    # The port is chosen when it connects: the same one may serve towards many targets.
    sock.setsockopt(socket.IPPROTO_IP, _BIND_ADDRESS_NO_PORT, 1)
    sock.bind((address, 0))


def _by_family(addresses: Sequence[str]) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for address in addresses:
        family = socket.AF_INET6 if ipaddress.ip_address(address).version == 6 else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            try:
                _bind(probe, address)
            except OSError as error:
                raise ValueError(f"source_addresses: {address} is no address of this host ({error.strerror})") from None
        found.setdefault(family, []).append(address)
    return found
