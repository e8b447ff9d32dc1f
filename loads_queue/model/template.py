"""``${...}`` in a plan's texts: names without a dot are filled in when the plan is read, dotted ones at run time.

Two passes over the same syntax. ``substitute`` is the plan-time pass: it replaces ``${NAME}`` and leaves dotted
names, the worker's own names and ``$$`` as they stand. ``Template`` is the run-time pass, parsed once and rendered
for every request. A text that is exactly one ``${...}`` keeps the type of its value; ``$$`` is a dollar; a dollar
before anything else is itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

WORKER_NAMES = frozenset({"RUN_ID", "STEP_NAME", "SHARD", "WORKER_ID", "HOST_IP", "PRIVATE_IP"})
"""Names without a dot that only the worker can fill in."""
LATER_NAMES = frozenset({"STATSD_HOST", "STATSD_PORT", "BROKER_ID", "BROKER_VERSION", "CONTAINER_ID"})
"""Names of the worker's that this version does not fill in yet."""
NAMESPACES = ("row", "var", "user", "iteration", "secret", "fn")
FIXED_NAMES = frozenset({"user.number", "iteration.number", "iteration.id"})
PLAN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

LONGEST = 1_048_576
"""The longest text that a plan-time substitution may make, in characters."""

_NAME = re.compile(r"[^(){}$\"',]*")
_ARGUMENT = re.compile(
    r"\s*(?:(?P<number>-?[0-9]{1,18})(?=\s*[,)])"
    r"|\"(?P<double>(?:[^\"\\]|\\.)*)\"|'(?P<single>(?:[^'\\]|\\.)*)'"
    r"|(?P<name>[A-Za-z_][^(){}$\"',]*))\s*",
    re.DOTALL,
)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


class TemplateError(ValueError):
    """A text that is no template, with a message for people."""


class UnknownName(TemplateError):
    """A plan-time name that nobody defines."""

    def __init__(self, name: str) -> None:
        super().__init__(f"nobody defines ${{{name}}}")
        self.name = name


class Ref(str):
    """The name in ``${...}``; ``args`` is None unless it is a call, and then numbers, texts and other names."""

    __slots__ = ("args",)
    args: tuple[object, ...] | None

    def __new__(cls, name: str, args: tuple[object, ...] | None = None) -> Ref:
        made = super().__new__(cls, name)
        made.args = args
        return made

    def source(self) -> str:
        """As it is written between the braces."""
        if self.args is None:
            return str(self)
        return f"{self!s}({', '.join(_argument_source(arg) for arg in self.args)})"


def _argument_source(arg: object) -> str:
    if isinstance(arg, Ref):
        return str(arg)
    if isinstance(arg, int) and not isinstance(arg, bool):
        return str(arg)
    return '"' + re.sub(r'(["\\])', r"\\\1", to_text(arg)) + '"'


@dataclass(frozen=True, slots=True)
class Template:
    """A parsed text. ``parts`` are literal texts and ``Ref``s; neighbouring literals are joined."""

    parts: tuple[str | Ref, ...]

    @classmethod
    def parse(cls, text: str) -> Template:
        """Raises ``TemplateError`` where a ``${`` has no end or no name in it."""
        parts: list[str | Ref] = []
        literal: list[str] = []
        for source, ref in _segments(text):
            if ref is None:
                literal.append("$" if source == "$$" else source)
                continue
            if literal:
                parts.append("".join(literal))
                literal = []
            parts.append(ref)
        if literal:
            parts.append("".join(literal))
        return cls(tuple(parts))

    @property
    def literal(self) -> str | None:
        """The text, where nothing in it is to be filled in; else None."""
        if not self.parts:
            return ""
        return self.parts[0] if len(self.parts) == 1 and not isinstance(self.parts[0], Ref) else None

    def refs(self) -> tuple[Ref, ...]:
        """Every name in it, arguments of calls too."""
        found: list[Ref] = []
        for part in self.parts:
            if isinstance(part, Ref):
                found.append(part)
                found.extend(arg for arg in part.args or () if isinstance(arg, Ref))
        return tuple(found)

    def render(self, resolve: Callable[[Ref], object]) -> object:
        """Fill in; one name alone keeps its value's type. A call reaches ``resolve`` with its arguments resolved."""
        parts = self.parts
        if len(parts) == 1:
            part = parts[0]
            return _value(part, resolve) if isinstance(part, Ref) else part
        return "".join([to_text(_value(part, resolve)) if isinstance(part, Ref) else part for part in parts])

    def text(self, resolve: Callable[[Ref], object]) -> str:
        """Fill in, as text whatever the type."""
        return to_text(self.render(resolve))


