"""The parts of a request: headers, authentication, forms, checks, extraction and pauses."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from .plan_fields import At, Field, Fields, Kind, ListOf, MapOf, Runtime, duration, text
from .plan_urls import TOKEN, header_name_problem, header_value_problem
from .template import PLAN_NAME
from .units import shown

_STATUS = re.compile(r"([1-9])xx|([1-9][0-9]{2})(?:-([1-9][0-9]{2}))?")


class AsWritten(Kind):
    """What another kind reads, with nothing in it interpolated."""

    def __init__(self, kind: Kind) -> None:
        self._kind = kind

    def read(self, value: object, at: At) -> Any:
        return self._kind.read(value, at.raw())

    def schema(self) -> dict[str, Any]:
        return self._kind.schema()


class Headers(Kind):
    """Names with values, as ``[[name, value], ...]``; ``wrong`` says what is wrong with a name, or None."""

    def __init__(self, wrong: Callable[[str], str | None] = header_name_problem) -> None:
        self._map = MapOf(HEADER_VALUE, wrong)

    def read(self, value: object, at: At) -> Any:
        found = self._map.read(value, at)
        if found is None:
            return None
        if len({name.lower() for name in found}) < len(found):
            at.problem("the same header twice, apart from capitals")
        return [[name, text] for name, text in found.items()]

    def schema(self) -> dict[str, Any]:
        return self._map.schema()


class Auth(Kind):
    """``{basic: [USER, PASSWORD]}`` or ``{bearer: TOKEN}``."""

    def read(self, value: object, at: At) -> Any:
        found = _AUTH.read(value, at)
        if found is None:
            return None
        basic, bearer = found["basic"], found["bearer"]
        if isinstance(value, dict) and ("basic" in value) == ("bearer" in value):
            return at.problem("needs either basic or bearer")
        if basic is not None and len(basic) != 2:
            return at.down("basic").problem("is [USER, PASSWORD]")
        return {"bearer": bearer} if basic is None else {"basic": basic}

    def schema(self) -> dict[str, Any]:
        return _AUTH.schema()


class Form(Kind):
    """Fields of a form, as ``[[name, value], ...]``; a list gives a field more than once."""

    def read(self, value: object, at: At) -> Any:
        if not isinstance(value, dict):
            return at.problem(f"not a mapping: {shown(value)}")
        pairs: list[list[str]] = []
        for name, inner in value.items():
            for index, item in enumerate(inner if isinstance(inner, list) else [inner]):
                place = at.down(name).down(index) if isinstance(inner, list) else at.down(name)
                pairs.append([name, ANY_TEXT.read(item, place) or ""])
        return pairs

    def schema(self) -> dict[str, Any]:
        one = ANY_TEXT.schema()
        return {"type": "object", "additionalProperties": {"anyOf": [one, {"type": "array", "items": one}]}}


class Statuses(Kind):
    """A status, ``2xx``, ``200-204``, or a list of them, as ``[[low, high], ...]``."""

    def read(self, value: object, at: At) -> Any:
        items = value if isinstance(value, list) else [value]
        if not items:
            return at.problem("an empty list")
        return [self._one(item, at.down(index) if isinstance(value, list) else at) for index, item in enumerate(items)]

    def _one(self, value: object, at: At) -> Any:
        found = _STATUS.fullmatch(str(value)) if isinstance(value, (int, str)) else None
        if found is None or (found[3] is not None and int(found[3]) < int(found[2])):
            at.problem(f"not a status, as 200, 2xx or 200-204: {shown(value)}")
            return [0, 0]
        if found[1] is not None:
            return [int(found[1]) * 100, int(found[1]) * 100 + 99]
        return [int(found[2]), int(found[3] or found[2])]

    def schema(self) -> dict[str, Any]:
        one = {"anyOf": [{"type": "integer", "minimum": 100, "maximum": 999}, {"type": "string"}]}
        return {"anyOf": [*one["anyOf"], {"type": "array", "minItems": 1, "items": one}]}


class JsonChecks(Kind):
    """JMESPath expressions with the value that each gives, or ``{exists: true|false}``."""

    def read(self, value: object, at: At) -> Any:
        if not isinstance(value, dict):
            return at.problem(f"not a mapping: {shown(value)}")
        for expression, wanted in value.items():
            place = at.down(expression)
            _check_jmespath(expression, place)
            if isinstance(wanted, dict) and set(wanted) == {"exists"} and not isinstance(wanted["exists"], bool):
                place.down("exists").problem(f"not true or false: {shown(wanted['exists'])}")
        return value

    def schema(self) -> dict[str, Any]:
        return {"type": "object"}


class Extracts(Kind):
    """``{VAR: {KIND: EXPRESSION}}``, of kinds that are ``json`` (JMESPath), ``regex`` and ``header``."""

    def __init__(self, kinds: Sequence[str]) -> None:
        self._kinds = " and ".join(", ".join(kinds).rsplit(", ", 1))
        ways = {kind: Field(EXPRESSION, _EXTRACT_DOCS[kind]) for kind in kinds}
        self._map = MapOf(Fields(ways), _variable_problem)

    def read(self, value: object, at: At) -> Any:
        found = self._map.read(value, at)
        if found is None:
            return None
        made = []
        for name, ways in found.items():
            place = at.down(name)
            given = [(kind, expr) for kind, expr in (ways or {}).items() if expr is not None]
            if len(given) == 1:
                check_expression(*given[0], place.down(given[0][0]))
                made.append({"var": name, "kind": given[0][0], "expr": given[0][1]})
            elif isinstance(value, dict) and isinstance(value[name], dict) and len(value[name]) != 1:
                place.problem(f"needs one of {self._kinds}")
        return made

    def schema(self) -> dict[str, Any]:
        return self._map.schema()


def _variable_problem(name: str) -> str | None:
    return None if PLAN_NAME.fullmatch(name) else "not the name of a variable (letters, digits and _)"


def check_expression(kind: str, expr: str, at: At) -> None:
    """Report a JMESPath expression (json), a regular expression (regex) or a header's name that is none."""
    if kind == "json":
        _check_jmespath(expr, at)
    elif kind == "header" and not TOKEN.fullmatch(expr):
        at.problem(f"not a header's name: {shown(expr)}")
    elif kind == "regex":
        try:
            re.compile(expr)
        except (re.error, RecursionError, OverflowError) as error:
            at.problem(f"not a regular expression: {error}")


