"""The engine's part of an ``http:`` step, as plan and engine both understand it: normalised JSON, and its dataclasses.

``plan_http`` writes the JSON from a plan; ``HttpScenario.from_wire`` reads it in the engine and raises ValueError for
anything else. Texts marked *template* still hold run-time names (``template.Template``); regular expressions,
JMESPath expressions and everything under ``check`` and ``extract`` are never interpolated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .scenario_wire import count, flag, items, one_of, optional, pairs, text, texts

BODY_KINDS = ("json", "form", "raw", "multipart", "file")
DEFAULT_CONNECTIONS = 8
LARGEST_BODY_FILES = 16 * 1024 * 1024
"""Bytes of the files in one request's body together: each request in flight may hold a copy."""
EXTRACT_KINDS = ("json", "regex", "header")
ON_ERROR = ("continue", "end_iteration")
DNS_RESOLVE = ("cached", "each")
DNS_PICK = ("rotate", "pin")
DEFAULT_STATUS: tuple[tuple[int, int], ...] = ((200, 399),)


@dataclass(frozen=True, slots=True)
class Tls:
    """``ca`` is the plan's name for a file of certificates; None is the system's own.

    ``cert`` is its name for the file of the client's own certificate, and ``key`` a template of one secret, whose value
    the worker has: a private key in PEM form, or the path of one there.
    """

    verify: bool = True
    ca: str | None = None
    cert: str | None = None
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Dns:
    """How names become addresses; ``hosts`` has the addresses of names (in lower case) that are not looked up."""

    resolve: str = "cached"
    pick: str = "rotate"
    hosts: tuple[tuple[str, tuple[str, ...]], ...] = ()


@dataclass(frozen=True, slots=True)
class Connections:
    """``per_user``: how many a user may have open; ``reuse``: whether they outlive an iteration."""

    keep_alive: bool = True
    per_user: int = DEFAULT_CONNECTIONS
    reuse: bool = True


@dataclass(frozen=True, slots=True)
class Auth:
    """Either ``basic`` (user, password) or ``bearer``; templates."""

    basic: tuple[str, str] | None = None
    bearer: str | None = None


@dataclass(frozen=True, slots=True)
class Check:
    """What a response must be; ``body`` is a text that it contains.

    ``json`` pairs a JMESPath expression with ``{"exists": bool}`` (a mapping of exactly that) or the value it gives.
    """

    status: tuple[tuple[int, int], ...] = DEFAULT_STATUS
    body: str | None = None
    json: tuple[tuple[str, Any], ...] = ()
    max_time_ns: int | None = None

    def accepts_status(self, status: int) -> bool:
        """Whether a status is within one of the ranges, both ends included."""
        return any(low <= status <= high for low, high in self.status)


@dataclass(frozen=True, slots=True)
class Extract:
    """``expr`` is a JMESPath expression, a regular expression (its first group, or all of it) or a header's name."""

    var: str
    kind: str
    expr: str


@dataclass(frozen=True, slots=True)
class Body:
    """``value`` is any JSON with templates in its texts (json), pairs of templates (form), a template (raw), a tuple of
    ``Part`` (multipart) or a ``File`` (file).
    """

    kind: str
    value: Any


@dataclass(frozen=True, slots=True)
class File:
    """A file of the plan by its name there; an engine reads its content once."""

    name: str
    content: bytes | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a multipart body: a ``value`` (template) or a ``file``; everything else is a template too."""

    name: str
    value: str | None = None
    file: File | None = None
    content_type: str | None = None
    filename: str | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """One request. ``url`` and header values are templates; ``name`` is its series."""

    method: str
    url: str
    name: str
    headers: tuple[tuple[str, str], ...] = ()
    body: Body | None = None
    auth: Auth | None = None
    timeout_ns: int | None = None
    check: Check = Check()
    extract: tuple[Extract, ...] = ()
    on_error: str = "continue"


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait for a uniformly chosen time from low to high."""

    low_ns: int
    high_ns: int


@dataclass(frozen=True, slots=True)
class Branch:
    """One way of ``OneOf``, chosen with probability weight / sum of weights."""

    weight: int
    do: tuple[Action, ...]


@dataclass(frozen=True, slots=True)
class OneOf:
    """One of the branches, chosen anew every time."""

    branches: tuple[Branch, ...]


@dataclass(frozen=True, slots=True)
class Repeat:
    """The same actions a number of times."""

    times: int
    do: tuple[Action, ...]


Action = Request | Pause | OneOf | Repeat


@dataclass(frozen=True, slots=True)
class Data:
    """Rows for ``row.*``: CSV with a header or JSON lines, shared out over the shards."""

    file: str
    order: str = "sequential"
    when_exhausted: str = "wrap"
    per: str = "iteration"


