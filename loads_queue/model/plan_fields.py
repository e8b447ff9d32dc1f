"""The tables that a plan is read by: what a key may hold, its default, and its JSON Schema, in one place.

A ``Kind`` reads a raw value ``At`` a place in the plan. It reports what is wrong there and returns None, so that
reading goes on and every problem is found; whoever builds from what was read builds only when there was no problem.
Every text is interpolated (``template.substitute``) on the way, except under an ``At`` without an environment.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from .names import Names
from .problems import NOT_YET, Path, Problem, line_of, nearest, path_text
from .template import Template, TemplateError, UnknownName, substitute, to_text
from .units import number, parse_duration, parse_rate, shown

INTERPOLATED = {"type": "string", "pattern": r"\$\{"}


@dataclass
class Reading:
    """What one pass over a plan has found wrong."""

    lines: Mapping[Path, int] = field(default_factory=dict)
    check_jmespath: Callable[[str], str | None] | None = None
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)


@dataclass(frozen=True)
class At:
    """A place in the plan, with the names that are known there; ``env`` None where nothing is interpolated."""

    reading: Reading
    path: Path = ()
    env: Mapping[str, object] | None = None
    names: Names = field(default_factory=Names)

    def down(self, key: str | int) -> At:
        """The place one level further in."""
        return replace(self, path=(*self.path, key))

    def problem(self, message: str) -> Any:
        """Report, and return None: what is wrong has no value."""
        self.reading.problems.append(self._noted(message))
        return None

    def warning(self, message: str) -> None:
        """Note what can be run and was likely not meant."""
        self.reading.warnings.append(self._noted(message))

    def _noted(self, message: str) -> Problem:
        return Problem(path_text(self.path), message, line_of(self.path, self.reading.lines))

    def raw(self) -> At:
        """The same place, where nothing is interpolated."""
        return replace(self, env=None)

    def interpolated(self, value: object, *, runtime: bool = False) -> object:
        """A value with its plan-time names filled in; None, reported, where that fails.

        Where run-time names may follow, what is wrong with those is reported too when plan-time ones are missing.
        """
        if self.env is None or not isinstance(value, str):
            return value
        known, missing = dict(self.env), False
        while True:
            try:
                found = substitute(value, known)
            except UnknownName as error:
                self.problem(f"{error}{nearest(error.name, self.env)}: set it with --set {error.name}=... or in env")
                known[error.name], missing = "", True
                continue
            except TemplateError as error:
                return self.problem(str(error))
            if missing and runtime and isinstance(found, str):
                self.template(found)
            return None if missing else found

    def template(self, text: str) -> Template | None:
        """A text for the run-time pass; None, reported, where a name in it is not known."""
        try:
            parsed = Template.parse(text)
        except TemplateError as error:
            self.problem(str(error))
            return None
        wrong = [message for ref in parsed.refs() if (message := self.names.wrong(ref)) is not None]
        for message in dict.fromkeys(wrong):
            self.problem(message)
        return None if wrong else parsed

    def settled(self, value: object) -> object:
        """A value that must be known before the run; None, reported, where it is not."""
        found = self.interpolated(value)
        if not isinstance(found, str) or self.env is None or "$" not in found:
            return found
        try:
            parsed = Template.parse(found)
        except TemplateError as error:
            return self.problem(str(error))
        if parsed.literal is None:
            return self.problem(f"{found!r}: what stands here must be known before the run")
        return parsed.literal


class Kind(ABC):
    """What a key may hold."""

    @abstractmethod
    def read(self, value: object, at: At) -> Any:
        """The value as the plan's builders want it; None, reported, where it is wrong."""

    @abstractmethod
    def schema(self) -> dict[str, Any]:
        """As JSON Schema (2020-12), for editors; interpolated texts pass."""


class Scalar(Kind):
    """A value that is settled first and then converted; ``convert`` raises ValueError for people."""

    def __init__(self, convert: Callable[[object], Any], schema: dict[str, Any]) -> None:
        self._convert = convert
        self._schema = schema

    def read(self, value: object, at: At) -> Any:
        found = at.settled(value)
        if found is None:
            return at.problem("has no value") if value is None else None
        try:
            return self._convert(found)
        except ValueError as error:
            return at.problem(str(error))

    def schema(self) -> dict[str, Any]:
        return {"anyOf": [self._schema, INTERPOLATED]} if self._schema.get("type") != "string" else self._schema


def duration(least_ns: int = 0) -> Scalar:
    """A duration in nanoseconds."""

    def convert(value: object) -> int:
        found = parse_duration(value)
        if found < least_ns:
            raise ValueError(f"not a duration longer than nothing: {shown(value)}")
        return found

    return Scalar(convert, {"type": ["string", "number"]})


def rate() -> Scalar:
    """A rate a second, as a Fraction."""
    return Scalar(parse_rate, {"type": ["string", "number"]})


def whole(low: int, high: int) -> Scalar:
    """A whole number; its text too, as ``--set`` gives it."""

    def convert(value: object) -> int:
        negative = isinstance(value, str) and value.startswith("-")
        found = number(value[1:] if negative and isinstance(value, str) else value)
        if found is not None and negative:
            found = -found
        if found is None or found.denominator != 1:
            raise ValueError(f"not a whole number: {shown(value)}")
        if not low <= found <= high:
            raise ValueError(f"not a whole number from {low} to {high}: {shown(value)}")
        return int(found)

    return Scalar(convert, {"type": "integer", "minimum": low, "maximum": high})


