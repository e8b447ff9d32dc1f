"""The engine's part of a ``websocket:`` step, as plan and engine both understand it: normalised JSON, and dataclasses.

``plan_websocket`` writes the JSON from a plan; ``WebSocketScenario.from_wire`` reads it in the engine and raises
ValueError for anything else. An iteration is one session: the handshake, ``do``, and a close. Texts marked *template*
still hold run-time names (``template.Template``); what an ``Expect`` looks for is never interpolated. What HTTP has
too is of ``scenario``: its ``OneOf`` and ``Repeat`` hold the actions of this module here.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .scenario import (
    ON_ERROR,
    Auth,
    Data,
    Dns,
    Extract,
    OneOf,
    Pause,
    Repeat,
    Tls,
    read_auth,
    read_common,
    read_data,
    read_dns,
    read_extract,
    read_tls,
)
from .scenario_wire import count, flag, items, one_of, optional, pairs, positive, text, texts

CONTENT_KINDS = ("text", "json", "binary", "file", "text_file")
EXPECT_KINDS = ("any", "text", "regex", "json")
EXTRACT_KINDS = ("json", "regex")
REPLY_BY = ("order", "id")
CONNECT, PING = "connect", "ping"
"""The series of handshakes, and of pings."""
OWN_SERIES = (CONNECT, PING)
NORMAL_CLOSE = 1000
DEFAULT_MAX_MESSAGE = 1024 * 1024
LARGEST_MAX_MESSAGE = 64 * 1024 * 1024
LONGEST_REASON = 123
"""Bytes, as UTF-8: a control frame has 125, and two are the code's (RFC 6455, 5.5)."""


def may_be_sent(code: int) -> bool:
    """Whether an endpoint may send a close code, and a client has cause to (RFC 6455, 7.4)."""
    return 1000 <= code <= 1003 or 1007 <= code <= 1011 or 3000 <= code <= 4999


@dataclass(frozen=True, slots=True)
class Reply:
    """How a reply is told from other messages: by ``order``, or by an ``id`` that a JMESPath ``expr`` finds in both."""

    by: str
    expr: str | None = None


@dataclass(frozen=True, slots=True)
class Say:
    """Send a message, and go on: a ``reply`` is awaited beside what follows, and is the series ``name``.

    ``value`` is a template (text), any JSON with templates in its texts (json), base64 (binary), or the name of a file
    of the plan (``file`` is sent as binary, ``text_file`` as text). ``within_ns`` None is the scenario's timeout.
    """

    name: str
    kind: str
    value: Any
    reply: Reply | None = None
    within_ns: int | None = None
    on_error: str = "continue"


@dataclass(frozen=True, slots=True)
class Expect:
    """Wait for a message that matches; those that don't are passed over.

    ``value`` is None (any), a text that the message contains, a regular expression that is found in it, or a mapping of
    JMESPath expressions to ``{"exists": bool}`` (a mapping of exactly that) or the value that each gives (json).
    """

    name: str
    kind: str
    value: Any = None
    within_ns: int | None = None
    extract: tuple[Extract, ...] = ()
    on_error: str = "continue"


@dataclass(frozen=True, slots=True)
class Hold:
    """Keep the session open for a uniformly chosen time; the end of the load ends it as if all had been done."""

    low_ns: int
    high_ns: int


@dataclass(frozen=True, slots=True)
class Every:
    """Begin a pass of ``do`` once a period, for so long; None is until the end of the load."""

    period_ns: int
    for_ns: int | None
    do: tuple[Action, ...]


@dataclass(frozen=True, slots=True)
class Loop:
    """Passes of ``do``, one after the other: so many, begun within so long; where both are None, without an end."""

    times: int | None
    for_ns: int | None
    do: tuple[Action, ...]


@dataclass(frozen=True, slots=True)
class Ping:
    """Send a ping and wait for its pong; None is the scenario's timeout."""

    within_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Close:
    """Close the session; ``reason`` is a template, of at most ``LONGEST_REASON`` bytes once it is filled in."""

    code: int = NORMAL_CLOSE
    reason: str = ""


_TLS, _DNS = Tls(), Dns()
Action = Say | Expect | Hold | Every | Loop | Ping | Close | Pause | OneOf | Repeat


