"""The parts of a session's actions: messages, replies, what is expected, counts, pings and closes."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any

from .plan_actions import MOST_REPEATS
from .plan_fields import At, Field, Fields, Json, Kind, Runtime, Scalar, duration, text
from .plan_http_bodies import FILE_NAME
from .plan_http_parts import ANY_TEXT, EXPRESSION, AsWritten, Extracts, JsonChecks, check_expression
from .template import Ref, Template
from .units import number, shown
from .websocket import EXTRACT_KINDS, LONGEST_REASON, NORMAL_CLOSE, REPLY_BY, may_be_sent

FOREVER = "forever"
_LONGEST_MATCH = 100_000


def _base64(value: object) -> str:
    """Base64 without the white space that a long text has in YAML; raises ValueError."""
    found = "".join(value.split()) if isinstance(value, str) else None
    try:
        if found is None:
            raise ValueError
        base64.b64decode(found, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"not base64: {shown(value)}") from None
    return found


CONTENT = Fields(
    {
        "text": Field(ANY_TEXT, "A text."),
        "json": Field(Json(), "JSON, sent as text."),
        "binary": Field(Scalar(_base64, {"type": "string"}), "Bytes, as base64."),
        "file": Field(FILE_NAME, "The bytes of a file beside the plan, sent as binary."),
        "text_file": Field(FILE_NAME, "A file beside the plan in UTF-8, sent as text."),
    }
)


class Content(Kind):
    """A text, or one of ``CONTENT``; ``{"kind", "value"}``."""

    def read(self, value: object, at: At) -> Any:
        if not isinstance(value, dict):
            found = ANY_TEXT.read(value, at)
            return None if found is None else {"kind": "text", "value": found}
        fields = CONTENT.read(value, at)
        given = [kind for kind in CONTENT.fields if kind in value]
        if len(given) != 1:
            # An unknown key has been told of already, and was likely meant for one of these.
            if given or set(value) <= set(CONTENT.fields):
                at.problem(f"a message is one of {', '.join(CONTENT.fields)}")
            return None
        found = fields[given[0]]
        return None if found is None and given[0] != "json" else {"kind": given[0], "value": found}

    def schema(self) -> dict[str, Any]:
        return {"anyOf": [ANY_TEXT.schema(), {**CONTENT.schema(), "minProperties": 1, "maxProperties": 1}]}


REPLY = Fields({"id": Field(EXPRESSION, "JMESPath: what message and reply have in common.", required=True)})


def _order(value: object) -> dict[str, Any]:
    if value != REPLY_BY[0]:
        raise ValueError(f"not order or {{id: JMESPATH}}: {shown(value)}")
    return {"by": REPLY_BY[0]}


_ORDER = Scalar(_order, {"enum": [REPLY_BY[0]]})


class Replies(Kind):
    """``order``, or ``{id: JMESPATH}``; ``{"by": ...}``."""

    def read(self, value: object, at: At) -> Any:
        if not isinstance(value, dict):
            return _ORDER.read(value, at)
        found = REPLY.read(value, at.raw())
        if found is None or found["id"] is None:
            return None
        check_expression("json", found["id"], at.down("id"))
        return {"by": "id", "expr": found["id"]}

    def schema(self) -> dict[str, Any]:
        return {"anyOf": [_ORDER.schema(), REPLY.schema()]}


class _Regex(Kind):
    """A regular expression."""

    def read(self, value: object, at: At) -> Any:
        found = EXPRESSION.read(value, at)
        if found is not None:
            check_expression("regex", found, at)
        return found

    def schema(self) -> dict[str, Any]:
        return EXPRESSION.schema()


class _JsonWanted(JsonChecks):
    """At least one expression, with what it gives."""

    def read(self, value: object, at: At) -> Any:
        return at.problem("an empty mapping") if value == {} else super().read(value, at)

    def schema(self) -> dict[str, Any]:
        return {**super().schema(), "minProperties": 1}


WITHIN = duration(1)
_EXTRACT = AsWritten(Extracts(EXTRACT_KINDS))
_TEXT = AsWritten(text("a text", longest=_LONGEST_MATCH))
_MATCHES = {
    "text": Field(_TEXT, "A text that the message contains."),
    "regex": Field(AsWritten(_Regex()), "A regular expression that is found in the message."),
    "json": Field(AsWritten(_JsonWanted()), "JMESPath expressions, each with its value or {exists: true}; all hold."),
}
WAIT = {
    "within": Field(WITHIN, "How long to wait; default: the timeout of `websocket`."),
    "extract": Field(_EXTRACT, "Variables from the message: {NAME: {json: EXPRESSION}}, or regex."),
}
EXPECTED = Fields({**_MATCHES, **WAIT})


class Expected(Kind):
    """``any``, a text, or a mapping of ``EXPECTED``; ``{"kind", "value", "within", "extract"}``."""

    def read(self, value: object, at: At) -> Any:
        if not isinstance(value, dict):
            return self._scalar(value, at)
        found = EXPECTED.read(value, at)
        given = [kind for kind in _MATCHES if kind in value]
        if len(given) != 1:
            if given or set(value) <= set(EXPECTED.fields):
                at.problem(f"needs one of {', '.join(_MATCHES)} (any message is `expect: any`, the rest beside it)")
            return None
        (kind,) = given
        if found[kind] is None:
            return None
        note_names(found[kind], at.down(kind))
        return {"kind": kind, "value": found[kind], "within": found["within"], "extract": found["extract"]}

    @staticmethod
    def _scalar(value: object, at: At) -> Any:
        made = {"kind": "any", "value": None, "within": None, "extract": None}
        if value == "any":
            return made
        found = _TEXT.read(value, at)
        if found is None:
            return None
        note_names(found, at)
        return {**made, "kind": "text", "value": found}

    def schema(self) -> dict[str, Any]:
        one = [{"required": [kind]} for kind in _MATCHES]
        return {"anyOf": [_TEXT.schema(), {**EXPECTED.schema(), "oneOf": one}]}


def note_names(wanted: object, at: At) -> None:
    """Note a name in what is looked for, where none is filled in."""
    texts = wanted.values() if isinstance(wanted, dict) else [wanted]
    if any(isinstance(each, str) and re.search(r"\$\{[A-Za-z]", each) for each in texts):
        at.warning("looked for as it is written: no names are filled in here (${var.NAME} can be sent, not expected)")


def _times(value: object) -> int:
    """How many; 0 is forever."""
    if value == FOREVER:
        return 0
    found = number(value)
    if found is None or found.denominator != 1 or not 1 <= found <= MOST_REPEATS:
        raise ValueError(f"not {FOREVER}, or a whole number from 1 to {MOST_REPEATS}: {shown(value)}")
    return int(found)


_COUNT = {"type": "integer", "minimum": 1, "maximum": MOST_REPEATS}
LOOP = Scalar(_times, {"anyOf": [{"const": FOREVER}, _COUNT]})


class For(Kind):
    """How long passes begin. What is wrong has a length all the same: without one it would go on for ever."""

    def read(self, value: object, at: At) -> Any:
        return WITHIN.read(value, at) or 1

    def schema(self) -> dict[str, Any]:
        return WITHIN.schema()


class Pings(Kind):
    """How long to wait for the pong, or ``{within: DURATION}``; ``{"within"}``."""

    def read(self, value: object, at: At) -> Any:
        if value is None:
            return at.problem("has no value: write `ping: {}`, or how long to wait for the pong")
        if isinstance(value, dict):
            return PING.read(value, at)
        found = WITHIN.read(value, at)
        return None if found is None else {"within": found}

    def schema(self) -> dict[str, Any]:
        return {"anyOf": [WITHIN.schema(), PING.schema()]}


PING = Fields({"within": Field(WITHIN, "How long to wait for the pong; default: the timeout of `websocket`.")})


def _code(value: object) -> int:
    found = number(value)
    if found is None or found.denominator != 1 or not may_be_sent(int(found)):
        raise ValueError(
            f"not a close code that may be sent, which are 1000 to 1003, 1007 to 1011 and 3000 to 4999: {shown(value)}"
        )
    return int(found)


def _reason_problem(template: Template) -> str | None:
    size = sum(len(part.encode()) for part in template.parts if not isinstance(part, Ref))
    return f"{size} bytes: a close frame has room for {LONGEST_REASON}" if size > LONGEST_REASON else None


_CODE = Scalar(_code, {"type": "integer", "minimum": 1000, "maximum": 4999})
CLOSE = Fields(
    {
        "code": Field(_CODE, "What to close with.", default=NORMAL_CLOSE),
        "reason": Field(Runtime(_reason_problem), f"A text of at most {LONGEST_REASON} bytes."),
    }
)


class Closes(Kind):
    """A close code, or a mapping of ``CLOSE``; ``{"code", "reason"}``."""

    def read(self, value: object, at: At) -> Any:
        if isinstance(value, dict):
            return CLOSE.read(value, at)
        found = _CODE.read(value, at)
        return None if found is None else {"code": found, "reason": None}

    def schema(self) -> dict[str, Any]:
        return {"anyOf": [_CODE.schema(), CLOSE.schema()]}
