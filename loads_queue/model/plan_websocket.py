"""The ``websocket:`` of a step, read into the normalised JSON that ``websocket.WebSocketScenario`` takes."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from .plan_actions import every_action, has_no_end, inner_lists, placed
from .plan_fields import At, Field, Fields, ListOf, Runtime, Scalar, duration, flag, whole
from .plan_http import DEFAULT_TIMEOUT
from .plan_http_net import ADDRESS, DNS, MOST_ADDRESSES, TLS, check_tls
from .plan_http_parts import Auth, Headers
from .plan_urls import TOKEN, encoded, header_name_problem, url_problem
from .plan_websocket_actions import ACTION_LIST
from .problems import Path
from .template import Ref, Template, TemplateError
from .units import shown
from .websocket import CONNECT, DEFAULT_MAX_MESSAGE, LARGEST_MAX_MESSAGE, OWN_SERIES, PING

LONGEST_IN_NAME = 30
"""How much of a message is in the name of its series, in characters."""
_SCHEME = re.compile(r"\A(ws|http)(s?)://", re.IGNORECASE)
_OWN_HEADERS = ("connection", "upgrade", "content-length", "transfer-encoding")
_INSTEAD = {"sec-websocket-protocol": "subprotocols", "sec-websocket-extensions": "deflate"}


def _header_problem(name: str) -> str | None:
    own = name.lower()
    if own in _OWN_HEADERS or own.startswith("sec-websocket-"):
        instead = f": use `{_INSTEAD[own]}`" if own in _INSTEAD else ""
        return f"the handshake sets this header itself{instead}"
    return header_name_problem(name)


def _wrong_url(template: Template) -> str | None:
    """What is wrong with the URL of a WebSocket, or None: but for its scheme, it is one of HTTP."""
    if not template.parts:
        return "an empty URL"
    first = template.parts[0]
    if isinstance(first, Ref):
        return url_problem(template)
    scheme = _SCHEME.match(first)
    if scheme is None:
        return f"not a ws:// or wss:// URL: {first[:60]!r}"
    secure = scheme[2].lower()
    if scheme[1].lower() == "http":
        return f"ws{secure}://, not {scheme[0].lower()}: {first[:60]!r}"
    wrong = url_problem(Template((f"http{secure}://{first[scheme.end() :]}", *template.parts[1:])))
    return wrong and wrong.replace(f"http{secure}://", f"ws{secure}://")


def _subprotocol(value: object) -> str:
    if not isinstance(value, str) or not TOKEN.fullmatch(value):
        raise ValueError(f"not a subprotocol (letters, digits and some marks, as chat.v2): {shown(value)}")
    return value


class _Distinct(ListOf):
    """A list in which nothing stands twice."""

    def read(self, value: object, at: At) -> Any:
        found = super().read(value, at)
        for index, one in enumerate(found or ()):
            if one is not None and one in found[:index]:
                at.down(index).problem(f"stands twice: {shown(one)}")
        return found

    def schema(self) -> dict[str, Any]:
        return {**super().schema(), "uniqueItems": True}


WEBSOCKET = Fields(
    {
        "url": Field(Runtime(_wrong_url), "Where: ws://HOST[:PORT][/PATH] or wss://...", required=True),
        "timeout": Field(
            duration(1),
            "For the handshake, and for whatever waits without a `within` of its own.",
            default=DEFAULT_TIMEOUT,
        ),
        "headers": Field(Headers(_header_problem), "Headers of the handshake."),
        "auth": Field(Auth(), "{basic: [USER, PASSWORD]} or {bearer: TOKEN}, in the handshake."),
        "subprotocols": Field(
            _Distinct(Scalar(_subprotocol, {"type": "string"}), most=100), "Offered; the server takes one of them."
        ),
        "deflate": Field(flag(), "Whether compression is offered (permessage-deflate, RFC 7692).", default=False),
        "tls": Field(TLS, "Certificates.", default={}),
        "dns": Field(DNS, "How names become addresses.", default={}),
        "source_addresses": Field(
            _Distinct(ADDRESS, most=MOST_ADDRESSES), "Addresses of the worker's own that sockets are bound to, in turn."
        ),
        "max_message": Field(
            whole(1, LARGEST_MAX_MESSAGE), "Bytes; a longer message is a failure.", default=DEFAULT_MAX_MESSAGE
        ),
        "do": Field(ACTION_LIST, "One session.", required=True),
    },
    later=("proxy",),
)


def read_websocket(value: object, data: dict[str, Any] | None, at: At) -> dict[str, Any] | None:
    """The normalised scenario; None, reported, where the step's ``websocket`` is no mapping."""
    found = WEBSOCKET.read(value, at)
    if found is None or not isinstance(value, dict):
        return None
    check_tls(value.get("tls"), at.down("tls"))
    do = found["do"] or []
    _check_ends(do, at.down("do"))
    _note_floods(do, at.down("do"))
    _name_series(do)
    return {
        "url": None if found["url"] is None else _normal_url(Template.parse(found["url"])),
        "timeout_ns": found["timeout"], "headers": found["headers"] or [], "auth": found["auth"],
        "subprotocols": found["subprotocols"] or [], "deflate": found["deflate"], "tls": found["tls"],
        "dns": found["dns"], "source_addresses": found["source_addresses"] or [],
        "max_message": found["max_message"], "data": data, "do": do,
    }  # fmt: skip


