"""The one place where messages become bytes and bytes become messages.

An envelope is a JSON object: ``v`` (1), ``type``, ``id`` (the message's), ``time`` (Unix ns), ``queue`` (the name that
``messages`` gives it, without any broker's prefix), ``sig`` and ``body``, which is the message's JSON text exactly as
it was signed. The signature is HMAC-SHA256 over version, type, id, time, queue and body; it is empty where no secret
is set.

``decode`` refuses everything that is not exactly a message of this version: unknown versions, types and fields, wrong
types, NaN and infinities, whole numbers beyond 64 bits (beyond 40 digits inside free-form parts), nesting beyond 100,
text that is not UTF-8. All of that is a ``DecodeError``, and nothing else is ever raised. What free-form parts mean (a
plan, rows, a spec, a load) is left to whoever reads them. ``encode`` never makes what ``decode`` would refuse.

The text is ASCII, so that every broker carries it as it is.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import math
import re
from dataclasses import MISSING, Field, dataclass, fields
from functools import cache
from types import NoneType, UnionType
from typing import Any, NoReturn, cast, get_args, get_origin, get_type_hints

import marshmallow

from . import quick
from .messages import VERSION, Control, Job, LoadStep, Message, Report

MAX_DEPTH = 100
MAX_DIGITS = 40
_TYPES: dict[str, type[Message]] = {cls.__name__: cls for cls in (Job, LoadStep, Control, Report)}
_SURROGATE = re.compile(r"\\u[dD][89abAB]|\\u[dD][c-fC-F]")


class EncodeError(ValueError):
    """A message holds what can't be sent; the text names the field."""


class DecodeError(Exception):
    """What came in is no message of this version; ``reason`` says why and ``data`` is what came."""

    def __init__(self, reason: str, data: str | bytes) -> None:
        super().__init__(reason)
        self.reason = reason
        self.data = data


@dataclass(frozen=True, slots=True)
class Decoded:
    """A message that came in, with its envelope's id and time (Unix ns, by the sender's clock)."""

    message: Message
    id: str
    time: int


def encode(message: Message, queue: str, now_ns: int, secret: bytes | None = None) -> str:
    """The envelope for a message on ``queue``, signed where a secret is given; raises EncodeError."""
    kind = type(message).__name__
    try:
        wire = _without_defaults(message, quick.dump(message))
        body = json.dumps(wire, separators=(",", ":"), allow_nan=False)
        _message(kind, body)
    except (_Refused, TypeError, ValueError, RecursionError) as error:
        raise EncodeError(f"{kind} can't be sent: {error}") from None
    sig = _signature(secret, kind, message.id, now_ns, queue, body) if secret else ""
    envelope = {"v": VERSION, "type": kind, "id": message.id, "time": now_ns, "queue": queue, "sig": sig, "body": body}
    return json.dumps(envelope, separators=(",", ":"))


def restamp(text: str, now_ns: int, secret: bytes | None = None) -> str:
    """An envelope that ``encode`` made, as if it had been made now: for what could not be sent in its time."""
    envelope = json.loads(text)
    kind, ident, queue, body = (envelope[name] for name in ("type", "id", "queue", "body"))
    sig = _signature(secret, kind, ident, now_ns, queue, body) if secret else ""
    return json.dumps({**envelope, "time": now_ns, "sig": sig}, separators=(",", ":"))


def decode(
    text: str | bytes,
    queue: str,
    *,
    secret: bytes | None = None,
    now_ns: int | None = None,
    max_age_ns: int | None = None,
) -> Decoded:
    """The message in an envelope that came from ``queue``; raises DecodeError.

    With a secret, an envelope without its signature is refused; with ``now_ns`` and ``max_age_ns``, one that was
    written longer ago than that, or as far in the future.
    """
    try:
        envelope = _envelope(text)
        kind, ident, time = envelope["type"], envelope["id"], envelope["time"]
        if envelope["queue"] != queue:
            raise _Refused(f"written for queue {envelope['queue'][:80]!r}, came from {queue!r}")
        if secret and not hmac.compare_digest(
            _signature(secret, kind, ident, time, queue, envelope["body"]).encode(), envelope["sig"].encode()
        ):
            raise _Refused("not signed with this cluster's secret" if envelope["sig"] else "not signed")
        if now_ns is not None and max_age_ns is not None and abs(now_ns - time) > max_age_ns:
            raise _Refused(f"written {(now_ns - time) / 1e9:.0f} s ago, more than {max_age_ns / 1e9:.0f} s apart")
        message = _message(kind, envelope["body"])
        if message.id != ident:
            raise _Refused("the envelope's id is not the message's")
    except _Refused as error:
        raise DecodeError(str(error), text) from None
    return Decoded(message, ident, time)


