"""The ``http:`` and ``data:`` of a step, read into the normalised JSON that ``scenario.HttpScenario`` takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .plan_fields import (
    At,
    Field,
    Fields,
    Json,
    Kind,
    ListOf,
    Runtime,
    Scalar,
    choice,
    duration,
    flag,
    text,
    whole,
)
from .plan_http_bodies import FILE_NAME, MULTIPART, check_content_type
from .plan_http_net import DNS, TLS, check_connections, check_tls
from .plan_http_parts import ANY_TEXT, Auth, Form, Headers, JsonChecks, Pauses, RawExtracts, RawFields, Statuses
from .plan_urls import (
    METHOD,
    default_name,
    encoded,
    is_path,
    parse_base_url,
    url_problem,
)
from .problems import NOT_YET, nearest
from .scenario import DEFAULT_CONNECTIONS
from .template import Template, to_text
from .units import shown

DEFAULT_TIMEOUT = "30s"
DEFAULT_REDIRECTS = 5
MOST_REPEATS = 1_000_000
VERBS = ("get", "head", "post", "put", "patch", "delete", "options")
LATER_ACTIONS = ("send", "expect", "hold", "every", "close", "ping", "loop")
SERIES_NAME = r"[^\s][^\x00-\x1f\x7f]{0,199}"


class Action(Kind):
    """One thing to do: its verb says which."""

    def read(self, value: object, at: At) -> Any:
        if not isinstance(value, dict):
            return at.problem(f"not an action: {shown(value)} ({_VERB_HINT})")
        later = [key for key in LATER_ACTIONS if key in value]
        given = [key for key in ACTIONS if key in value]
        if not given:
            if later:
                return at.down(later[0]).problem(NOT_YET)
            return at.problem(self._no_verb(value))
        if len(given) > 1:
            return at.problem(f"{' and '.join(given)} are two actions: write two items")
        found = ACTIONS[given[0]].read(value, at)
        return None if found is None else _BUILD[given[0]](given[0], found, at)

    @staticmethod
    def _no_verb(value: Mapping[str, object]) -> str:
        for key in value:
            if "did you mean" in (hint := nearest(key, ACTIONS)):
                return f"not an action: unknown key {key!r}{hint}"
        return f"not an action: {_VERB_HINT}"

    def schema(self) -> dict[str, Any]:
        return {"$ref": "#/$defs/action"}


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
    "name": Field(text("a name", pattern=SERIES_NAME), "The request's series; default: method and path template."),
    "headers": Field(Headers(), "Headers, beside those of `http`."),
    "json": Field(Json(), "A JSON body."),
    "form": Field(Form(), "A body of form fields."),
    "body": Field(ANY_TEXT, "A body as it is."),
    "file": Field(FILE_NAME, "A body from a file beside the plan, byte for byte."),
    "multipart": Field(MULTIPART, "A body of parts (multipart/form-data): fields and files."),
    "auth": Field(Auth(), "{basic: [USER, PASSWORD]} or {bearer: TOKEN}."),
    "timeout": Field(duration(1), "For this request; default: that of `http`."),
    "check": Field(CHECK, "What the response must be.", default={}),
    "extract": Field(RawExtracts(), "Variables from the response: {NAME: {json: EXPRESSION}}, or regex, or header."),
    "on_error": Field(choice("continue", "end_iteration"), "What to do after a failed request.", default="continue"),
}
_URL = Runtime(url_problem)
_ACTION = Action()
ACTION_LIST = ListOf(_ACTION)


def _method(value: object) -> str:
    if not isinstance(value, str) or not METHOD.fullmatch(value) or value == "CONNECT":
        raise ValueError(f"not a method in capitals: {shown(value)}")
    return value


_BRANCH = Fields(
    {
        "weight": Field(whole(1, 1_000_000), "How often, beside the other branches.", default=1),
        "do": Field(ACTION_LIST, "What to do.", required=True),
    }
)
ACTIONS: dict[str, Fields] = {
    **{verb: Fields({verb: Field(_URL, "A path below base_url, or a whole URL."), **_REQUEST}) for verb in VERBS},
    "method": Fields(
        {
            "method": Field(Scalar(_method, {"type": "string"}), "Any method, in capitals."),
            "url": Field(_URL, "A path below base_url, or a whole URL.", required=True),
            **_REQUEST,
        }
    ),
    "pause": Fields({"pause": Field(Pauses(), "Wait that long, or {between: [LOW, HIGH]}.")}),
    "one_of": Fields({"one_of": Field(ListOf(_BRANCH), "One of the branches, by weight.")}),
    "repeat": Fields(
        {
            "repeat": Field(whole(1, MOST_REPEATS), "How many times."),
            "do": Field(ACTION_LIST, "What to do.", required=True),
        }
    ),
}
_VERB_HINT = "it has one of " + ", ".join(ACTIONS)


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


def _build_pause(verb: str, found: dict[str, Any], at: At) -> dict[str, Any] | None:
    if found["pause"] is None:
        return None
    low, high = found["pause"]
    return {"type": "pause", "low_ns": low, "high_ns": high}


def _build_one_of(verb: str, found: dict[str, Any], at: At) -> dict[str, Any] | None:
    branches = [branch or {"weight": None, "do": []} for branch in found["one_of"] or []]
    return {"type": "one_of", "branches": [{"weight": branch["weight"], "do": branch["do"]} for branch in branches]}


def _build_repeat(verb: str, found: dict[str, Any], at: At) -> dict[str, Any] | None:
    return {"type": "repeat", "times": found["repeat"], "do": found["do"]}


_BUILD = {
    **dict.fromkeys((*VERBS, "method"), _build_request),
    "pause": _build_pause,
    "one_of": _build_one_of,
    "repeat": _build_repeat,
}

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
        "before": Field(ACTION_LIST, "Done once a user (closed model) or once an iteration (open model)."),
        "do": Field(ACTION_LIST, "One iteration.", required=True),
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
    check_connections(value, found, requests_of([*before, *do]), at)
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
    for index, action in enumerate(actions):
        if action is None:
            continue
        place = at.down(index)
        if action["type"] == "request" and action.pop("below_base"):
            if not given:
                place.problem(f"{to_text(action['url'])[:60]!r} is a path, and http has no base_url")
            action["url"] = prefix.replace("$", "$$") + action["url"]
        for branch, inner in enumerate(action.get("branches", ())):
            _place_below(inner["do"] or [], prefix, given, place.down("one_of").down(branch).down("do"))
        _place_below(action.get("do") or [], prefix, given, place.down("do"))


def requests_of(actions: list[Any]) -> list[dict[str, Any]]:
    """Every request of a normalised scenario, however deep."""
    found: list[dict[str, Any]] = []
    for action in actions:
        if action is None:
            continue
        if action["type"] == "request":
            found.append(action)
        for inner in action.get("branches", ()):
            found.extend(requests_of(inner["do"] or []))
        found.extend(requests_of(action.get("do") or []))
    return found


def places_of(spec: Mapping[str, Any], at: At) -> Iterator[tuple[At, dict[str, Any]]]:
    """Every request of a normalised scenario with its place in the plan."""
    for part in ("before", "do"):
        yield from _placed(spec[part], at.down(part))


def _placed(actions: list[Any], at: At) -> Iterator[tuple[At, dict[str, Any]]]:
    for index, action in enumerate(actions):
        if action is None:
            continue
        place = at.down(index)
        if action["type"] == "request":
            yield place, action
        for branch, inner in enumerate(action.get("branches", ())):
            yield from _placed(inner["do"] or [], place.down("one_of").down(branch).down("do"))
        yield from _placed(action.get("do") or [], place.down("do"))


def files_of(spec: Mapping[str, Any]) -> list[str]:
    """The names of all files that a normalised scenario needs, each once."""
    names = [spec["tls"]["ca"], spec["tls"]["cert"], (spec["data"] or {}).get("file")]
    for request in requests_of([*spec["before"], *spec["do"]]):
        names.extend(body_files(request["body"]))
    return list(dict.fromkeys(name for name in names if name is not None))


def body_files(body: Mapping[str, Any] | None) -> list[str]:
    """The names of the files in a request's normalised body."""
    if body is None or body["kind"] not in ("file", "multipart"):
        return []
    if body["kind"] == "file":
        return [body["value"]]
    return [part["file"] for part in body["value"] if part is not None and part["file"] is not None]


def mean_pause_ns(actions: list[Any]) -> int:
    """How long one pass pauses on average, in nanoseconds."""
    total = 0
    for action in actions:
        if action["type"] == "pause":
            total += (action["low_ns"] + action["high_ns"]) // 2
        elif action["type"] == "repeat":
            total += action["times"] * mean_pause_ns(action["do"])
        elif action["type"] == "one_of":
            weights = sum(way["weight"] for way in action["branches"])
            total += sum(way["weight"] * mean_pause_ns(way["do"]) for way in action["branches"]) // weights
    return total


def extracted_variables(value: object) -> frozenset[str]:
    """The variables that a raw ``http`` names under ``extract``, before anything is read."""
    names: set[str] = set()
    todo = [value]
    while todo:
        item = todo.pop()
        if isinstance(item, dict):
            extract = item.get("extract")
            if isinstance(extract, dict):
                names.update(key for key in extract if isinstance(key, str))
            todo.extend(inner for key, inner in item.items() if key in ("before", "do", "one_of"))
        elif isinstance(item, list):
            todo.extend(item)
    return frozenset(names)
