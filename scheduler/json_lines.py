"""Where everything in a JSON text stands: the parser of the standard library tells values only."""

from __future__ import annotations

import json
import re

from loads_queue.model.problems import Path

_TOKEN = re.compile(r'\n|"(?:[^"\\]|\\.)*"|[{}\[\],]|[^\s"{}\[\],:]+')


def json_lines(text: str) -> dict[Path, int]:
    """The line (from 1) of each path in a text that is JSON: a key's, or where an item of a list begins."""
    lines: dict[Path, int] = {}
    path: list[str | int] = []
    keyed: list[bool] = []
    """For each place in ``path``, whether a key has been read and its value is to come."""
    line = 1
    for found in _TOKEN.finditer(text):
        token = found.group()
        if token == "\n":
            line += 1
        elif token in ("}", "]"):
            path.pop()
            keyed.pop()
        elif token == ",":
            last = path[-1]
            path[-1] = last + 1 if isinstance(last, int) else last
            keyed[-1] = False
        elif path and isinstance(path[-1], str) and not keyed[-1]:
            path[-1] = json.loads(token)
            keyed[-1] = True
            lines[tuple(path)] = line
        else:
            lines.setdefault(tuple(path), line)
            if token in ("{", "["):
                path.append("" if token == "{" else 0)
                keyed.append(False)
    return lines
