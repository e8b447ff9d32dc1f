"""A request of the plan made ready: what is the same for everyone is rendered, checked and encoded once.

``PreparedRequest.build`` gives what is to be sent for one iteration, or raises Refused: a value that would break out
of its place in the request (a line break in a header) never reaches a socket.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass

from loads_queue.model.scenario import Auth, HttpScenario, Request
from loads_queue.model.template import Template

from . import bodies, urls
from .errors import Refused
from .http1 import header_line, request_line
from .urls import Origin, Url
from .variables import ANYBODY, Visit

Headers = tuple[tuple[str, str], ...]
_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
_OF_BODY = frozenset({"content-type", "content-encoding", "content-language", "content-location"})
_OF_ORIGIN = frozenset({"authorization", "cookie", "host", "proxy-authorization"})
USER_AGENT = "loads-cluster"


@dataclass(slots=True)
class Outgoing:
    """One request to be sent: ``head`` is its request line and headers, without cookies and the blank line."""

    method: str
    url: Url
    headers: Headers
    body: bytes
    head: bytes = b""
    wire: bytes = b""
    """All of it, where no cookie is to be added."""
    cookie: str = ""
    """The plan's own Cookie header."""
    closing: bool = False
    """The plan asks for ``Connection: close``."""

    def __post_init__(self) -> None:
        self.cookie = next((value for name, value in self.headers if name.lower() == "cookie"), "")
        self.closing = any(name.lower() == "connection" and "close" in value.lower() for name, value in self.headers)
        given = {name.lower() for name, _ in self.headers}
        lines = [request_line(self.method, self.url.target)]
        if "host" not in given:
            lines.append(header_line("Host", self.url.origin.authority))
        lines.extend(header_line(name, value) for name, value in self.headers if name.lower() != "cookie")
        if self.body or self.method in _WITH_BODY:
            lines.append(f"Content-Length: {len(self.body)}\r\n")
        self.head = "".join(lines).encode()
        self.wire = self.with_cookies(self.cookie)

    def with_cookies(self, cookies: str) -> bytes:
        """The request's bytes with a Cookie header, where there is one."""
        return self.head + (_cookie_line(cookies) if cookies else b"") + b"\r\n" + self.body

    def redirected(self, status: int, location: str) -> Outgoing:
        """The request that follows a redirect, as browsers do it; raises Refused."""
        url = urls.join(self.url, location)
        to_get = (status == 303 and self.method != "HEAD") or (status in (301, 302) and self.method == "POST")
        dropped = _OF_BODY if to_get else frozenset[str]()
        if url.origin != self.url.origin:
            dropped |= _OF_ORIGIN
        headers = tuple(pair for pair in self.headers if pair[0].lower() not in dropped)
        return Outgoing("GET" if to_get else self.method, url, headers, b"" if to_get else self.body)


def _cookie_line(cookies: str) -> bytes:
    """What a target set goes back in the same bytes, which were read as Latin-1."""
    line = header_line("Cookie", cookies)
    try:
        return line.encode("latin-1")
    except UnicodeEncodeError:
        return line.encode()


class PreparedRequest:
    """A request of the plan; ``spec`` is what the plan says of it."""

    __slots__ = ("_auth", "_base", "_body", "_fixed", "_headers", "_url", "keep_body", "spec", "timeout_ns")

    def __init__(self, scenario: HttpScenario, spec: Request) -> None:
        self.spec = spec
        self.timeout_ns = spec.timeout_ns if spec.timeout_ns is not None else scenario.timeout_ns
        self.keep_body = (
            spec.check.body is not None
            or bool(spec.check.json)
            or any(extract.kind != "header" for extract in spec.extract)
        )
        self._base = urls.parse(scenario.base_url).origin if scenario.base_url else None
        self._url = Template.parse(spec.url)
        common = scenario.headers if scenario.connections.keep_alive else (*scenario.headers, ("Connection", "close"))
        self._headers = [(name, Template.parse(value)) for name, value in _merged(common, spec.headers)]
        self._auth = auth_template(spec.auth or scenario.auth)
        self._body = bodies.maker(spec.body)
        self._fixed: Outgoing | None = None
        texts = [self._url, *(value for _, value in self._headers), *self._auth]
        if self._body.fixed and all(text.literal is not None for text in texts):
            self._fixed = self._make(ANYBODY)

    def origin(self) -> Origin | None:
        """Where it goes, as far as that is known beforehand."""
        return self._fixed.url.origin if self._fixed is not None else self._base

    @property
    def fixed(self) -> Outgoing | None:
        """What ``build`` gives, where that is the same for every iteration."""
        return self._fixed

    def build(self, visit: Visit) -> Outgoing:
        """What is to be sent for one iteration; raises Refused."""
        return self._fixed if self._fixed is not None else self._make(visit)

    def _make(self, visit: Visit) -> Outgoing:
        resolve = visit.resolve
        url = urls.below(self._base, self._url.text(resolve))
        headers = [(name, value.text(resolve)) for name, value in self._headers]
        given = {name.lower() for name, _ in headers}
        if self._auth and "authorization" not in given:
            headers.append(("Authorization", authorization([part.text(resolve) for part in self._auth])))
        if self._body.type and "content-type" not in given:
            headers.append(("Content-Type", self._body.type))
        return Outgoing(self.spec.method, url, tuple(headers), self._body.make(visit))


def _merged(common: Headers, own: Headers) -> Headers:
    """A request's headers: its own beat the step's, which beat the engine's."""
    found: Headers = ()
    for headers in ((("User-Agent", USER_AGENT), ("Accept-Encoding", "gzip, deflate")), common, own):
        names = {name.lower() for name, _ in headers}
        found = (*(pair for pair in found if pair[0].lower() not in names), *headers)
    for name, _ in found:
        if name.lower() in ("content-length", "transfer-encoding"):
            raise ValueError(f"headers: {name} is set by the engine")
    return found


def auth_template(auth: Auth | None) -> list[Template]:
    """The parts of what ``authorization`` takes: none, a token, or user and password."""
    if auth is None:
        return []
    return [Template.parse(text) for text in (auth.basic or (auth.bearer or "",))]


def authorization(parts: list[str]) -> str:
    """The value of an Authorization header; raises Refused."""
    if len(parts) == 1:
        return f"Bearer {parts[0]}"
    try:
        return "Basic " + base64.b64encode(":".join(parts).encode()).decode()
    except UnicodeEncodeError:
        raise Refused("refused: a value that is not text") from None
