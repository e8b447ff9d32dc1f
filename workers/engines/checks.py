"""What a response must be, and what is taken from it.

Pure; errors are names to count by, and never quote a target.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from loads_queue.model.scenario import DEFAULT_STATUS, Check, Extract, Request

from .exchange import Exchange

_CHARSET = re.compile(r'charset="?([\w.:-]+)', re.IGNORECASE)
_MISSING = object()


class Judge:
    """Judges the responses of one request of the plan; expressions are compiled once."""

    __slots__ = (
        "_body", "_extracts", "_json", "_max_time_ns", "_passed", "_ranges", "_told", "by_status_alone",
        "takes_nothing",
    )  # fmt: skip

    def __init__(self, spec: Request) -> None:
        check: Check = spec.check
        self._ranges = check.status
        self._passed: dict[int, bool] = {}
        """By status, whether it is within the ranges."""
        self._told = check.status != DEFAULT_STATUS
        self._body = check.body
        self._json = [(f"json {expr}", compiled_jmespath(expr), wanted) for expr, wanted in check.json]
        self._max_time_ns = check.max_time_ns
        self._extracts = [(extract.var, _extractor(extract)) for extract in spec.extract]
        self.takes_nothing = not self._extracts
        """It extracts nothing."""
        self.by_status_alone = not (self._more_than_status() or self._extracts)
        """``of_status`` says it all."""

    def _more_than_status(self) -> bool:
        return self._body is not None or bool(self._json) or self._max_time_ns is not None

    def of_status(self, status: int) -> tuple[str | None, list[tuple[str, bool]] | None]:
        """What ``error`` and ``checks`` become of an answer's status alone."""
        passed = self._passed.get(status)
        if passed is None:
            passed = self._passed[status] = any(low <= status <= high for low, high in self._ranges)
        return None if passed else f"status: {status}", [("status", passed)] if self._told else None

    def judge(self, x: Exchange, variables: dict[str, Any]) -> None:
        """Set ``error`` (the first failure) and ``checks`` of an answered exchange, and take the variables."""
        x.error, x.checks = self.of_status(x.status or 0)
        if not self.by_status_alone and self._more_than_status():
            self._more(x)
        if self._extracts:
            self._extract(x, variables)

    def _more(self, x: Exchange) -> None:
        if self._body is not None:
            self._note(x, "body", self._body in text_of(x))
        if self._json:
            document = _document(x)
            for name, find, wanted in self._json:
                self._note(x, name, document is not _MISSING and holds(find(document), wanted))
        if self._max_time_ns is not None:
            self._note(x, "max_time", x.ended - x.due <= self._max_time_ns)

    def _note(self, x: Exchange, name: str, passed: bool) -> None:
        if x.checks is None:
            x.checks = []
        x.checks.append((name, passed))
        if not passed and x.error is None:
            x.error = f"check: {name}"

    def _extract(self, x: Exchange, variables: dict[str, Any]) -> None:
        for var, take in self._extracts:
            found = take(x)
            if found is not _MISSING:
                variables[var] = found
                continue
            variables.pop(var, None)
            if x.error is None:
                x.error = f"extract: {var}"


def text_of(x: Exchange) -> str:
    """The body as text, by its charset or UTF-8; what does not decode is replaced."""
    kind = x.head.get("content-type") if x.head is not None else None
    match = _CHARSET.search(kind) if kind else None
    try:
        return x.body.decode(match[1] if match else "utf-8", "replace")
    except LookupError:
        return x.body.decode("utf-8", "replace")


def _document(x: Exchange) -> Any:
    try:
        return json.loads(x.body)
    except (ValueError, RecursionError):
        return _MISSING


def holds(found: Any, wanted: Any) -> bool:
    """Whether what an expression gives is what a plan wants: a value, or ``{exists: true|false}``."""
    if isinstance(wanted, dict) and set(wanted) == {"exists"}:
        return (found is not None) is bool(wanted["exists"])
    return type(found) is type(wanted) and bool(found == wanted) if isinstance(wanted, bool) else bool(found == wanted)


def compiled_jmespath(expr: str) -> Callable[[Any], Any]:
    """What an expression gives of a document, None for nothing; raises ValueError for what is no expression."""
    import jmespath
    from jmespath.exceptions import JMESPathError

    try:
        compiled = jmespath.compile(expr)
    except JMESPathError as error:
        raise ValueError(f"not a JMESPath expression: {expr!r}: {error}") from None

    def find(document: Any) -> Any:
        try:
            return compiled.search(document)
        except (JMESPathError, RecursionError, ArithmeticError, TypeError, ValueError):
            return None  # Its own errors, and Python's: a text compared with a number, infinity made a whole number.

    return find


def _extractor(extract: Extract) -> Callable[[Exchange], Any]:
    if extract.kind == "header":
        name = extract.expr.lower()

        def header(x: Exchange) -> Any:
            found = x.head.get(name) if x.head is not None else None
            return _MISSING if found is None else found

        return header
    if extract.kind == "regex":
        try:
            pattern = re.compile(extract.expr)
        except re.error as error:
            raise ValueError(f"not a regular expression: {extract.expr!r}: {error}") from None

        def regex(x: Exchange) -> Any:
            match = pattern.search(text_of(x))
            if match is None:
                return _MISSING
            found = match[1] if pattern.groups else match[0]
            return _MISSING if found is None else found

        return regex
    find = compiled_jmespath(extract.expr)

    def from_json(x: Exchange) -> Any:
        document = _document(x)
        found = None if document is _MISSING else find(document)
        return _MISSING if found is None else found

    return from_json
