"""One user's cookies, after RFC 6265: domain, path, secure and expiry; no disk, no clock of its own.

There is no list of public suffixes: a cookie for a name without a dot, or for an address, stays with its exact host.
"""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass

_MOST = 200
_LONGEST = 8192
_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_TIME = re.compile(r"(\d{1,2}):(\d{1,2}):(\d{1,2})")


@dataclass(slots=True)
class Cookie:
    """A cookie as it was set."""

    name: str
    value: str
    domain: str
    host_only: bool
    path: str
    secure: bool
    expires: int | None


class CookieJar:
    """The cookies of one user; at most 200, of which the oldest make way."""

    __slots__ = ("_cookies",)

    def __init__(self) -> None:
        self._cookies: dict[tuple[str, str, str], Cookie] = {}

    def __bool__(self) -> bool:
        return bool(self._cookies)

    def take(self, header: str, host: str, path: str, now_s: int) -> None:
        """Take one Set-Cookie header in; what RFC 6265 says to ignore is ignored."""
        cookie = _parse(header, host, path, now_s)
        if cookie is None:
            return
        key = (cookie.domain, cookie.path, cookie.name)
        self._cookies.pop(key, None)
        if cookie.expires is not None and cookie.expires <= now_s:
            return
        if len(self._cookies) >= _MOST:
            self._cookies.pop(next(iter(self._cookies)))
        self._cookies[key] = cookie

    def header(self, host: str, path: str, secure: bool, now_s: int) -> str:
        """The value of the Cookie header for a request, empty where none belongs to it."""
        found = [cookie for cookie in self._cookies.values() if _fits(cookie, host, path, secure, now_s)]
        found.sort(key=lambda cookie: -len(cookie.path))
        return "; ".join(f"{cookie.name}={cookie.value}" if cookie.name else cookie.value for cookie in found)


def _fits(cookie: Cookie, host: str, path: str, secure: bool, now_s: int) -> bool:
    if cookie.expires is not None and cookie.expires <= now_s:
        return False
    if cookie.secure and not secure:
        return False
    if host != cookie.domain and (cookie.host_only or not host.endswith("." + cookie.domain)):
        return False
    if path == cookie.path:
        return True
    return path.startswith(cookie.path) and (cookie.path.endswith("/") or path[len(cookie.path)] == "/")


def _parse(header: str, host: str, path: str, now_s: int) -> Cookie | None:
    if len(header) > _LONGEST or any(ord(char) < 32 and char != "\t" for char in header):
        return None
    pair, *attributes = header.split(";")
    name, equals, value = pair.partition("=")
    if not equals:
        name, value = "", name
    cookie = Cookie(name.strip(), value.strip(), host, True, _default_path(path), False, None)
    if not cookie.name and not cookie.value:
        return None
    max_age: int | None = None
    for attribute in attributes:
        key, _, given = (part.strip() for part in attribute.partition("="))
        key = key.lower()
        if key == "secure":
            cookie.secure = True
        elif key == "path" and given.startswith("/"):
            cookie.path = given
        elif key == "path":
            cookie.path = _default_path(path)
        elif key == "expires":
            cookie.expires = _date(given, cookie.expires)
        elif key == "max-age" and re.fullmatch(r"-?[0-9]{1,18}", given):
            max_age = int(given)
        elif key == "domain" and given.strip(".") and not _set_domain(cookie, given, host):
            return None
    if max_age is not None:
        cookie.expires = now_s + max_age
    return cookie


def _set_domain(cookie: Cookie, given: str, host: str) -> bool:
    domain = given.lstrip(".").lower()
    if domain == host:
        cookie.host_only = "." not in domain or _is_address(host)
        return True
    cookie.domain, cookie.host_only = domain, False
    return "." in domain and not _is_address(host) and host.endswith("." + domain)


def _is_address(host: str) -> bool:
    return ":" in host or host.rpartition(".")[2].isdecimal()


def _default_path(path: str) -> str:
    return path[: path.rfind("/")] or "/"


def _date(text: str, otherwise: int | None) -> int | None:
    """A cookie date as Unix seconds, by RFC 6265's own lenient rules; ``otherwise`` where it is none."""
    day = month = year = clock = None
    for token in re.split(r"[\x09\x20-\x2f\x3b-\x40\x5b-\x60\x7b-\x7e]+", text):
        time = _TIME.match(token)
        if clock is None and time:
            clock = tuple(int(part) for part in time.groups())
        elif month is None and token[:3].lower() in _MONTHS:
            month = _MONTHS.index(token[:3].lower()) + 1
        elif token.isascii() and token.isdecimal():
            if day is None and len(token) <= 2:
                day = int(token)
            elif year is None and len(token) in (2, 4):
                year = int(token) + (0 if len(token) == 4 else 1900 if int(token) >= 70 else 2000)
    if day is None or month is None or year is None or clock is None or not 1 <= day <= 31 or year < 1601:
        return otherwise
    return calendar.timegm((year, month, day, *clock))
