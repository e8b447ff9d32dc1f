"""Actions as every engine's plan has them: a list of mappings, each with a verb of that engine's table.

Normalised actions are mappings with a ``type``; those that hold others have a list under ``do``, or several under
``branches``. An action that could not be read is None, and every walk here passes it over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from .plan_fields import At, Field, Fields, Kind, ListOf, whole
from .plan_http_parts import Pauses
from .problems import nearest
from .units import shown

MOST_REPEATS = 1_000_000
HTTP_VERBS = ("get", "head", "post", "put", "patch", "delete", "options", "method")
WEBSOCKET_VERBS = ("send", "expect", "hold", "every", "loop", "ping", "close")
_ENGINE_OF = {**dict.fromkeys(HTTP_VERBS, "http"), **dict.fromkeys(WEBSOCKET_VERBS, "websocket")}

Builder = Callable[[str, dict[str, Any], At], dict[str, Any] | None]
"""From the verb, what its table read, and the place, to the normalised action; None, reported, for none."""


class Action(Kind):
    """One thing to do, of one engine. ``learn`` completes it: its verbs hold lists of actions themselves."""

    def __init__(self, name: str) -> None:
        self.name = name
        """Its name among the schema's definitions."""
        self.verbs: dict[str, Fields] = {}
        self._builders: dict[str, Builder] = {}

    def learn(self, verbs: Mapping[str, Fields], builders: Mapping[str, Builder]) -> None:
        """Take the engine's own verbs, beside those that every engine has."""
        actions = ListOf(self)
        self.verbs = {**verbs, **_common(actions)}
        self._builders = {**builders, "pause": _build_pause, "one_of": _build_one_of, "repeat": _build_repeat}

    def read(self, value: object, at: At) -> Any:
        """The normalised action."""
        hint = f"it has one of {', '.join(self.verbs)}"
        if not isinstance(value, dict):
            return at.problem(f"not an action: {shown(value)} ({hint})")
        given = [key for key in self.verbs if key in value]
        if not given:
            return self._refuse(value, hint, at)
        if len(given) > 1:
            return at.problem(f"{' and '.join(given)} are two actions: write two items")
        found = self.verbs[given[0]].read(value, at)
        return None if found is None else self._builders[given[0]](given[0], found, at)

    def _refuse(self, value: Mapping[str, object], hint: str, at: At) -> Any:
        for key in value:
            if key in _ENGINE_OF:
                return at.down(key).problem(f"an action of `{_ENGINE_OF[key]}:` steps (here: {', '.join(self.verbs)})")
        for key in value:
            if "did you mean" in (near := nearest(key, self.verbs)):
                return at.problem(f"not an action: unknown key {key!r}{near}")
        return at.problem(f"not an action: {hint}")

    def schema(self) -> dict[str, Any]:
        """A reference to ``definition``, by ``name``."""
        return {"$ref": f"#/$defs/{self.name}"}

    def definition(self) -> dict[str, Any]:
        """What the reference leads to."""
        made = {verb: table.schema() for verb, table in self.verbs.items()}
        return {"anyOf": [{**one, "required": sorted({verb, *one.get("required", [])})} for verb, one in made.items()]}


def _common(actions: ListOf) -> dict[str, Fields]:
    branch = Fields(
        {
            "weight": Field(whole(1, 1_000_000), "How often, beside the other branches.", default=1),
            "do": Field(actions, "What to do.", required=True),
        }
    )
    return {
        "pause": Fields({"pause": Field(Pauses(), "Wait that long, or {between: [LOW, HIGH]}.")}),
        "one_of": Fields({"one_of": Field(ListOf(branch), "One of the branches, by weight.")}),
        "repeat": Fields(
            {
                "repeat": Field(whole(1, MOST_REPEATS), "How many times."),
                "do": Field(actions, "What to do.", required=True),
            }
        ),
    }


def build_wait(verb: str, found: dict[str, Any], kind: str) -> dict[str, Any] | None:
    """An action of ``kind`` that lasts from low to high."""
    return None if found[verb] is None else {"type": kind, "low_ns": found[verb][0], "high_ns": found[verb][1]}


def _build_pause(verb: str, found: dict[str, Any], at: At) -> dict[str, Any] | None:
    return build_wait(verb, found, "pause")


