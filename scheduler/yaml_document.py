"""YAML as its 1.2 core schema reads it, with the line of everything; what is unsafe or ambiguous is a problem.

``22:22``, ``on``, ``yes``, dates and ``1_000`` stay text. Keys are texts as they are written. Duplicate keys, tags,
merge keys and aliases that grow without bound are refused.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from loads_queue.model.plan_env import DEEPEST, MOST_NODES
from loads_queue.model.problems import Path, PlanError, Problem, path_text

_CORE = "tag:yaml.org,2002:"
_PATTERNS = (
    ("null", re.compile(r"null|Null|NULL|~|")),
    ("bool", re.compile(r"true|True|TRUE|false|False|FALSE")),
    ("int", re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")),
    ("float", re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")),
    ("float", re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")),
)


class _CoreLoader(yaml.SafeLoader):
    """Composes nodes with the core schema's tags; constructs nothing."""

    def resolve(self, kind: Any, value: Any, implicit: Any) -> str:
        """The tag of a node without one of its own."""
        if kind is yaml.MappingNode:
            return f"{_CORE}map"
        if kind is yaml.SequenceNode:
            return f"{_CORE}seq"
        if implicit[0]:
            for name, pattern in _PATTERNS:
                if pattern.fullmatch(value):
                    return f"{_CORE}{name}"
        return f"{_CORE}str"


def parse_yaml(text: str) -> tuple[Any, dict[Path, int]]:
    """The document and the line (from 1) of each path in it; raises PlanError."""
    try:
        loader = _CoreLoader(text)
        try:
            node = loader.get_single_node()
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = ", ".join(part for part in (error.context, error.problem) if part)
        raise PlanError([Problem("", f"not YAML: {what}", mark.line + 1 if mark else None)]) from None
    except yaml.YAMLError as error:
        raise PlanError([Problem("", f"not YAML: {' '.join(str(error).split())}")]) from None
    except RecursionError:
        raise PlanError([Problem("", f"nested more than {DEEPEST} deep")]) from None
    if node is None:
        return None, {}
    converter = _Converter()
    document = converter.convert(node, ())
    if converter.problems:
        raise PlanError(converter.problems)
    return document, converter.lines


class _TooMuch(Exception):
    """The document is larger or deeper than a plan can be."""


class _Converter:
    """Makes plain values of nodes, and notes lines and problems on the way."""

    def __init__(self) -> None:
        self.lines: dict[Path, int] = {}
        self.problems: list[Problem] = []
        self._nodes = 0

    def convert(self, node: yaml.Node, path: Path) -> Any:
        """The value of a node and of all below it."""
        try:
            return self._value(node, path)
        except _TooMuch as error:
            self.problems.append(Problem("", str(error), node.start_mark.line + 1))
            return None

    def _value(self, node: yaml.Node, path: Path) -> Any:
        self._nodes += 1
        if self._nodes > MOST_NODES:
            raise _TooMuch(f"more than {MOST_NODES} values, aliases written out: put data into a data file")
        if len(path) > DEEPEST:
            raise _TooMuch(f"nested more than {DEEPEST} deep")
        self.lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode) and node.tag == f"{_CORE}map":
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode) and node.tag == f"{_CORE}seq":
            return [self._value(item, (*path, index)) for index, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        return self._problem(path, f"tags are not supported: {node.tag}", node)

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self._problem(path, "a key that is not a text", key_node)
                continue
            key = key_node.value
            if key in made:
                self._problem((*path, key), "the same key twice", key_node)
                continue
            if key == "<<" and key_node.style is None:
                self._problem(path, "merge keys (<<) are not part of YAML 1.2: write the keys out", key_node)
                continue
            self.lines[(*path, key)] = key_node.start_mark.line + 1
            made[key] = self._value(value_node, (*path, key))
        return made

    def _scalar(self, node: yaml.ScalarNode, path: Path) -> Any:
        text = node.value
        kind = node.tag.removeprefix(_CORE)
        try:
            if kind == "str":
                return text
            if kind == "null" and _PATTERNS[0][1].fullmatch(text):
                return None
            if kind == "bool" and _PATTERNS[1][1].fullmatch(text):
                return text.lower() == "true"
            if kind == "int":
                return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
            if kind == "float":
                return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
        except ValueError:
            return self._problem(path, f"not a number: {text[:40]!r}", node)
        return self._problem(path, f"tags are not supported: {node.tag}", node)

    def _problem(self, path: Path, message: str, node: yaml.Node) -> None:
        self.problems.append(Problem(path_text(path), message, node.start_mark.line + 1))
