"""The run-time names of a plan, as one iteration sees them."""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from zlib import crc32

from loads_queue.model.shard import mix
from loads_queue.model.template import Ref, to_text

from .errors import Refused


@dataclass(frozen=True, slots=True)
class Fixed:
    """What does not change during a run: the worker's names, the secrets, the seed."""

    run: str = ""
    step: str = ""
    names: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    seed: int = 0


class Visit:
    """One iteration: whose it is, its number, its row, what was extracted so far, and its own random numbers.

    The random numbers come from the seed, the user and the iteration alone, so that they are the same for any number
    of shards. ``resolve`` gives the value of a name and raises Refused where it has none.
    """

    __slots__ = ("_draws", "fixed", "fresh", "number", "row", "user", "vars")

    def __init__(
        self, fixed: Fixed, user: int, number: int, row: Mapping[str, Any], vars: dict[str, Any], fresh: bool
    ) -> None:
        self.fixed = fixed
        self.user = user
        self.number = number
        self.row = row
        self.vars = vars
        self.fresh = fresh
        """Whether the user begins with it, so that ``before`` comes first."""
        self._draws = 0

    @property
    def id(self) -> str:
        """A text that no other iteration of any run has."""
        return f"{self.fixed.run}-{crc32(self.fixed.step.encode()):08x}-{self.user}-{self.number}"

    def draw(self, below: int) -> int:
        """A whole number from 0 to ``below`` - 1."""
        self._draws += 1
        return mix(mix(mix(self.fixed.seed, self.user), self.number), self._draws) % below

    def resolve(self, ref: Ref) -> object:
        """The value of a name or call."""
        space, _, name = ref.partition(".")
        if space == "var":
            return _get(self.vars, name, ref)
        if space == "row":
            return _get(self.row, name, ref)
        if space == "secret":
            return _get(self.fixed.secrets, name, ref)
        if space == "fn":
            return _FUNCTIONS[name](self, ref.args or ())
        if ref == "user.number":
            return self.user
        if ref == "iteration.number":
            return self.number
        if ref == "iteration.id":
            return self.id
        return _get(self.fixed.names, ref, ref)


def _get(values: Mapping[str, Any], name: str, ref: Ref) -> object:
    try:
        return values[name]
    except KeyError:
        raise Refused(f"template: {ref} has no value") from None


def _random_int(visit: Visit, args: tuple[object, ...]) -> object:
    low, high = args
    if not isinstance(low, int) or not isinstance(high, int) or low > high:
        raise Refused("template: fn.random_int takes two whole numbers, the lower one first")
    return low + visit.draw(high - low + 1)


def _uuid(visit: Visit, args: tuple[object, ...]) -> str:
    digits = bytearray(os.urandom(16))
    digits[6] = digits[6] & 0x0F | 0x40
    digits[8] = digits[8] & 0x3F | 0x80
    text = digits.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _base64(visit: Visit, args: tuple[object, ...]) -> str:
    try:
        return base64.b64encode(to_text(args[0]).encode()).decode()
    except UnicodeEncodeError:
        raise Refused("template: fn.base64 takes a text that can be written as UTF-8") from None


_FUNCTIONS: dict[str, Callable[[Visit, tuple[Any, ...]], object]] = {
    "uuid": _uuid,
    "now": lambda visit, args: time.time_ns() // 1_000_000,
    "random_int": _random_int,
    "base64": _base64,
}


ANYBODY = Visit(Fixed(), 0, 0, {}, {}, False)
"""Stands for every iteration where nothing depends on whose it is: texts without names in them ask for nothing."""
