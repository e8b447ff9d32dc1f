"""The ``http:`` and ``data:`` of a step, read into the normalised JSON that ``scenario.HttpScenario`` takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .plan_actions import HTTP_VERBS, Action, all_actions, placed
from .plan_fields import At, Field, Fields, Json, ListOf, Runtime, Scalar, choice, duration, flag, text, whole
from .plan_http_bodies import FILE_NAME, MULTIPART, check_content_type
from .plan_http_net import DNS, TLS, check_connections, check_tls
from .plan_http_parts import ANY_TEXT, SERIES, AsWritten, Auth, Extracts, Form, Headers, JsonChecks, RawFields, Statuses
from .plan_urls import (
    METHOD,
    default_name,
    encoded,
    is_path,
    parse_base_url,
    url_problem,
)
from .problems import Path
from .scenario import DEFAULT_CONNECTIONS, EXTRACT_KINDS, ON_ERROR
from .template import Template, to_text
from .units import shown

DEFAULT_TIMEOUT = "30s"
DEFAULT_REDIRECTS = 5
CHECK = RawFields(
    {
        "status": Field(
            Statuses(), "Statuses that are right: 200, 2xx, 200-204, or a list of them.", default="200-399"
        ),
        "body": Field(text("a text", longest=100_000), "A text that the body contains."),
        "json": Field(JsonChecks(), "JMESPath expressions over the body, each with its value or {exists: true}."),
        "max_time": Field(duration(1), "The longest response time that is right."),
    }
)
_REQUEST = {
    "name": Field(SERIES, "The request's series; default: method and path template."),
    "headers": Field(Headers(), "Headers, beside those of `http`."),
    "json": Field(Json(), "A JSON body."),
    "form": Field(Form(), "A body of form fields."),
    "body": Field(ANY_TEXT, "A body as it is."),
    "file": Field(FILE_NAME, "A body from a file beside the plan, byte for byte."),
    "multipart": Field(MULTIPART, "A body of parts (multipart/form-data): fields and files."),
    "auth": Field(Auth(), "{basic: [USER, PASSWORD]} or {bearer: TOKEN}."),
    "timeout": Field(duration(1), "For this request; default: that of `http`."),
    "check": Field(CHECK, "What the response must be.", default={}),
    "extract": Field(
        AsWritten(Extracts(EXTRACT_KINDS)), "Variables from the response: {NAME: {json: EXPR}}, or regex, or header."
    ),
    "on_error": Field(choice(*ON_ERROR), "What to do after a failed request.", default=ON_ERROR[0]),
}
_URL = Runtime(url_problem)
ACTION = Action("action")
_ACTION_LIST = ListOf(ACTION)


def _method(value: object) -> str:
    if not isinstance(value, str) or not METHOD.fullmatch(value) or value == "CONNECT":
        raise ValueError(f"not a method in capitals: {shown(value)}")
    return value


_REQUESTS: dict[str, Fields] = {
    verb: Fields({verb: Field(_URL, "A path below base_url, or a whole URL."), **_REQUEST})
    for verb in HTTP_VERBS
    if verb != "method"
}
_REQUESTS["method"] = Fields(
    {
        "method": Field(Scalar(_method, {"type": "string"}), "Any method, in capitals."),
        "url": Field(_URL, "A path below base_url, or a whole URL.", required=True),
        **_REQUEST,
    }
)
BODIES = ("json", "form", "body", "file", "multipart")


def _build_request(verb: str, found: dict[str, Any], at: At) -> dict[str, Any] | None:
    bodies = [kind for kind in BODIES if found[kind] is not None]
    if len(bodies) > 1:
        at.problem(f"{' and '.join(bodies)}: a request has one body")
    if found["multipart"] is not None:
        check_content_type(found["headers"], at)
    method = found["method"] if verb == "method" else verb.upper()
    url = found["url"] if verb == "method" else found[verb]
    if url is None or method is None:
        return None
    template = Template.parse(url)
    kind = bodies[0] if bodies else None
    return {
        "type": "request", "method": method, "url": encoded(template), "below_base": is_path(template),
        "name": found["name"] or default_name(method, template),
        "headers": found["headers"] or [],
        "body": None if kind is None else {"kind": "raw" if kind == "body" else kind, "value": found[kind]},
        "auth": found["auth"], "timeout_ns": found["timeout"], "check": _check(found["check"]),
        "extract": found["extract"] or [], "on_error": found["on_error"],
    }  # fmt: skip


def _check(found: dict[str, Any] | None) -> dict[str, Any]:
    found = found or {"status": None, "body": None, "json": None, "max_time": None}
    return {
        "status": found["status"] or [[200, 399]],
        "body": found["body"],
        "json": found["json"] or {},
        "max_time_ns": found["max_time"],
    }


ACTION.learn(_REQUESTS, dict.fromkeys(_REQUESTS, _build_request))
ACTIONS = ACTION.verbs

HTTP = Fields(
    {
        "base_url": Field(
            Scalar(parse_base_url, {"type": "string"}), "What every path is below: http://HOST[:PORT][/PATH]."
        ),
        "timeout": Field(duration(1), "For one request, from connecting to the last byte.", default=DEFAULT_TIMEOUT),
        "headers": Field(Headers(), "Headers of every request."),
        "tls": Field(TLS, "Certificates.", default={}),
        "redirects": Field(
            whole(0, 50), "How many redirects in a row are followed; 0: none.", default=DEFAULT_REDIRECTS
        ),
        "cookies": Field(flag(), "Whether cookies are kept.", default=True),
        "dns": Field(DNS, "How names become addresses.", default={}),
        "keep_alive": Field(flag(), "Whether a connection carries more than one request.", default=True),
        "connections_per_user": Field(
            whole(1, 1000), "The most connections that a user has open.", default=DEFAULT_CONNECTIONS
        ),
        "reuse": Field(flag(), "Whether connections outlive an iteration.", default=True),
        "auth": Field(Auth(), "{basic: [USER, PASSWORD]} or {bearer: TOKEN}, of every request."),
        "before": Field(_ACTION_LIST, "Done once a user (closed model) or once an iteration (open model)."),
        "do": Field(_ACTION_LIST, "One iteration.", required=True),
    },
    later=("http2", "proxy", "source_addresses"),
)
DATA = Fields(
    {
        "file": Field(text("a file's name"), "CSV with a header, or JSON lines (.jsonl, .ndjson).", required=True),
        "order": Field(choice("sequential", "random"), "`random` is a seeded permutation.", default="sequential"),
        "when_exhausted": Field(choice("wrap", "stop"), "`stop` cancels the rest of the iterations.", default="wrap"),
        "per": Field(choice("iteration", "user"), "Who takes a row.", default="iteration"),
    }
)


def read_http(value: object, data: dict[str, Any] | None, at: At) -> dict[str, Any] | None:
    """The normalised scenario; None, reported, where the step's ``http`` is no mapping."""
    found = HTTP.read(value, at)
    if found is None or not isinstance(value, dict):
        return None
    origin, prefix = found["base_url"] or ("", "")
    before, do = found["before"] or [], found["do"] or []
    given = "base_url" in value
    _place_below(before, prefix, given, at.down("before"))
    _place_below(do, prefix, given, at.down("do"))
    check_tls(value.get("tls"), at.down("tls"))
    check_connections(value, found, requests_of({"before": before, "do": do}), at)
    return {
        "base_url": origin, "timeout_ns": found["timeout"], "headers": found["headers"] or [],
        "tls": found["tls"], "redirects": found["redirects"], "cookies": found["cookies"], "auth": found["auth"],
        "connections": {
            "keep_alive": found["keep_alive"], "per_user": found["connections_per_user"], "reuse": found["reuse"],
        },
        "dns": found["dns"], "before": before, "do": do, "data": data,
    }  # fmt: skip


def _place_below(actions: list[Any], prefix: str, given: bool, at: At) -> None:
    """Put the path of ``base_url`` before every path; a path without ``base_url`` is a problem."""
    for place, action in placed(actions, at):
        if action["type"] == "request" and action.pop("below_base"):
            if not given:
                place.problem(f"{to_text(action['url'])[:60]!r} is a path, and http has no base_url")
            action["url"] = prefix.replace("$", "$$") + action["url"]


def requests_of(spec: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every request of a normalised scenario, however deep."""
    return [action for action in all_actions(spec) if action["type"] == "request"]


def series_of(spec: Mapping[str, Any]) -> list[str]:
    """The names of all its requests."""
    return [request["name"] for request in requests_of(spec)]


def files_in(action: Mapping[str, Any]) -> tuple[Path, list[str]]:
    """The names of the files in an action's body, and where below the action they stand."""
    body = action.get("body")
    if body is None or body["kind"] not in ("file", "multipart"):
        return (), []
    if body["kind"] == "file":
        return ("file",), [body["value"]]
    return ("multipart",), [part["file"] for part in body["value"] if part is not None and part["file"] is not None]
