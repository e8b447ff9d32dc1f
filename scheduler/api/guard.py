"""Who may ask: the Host header must name this server, and every request must carry its token."""

from __future__ import annotations

import hmac
import ipaddress
import re
import socket

from flask import request

from .problems import Refused

_HOST = re.compile(r"(?:\[(?P<v6>[0-9a-fA-F:.]+)\]|(?P<name>[A-Za-z0-9._-]+))(?::[0-9]{1,5})?", re.ASCII)
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


def names_of(listen: str, extra: tuple[str, ...] = ()) -> frozenset[str]:
    """The names by which a server that listens on an address may be asked for.

    On 127.0.0.1 those are loopback's alone, so that a web page can't have its own name resolve to it and talk to it.
    Elsewhere the machine's names count too, and any address by number (``*``).
    """
    names = {name.lower().rstrip(".") for name in (listen, *extra)}
    if ipaddress.ip_address(listen).is_loopback:
        return frozenset(names | _LOOPBACK)
    return frozenset(names | _LOOPBACK | {socket.gethostname().lower(), socket.getfqdn().lower(), "*"})


def check(token: str, hosts: frozenset[str]) -> None:
    """Raise Refused for the present request unless it may be answered."""
    _check_host(hosts)
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    good = hmac.compare_digest(given.strip().encode("utf-8", "surrogateescape"), token.encode())
    if scheme.lower() != "bearer" or not good:
        raise Refused(
            401,
            "a token is needed: `Authorization: Bearer TOKEN`; on the scheduler's machine it stands in the file "
            "`token` in LOADS_HOME",
            WWW_Authenticate='Bearer realm="loads"',
        )


def _check_host(hosts: frozenset[str]) -> None:
    given = request.environ.get("HTTP_HOST", "")
    match = _HOST.fullmatch(given)
    if match is None:
        raise Refused(400, "the Host header is missing or wrong")
    name = (match["v6"] or match["name"]).lower().rstrip(".")
    if name in hosts or ("*" in hosts and _is_address(name)):
        return
    raise Refused(421, f"this server is not called {name[:100]!r}: start the scheduler with --host {name[:100]}")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