def _value(ref: Ref, resolve: Callable[[Ref], object]) -> object:
    if ref.args and any(isinstance(arg, Ref) for arg in ref.args):
        ref = Ref(ref, tuple(resolve(arg) if isinstance(arg, Ref) else arg for arg in ref.args))
    return resolve(ref)


def to_text(value: object) -> str:
    """A value inside a text: texts as they are, everything else as JSON writes it."""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def is_plan_name(name: str) -> bool:
    """Whether ``${name}`` is filled in when the plan is read."""
    return PLAN_NAME.fullmatch(name) is not None and name not in WORKER_NAMES and name not in LATER_NAMES


def substitute(text: str, env: Mapping[str, object]) -> object:
    """The plan-time pass: ``${NAME}`` from ``env``; raises ``UnknownName``, or ``TemplateError``."""
    if "${" not in text:
        return text
    pieces: list[str] = []
    length = 0
    segments = list(_segments(text))
    if len(segments) == 1 and segments[0][1] is not None and is_plan_name(segments[0][1]):
        return _from_env(segments[0][1], env)
    for source, ref in segments:
        piece = source if ref is None else _replaced(ref, source, env)
        length += len(piece)
        if length > LONGEST:
            raise TemplateError(f"longer than {LONGEST} characters once its names are filled in")
        pieces.append(piece)
    return "".join(pieces)


def _replaced(ref: Ref, source: str, env: Mapping[str, object]) -> str:
    if is_plan_name(ref) and ref.args is None:
        return to_text(_from_env(ref, env))
    if ref.args and any(isinstance(arg, Ref) and is_plan_name(arg) for arg in ref.args):
        args = tuple(_from_env(arg, env) if isinstance(arg, Ref) and is_plan_name(arg) else arg for arg in ref.args)
        return f"${{{Ref(ref, args).source()}}}"
    return source


def _from_env(name: str, env: Mapping[str, object]) -> object:
    try:
        return env[name]
    except KeyError:
        raise UnknownName(str(name)) from None


def _segments(text: str) -> list[tuple[str, Ref | None]]:
    """The text cut into (source, name); the sources joined are the text, and ``$$`` stands alone."""
    found: list[tuple[str, Ref | None]] = []
    start = 0
    while True:
        dollar = text.find("$", start)
        if dollar < 0 or dollar == len(text) - 1:
            break
        follower = text[dollar + 1]
        if follower not in "${":
            literal_end = dollar + 1
            found.append((text[start:literal_end], None))
            start = literal_end
            continue
        if dollar > start:
            found.append((text[start:dollar], None))
        if follower == "$":
            found.append(("$$", None))
            start = dollar + 2
        else:
            ref, start = _parse_ref(text, dollar + 2)
            found.append((text[dollar:start], ref))
    if start < len(text):
        found.append((text[start:], None))
    return found


def _parse_ref(text: str, start: int) -> tuple[Ref, int]:
    matched = _NAME.match(text, start)
    assert matched is not None, "the pattern matches the empty text"
    name, end = matched[0].strip(), matched.end()
    stop = text[end : end + 1]
    if not name:
        raise TemplateError("no name after '${' (write '$${' where the target should see it)")
    if stop == "}":
        return Ref(name), end + 1
    if stop == "(":
        args, end = _parse_args(text, end + 1, name)
        closed = _NAME.match(text, end)
        if closed is not None and not closed[0].strip() and text[closed.end() : closed.end() + 1] == "}":
            return Ref(name, args), closed.end() + 1
    raise TemplateError(f"'${{{name[:40]}' has no end '}}' (write '$${{' where the target should see it)")


def _parse_args(text: str, start: int, name: str) -> tuple[tuple[object, ...], int]:
    args: list[object] = []
    empty = re.compile(r"\s*\)").match(text, start)
    if empty:
        return (), empty.end()
    while True:
        matched = _ARGUMENT.match(text, start)
        stop = text[matched.end() : matched.end() + 1] if matched else ""
        if matched is None or stop not in (",", ")"):
            raise TemplateError(f"{name[:40]}(...): not whole numbers, quoted texts or names with commas between")
        args.append(_argument(matched))
        start = matched.end() + 1
        if stop == ")":
            return tuple(args), start


def _argument(matched: re.Match[str]) -> object:
    if matched["number"] is not None:
        return int(matched["number"])
    if matched["name"] is not None:
        return Ref(matched["name"].strip())
    quoted = matched["double"] if matched["double"] is not None else matched["single"]
    return _ESCAPED.sub(r"\1", quoted)
