"""Names to addresses, in gevent's thread pool, remembered for a minute."""

from __future__ import annotations

import socket
from typing import Any

from .clock import boottime_ns
from .connection import Address
from .errors import RequestError, from_os_error
from .guard import Guard

_KEEP_NS = 60_000_000_000
_MOST = 1000


class Resolver:
    """One engine's lookups; many who ask for the same name at once share one lookup."""

    def __init__(self, hub: Any, guard: Guard) -> None:
        self._hub = hub
        self._guard = guard
        self._known: dict[tuple[str, int], tuple[int, tuple[Address, ...]]] = {}
        self._asked: dict[tuple[str, int], Any] = {}

    def remembered(self, host: str, port: int) -> tuple[Address, ...] | None:
        """Addresses that may be tried, in order, where nobody need be asked, else None. Raises RequestError."""
        key = (host, port)
        found = self._known.get(key)
        if found is not None and (found[0] == 0 or boottime_ns() < found[0]):
            return found[1]
        self._guard.check_host(host, port)
        literal = _literal(host, port)
        if literal is not None:
            self._remember(key, 0, literal)
        return literal

    def lookup(self, host: str, port: int) -> tuple[Address, ...]:
        """Addresses that may be tried, in order; blocks the calling greenlet alone. Raises RequestError."""
        found = self.remembered(host, port)
        return self._ask((host, port)) if found is None else found

    def known(self, host: str, port: int) -> tuple[Address, ...]:
        """What ``lookup`` found last, without asking; empty where it did not."""
        found = self._known.get((host, port))
        return found[1] if found else ()

    def _ask(self, key: tuple[str, int]) -> tuple[Address, ...]:
        asked = self._asked.get(key)
        if asked is None:
            asked = self._asked[key] = self._hub.threadpool.spawn(_getaddrinfo, *key)
            asked.rawlink(lambda _: self._asked.pop(key, None))
        addresses: tuple[Address, ...] | RequestError = asked.get()
        if isinstance(addresses, RequestError):
            raise RequestError(*addresses.args)
        addresses = self._guard.allowed(*key, addresses)
        self._remember(key, boottime_ns() + _KEEP_NS, addresses)
        return addresses

    def _remember(self, key: tuple[str, int], until: int, addresses: tuple[Address, ...]) -> None:
        if len(self._known) >= _MOST:
            self._known.clear()
        self._known[key] = (until, addresses)


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