class _Refused(Exception):
    """Why something is no message."""


_ENVELOPE: dict[str, type] = {"v": int, "type": str, "id": str, "time": int, "queue": str, "sig": str, "body": str}


def _envelope(text: str | bytes) -> dict[str, Any]:
    envelope = _parse(text, "envelope")
    if not isinstance(envelope, dict):
        raise _Refused("envelope: not an object")
    version = envelope.get("v")
    if type(version) is not int or version != VERSION:
        raise _Refused(f"envelope: version {_shown(version)} where this program knows {VERSION}")
    if set(envelope) != set(_ENVELOPE):
        raise _Refused(f"envelope: unknown or missing: {_shown(sorted(set(envelope) ^ set(_ENVELOPE)))}")
    for name, kind in _ENVELOPE.items():
        if type(envelope[name]) is not kind:
            raise _Refused(f"envelope: {name}: not {'a whole number' if kind is int else 'text'}")
    if not -(1 << 63) <= envelope["time"] < 1 << 63:
        raise _Refused("envelope: time: beyond 64 bits")
    return envelope


def _message(kind: str, body: str) -> Message:
    cls = _TYPES.get(kind)
    if cls is None:
        raise _Refused(f"type {_shown(kind)} is not known")
    value = _parse(body, kind)
    if (found := quick.load(cls, value)) is not None:
        return cast(Message, found)
    try:
        return cast(Message, _schema(cast(Any, cls)).load(value))
    except marshmallow.ValidationError as error:
        raise _Refused(f"{kind}: {_first(error.messages)}") from None


def _signature(secret: bytes, kind: str, ident: str, time: int, queue: str, body: str) -> str:
    """Each part goes in with its length before it, so that no two envelopes share one signed text."""
    mac = hmac.new(secret, digestmod=hashlib.sha256)
    for part in (str(VERSION), kind, ident, str(time), queue, body):
        data = part.encode()
        mac.update(b"%d:%b," % (len(data), data))
    return mac.hexdigest()


# JSON, read strictly


def _parse(text: str | bytes, what: str) -> Any:
    try:
        found = text if isinstance(text, str) else str(text, "utf-8")
        found.encode()
        value = json.loads(found, parse_int=_int, parse_float=_float, parse_constant=_constant)
    except UnicodeError:
        raise _Refused(f"{what}: not UTF-8") from None
    except RecursionError:
        raise _Refused(f"{what}: nested too deeply") from None
    except ValueError as error:
        raise _Refused(f"{what}: not JSON: {error}") from None
    _check_depth(value, what)
    if _SURROGATE.search(found):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeError:
            raise _Refused(f"{what}: half a surrogate pair") from None
    return value


def _int(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError(f"a whole number of {len(text)} digits")
    return int(text)


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"out of range: {text[:20]}")
    return value


def _constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number")


def _check_depth(value: Any, what: str) -> None:
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        inner: list[Any] = []
        for item in level:
            if type(item) is dict:
                inner.extend(child for child in item.values() if type(child) in (dict, list))
            elif type(item) is list:
                inner.extend(child for child in item if type(child) in (dict, list))
        if not inner:
            return
        level = inner
    raise _Refused(f"{what}: nested more than {MAX_DEPTH} deep")


def _shown(value: object) -> str:
    return repr(value)[:80]


def _first(messages: Any) -> str:
    """The first problem of a marshmallow error, as ``field.index.field: problem``."""
    path: list[str] = []
    while isinstance(messages, dict) and messages:
        key, messages = next(iter(messages.items()))
        if key != "_schema":
            path.append(str(key)[:80])
    problem = messages[0] if isinstance(messages, list) and messages else messages
    return ": ".join(part for part in (".".join(path), str(problem)) if part)


# Schemas, made from the dataclasses, so that a field is written down once


