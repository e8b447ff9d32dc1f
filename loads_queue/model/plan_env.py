"""The plan-time names: ``--set`` and the run's environment before the plan's, the plan's before the step's."""

from __future__ import annotations

import math
from collections.abc import Mapping

from .plan_fields import At
from .problems import path_text
from .template import LATER_NAMES, PLAN_NAME, WORKER_NAMES, Template, TemplateError, is_plan_name
from .units import shown

MOST_NODES = 200_000
DEEPEST = 60
_LONGEST_CHAIN = 50
_WIDEST_NUMBER = 1 << 1024


def check_shape(value: object, at: At) -> bool:
    """Whether a value is JSON of a size that can be read; what is not is reported."""
    before = len(at.reading.problems)
    todo: list[tuple[object, At]] = [(value, at)]
    nodes = 0
    while todo:
        item, place = todo.pop()
        nodes += 1
        if nodes > MOST_NODES:
            at.problem(f"more than {MOST_NODES} values: put data into a data file")
            break
        if isinstance(item, dict):
            _check_keys(item, place)
        if len(place.path) - len(at.path) > DEEPEST and isinstance(item, (dict, list)):
            at.problem(f"nested more than {DEEPEST} deep: {path_text(place.path)[:60]}...")
            break
        if isinstance(item, dict):
            todo.extend((inner, place.down(key)) for key, inner in item.items() if isinstance(key, str))
        elif isinstance(item, list):
            todo.extend((inner, place.down(index)) for index, inner in enumerate(item))
        elif (wrong := _wrong_scalar(item)) is not None:
            place.problem(wrong)
    return len(at.reading.problems) == before


def _check_keys(mapping: dict[object, object], at: At) -> None:
    for key in mapping:
        if not isinstance(key, str) or not _is_unicode(key):
            at.problem(f"not a key: {shown(key)}".encode("ascii", "backslashreplace").decode())


def _wrong_scalar(value: object) -> str | None:
    if isinstance(value, str):
        return None if _is_unicode(value) else "not a text that can be encoded"
    if isinstance(value, float):
        return None if math.isfinite(value) else "not a finite number"
    if isinstance(value, int):
        return None if abs(value) < _WIDEST_NUMBER else "a number that is too large"
    return None if value is None else f"not a value that a plan can have: {type(value).__name__}"


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def resolve_env(given: object, outer: Mapping[str, object], at: At) -> dict[str, object]:
    """The names of ``given`` below those of ``outer``, which beat them; values may use one another's names."""
    if not isinstance(given, dict):
        if given is not None:
            at.problem(f"not a mapping: {shown(given)}")
        return dict(outer)
    raw: dict[str, object] = {}
    for name, value in given.items():
        wrong = _wrong_entry(name, value)
        if wrong is not None:
            at.down(name).problem(wrong)
        elif name not in outer:
            raw[name] = value
    return _Resolver(raw, outer, at).all()


def _wrong_entry(name: str, value: object) -> str | None:
    if name in WORKER_NAMES or name in LATER_NAMES:
        return "the worker fills this name in: choose another"
    if not PLAN_NAME.fullmatch(name):
        return "not a name (letters, digits and _)"
    if value is None or isinstance(value, (dict, list)):
        return f"not a text or a number: {shown(value)}"
    return None


class _Resolver:
    """Fills values in, each after those that it names."""

    def __init__(self, raw: Mapping[str, object], outer: Mapping[str, object], at: At) -> None:
        self._raw = raw
        self._done: dict[str, object] = dict(outer)
        self._failed: set[str] = set()
        self._at = at

    def all(self) -> dict[str, object]:
        for name in self._raw:
            self._resolve(name, ())
        return {**dict.fromkeys(self._failed, ""), **self._done}

    def _resolve(self, name: str, trail: tuple[str, ...]) -> None:
        if name in self._done or name in self._failed:
            return
        place = _place_of(self._at, name, self._done)
        if name in trail or len(trail) > _LONGEST_CHAIN:
            place.problem(f"is made from itself: {' > '.join((*trail[-4:], name))}")
            self._failed.add(name)
            return
        value = self._raw[name]
        for inner in _names_in(value):
            if inner in self._raw:
                self._resolve(inner, (*trail, name))
        if name in self._failed:
            return
        known = {**self._done, **dict.fromkeys(self._failed, "")}
        found = _place_of(self._at, name, known).interpolated(value)
        if found is None:
            self._failed.add(name)
        else:
            self._done[name] = found


def _place_of(at: At, name: str, env: Mapping[str, object]) -> At:
    """The place of one name, where those of ``env`` are known."""
    return At(at.reading, (*at.path, name), env, at.names)


def _names_in(value: object) -> list[str]:
    if not isinstance(value, str) or "${" not in value:
        return []
    try:
        return [str(ref) for ref in Template.parse(value).refs() if is_plan_name(ref)]
    except TemplateError:
        return []
