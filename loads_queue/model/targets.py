"""Which hosts and ports a worker may send to: ``LOADS_ALLOWED_TARGETS``, as a value with questions.

A list of entries, commas or spaces between. An entry is a name (``shop.example.com``), names (``*.example.com``: any
name below it, but not itself; ``*`` alone is every host), an address (``10.1.2.3``, ``fd00::7``) or a block of them
(``10.0.0.0/8``, ``fd00::/8``); ``:PORT`` or ``:LOW-HIGH`` behind it limits the ports (behind brackets where it is IPv6:
``[fd00::/8]:443``). What no entry allows is refused.

A name that is allowed is so wherever it leads: who runs its name server chooses the address. Addresses and blocks
are held against what a name was resolved to.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass

_ENTRY = re.compile(r"(?:\[(?P<v6>[^\]]*)\]|(?P<host>[^:\[\]]*))(?::(?P<ports>[^:]*))?")
_NAME = re.compile(r"[a-z0-9_*-]+(?:\.[a-z0-9_*-]+)*\.?")
_PORTS = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")
_SHOWN = 80

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class _Entry:
    """Either a block of addresses or a pattern of names, and its ports."""

    block: Network | None
    names: re.Pattern[str] | None
    low: int
    high: int
    everything: bool = False


class AllowedTargets:
    """The hosts and ports that are allowed. Hosts are given as URLs have them, without brackets."""

    def __init__(self, entries: tuple[_Entry, ...]) -> None:
        self._entries = entries

    @classmethod
    def parse(cls, text: str) -> AllowedTargets:
        """Read a list; raises ValueError, which names the entry, also for a list of nothing."""
        entries = [each for each in re.split(r"[,\s]+", text) if each]
        if not entries:
            raise ValueError("not one target is named; leave it out where every target is allowed")
        return cls(tuple(_entry(each) for each in entries))

    def allows_name(self, host: str, port: int) -> bool:
        """Whether a host is allowed by its name, wherever that leads."""
        address = _address(host)
        name = host.lower().rstrip(".")
        return self._any(
            port,
            lambda entry: (
                entry.everything or (address is None and entry.names is not None and bool(entry.names.fullmatch(name)))
            ),
        )

    def allows_address(self, address: str, port: int) -> bool:
        """Whether an address is allowed, whatever name led to it."""
        found = _address(address)
        if found is None:
            return False
        return self._any(
            port,
            lambda entry: (
                entry.everything
                or (entry.block is not None and entry.block.version == found.version and found in entry.block)
            ),
        )

    def never(self, host: str, port: int) -> bool:
        """Whether a host is refused whatever its name leads to, so that it need not be looked up."""
        if self.allows_name(host, port):
            return False
        if _address(host) is not None:
            return not self.allows_address(host, port)
        return not self._any(port, lambda entry: entry.block is not None)

    def _any(self, port: int, matches: Callable[[_Entry], bool]) -> bool:
        return any(entry.low <= port <= entry.high and matches(entry) for entry in self._entries)


def _entry(text: str) -> _Entry:
    try:
        # An IPv6 block without brackets has colons of its own, and so no port.
        match = None if text.count(":") > 1 and not text.startswith("[") else _ENTRY.fullmatch(text)
        if match is None:
            return _Entry(_block(text), None, 1, 65535)
        low, high = _ports(match["ports"])
        if match["v6"] is not None:
            block = _block(match["v6"])
            if block.version != 6:
                raise ValueError("brackets are for IPv6")
            return _Entry(block, None, low, high)
        return _host(match["host"], low, high)
    except ValueError as error:
        raise ValueError(f"{text[:_SHOWN]!r}: {error}") from None


def _host(host: str, low: int, high: int) -> _Entry:
    if host == "*":
        return _Entry(None, None, low, high, everything=True)
    if "/" in host or re.fullmatch(r"[0-9.]+", host):
        return _Entry(_block(host), None, low, high)
    name = (host if host.isascii() else host.encode("idna").decode()).lower()
    if not _NAME.fullmatch(name):
        raise ValueError("not a host's name, an address, a block like 10.0.0.0/8, or *.example.com")
    if re.fullmatch(r"[0-9.*]+", name):
        raise ValueError("addresses are given as a block, like 10.0.0.0/8")
    labels = name.rstrip(".").split(".")
    # Below the first label an asterisk would let the owner of any domain in.
    if any("*" in label for label in labels[1:]) or (len(labels) == 1 and "*" in name):
        raise ValueError("an asterisk stands in the first part of a name alone, as in *.example.com")
    return _Entry(None, re.compile(re.escape(".".join(labels)).replace(r"\*", ".+")), low, high)


def _block(text: str) -> Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        if "host bits" in str(error):
            raise ValueError(f"did you mean {ipaddress.ip_network(text, strict=False)}?") from None
        raise ValueError("not an address or a block of them") from None


def _ports(text: str | None) -> tuple[int, int]:
    if text is None:
        return 1, 65535
    match = _PORTS.fullmatch(text)
    low, high = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not 0 < low <= high < 65536:
        raise ValueError(f"{text!r} is not a port, or ports as 8000-8100")
    return low, high


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """An address without its zone; an IPv4 one inside an IPv6 one is where the packets would go."""
    try:
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found