class _Exact(marshmallow.fields.Field[Any]):
    """A value of exactly one JSON type; marshmallow's own fields convert (true is 1, 1.0 is 1)."""

    def __init__(self, kind: type, problem: str, **options: Any) -> None:
        super().__init__(**options)
        self.kind = kind
        self.problem = problem

    def _deserialize(self, value: Any, attr: str | None, data: Any, **_: Any) -> Any:
        if type(value) is not self.kind:
            raise marshmallow.ValidationError(self.problem)
        if type(value) is int and not -(1 << 63) <= value < 1 << 63:
            raise marshmallow.ValidationError("beyond 64 bits")
        return value


class _Tuple(marshmallow.fields.Field[Any]):
    """A JSON list that is a tuple here, of any length or of one item a field."""

    def __init__(self, items: list[marshmallow.fields.Field[Any]], fixed: bool, **options: Any) -> None:
        super().__init__(**options)
        self.items = items
        self.fixed = fixed

    def _serialize(self, value: Any, attr: str | None, obj: Any, **_: Any) -> Any:
        return None if value is None else [field._serialize(item, attr, obj) for field, item in self._pairs(value)]

    def _deserialize(self, value: Any, attr: str | None, data: Any, **_: Any) -> Any:
        if type(value) is not list:
            raise marshmallow.ValidationError("not a list")
        if self.fixed and len(value) != len(self.items):
            raise marshmallow.ValidationError(f"not {len(self.items)} items")
        return tuple(_at(number, field, item) for number, (field, item) in enumerate(self._pairs(value)))

    def _pairs(self, value: Any) -> Any:
        return zip(self.items if self.fixed else self.items * len(value), value, strict=True)


class _Mapping(marshmallow.fields.Field[Any]):
    """A JSON object with values of one kind; None is any value."""

    def __init__(self, values: marshmallow.fields.Field[Any] | None, **options: Any) -> None:
        super().__init__(**options)
        self.inner = values

    def _serialize(self, value: Any, attr: str | None, obj: Any, **_: Any) -> Any:
        if value is None or self.inner is None:
            return None if value is None else dict(value)
        return {key: self.inner._serialize(item, attr, obj) for key, item in value.items()}

    def _deserialize(self, value: Any, attr: str | None, data: Any, **_: Any) -> Any:
        if type(value) is not dict:
            raise marshmallow.ValidationError("not an object")
        return value if self.inner is None else {key: _at(key, self.inner, item) for key, item in value.items()}


def _at(key: str | int, field: marshmallow.fields.Field[Any], value: Any) -> Any:
    """A value inside another; its problem is reported by its place."""
    try:
        return field.deserialize(value)
    except marshmallow.ValidationError as error:
        raise marshmallow.ValidationError({key: error.messages}) from None


_EXACT = {str: "not text", int: "not a whole number", bool: "not true or false"}


@cache
def _schema(cls: type) -> marshmallow.Schema:
    """The schema that loads instances of a message's dataclass."""
    hints = get_type_hints(cls)
    made: dict[str, Any] = {each.name: _field(hints[each.name], required=_required(each)) for each in fields(cls)}
    made["make"] = marshmallow.post_load(lambda _, data, **__: cls(**data))
    made["Meta"] = type("Meta", (), {"unknown": marshmallow.RAISE, "register": False})
    return cast(type[marshmallow.Schema], type(cls.__name__ + "Schema", (marshmallow.Schema,), made))()


def _required(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _field(hint: Any, **options: Any) -> marshmallow.fields.Field[Any]:
    """The field for a type as ``messages`` uses them; a new kind of type must be added here."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is UnionType:
        (inner,) = (arg for arg in args if arg is not NoneType)
        return _field(inner, allow_none=True, **options)
    if hint in _EXACT:
        return _Exact(hint, _EXACT[hint], **options)
    if origin is tuple:
        fixed = args[-1] is not Ellipsis
        return _Tuple([_field(arg) for arg in args if arg is not Ellipsis], fixed, **options)
    if origin is not None and origin.__name__ == "Mapping":
        return _Mapping(None if args[1] is Any else _field(args[1]), **options)
    return marshmallow.fields.Nested(_schema(hint), **options)


def _without_defaults(message: Any, wire: Any) -> Any:
    """What ``dump`` gave, less the top-level fields that hold their default: most of a quiet Report."""
    return {
        each.name: wire[each.name]
        for each in fields(message)
        if _required(each) or getattr(message, each.name) != _default(each)
    }


def _default(field: Field[Any]) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()
