"""The actions of a ``websocket:`` step: their tables, and what each is in the normalised JSON of ``websocket``."""

from __future__ import annotations

import base64
import json
from typing import Any

from .plan_actions import Action, build_wait
from .plan_fields import At, Field, Fields, ListOf, choice, duration
from .plan_http_parts import SERIES, Pauses
from .plan_websocket_parts import LOOP, WAIT, WITHIN, Closes, Content, Expected, For, Pings, Replies
from .scenario import ON_ERROR
from .template import Template
from .websocket import OWN_SERIES


class _SendFields(Fields):
    """Fields of which some say nothing without another."""

    def read(self, value: object, at: At) -> Any:
        if isinstance(value, dict) and "reply" not in value:
            if "within" in value:
                at.down("within").problem("goes with `reply`: nothing is waited for without one")
            if "name" in value:
                at.down("name").warning("names nothing: only a message with a `reply` has a series")
        return super().read(value, at)

    def schema(self) -> dict[str, Any]:
        return {**super().schema(), "dependentRequired": {"within": ["reply"]}}


ACTION = Action("websocket_action")
ACTION_LIST = ListOf(ACTION)
_ON_ERROR = Field(choice(*ON_ERROR), "What to do after a failure.", default=ON_ERROR[0])
_DO = Field(ACTION_LIST, "What to do.", required=True)
_VERBS: dict[str, Fields] = {
    "send": _SendFields(
        {
            "send": Field(Content(), "A text, or one of {text, json, binary, file, text_file}."),
            "name": Field(SERIES, "The round trip's series, where there is a reply; default: `send` and the message."),
            "reply": Field(Replies(), "`order`, or {id: JMESPATH}: a reply is measured, beside what follows."),
            "within": Field(WITHIN, "How long to wait for the reply; default: the timeout of `websocket`."),
            "on_error": _ON_ERROR,
        },
        later=("check",),
    ),
    "expect": Fields(
        {
            "expect": Field(Expected(), "any, a text, or one of {text, regex, json}."),
            "name": Field(SERIES, "Its series; default: `expect` and what is looked for."),
            **WAIT,
            "on_error": _ON_ERROR,
        }
    ),
    "hold": Fields({"hold": Field(Pauses(), "Keep the session open that long, or {between: [LOW, HIGH]}.")}),
    "every": Fields(
        {
            "every": Field(duration(1), "Begin a pass of `do` that often, at a time of each user's own."),
            "do": _DO,
            "for": Field(For(), "How long passes begin; default: until the load ends."),
        }
    ),
    "loop": Fields(
        {
            "loop": Field(LOOP, "How many passes of `do`, or forever."),
            "do": _DO,
            "for": Field(For(), "How long passes begin; default: as long as there are any."),
        }
    ),
    "ping": Fields({"ping": Field(Pings(), "Wait for the pong that long; {}: the timeout of `websocket`.")}),
    "close": Fields({"close": Field(Closes(), "A code, or {code: CODE, reason: TEXT}.")}),
}


def _build_send(verb: str, found: dict[str, Any], at: At) -> dict[str, Any] | None:
    content, reply = found["send"], found["reply"]
    _check_name(found["name"], at)
    if content is None:
        return None
    if reply is not None and reply["by"] == "id":
        _check_id(content, at.down("reply"))
    return {
        "type": "send", "name": found["name"], "kind": content["kind"], "value": content["value"], "reply": reply,
        "within_ns": found["within"], "on_error": found["on_error"],
    }  # fmt: skip


def _check_name(name: str | None, at: At) -> None:
    if name in OWN_SERIES:
        at.down("name").problem(f"{name!r} is a series of the engine's own: choose another name")


def _check_id(content: dict[str, Any], at: At) -> None:
    """Report a message that is no JSON whatever its names stand for: nothing in it can be an id."""
    kind, value = content["kind"], content["value"]
    if kind == "text":
        value = Template.parse(value).literal
    elif kind == "binary":
        value = base64.b64decode(value)
    if kind not in ("text", "binary") or value is None:
        return
    try:
        json.loads(value)
    except (ValueError, RecursionError):
        at.problem("the id of a message is found in JSON, and this one is none: use `reply: order`")


def _build_expect(verb: str, found: dict[str, Any], at: At) -> dict[str, Any] | None:
    expected = found["expect"]
    _check_name(found["name"], at)
    if expected is None:
        return None
    for key in ("within", "extract"):
        if found[key] is not None and expected[key] is not None:
            at.down(key).problem("stands in `expect` too: write it once")
    return {
        "type": "expect", "name": found["name"], "kind": expected["kind"], "value": expected["value"],
        "within_ns": found["within"] or expected["within"], "extract": found["extract"] or expected["extract"] or [],
        "on_error": found["on_error"],
    }  # fmt: skip


def _build_hold(verb: str, found: dict[str, Any], at: At) -> dict[str, Any] | None:
    return build_wait(verb, found, "hold")


def _build_every(verb: str, found: dict[str, Any], at: At) -> dict[str, Any] | None:
    return {"type": "every", "period_ns": found["every"], "for_ns": found["for"], "do": found["do"]}


def _build_loop(verb: str, found: dict[str, Any], at: At) -> dict[str, Any] | None:
    times = found["loop"]
    if times is None:
        return None
    return {"type": "loop", "times": times or None, "for_ns": found["for"], "do": found["do"]}


def _build_ping(verb: str, found: dict[str, Any], at: At) -> dict[str, Any] | None:
    return None if found["ping"] is None else {"type": "ping", "within_ns": found["ping"]["within"]}


def _build_close(verb: str, found: dict[str, Any], at: At) -> dict[str, Any] | None:
    close = found["close"]
    return None if close is None else {"type": "close", "code": close["code"], "reason": close["reason"] or ""}


ACTION.learn(
    _VERBS,
    {
        "send": _build_send,
        "expect": _build_expect,
        "hold": _build_hold,
        "every": _build_every,
        "loop": _build_loop,
        "ping": _build_ping,
        "close": _build_close,
    },
)
ACTIONS = ACTION.verbs
