"""Load profiles: what a step of a plan should do and when, as values with questions.

Three kinds of load share the same few questions (``kind``, ``end_ns``, ``changed``, ``shard``, ``stage_spans``):
``OpenLoad`` (arrivals at a rate), ``ClosedLoad`` (users for a time) and ``IterationsLoad`` (users with a number of
turns). Their shards partition them exactly, whatever the number of shards. This module adds their JSON form and Loads
v1's notation, and is where the rest of the code imports them from.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any

from .closed_load import ClosedLoad, ClosedShard, Cycle, IterationsLoad, IterationsShard
from .open_load import EVEN, JITTERED, OpenLoad, OpenShard
from .stages import NANOS, NEVER, Change, RateStage, Span, UserStage, check_count

__all__ = [
    "EVEN",
    "JITTERED",
    "NANOS",
    "NEVER",
    "Change",
    "ClosedLoad",
    "ClosedShard",
    "Cycle",
    "IterationsLoad",
    "IterationsShard",
    "Load",
    "LoadShard",
    "OpenLoad",
    "OpenShard",
    "RateStage",
    "Span",
    "UserStage",
    "from_wire",
    "parse_v1",
    "to_wire",
]

Load = OpenLoad | ClosedLoad | IterationsLoad
LoadShard = OpenShard | ClosedShard | IterationsShard

_FRACTION = re.compile(r"([0-9]{1,40})(?:/([0-9]{1,40}))?", re.ASCII)
_V1_LIST = re.compile(r"[0-9]{1,15}(?::[0-9]{1,15})*", re.ASCII)


def to_wire(load: Load) -> dict[str, Any]:
    """A load as JSON, what stands at its default left out; fractions are whole numbers or ``"3/10"``."""
    wire: dict[str, Any] = {"kind": load.kind}
    if isinstance(load, IterationsLoad):
        wire["cycles"] = [list(cycle) for cycle in load.cycles]
        optional: dict[str, Any] = {"shared": load.shared, "pace_ns": load.pace_ns}
    else:
        wire["stages"] = [
            [_fraction_to_wire(stage.start), _fraction_to_wire(stage.end), stage.duration_ns, stage.name]
            for stage in load.stages
        ]
        optional = {"changes": [list(change) for change in load.changes]}
        if isinstance(load, OpenLoad):
            optional |= {"iterations": load.iterations, "seed": load.seed}
            optional |= {"arrivals": load.arrivals if load.arrivals != EVEN else None}
        else:
            optional |= {"pace_ns": load.pace_ns}
    return wire | {name: value for name, value in optional.items() if value}


def from_wire(wire: object) -> Load:
    """The load that ``to_wire`` made; raises ValueError for anything else."""
    if not isinstance(wire, Mapping):
        raise ValueError("load: not an object")
    kind = wire.get("kind")
    if kind == "open":
        _refuse_unknown(wire, "stages", "iterations", "arrivals", "seed", "changes")
        return OpenLoad(
            stages=tuple(RateStage(*stage) for stage in _stages(wire)),
            iterations=wire.get("iterations"),
            arrivals=wire.get("arrivals", EVEN),
            seed=wire.get("seed", 0),
            changes=_rows(wire.get("changes", []), "changes", 3),
        )
    if kind == "closed":
        _refuse_unknown(wire, "stages", "pace_ns", "changes")
        return ClosedLoad(
            stages=tuple(UserStage(*stage) for stage in _stages(wire)),
            pace_ns=wire.get("pace_ns"),
            changes=_rows(wire.get("changes", []), "changes", 3),
        )
    if kind == "iterations":
        _refuse_unknown(wire, "cycles", "shared", "pace_ns")
        return IterationsLoad(
            cycles=_rows(wire.get("cycles"), "cycles", 2),
            shared=wire.get("shared", False),
            pace_ns=wire.get("pace_ns"),
        )
    raise ValueError(f"load: kind is open, closed or iterations, not {kind!r:.40}")


def parse_v1(users: str = "1", hits: str | None = None, duration_ns: int | None = None) -> IterationsLoad | ClosedLoad:
    """Loads v1's ``--users 10:20:30`` with ``--hits 5:10`` (by default 1) or with ``--duration``.

    Each number of users is a cycle of its own, one after another; with hits it is one cycle for each number of hits,
    with a duration it lasts that long. Raises ValueError for other text, and for hits and a duration together.
    """
    numbers = _v1_list(users, "users")
    if duration_ns is None:
        turns = _v1_list("1" if hits is None else hits, "hits")
        return IterationsLoad(cycles=tuple((count, turn) for count in numbers for turn in turns))
    if hits is not None:
        raise ValueError("hits: give either hits or a duration, not both")
    check_count(duration_ns, "duration", 1, NEVER)
    return ClosedLoad(stages=tuple(UserStage(Fraction(count), Fraction(count), duration_ns) for count in numbers))


def _v1_list(text: str, what: str) -> list[int]:
    if not isinstance(text, str) or not _V1_LIST.fullmatch(text):
        raise ValueError(f"{what}: whole numbers separated by colons, such as 10:20:30, not {text!r:.40}")
    numbers = [int(number) for number in text.split(":")]
    if 0 in numbers:
        raise ValueError(f"{what}: each number is at least 1, in {text!r:.40}")
    return numbers


def _fraction_to_wire(value: Fraction) -> int | str:
    return value.numerator if value.denominator == 1 else f"{value.numerator}/{value.denominator}"


def _fraction(value: object) -> Fraction:
    if isinstance(value, int) and not isinstance(value, bool):
        return Fraction(value)
    match = _FRACTION.fullmatch(value) if isinstance(value, str) else None
    if match is None or (match[2] is not None and int(match[2]) == 0):
        raise ValueError(f"stages: not a fraction: {value!r:.40}")
    return Fraction(int(match[1]), int(match[2] or 1))


def _stages(wire: Mapping[str, Any]) -> Iterator[tuple[Fraction, Fraction, Any, Any]]:
    for start, end, duration_ns, name in _rows(wire.get("stages"), "stages", 4):
        yield _fraction(start), _fraction(end), duration_ns, name


def _rows(value: object, what: str, width: int) -> tuple[Any, ...]:
    """A JSON list of lists of ``width`` values, as tuples."""
    if not isinstance(value, list) or not all(isinstance(row, list) and len(row) == width for row in value):
        raise ValueError(f"{what}: not a list of lists of {width}")
    return tuple(map(tuple, value))


def _refuse_unknown(wire: Mapping[str, Any], *known: str) -> None:
    if unknown := set(wire) - {"kind", *known}:
        raise ValueError(f"load: unknown: {', '.join(sorted(f'{name!s:.40}' for name in unknown))}")
