"""The search itself: each world is run and judged once, and leads to those with one more fault."""

from __future__ import annotations

import gc
import traceback
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

from loads.workers import reports

from loads_queue.model import profile
from loads_queue.model.profile import ClosedLoad, OpenLoad
from tests.simulator.exhaustive_faults import KINDS, Prefix, faults
from tests.simulator.exhaustive_world import LENGTHS, LOADS, SmallWorld
from tests.simulator.invariants import UNKNOWABLE, problems
from tests.simulator.setup import Happening

EVERY = 50
"""So many worlds between two collections of garbage."""

Shares = Mapping[int, tuple[int, int]]
"""By number of faults: (i, n), which part of those worlds is looked at; all where there is none."""


Task = tuple[Prefix, int]
"""A world's faults, and the digest of the world without the last of them."""
START: Task = (), 0


@dataclass
class Found:
    """What came of some worlds."""

    worlds: Counter[int] = field(default_factory=Counter)
    """How many there were, by number of faults."""
    vacuous: int = 0
    """Combinations with a fault that met nothing: no worlds of their own."""
    untold: int = 0
    """Worlds with a Report that was lost for good, together with its worker."""
    failed: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    """The names of those that broke an invariant, and what was wrong."""

    def add(self, other: Found) -> None:
        """Both together."""
        self.worlds.update(other.worlds)
        self.vacuous += other.vacuous
        self.untold += other.untold
        self.failed += other.failed


def name_of(load: str, prefix: Prefix) -> str:
    """A world in words that ``world_of`` reads: the load, and each fault as ``kind[.detail][:victim]@ns``."""
    return " ".join([load, *(_named(fault) for fault in prefix)])


def _named(fault: Happening) -> str:
    kind = f"{fault.kind}.{fault.detail}" if fault.detail else fault.kind
    return f"{kind}:{fault.who}@{fault.at}" if fault.who else f"{kind}@{fault.at}"


def world_of(name: str) -> tuple[str, Prefix]:
    """The load and the faults of a world's name; raises ValueError where it is none."""
    load, *words = name.split()
    if load not in LOADS:
        raise ValueError(f"{load} is no load: {', '.join(LOADS)}")
    return load, tuple(_read(word) for word in words)


def _read(word: str) -> Happening:
    what, _, at = word.rpartition("@")
    what, _, who = what.partition(":")
    kind, _, detail = what.partition(".")
    if (kind, detail) not in KINDS or not at.isdigit():
        raise ValueError(f"{word} is no fault")
    return Happening(int(at), kind, who, LENGTHS.get(kind, 0), detail)


def run(load: str, prefix: Prefix, tell: Callable[[str], None] | None = None) -> tuple[SmallWorld, tuple[str, ...]]:
    """Run one world and judge it; what the simulator itself raises is a problem of it, too."""
    world = SmallWorld(load, prefix, tell)
    try:
        world.run()
        return world, () if world.vacuous else tuple(judged(world))
    except Exception:
        return world, (f"the simulator raised {traceback.format_exc(limit=-4)}",)


def judged(world: SmallWorld) -> list[str]:
    """The broken invariants; where a Report is lost and its worker could not say it again, but those that need it."""
    found = problems(world)
    return [what for what in found if not any(part in what for part in UNKNOWABLE)] if world.untold else found


def search(load: str, task: Task, most: int, shares: Shares | None = None) -> Found:
    """This world, and all that come of it by further faults up to that number in all."""
    found = Found()
    ahead = [task]
    while ahead:
        ahead += reversed(visit(load, ahead.pop(), most, shares or {}, found))
    return found


def tasks(load: str, most: int, shares: Shares | None = None) -> tuple[Found, list[Task]]:
    """What ``search`` can be asked for side by side: worlds with one fault less; and what came of those before."""
    found = Found()
    ahead = [START]
    for _ in range(most - 1):
        ahead = [longer for task in ahead for longer in visit(load, task, most, shares or {}, found)]
    return found, ahead


def visit(load: str, task: Task, most: int, shares: Shares, found: Found) -> list[Task]:
    """Run and judge one world; what has one fault more, up to ``most``.

    A world that is broken is not gone on with: each counterexample has only faults that it needs to come to it.
    """
    prefix, before = task
    world, wrong = run(load, prefix)
    if world.vacuous:
        found.vacuous += 1
        return []
    found.worlds[len(prefix)] += 1
    found.untold += bool(world.untold)
    if sum(found.worlds.values()) % EVERY == 0:
        gc.collect()
    if wrong:
        found.failed.append((name_of(load, prefix), wrong))
    if wrong or len(prefix) >= most:
        return []
    digest = world.record.digest()
    return [(longer, digest) for longer in further(load, world, prefix, shares, traceless=digest == before)]


def further(load: str, world: SmallWorld, prefix: Prefix, shares: Shares, traceless: bool = False) -> Iterator[Prefix]:
    """A world's faults and one more, where it belongs to the part that is asked for.

    With a last fault that left no trace, what comes when it is over is the same as without it, and comes up there.
    """
    number, count = shares.get(len(prefix) + 1, (0, 1))
    for fault in faults(world, prefix):
        longer = (*prefix, fault)
        if traceless and fault.at > prefix[-1].at + prefix[-1].length:
            break
        if count == 1 or zlib.crc32(name_of(load, longer).encode()) % count == number:
            yield longer


@contextmanager
def quick() -> Iterator[None]:
    """Less work for the same worlds: what was read or changed before is taken from there, Reports far below the limit
    aren't measured, and garbage is left for later."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        with (
            mock.patch.object(reports, "_parts", _one_part),
            mock.patch.object(profile, "from_wire", _read_once(profile.from_wire)),
            mock.patch.object(OpenLoad, "changed", _changed_where_needed(OpenLoad.changed)),
            mock.patch.object(ClosedLoad, "changed", _changed_where_needed(ClosedLoad.changed)),
        ):
            yield
    finally:
        gc.enable()
        gc.unfreeze()


def _one_part(state: Any, claims: Any) -> Iterator[dict[str, list[Any]]]:
    yield {claim.id: [claim.rows[second] for second in sorted(claim.rows)] for claim in state.claims.values()}


def _read_once(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    loads: dict[str, Any] = {}

    def from_wire(wire: Any) -> Any:
        key = repr(wire)
        if key not in loads:
            loads[key] = read(wire)
        return loads[key]

    return from_wire


def _changed_where_needed(changed: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    return lambda load, changes: load if tuple(changes) == load.changes else changed(load, changes)
