"""URLs as the engine needs them: where to connect, and what to ask there."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from .errors import Refused

_URL = re.compile(r"(?i:(https?)):(?://)([^/?#]*)([^#]*)")
_AUTHORITY = re.compile(r"(?:[^@]*@)?(\[[0-9A-Fa-f:.]+\]|[^:\[\]]+)(?::([0-9]{1,5}))?")
_HOST = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=%-]+|[0-9A-Fa-f:.]+")
_UNSAFE = re.compile(r"[^!$&'()*+,;=:@/?%\-._~A-Za-z0-9\[\]|]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
PORTS = {"http": 80, "https": 443}


class Origin(NamedTuple):
    """Whom a connection talks to; connections, credentials and cookies never leave their origin."""

    scheme: str
    host: str
    """In lower case, an IPv6 address without its brackets."""
    port: int

    @property
    def authority(self) -> str:
        """The value of the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"


class Url(NamedTuple):
    """An origin and a request target, which begins with a slash and has no fragment."""

    origin: Origin
    target: str

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]


def parse(text: str) -> Url:
    """An absolute http or https URL; raises Refused."""
    if _CONTROL.search(text):
        raise Refused("refused: a character that a URL can't have")
    match = _URL.match(text)
    if match is None:
        raise Refused("refused: not an http URL")
    origin = _origin(match[1].lower(), match[2])
    target = quote(match[3])
    return Url(origin, target if target.startswith("/") else "/" + target)


def below(base: Origin | None, text: str) -> Url:
    """A URL, or a path (with query) on the base's origin; raises Refused."""
    if text.startswith("/") and base is not None:
        if _CONTROL.search(text):
            raise Refused("refused: a character that a URL can't have")
        return Url(base, quote(text.partition("#")[0]))
    return parse(text)


def join(url: Url, reference: str) -> Url:
    """Where a Location header leads from a URL; raises Refused."""
    reference = _as_utf8(reference).strip().partition("#")[0]
    if _CONTROL.search(reference):
        raise Refused("redirect: a control character in the location")
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", reference):
        if not reference.lower().startswith(("http://", "https://")):
            raise Refused("redirect: to another scheme than http and https")
        return parse(reference)
    if reference.startswith("//"):
        return parse(f"{url.origin.scheme}:{reference}")
    reference = quote(reference)
    if not reference:
        return url
    path, mark, query = reference.partition("?")
    if not path:
        return Url(url.origin, f"{url.path}?{query}")
    if not path.startswith("/"):
        path = url.path[: url.path.rfind("/") + 1] + path
    return Url(url.origin, _without_dots(path) + mark + query)


def quote(target: str) -> str:
    """A target with everything percent-encoded that may not stand in one; what is encoded already stays."""
    if _UNSAFE.search(target) is None:
        return target
    return _UNSAFE.sub(lambda match: "".join(f"%{byte:02X}" for byte in _bytes(match[0])), target)


def _as_utf8(text: str) -> str:
    """A header's bytes are read as Latin-1; where a target wrote UTF-8 into its location, that is what it meant."""
    try:
        return text if text.isascii() else text.encode("latin-1").decode()
    except UnicodeError:
        return text


def _bytes(char: str) -> bytes:
    return char.encode("utf-8", "surrogatepass")


@lru_cache(maxsize=1024)
def _origin(scheme: str, authority: str) -> Origin:
    match = _AUTHORITY.fullmatch(authority)
    if match is None or not _HOST.fullmatch(host := _ascii(match[1].strip("[]"))):
        raise Refused("refused: not a host in the URL")
    port = int(match[2]) if match[2] else PORTS[scheme]
    if not 0 < port < 65536:
        raise Refused("refused: not a port in the URL")
    return Origin(scheme, host.lower(), port)


def _ascii(host: str) -> str:
    if host.isascii():
        return host
    try:
        return host.encode("idna").decode()
    except UnicodeError:
        raise Refused("refused: not a host in the URL") from None


def _without_dots(path: str) -> str:
    if "/." not in path:
        return path
    out: list[str] = []
    parts = path.split("/")[1:]
    for part in parts:
        if part == "..":
            del out[-1:]
        elif part != ".":
            out.append(part)
    if parts[-1] in (".", ".."):
        out.append("")
    return "/" + "/".join(out)
