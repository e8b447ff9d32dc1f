"""The engine's part of an ``http:`` step, as plan and engine both understand it: normalised JSON, and its dataclasses.

``plan_http`` writes the JSON from a plan; ``HttpScenario.from_wire`` reads it in the engine and raises ValueError for
anything else. Texts marked *template* still hold run-time names (``template.Template``); regular expressions,
JMESPath expressions and everything under ``check`` and ``extract`` are never interpolated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")

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
    data = wire["data"]
    return HttpScenario(
        base_url=_text(wire["base_url"]),
        timeout_ns=_count(wire["timeout_ns"]),
        headers=_pairs(wire["headers"]),
        tls=_tls(wire["tls"]),
        redirects=_count(wire["redirects"]),
        cookies=_flag(wire["cookies"]),
        auth=_optional(wire["auth"], _auth),
        before=_actions(wire["before"]),
        do=_actions(wire["do"]),
        data=None if data is None else Data(*(_text(data[key]) for key in ("file", "order", "when_exhausted", "per"))),
        connections=_optional(wire.get("connections"), _connections) or Connections(),
        dns=_optional(wire.get("dns"), _dns) or Dns(),
    )


def _tls(wire: Mapping[str, Any]) -> Tls:
    cert, key = (_optional(wire.get(name), _text) for name in ("cert", "key"))
    return Tls(_flag(wire["verify"]), _optional(wire["ca"], _text), cert, key)


def _connections(wire: Mapping[str, Any]) -> Connections:
    return Connections(_flag(wire["keep_alive"]), _count(wire["per_user"]), _flag(wire["reuse"]))


def _dns(wire: Mapping[str, Any]) -> Dns:
    hosts = tuple((_text(name), tuple(map(_text, _list(addresses)))) for name, addresses in _list(wire["hosts"]))
    return Dns(_one_of(wire["resolve"], DNS_RESOLVE), _one_of(wire["pick"], DNS_PICK), hosts)


def _actions(wire: object) -> tuple[Action, ...]:
    return tuple(_action(action) for action in _list(wire))


def _action(wire: Mapping[str, Any]) -> Action:
    kind = wire["type"]
    if kind == "request":
        return _request(wire)
    if kind == "pause":
        return Pause(_count(wire["low_ns"]), _count(wire["high_ns"]))
    if kind == "one_of":
        return OneOf(tuple(Branch(_count(way["weight"]), _actions(way["do"])) for way in _list(wire["branches"])))
    if kind == "repeat":
        return Repeat(_count(wire["times"]), _actions(wire["do"]))
    raise ValueError(f"not an action: {kind!r}")


def _request(wire: Mapping[str, Any]) -> Request:
    return Request(
        method=_text(wire["method"]),
        url=_text(wire["url"]),
        name=_text(wire["name"]),
        headers=_pairs(wire["headers"]),
        body=_optional(wire["body"], _body),
        auth=_optional(wire["auth"], _auth),
        timeout_ns=_optional(wire["timeout_ns"], _count),
        check=_check(wire["check"]),
        extract=tuple(
            Extract(_text(found["var"]), _one_of(found["kind"], EXTRACT_KINDS), _text(found["expr"]))
            for found in _list(wire["extract"])
        ),
        on_error=_one_of(wire["on_error"], ON_ERROR),
    )


def _body(wire: Mapping[str, Any]) -> Body:
    kind, value = _one_of(wire["kind"], BODY_KINDS), wire["value"]
    if kind == "multipart":
        return Body(kind, tuple(_part(part) for part in _list(value)))
    return Body(kind, File(_text(value)) if kind == "file" else value)


def _part(wire: Mapping[str, Any]) -> Part:
    value, name = (_optional(wire.get(key), _text) for key in ("value", "file"))
    if (value is None) == (name is None):
        raise ValueError("a part has either a value or a file")
    kind, shown = (_optional(wire.get(key), _text) for key in ("content_type", "filename"))
    return Part(_text(wire["name"]), value, None if name is None else File(name), kind, shown)


def _check(wire: Mapping[str, Any]) -> Check:
    return Check(
        status=tuple(_range(status) for status in _list(wire["status"])),
        body=_optional(wire["body"], _text),
        json=tuple(wire["json"].items()),
        max_time_ns=_optional(wire["max_time_ns"], _count),
    )


def _range(wire: object) -> tuple[int, int]:
    if isinstance(wire, list):
        low, high = (_count(bound) for bound in wire)
        return low, high
    return _count(wire), _count(wire)


def _auth(wire: Mapping[str, Any]) -> Auth:
    if "basic" in wire:
        user, password = wire["basic"]
        return Auth(basic=(_text(user), _text(password)))
    return Auth(bearer=_text(wire["bearer"]))


def _pairs(wire: object) -> tuple[tuple[str, str], ...]:
    return tuple((_text(name), _text(value)) for name, value in _list(wire))


def _optional(wire: Any, read: Callable[[Any], T]) -> T | None:
    return None if wire is None else read(wire)


def _list(wire: object) -> list[Any]:
    if not isinstance(wire, (list, tuple)):
        raise ValueError(f"not a list: {wire!r}")
    return list(wire)


def _text(wire: object) -> str:
    if not isinstance(wire, str):
        raise ValueError(f"not a text: {wire!r}")
    return wire


def _one_of(wire: object, known: tuple[str, ...]) -> str:
    if wire not in known:
        raise ValueError(f"not one of {', '.join(known)}: {wire!r}")
    return wire


def _flag(wire: object) -> bool:
    if not isinstance(wire, bool):
        raise ValueError(f"not true or false: {wire!r}")
    return wire


def _count(wire: object) -> int:
    if not isinstance(wire, int) or isinstance(wire, bool) or wire < 0:
        raise ValueError(f"not a count: {wire!r}")
    return wire