def _check_jmespath(expression: str, at: At) -> None:
    check = at.reading.check_jmespath
    try:
        wrong = check(expression) if check is not None else None
    except RecursionError:
        wrong = "nested too deep"
    if wrong is not None:
        at.problem(f"not a JMESPath expression: {wrong}")


class Pauses(Kind):
    """A duration, or ``{between: [LOW, HIGH]}``; a pair of nanoseconds."""

    def read(self, value: object, at: At) -> Any:
        if not isinstance(value, dict):
            fixed = _DURATION.read(value, at)
            return None if fixed is None else (fixed, fixed)
        found = _BETWEEN.read(value, at)
        bounds = found["between"] if found is not None else None
        if bounds is None or None in bounds:
            return None
        if len(bounds) != 2 or bounds[0] > bounds[1]:
            return at.down("between").problem("is [LOW, HIGH], the shorter one first")
        return bounds[0], bounds[1]

    def schema(self) -> dict[str, Any]:
        return {"anyOf": [_DURATION.schema(), _BETWEEN.schema()]}


_DURATION = duration()
_BETWEEN = Fields({"between": Field(ListOf(_DURATION), "Uniformly from LOW to HIGH.", required=True)})
ANY_TEXT = Runtime()
HEADER_VALUE = Runtime(header_value_problem)
_AUTH = Fields(
    {
        "basic": Field(ListOf(HEADER_VALUE), "[USER, PASSWORD]."),
        "bearer": Field(HEADER_VALUE, "A token."),
    }
)
EXPRESSION = text("an expression", longest=10_000)
SERIES = text("a name", pattern=r"[^\s][^\x00-\x1f\x7f]{0,199}")
_EXTRACT_DOCS = {
    "json": "A JMESPath expression over the body, or message.",
    "regex": "A regular expression over the body, or message: its first group, or all of it.",
    "header": "A response header's name.",
}


class RawFields(Fields):
    """Fields in which nothing is interpolated."""

    def read(self, value: object, at: At) -> Any:
        return super().read(value, at.raw())
