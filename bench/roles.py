"""What a process of a run of Loads is, by the words that it was started with."""

from __future__ import annotations

from collections.abc import Sequence

ENGINE, COMMAND = "engine", "command"
_ROLES = {"worker": "agent", "scheduler": "scheduler", "broker": "broker"}


def role(words: Sequence[str]) -> str:
    """``engine``, ``agent``, ``scheduler``, ``broker``, or ``command`` for what the user started."""
    if any(word.endswith(("engine_main", "engine_main.py")) for word in words):
        return ENGINE
    return next((_ROLES[word] for word in words if word in _ROLES), COMMAND)
