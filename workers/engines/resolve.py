"""Names to addresses: looked up in gevent's thread pool and remembered for a minute, or as the plan says.

Whatever a name leads to, the worker's guard has the last word. A new connection tries the addresses that it is given
in their order; ``pick`` says with which one it begins. Of a name that was looked up these are the addresses of the
family that the resolver puts first (the others come behind them), since a host may well have no way to the other one.
"""

from __future__ import annotations

import socket
from typing import Any, NamedTuple

from loads_queue.model.scenario import Dns

from .clock import boottime_ns
from .connection import Address
from .errors import RequestError, from_os_error
from .guard import Guard

KEEP_NS = 60_000_000_000
_MOST = 1000
_FOREVER = 1 << 62
Key = tuple[str, int]
Pins = dict[Key, Address]
"""The addresses that a user keeps to."""


class _Known(NamedTuple):
    """What is remembered of a name: the first ``choice`` of the addresses take turns."""

    until: int
    addresses: tuple[Address, ...]
    choice: int


class Resolver:
    """One engine's lookups; many who ask for the same name at once share one lookup, unless each is to have its own."""

    def __init__(self, hub: Any, guard: Guard, dns: Dns | None = None) -> None:
        dns = dns or Dns()
        self._hub = hub
        self._guard = guard
        self._hosts = dict(dns.hosts)
        self._each = dns.resolve == "each"
        self._pinning = dns.pick == "pin"
        self._known: dict[Key, _Known] = {}
        self._asked: dict[Key, Any] = {}
        self._turns: dict[Key, int] = {}

    def pins(self) -> Pins | None:
        """For one user to keep; None where it keeps to no address."""
        return {} if self._pinning else None

    def remembered(self, host: str, port: int, pins: Pins | None = None) -> tuple[Address, ...] | None:
        """Addresses that may be tried, in order, where nobody need be asked, else None. Raises RequestError."""
        key = (host, port)
        found = self._known.get(key)
        if found is not None and boottime_ns() < found.until:
            return self._ordered(key, found, pins)
        if host in self._hosts:
            given = tuple(address for text in self._hosts[host] for address in _literal(text, port) or ())
            given = self._guard.allowed_addresses(port, given)
            found = self._remember(key, _Known(_FOREVER, given, len(given)))
            return self._ordered(key, found, pins)
        self._guard.check_host(host, port)
        literal = _literal(host, port)
        return None if literal is None else self._remember(key, _Known(_FOREVER, literal, 1)).addresses

    def lookup(self, host: str, port: int, pins: Pins | None = None) -> tuple[Address, ...]:
        """Addresses that may be tried, in order; blocks the calling greenlet alone. Raises RequestError."""
        found = self.remembered(host, port, pins)
        return self._ordered((host, port), self._ask((host, port)), pins) if found is None else found

    def known(self, host: str, port: int) -> tuple[Address, ...]:
        """What ``lookup`` found last, without asking; empty where it did not."""
        found = self._known.get((host, port))
        return found.addresses if found else ()

    def _ask(self, key: Key) -> _Known:
        asked = None if self._each else self._asked.get(key)
        if asked is None:
            asked = self._hub.threadpool.spawn(_getaddrinfo, *key)
            if not self._each:
                self._asked[key] = asked
                asked.rawlink(lambda _: self._asked.pop(key, None))
        addresses: tuple[Address, ...] | RequestError = asked.get()
        if isinstance(addresses, RequestError):
            raise RequestError(*addresses.args)
        allowed = self._guard.allowed(*key, addresses)
        best = [address for address in allowed if address[0] == allowed[0][0]]
        others = [address for address in allowed if address[0] != allowed[0][0]]
        if self._each:
            best.sort()  # A name server may hand out its addresses in another order each time, which would undo ours.
        until = 0 if self._each else boottime_ns() + KEEP_NS
        return self._remember(key, _Known(until, (*best, *others), len(best)))

    def _ordered(self, key: Key, found: _Known, pins: Pins | None) -> tuple[Address, ...]:
        addresses, choice = found.addresses, found.choice
        if choice < 2:
            return addresses
        pinned = pins.get(key) if pins is not None else None
        if pinned is not None and pinned in addresses[:choice]:
            first = addresses.index(pinned)
        else:
            turn = self._turns.get(key, 0)
            self._turns[key] = turn + 1
            first = turn % choice
            if pins is not None:
                pins[key] = addresses[first]
        return (*addresses[first:choice], *addresses[:first], *addresses[choice:]) if first else addresses

    def _remember(self, key: Key, found: _Known) -> _Known:
        if len(self._known) >= _MOST:
            self._known.clear()
            self._turns.clear()
        self._known[key] = found
        return found


def _literal(host: str, port: int) -> tuple[Address, ...] | None:
    for family, address in ((socket.AF_INET, (host, port)), (socket.AF_INET6, (host, port, 0, 0))):
        try:
            socket.inet_pton(family, host)
        except OSError:
            continue
        return ((family, address),)
    return None


def _getaddrinfo(host: str, port: int) -> tuple[Address, ...] | RequestError:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        return from_os_error(error)
    except UnicodeError:
        return RequestError("dns: no such name")
    return tuple(dict.fromkeys((family, address) for family, _, _, _, address in found))
