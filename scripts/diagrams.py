"""docs/states.md from the tables of states that the code itself goes by.

``python scripts/diagrams.py`` writes it; with ``--check`` it says whether it is up to date (exit status 1 where not).
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from loads.workers import agent_state

from loads_queue.model import states

PAGE = Path(__file__).resolve().parent.parent / "docs" / "states.md"
HEAD = """# States

Made from the tables in `loads_queue/model/states.py` and `workers/agent_state.py` by `python scripts/diagrams.py`;
don't edit it. A state machine is one table, `{(state, event): state}`; a pair that stands in none is refused as a fault
of ours. The protocol around them is in [protocol.md](protocol.md).
"""


@dataclass(frozen=True)
class Machine:
    """One table, as a section of the page."""

    title: str
    about: str
    table: Mapping[Any, StrEnum]
    """By (state, event)."""
    states: type[StrEnum]
    events: type[StrEnum]


MACHINES = (
    Machine("A run", "As the scheduler decides it.", states.RUN_STATES, states.RunState, states.RunEvent),
    Machine(
        "A shard", "A share of a step, held by one claim at a time.", states.SHARD_STATES, states.ShardState,
        states.ShardEvent,
    ),
    Machine(
        "A claim, to the scheduler", "One attempt at a shard, by one worker.", states.CLAIM_STATES, states.ClaimState,
        states.ClaimEvent,
    ),
    Machine(
        "A claim, to its worker", "The same attempt, as the worker's agent sees it and reports it.",
        agent_state.CLAIM_STATES, agent_state.ClaimState, agent_state.ClaimEvent,
    ),
)  # fmt: skip


def page() -> str:
    """The whole document."""
    return "\n".join([HEAD, *(section(machine) for machine in MACHINES)])


def section(machine: Machine) -> str:
    """A diagram, and what its states and events mean."""
    parts = [f"## {machine.title}", machine.about, diagram(machine)]
    for kind, words in (("state", machine.states), ("event", machine.events)):
        meanings = documented(words)
        rows = [f"| `{word}` | {meanings[word.name]} |" for word in words if word.name in meanings]
        if rows:
            parts.append("\n".join([f"| {kind} | |", "|---|---|", *rows]))
    return "\n\n".join(parts) + "\n"


def diagram(machine: Machine) -> str:
    """The table as a Mermaid diagram: from the first state on, to those that nothing leaves."""
    edges: dict[tuple[StrEnum, StrEnum], list[StrEnum]] = {}
    for (state, event), following in machine.table.items():
        edges.setdefault((state, following), []).append(event)
    left = {state for state, following in edges if state is not following}
    lines = [f"    [*] --> {next(iter(machine.states))}"]
    lines += [f"    {state} --> {following}: {', '.join(events)}" for (state, following), events in edges.items()]
    lines += [f"    {state} --> [*]" for state in machine.states if state not in left]
    return "\n".join(["```mermaid", "stateDiagram-v2", *lines, "```"])


def documented(words: type[StrEnum]) -> dict[str, str]:
    """What is written below the members of an enumeration, by their names."""
    (tree,) = ast.parse(inspect.getsource(words)).body
    assert isinstance(tree, ast.ClassDef)
    found = {}
    for member, text in zip(tree.body, tree.body[1:], strict=False):
        if isinstance(member, ast.Assign) and isinstance(member.targets[0], ast.Name) and isinstance(text, ast.Expr):
            found[member.targets[0].id] = " ".join(str(ast.literal_eval(text.value)).split())
    return found


def main(arguments: list[str]) -> int:
    """Write the page, or check it."""
    if arguments == ["--check"]:
        return 0 if PAGE.read_text() == page() else 1
    PAGE.write_text(page())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
