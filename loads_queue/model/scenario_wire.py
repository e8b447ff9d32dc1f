"""Values of a scenario's normalised JSON, read strictly: each function raises ValueError for anything else.

What belongs to one engine alone stands in its own module; nothing here knows what a value is for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


def text(wire: object) -> str:
    """A text."""
    if not isinstance(wire, str):
        raise ValueError(f"not a text: {wire!r}")
    return wire


def one_of(wire: object, known: tuple[str, ...]) -> str:
    """One of a few words."""
    if not isinstance(wire, str) or wire not in known:
        raise ValueError(f"not one of {', '.join(known)}: {wire!r}")
    return wire


def flag(wire: object) -> bool:
    """true or false."""
    if not isinstance(wire, bool):
        raise ValueError(f"not true or false: {wire!r}")
    return wire


def count(wire: object) -> int:
    """A whole number from 0."""
    if not isinstance(wire, int) or isinstance(wire, bool) or wire < 0:
        raise ValueError(f"not a count: {wire!r}")
    return wire


def positive(wire: object) -> int:
    """A whole number from 1."""
    if count(wire) == 0:
        raise ValueError("is 0")
    return count(wire)


def items(wire: object) -> list[Any]:
    """The items of a list."""
    if not isinstance(wire, (list, tuple)):
        raise ValueError(f"not a list: {wire!r}")
    return list(wire)


def texts(wire: object) -> tuple[str, ...]:
    """A list of texts."""
    return tuple(map(text, items(wire)))


def pairs(wire: object) -> tuple[tuple[str, str], ...]:
    """A list of names with their values."""
    return tuple((text(name), text(value)) for name, value in items(wire))


def optional(wire: Any, read: Callable[[Any], T]) -> T | None:
    """What ``read`` makes of it, or None for nothing."""
    return None if wire is None else read(wire)