@dataclass(frozen=True, slots=True)
class WebSocketScenario:
    """All that an engine needs to know of a ``websocket:`` step, apart from its load.

    ``url`` is a template of a whole ``ws://`` or ``wss://`` URL. ``timeout_ns`` is for the handshake, from the lookup
    to the 101, and for whatever waits without a time of its own. ``max_message`` is in bytes, of what is received.
    """

    url: str
    timeout_ns: int
    headers: tuple[tuple[str, str], ...] = ()
    auth: Auth | None = None
    subprotocols: tuple[str, ...] = ()
    deflate: bool = False
    tls: Tls = _TLS
    dns: Dns = _DNS
    source_addresses: tuple[str, ...] = ()
    max_message: int = DEFAULT_MAX_MESSAGE
    data: Data | None = None
    do: tuple[Action, ...] = ()

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> WebSocketScenario:
        """From the normalised JSON; raises ValueError."""
        try:
            return _scenario(wire)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a websocket scenario: {error!r}") from error


def _scenario(wire: Mapping[str, Any]) -> WebSocketScenario:
    return WebSocketScenario(
        url=text(wire["url"]),
        timeout_ns=positive(wire["timeout_ns"]),
        headers=pairs(wire["headers"]),
        auth=optional(wire["auth"], read_auth),
        subprotocols=texts(wire["subprotocols"]),
        deflate=flag(wire["deflate"]),
        tls=read_tls(wire["tls"]),
        dns=read_dns(wire["dns"]),
        source_addresses=texts(wire["source_addresses"]),
        max_message=positive(wire["max_message"]),
        data=optional(wire["data"], read_data),
        do=_actions(wire["do"]),
    )


def _actions(wire: object) -> tuple[Action, ...]:
    return tuple(_action(action) for action in items(wire))


def _action(wire: Mapping[str, Any]) -> Action:
    match wire["type"]:
        case "send":
            return _say(wire)
        case "expect":
            return _expect(wire)
        case "hold":
            return Hold(count(wire["low_ns"]), count(wire["high_ns"]))
        case "every":
            return Every(positive(wire["period_ns"]), optional(wire["for_ns"], count), _actions(wire["do"]))
        case "loop":
            times, for_ns = (optional(wire[key], count) for key in ("times", "for_ns"))
            return Loop(times, for_ns, _actions(wire["do"]))
        case "ping":
            return Ping(optional(wire["within_ns"], positive))
        case "close":
            return _close(wire)
    return read_common(wire, _actions)


def _say(wire: Mapping[str, Any]) -> Say:
    kind, value = one_of(wire["kind"], CONTENT_KINDS), wire["value"]
    if kind == "binary":
        base64.b64decode(text(value), validate=True)
    return Say(
        name=text(wire["name"]),
        kind=kind,
        value=value if kind == "json" else text(value),
        reply=optional(wire["reply"], _reply),
        within_ns=optional(wire["within_ns"], positive),
        on_error=one_of(wire["on_error"], ON_ERROR),
    )


def _reply(wire: Mapping[str, Any]) -> Reply:
    by = one_of(wire["by"], REPLY_BY)
    return Reply(by, text(wire["expr"]) if by == "id" else None)


def _expect(wire: Mapping[str, Any]) -> Expect:
    extracts = tuple(map(read_extract, items(wire["extract"])))
    for extract in extracts:
        one_of(extract.kind, EXTRACT_KINDS)
    kind = one_of(wire["kind"], EXPECT_KINDS)
    return Expect(
        name=text(wire["name"]),
        kind=kind,
        value=_wanted(kind, wire["value"]),
        within_ns=optional(wire["within_ns"], positive),
        extract=extracts,
        on_error=one_of(wire["on_error"], ON_ERROR),
    )


def _wanted(kind: str, value: object) -> object:
    if kind == "any":
        return None
    if kind == "json":
        if not isinstance(value, Mapping):
            raise ValueError(f"not a mapping of expressions: {value!r}")
        return {text(expr): wanted for expr, wanted in value.items()}
    if kind == "regex":
        try:
            re.compile(text(value))
        except (re.error, RecursionError, OverflowError) as error:
            raise ValueError(f"not a regular expression: {error}") from None
    return text(value)


def _close(wire: Mapping[str, Any]) -> Close:
    code = count(wire["code"])
    if not may_be_sent(code):
        raise ValueError(f"not a close code that may be sent: {code}")
    return Close(code, text(wire["reason"]))