@dataclass(frozen=True, slots=True)
class HttpScenario:
    """All that an engine needs to know of an ``http:`` step, apart from its load.

    ``base_url`` is scheme, host and port without a path; every URL that begins with ``/`` is below it. ``base_url`` is
    empty where every request has a whole URL of its own.
    """

    base_url: str
    timeout_ns: int
    headers: tuple[tuple[str, str], ...]
    tls: Tls
    redirects: int
    cookies: bool
    auth: Auth | None
    before: tuple[Action, ...]
    do: tuple[Action, ...]
    data: Data | None
    connections: Connections = Connections()
    dns: Dns = Dns()

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> HttpScenario:
        """From the normalised JSON; raises ValueError."""
        try:
            return _scenario(wire)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not an http scenario: {error!r}") from error


def _scenario(wire: Mapping[str, Any]) -> HttpScenario:
    return HttpScenario(
        base_url=text(wire["base_url"]),
        timeout_ns=count(wire["timeout_ns"]),
        headers=pairs(wire["headers"]),
        tls=read_tls(wire["tls"]),
        redirects=count(wire["redirects"]),
        cookies=flag(wire["cookies"]),
        auth=optional(wire["auth"], read_auth),
        before=_actions(wire["before"]),
        do=_actions(wire["do"]),
        data=optional(wire["data"], read_data),
        connections=optional(wire.get("connections"), _connections) or Connections(),
        dns=optional(wire.get("dns"), read_dns) or Dns(),
    )


def read_tls(wire: Mapping[str, Any]) -> Tls:
    """How a target is trusted, and who the engine says it is."""
    cert, key = (optional(wire.get(name), text) for name in ("cert", "key"))
    return Tls(flag(wire["verify"]), optional(wire["ca"], text), cert, key)


def read_dns(wire: Mapping[str, Any]) -> Dns:
    """How names become addresses."""
    hosts = tuple((text(name), texts(addresses)) for name, addresses in items(wire["hosts"]))
    return Dns(one_of(wire["resolve"], DNS_RESOLVE), one_of(wire["pick"], DNS_PICK), hosts)


def read_auth(wire: Mapping[str, Any]) -> Auth:
    """Who the user is."""
    if "basic" in wire:
        user, password = wire["basic"]
        return Auth(basic=(text(user), text(password)))
    return Auth(bearer=text(wire["bearer"]))


def read_data(wire: Mapping[str, Any]) -> Data:
    """Where rows come from."""
    return Data(*(text(wire[key]) for key in ("file", "order", "when_exhausted", "per")))


def read_extract(wire: Mapping[str, Any]) -> Extract:
    """What a variable is taken from."""
    return Extract(text(wire["var"]), one_of(wire["kind"], EXTRACT_KINDS), text(wire["expr"]))


def read_common(wire: Mapping[str, Any], actions: Callable[[object], Any]) -> Pause | OneOf | Repeat:
    """An action that every engine has; ``actions`` reads those within it. ValueError for any other."""
    kind = wire["type"]
    if kind == "pause":
        return Pause(count(wire["low_ns"]), count(wire["high_ns"]))
    if kind == "one_of":
        return OneOf(tuple(Branch(count(way["weight"]), actions(way["do"])) for way in items(wire["branches"])))
    if kind == "repeat":
        return Repeat(count(wire["times"]), actions(wire["do"]))
    raise ValueError(f"not an action: {kind!r}")


def _connections(wire: Mapping[str, Any]) -> Connections:
    return Connections(flag(wire["keep_alive"]), count(wire["per_user"]), flag(wire["reuse"]))


def _actions(wire: object) -> tuple[Action, ...]:
    return tuple(_action(action) for action in items(wire))


def _action(wire: Mapping[str, Any]) -> Action:
    return _request(wire) if wire["type"] == "request" else read_common(wire, _actions)


def _request(wire: Mapping[str, Any]) -> Request:
    return Request(
        method=text(wire["method"]),
        url=text(wire["url"]),
        name=text(wire["name"]),
        headers=pairs(wire["headers"]),
        body=optional(wire["body"], _body),
        auth=optional(wire["auth"], read_auth),
        timeout_ns=optional(wire["timeout_ns"], count),
        check=_check(wire["check"]),
        extract=tuple(map(read_extract, items(wire["extract"]))),
        on_error=one_of(wire["on_error"], ON_ERROR),
    )


def _body(wire: Mapping[str, Any]) -> Body:
    kind, value = one_of(wire["kind"], BODY_KINDS), wire["value"]
    if kind == "multipart":
        return Body(kind, tuple(_part(part) for part in items(value)))
    return Body(kind, File(text(value)) if kind == "file" else value)


def _part(wire: Mapping[str, Any]) -> Part:
    value, name = (optional(wire.get(key), text) for key in ("value", "file"))
    if (value is None) == (name is None):
        raise ValueError("a part has either a value or a file")
    kind, shown = (optional(wire.get(key), text) for key in ("content_type", "filename"))
    return Part(text(wire["name"]), value, None if name is None else File(name), kind, shown)


def _check(wire: Mapping[str, Any]) -> Check:
    return Check(
        status=tuple(_range(status) for status in items(wire["status"])),
        body=optional(wire["body"], text),
        json=tuple(wire["json"].items()),
        max_time_ns=optional(wire["max_time_ns"], count),
    )


def _range(wire: object) -> tuple[int, int]:
    if isinstance(wire, list):
        low, high = (count(bound) for bound in wire)
        return low, high
    return count(wire), count(wire)