def _normal_url(template: Template) -> str:
    """With its scheme in lower case, and with what is not ASCII percent-encoded."""
    return _SCHEME.sub(lambda scheme: scheme[0].lower(), encoded(template), count=1)


def _check_ends(actions: list[Any], at: At) -> str | None:
    """Report what stands behind the end of a session; why nothing behind the whole list is reached, or None."""
    first = None
    for index, action in enumerate(actions):
        place = at.down(index)
        why = None if action is None else _why_last(action, place)
        if first is None and why is not None:
            first = why
            if index < len(actions) - 1:
                at.down(index + 1).problem(f"is never reached: what stands before it {why}")
    return first


def _why_last(action: Mapping[str, Any], at: At) -> str | None:
    inner = [_check_ends(actions, place) for place, actions in inner_lists(action, at)]
    if has_no_end(action):
        return "goes on until the load ends: give it `for`"
    if action["type"] == "close":
        return "closes the session"
    # Every way of a choice must end it; the first pass of what is repeated does; an `every` may have no pass at all.
    return inner[0] if inner and None not in inner and action["type"] != "every" else None


def _note_floods(do: list[Any], at: At) -> None:
    """Note loops without an end in which nothing waits."""
    for place, action in placed(do, at):
        if action["type"] == "loop" and action["times"] is None and not _waits(action["do"] or []):
            place.warning("nothing in it waits: it sends as fast as it can (pause, or expect what comes back)")


def _waits(actions: list[Any]) -> bool:
    return any(
        action["type"] in ("expect", "ping", "every", "close") or action.get("high_ns")
        for action in every_action(actions)
    )


def _series(do: list[Any]) -> Iterator[dict[str, Any]]:
    """The actions whose round trips are measured."""
    for action in every_action(do):
        if action["type"] == "expect" or (action["type"] == "send" and action["reply"] is not None):
            yield action


def _name_series(do: list[Any]) -> None:
    """Give each action without a name one that says what it is, and that no other round trip has."""
    taken: set[str | None] = {*OWN_SERIES, *(action["name"] for action in _series(do))}
    again: Counter[str] = Counter()
    for action in _series(do):
        if action["name"] is None:
            base = name = _default_name(action)
            while name in taken:
                again[base] += 1
                name = f"{base} #{again[base] + 1}"
            taken.add(name)
            action["name"] = name
    for action in every_action(do):
        if action["type"] == "send" and action["name"] is None:
            action["name"] = _default_name(action)


def _default_name(action: Mapping[str, Any]) -> str:
    kind, value = action["kind"], action["value"]
    if action["type"] == "send" and kind in ("text", "json"):
        value = _in_braces(value)
    if kind == "json":
        value = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    text = str(kind if kind in ("any", "binary") else value)[: 4 * LONGEST_IN_NAME]
    words = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return f"{action['type']} {words[:LONGEST_IN_NAME].strip() or 'empty'}"


def _in_braces(value: Any) -> Any:
    """A message for people: run-time names in braces, as in the series of a request."""
    if isinstance(value, dict):
        return {key: _in_braces(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_in_braces(inner) for inner in value]
    if not isinstance(value, str):
        return value
    try:
        parts = Template.parse(value).parts
    except TemplateError:
        return value  # Told of already.
    return "".join(f"{{{part.source()}}}" if isinstance(part, Ref) else part for part in parts)


def series_of(spec: Mapping[str, Any]) -> list[str]:
    """The names of all that is measured as a request: the handshake, replies, expected messages, and pings."""
    pings = any(action["type"] == "ping" for action in every_action(spec["do"]))
    return [CONNECT, *(action["name"] for action in _series(spec["do"])), *([PING] if pings else [])]


def files_in(action: Mapping[str, Any]) -> tuple[Path, list[str]]:
    """The name of the file that an action sends, and where below the action it stands."""
    if action["type"] == "send" and action["kind"] in ("file", "text_file"):
        return ("send", action["kind"]), [action["value"]]
    return (), []
