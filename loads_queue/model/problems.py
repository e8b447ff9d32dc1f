"""What is wrong with a plan: every problem at once, each with its path and, where the plan has lines, its line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

Path = tuple[str | int, ...]
Lines = Mapping[Path, int]
NOT_YET = "not supported by this version"


def path_text(path: Path) -> str:
    """``steps[1].load.stages[2].for``; keys that are no plain names are quoted."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif part.replace("_", "a").replace("-", "a").isalnum():
            text += f".{part}" if text else part
        else:
            text += f"[{part[:60]!r}]"
    return text


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, or (as a warning) likely not meant. ``path`` is empty for the plan as a whole."""

    path: str
    message: str
    line: int | None = None

    def __str__(self) -> str:
        where = f"{self.path}: " if self.path else ""
        return f"{where}{self.message}" + (f" (line {self.line})" if self.line is not None else "")


class PlanError(Exception):
    """A plan that can't be run, with everything that is wrong with it."""

    exit_code = 2

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


def line_of(path: Path, lines: Lines) -> int | None:
    """The line of a path, or of the nearest thing around it that has one."""
    for length in range(len(path), -1, -1):
        if path[:length] in lines:
            return lines[path[:length]]
    return None


def nearest(word: str, known: Iterable[str]) -> str:
    """`` (did you mean 'x'?)``, or the known words where none is near; empty where there are too many."""
    words = sorted(set(known))
    near = get_close_matches(word[:60], words, 1)
    if near:
        return f" (did you mean {near[0]!r}?)"
    return f" (known: {', '.join(words)})" if 0 < len(words) <= 20 else ""