def _flag(value: object) -> bool:
    if value in ("true", "false"):
        return value == "true"
    if not isinstance(value, bool):
        raise ValueError(f"not true or false: {shown(value)}")
    return value


def flag() -> Scalar:
    """true or false."""
    return Scalar(_flag, {"type": "boolean"})


def choice(*words: str) -> Scalar:
    """One of a few words."""

    def convert(value: object) -> str:
        if not isinstance(value, str) or value not in words:
            raise ValueError(f"not one of {', '.join(words)}: {shown(value)}")
        return value

    return Scalar(convert, {"enum": list(words)})


def text(what: str = "a text", *, pattern: str | None = None, longest: int = 10_000) -> Scalar:
    """A text that is known before the run; a number is its text."""
    allowed = re.compile(pattern) if pattern is not None else None

    def convert(value: object) -> str:
        found = str(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else value
        if not isinstance(found, str) or not found.strip() or len(found) > longest:
            raise ValueError(f"not {what}: {shown(value)}")
        if allowed is not None and not allowed.fullmatch(found):
            raise ValueError(f"not {what}: {shown(value)}")
        return found

    return Scalar(convert, {"type": ["string", "number"]})


class Runtime(Kind):
    """A text with run-time names in it, such as a header's value; other scalars become text."""

    def __init__(self, check: Callable[[Template], str | None] | None = None) -> None:
        self._check = check

    def read(self, value: object, at: At) -> Any:
        found = at.interpolated(value, runtime=True)
        if isinstance(found, (dict, list)) or found is None:
            return at.problem(f"not a text: {shown(value)}") if not isinstance(value, str) else None
        source = to_text(found)
        parsed = at.template(source)
        if parsed is None:
            return None
        wrong = self._check(parsed) if self._check is not None else None
        return at.problem(wrong) if wrong is not None else source

    def schema(self) -> dict[str, Any]:
        return {"type": ["string", "number", "boolean"]}


class Json(Kind):
    """Any JSON, with run-time names in its texts; keys are not interpolated."""

    def read(self, value: object, at: At) -> Any:
        if isinstance(value, dict):
            return {key: self.read(inner, at.down(key)) for key, inner in value.items()}
        if isinstance(value, list):
            return [self.read(inner, at.down(index)) for index, inner in enumerate(value)]
        found = at.interpolated(value, runtime=True)
        if isinstance(found, str):
            at.template(found)
        return found

    def schema(self) -> dict[str, Any]:
        return {}


class ListOf(Kind):
    """A list; what is wrong with each item is reported at the item."""

    def __init__(self, item: Kind, *, least: int = 1, most: int = 10_000) -> None:
        self.item = item
        self._least = least
        self._most = most

    def read(self, value: object, at: At) -> Any:
        if not isinstance(value, list):
            return at.problem(f"not a list: {shown(value)}")
        if not self._least <= len(value) <= self._most:
            return at.problem("an empty list" if not value else f"more than {self._most} items")
        return [self.item.read(item, at.down(index)) for index, item in enumerate(value)]

    def schema(self) -> dict[str, Any]:
        return {"type": "array", "minItems": self._least, "items": self.item.schema()}


class MapOf(Kind):
    """A mapping of free names; ``name`` says what is wrong with one, or None."""

    def __init__(self, item: Kind, name: Callable[[str], str | None] | None = None) -> None:
        self.item = item
        self._name = name

    def read(self, value: object, at: At) -> Any:
        if not isinstance(value, dict):
            return at.problem(f"not a mapping: {shown(value)}")
        for key in value:
            wrong = self._name(key) if self._name is not None else None
            if wrong is not None:
                at.down(key).problem(wrong)
        return {key: self.item.read(inner, at.down(key)) for key, inner in value.items()}

    def schema(self) -> dict[str, Any]:
        return {"type": "object", "additionalProperties": self.item.schema()}


@dataclass(frozen=True)
class Field:
    """One key: ``default`` is written as in a plan, and read by the same kind."""

    kind: Kind
    doc: str
    default: Any = None
    required: bool = False


class Fields(Kind):
    """A mapping of known keys. ``later`` are keys of features that this version does not have."""

    def __init__(self, fields: Mapping[str, Field], later: Sequence[str] = ()) -> None:
        self.fields = dict(fields)
        self.later = frozenset(later)

    def read(self, value: object, at: At) -> Any:
        """Every known key; those not given have their default, or None."""
        if not isinstance(value, dict):
            return at.problem(f"not a mapping: {shown(value)}")
        self.refuse_unknown(value, at)
        found: dict[str, Any] = {}
        for key, entry in self.fields.items():
            if key in value:
                found[key] = entry.kind.read(value[key], at.down(key))
            elif entry.required:
                at.problem(f"needs {key!r}")
                found[key] = None
            else:
                found[key] = None if entry.default is None else entry.kind.read(entry.default, at.down(key))
        return found

    def refuse_unknown(self, value: Mapping[str, object], at: At) -> None:
        """Report keys that are not in the table, with the nearest that is."""
        for key in value:
            if key in self.later:
                at.down(key).problem(NOT_YET)
            elif key not in self.fields:
                at.down(key).problem(f"unknown key{nearest(key, self.fields)}")

    def schema(self) -> dict[str, Any]:
        properties = {}
        for key, entry in self.fields.items():
            properties[key] = {**entry.kind.schema(), "description": entry.doc}
            if entry.default is not None:
                properties[key]["default"] = entry.default
        made: dict[str, Any] = {"type": "object", "additionalProperties": False, "properties": properties}
        required = [key for key, entry in self.fields.items() if entry.required]
        return {**made, "required": required} if required else made