def _build_one_of(verb: str, found: dict[str, Any], at: At) -> dict[str, Any] | None:
    branches = [branch or {"weight": None, "do": []} for branch in found["one_of"] or []]
    return {"type": "one_of", "branches": [{"weight": branch["weight"], "do": branch["do"]} for branch in branches]}


def _build_repeat(verb: str, found: dict[str, Any], at: At) -> dict[str, Any] | None:
    return {"type": "repeat", "times": found["repeat"], "do": found["do"]}


def every_action(actions: Sequence[Any]) -> Iterator[dict[str, Any]]:
    """Every action, however deep, in the plan's order."""
    for action in actions:
        if action is None:
            continue
        yield action
        for branch in action.get("branches", ()):
            yield from every_action(branch["do"] or [])
        yield from every_action(action.get("do") or [])


def placed(actions: Sequence[Any], at: At) -> Iterator[tuple[At, dict[str, Any]]]:
    """Every action, however deep, with its place in the plan; ``at`` is that of the list."""
    for index, action in enumerate(actions):
        if action is None:
            continue
        place = at.down(index)
        yield place, action
        for inner_at, inner in inner_lists(action, place):
            yield from placed(inner, inner_at)


def inner_lists(action: Mapping[str, Any], at: At) -> Iterator[tuple[At, list[Any]]]:
    """The lists of actions right below an action at a place, each with its own place."""
    for index, branch in enumerate(action.get("branches", ())):
        yield at.down("one_of").down(index).down("do"), branch["do"] or []
    if action.get("do"):
        yield at.down("do"), action["do"]


def scripts_of(spec: Mapping[str, Any]) -> Iterator[tuple[str, list[Any]]]:
    """The lists of actions that a normalised scenario has, by their keys."""
    for key in ("before", "do"):
        if key in spec:
            yield key, spec[key]


def all_actions(spec: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Every action of a normalised scenario."""
    for _, actions in scripts_of(spec):
        yield from every_action(actions)


def mean_pause_ns(actions: Sequence[Any]) -> int:
    """How long one pass waits on average by the plan itself, in nanoseconds; what never ends counts as nothing."""
    return sum(_mean_pause_ns(action) for action in actions)


def _mean_pause_ns(action: Mapping[str, Any]) -> int:
    match action["type"]:
        case "pause" | "hold":
            return int(action["low_ns"] + action["high_ns"]) // 2
        case "repeat":
            return int(action["times"]) * mean_pause_ns(action["do"])
        case "one_of":
            weights = sum(branch["weight"] for branch in action["branches"])
            weighed = sum(branch["weight"] * mean_pause_ns(branch["do"]) for branch in action["branches"])
            return int(weighed) // weights if weights else 0
        case "every":
            return int(action["for_ns"] or 0)
        case "loop":
            bounds: list[int] = [] if action["for_ns"] is None else [action["for_ns"]]
            if action["times"] is not None:
                bounds.append(action["times"] * mean_pause_ns(action["do"]))
            return min(bounds, default=0)
    return 0


def has_no_end(action: Mapping[str, Any]) -> bool:
    """Whether an action begins pass after pass until the load ends."""
    if action["type"] == "loop":
        return action["times"] is None and action["for_ns"] is None
    return action["type"] == "every" and action["for_ns"] is None


def is_endless(actions: Sequence[Any]) -> bool:
    """Whether a list of actions goes on until the load ends, whatever the target does."""
    return any(action is not None and _is_endless(action) for action in actions)


def _is_endless(action: Mapping[str, Any]) -> bool:
    if action["type"] in ("loop", "repeat"):
        return has_no_end(action) or is_endless(action["do"] or ())
    if action["type"] == "one_of":
        return bool(action["branches"]) and all(is_endless(branch["do"] or ()) for branch in action["branches"])
    return has_no_end(action)


def extracted_variables(value: object) -> frozenset[str]:
    """The variables that an engine's raw part of a step names under ``extract``, before anything is read."""
    names: set[str] = set()
    todo = [value]
    while todo:
        item = todo.pop()
        if isinstance(item, dict):
            extract = item.get("extract")
            if isinstance(extract, dict):
                names.update(key for key in extract if isinstance(key, str))
            todo.extend(inner for key, inner in item.items() if key in ("before", "do", "one_of", "expect"))
        elif isinstance(item, list):
            todo.extend(item)
    return frozenset(names)
