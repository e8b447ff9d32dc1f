"""Messages from JSON values and back, quickly: plain checks made from the dataclasses, without reasons.

The codec's schemas say what is wrong and where; almost everything that comes in is right, and a schema takes some ten
times as long to find that out. ``load`` gives what the schema would give, or None, and then the schema is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from operator import attrgetter
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

Check = Callable[[Any], Any]
_LOWEST, _HIGHEST = -(1 << 63), (1 << 63) - 1


class _Wrong(Exception):
    """Not what the type wants."""


def load(cls: type, value: Any) -> Any | None:
    """An instance of a message's dataclass; None where the value is not exactly one."""
    try:
        return _check(cls)(value)
    except _Wrong:
        return None


def dump(value: Any) -> dict[str, Any]:
    """A message's dataclass as JSON values, for ``json.dumps``; nothing is checked."""
    kind: Any = type(value)
    names, values = _reading(kind)
    return {name: _plain(item) for name, item in zip(names, values(value), strict=True)}


def _plain(value: Any) -> Any:
    kind = type(value)
    if kind is str or kind is int or kind is dict or value is None or kind is bool:
        return value
    if kind is tuple:
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return dict(value)
    return dump(value) if is_dataclass(kind) else value


@cache
def _reading(kind: Any) -> tuple[tuple[str, ...], Callable[[Any], tuple[Any, ...]]]:
    names = tuple(each.name for each in fields(kind))
    return names, attrgetter(*names)


@cache
def _check(hint: Any) -> Check:
    """The check for a type as ``messages`` uses them; it returns the value as the dataclass holds it."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is UnionType:
        (inner,) = (arg for arg in args if arg is not NoneType)
        return _optional(_check(inner))
    if hint is int:
        return _integer
    if hint in (str, bool):
        return _exactly(hint)
    if origin is tuple:
        if args[-1] is Ellipsis:
            return _every(_check(args[0]))
        return _fixed(tuple(_check(arg) for arg in args))
    if origin is not None and origin.__name__ == "Mapping":
        return _exactly(dict) if args[1] is Any else _values(_check(args[1]))
    return _instance(hint)


def _integer(value: Any) -> Any:
    if type(value) is not int or not _LOWEST <= value <= _HIGHEST:
        raise _Wrong
    return value


def _exactly(kind: type) -> Check:
    def check(value: Any) -> Any:
        if type(value) is not kind:
            raise _Wrong
        return value

    return check


def _optional(inner: Check) -> Check:
    return lambda value: None if value is None else inner(value)


def _every(inner: Check) -> Check:
    def check(value: Any) -> Any:
        if type(value) is not list:
            raise _Wrong
        return tuple([inner(item) for item in value])

    return check


def _fixed(checks: tuple[Check, ...]) -> Check:
    def check(value: Any) -> Any:
        if type(value) is not list or len(value) != len(checks):
            raise _Wrong
        return tuple([inner(item) for inner, item in zip(checks, value, strict=True)])

    return check


def _values(inner: Check) -> Check:
    def check(value: Any) -> Any:
        if type(value) is not dict:
            raise _Wrong
        return {key: inner(item) for key, item in value.items()}

    return check


def _instance(cls: Any) -> Check:
    hints = get_type_hints(cls)
    checks = {each.name: _check(hints[each.name]) for each in fields(cls)}
    required = {each.name for each in fields(cls) if each.default is MISSING and each.default_factory is MISSING}

    def check(value: Any) -> Any:
        if type(value) is not dict or not required <= value.keys():
            raise _Wrong
        try:
            return cls(**{key: checks[key](item) for key, item in value.items()})
        except KeyError:
            raise _Wrong from None

    return check
