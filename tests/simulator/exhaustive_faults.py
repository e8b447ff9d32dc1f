"""What the exhaustive search enumerates: the moments of a world's life, and every fault at each of them.

**Moments** come from the protocol alone. A world's record has each change of state: of the run and the shards (as
committed), of the claims (as reported), the start of the schedule, and each new epoch. Between two changes nothing
happens but that messages travel and timers run, so a moment is the middle of what lies between two of them; where that
is longer than a second there are three: shortly after the first change, in the middle, and shortly before the next
(which is how "just before the lease ends" comes about). A world with faults has its own changes, a takeover's among
them, so the moments of a further fault are those of the world as it goes on with the former ones; its first is that of
the last fault itself.

**Faults.** Each kind in ``HOST_FAULTS`` on each host, each in ``MESSAGE_FAULTS`` on the next message after the moment
from or to each host, each in ``CRASHES`` in the next turn of the acting scheduler that changes or sends something, the
scheduler's pause, the broker's outage and its loss of everything.

**Nothing twice.** Faults are ordered in time, those at one instant by kind, so that each combination comes up once;
moments with the same next message, or turn, have one fault of it. While both hosts did the same things at the same
times, only the first is a victim. A fault that meets nothing (no engine lives, the agent is gone, the broker is down
already) is no world of its own. And where a world with a fault says, commits and changes the same at the same times as
without it, as with most messages that come twice, it is gone on with only for as long as that fault lasts.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import pairwise

from tests.simulator.exhaustive_world import LENGTHS, Record, SmallWorld
from tests.simulator.setup import Happening
from tests.simulator.world import MS, SECOND

Prefix = tuple[Happening, ...]

LONG_STAGE = SECOND
"""A stage of that length has more than one moment."""
EDGE = 200 * MS
ONE_CHANGE = 5 * MS
"""Changes that follow one another within that time are one."""

HOST_FAULTS = (
    ("kill_agent", ""),
    ("kill_engine", ""),
    ("power_off", ""),
    ("power_off", "disk_lost"),
    ("pause_agent", ""),
    ("pause_engines", ""),
    ("drain", ""),
)
MESSAGE_FAULTS = tuple(f"{kind}_{how}" for kind in ("report", "control") for how in ("lost", "twice", "late"))
CLUSTER_FAULTS = ("broker_down", "broker_wiped", "pause_scheduler")
CRASHES = ("uncommitted", "unpublished", "half-published", "unmarked")
"""Of a scheduler's turn: before the commit, after it, between two messages, and after all of them.

``undecided`` is as ``uncommitted`` (nothing is left of the turn), ``unacknowledged`` is a part of ``unmarked``.
"""
KINDS = (
    *HOST_FAULTS,
    *((kind, "") for kind in (*MESSAGE_FAULTS, *CLUSTER_FAULTS)),
    *(("kill_scheduler", where) for where in CRASHES),
)
ORDER = {kind: number for number, kind in enumerate(KINDS)}


def rank(fault: Happening) -> tuple[int, int, str]:
    """Where a fault stands among others: by time, kind, victim."""
    return fault.at, ORDER[fault.kind, fault.detail], fault.who


def moments(world: SmallWorld, last: int | None) -> list[tuple[int, str]]:
    """The moments of a world from its last fault (or the beginning) on, until its run is final; each with its name."""
    changes = _stages(world)
    found = [] if last is None else [(last, "with the fault before")]
    for (begin, what), (end, following) in pairwise(changes):
        if end - begin <= LONG_STAGE:
            stage = [((begin + end) // 2, f"between {what} and {following}")]
        else:
            stage = [
                (begin + EDGE, f"soon after {what}"),
                ((begin + end) // 2, f"between {what} and {following}, halfway"),
                (end - EDGE, f"soon before {following}"),
            ]
        if last is not None and begin <= last < end:
            stage = stage[1:]
        found += [(at, name) for at, name in stage if last is None or at > last]
    return found


def _stages(world: SmallWorld) -> list[tuple[int, str]]:
    """The changes from the job's submission to the end, those at one time as one."""
    submitted = min(job.at for job in world.setup.jobs)
    found: list[tuple[int, str]] = [(submitted, "the job")]
    for at, _, what in sorted(world.record.changes):
        if at < submitted:
            continue
        if at - found[-1][0] < ONE_CHANGE:
            found[-1] = (at, found[-1][1])
        else:
            found.append((at, what))
        if what == "run finished":
            break
    return found


def faults(world: SmallWorld, prefix: Prefix) -> list[Happening]:
    """Every further fault of a world with these faults, each once."""
    last = prefix[-1] if prefix else None
    found: set[Happening] = set()
    for at, _ in moments(world, None if last is None else last.at):
        found.update(faults_at(world, prefix, at))
    least = None if last is None else rank(last)
    return [
        fault for fault in sorted(found, key=rank)
        if least is None or (rank(fault) > least and not _same_message(fault, prefix[-1]))
    ]  # fmt: skip


def faults_at(world: SmallWorld, prefix: Prefix, at: int) -> Iterator[Happening]:
    """Every fault of one moment."""
    record = world.record
    hosts = ("w0",) if alike(record, prefix, at) else ("w0", "w1")
    for who in hosts:
        for kind, detail in HOST_FAULTS:
            yield _fault(at, kind, who, detail)
        for kind in MESSAGE_FAULTS:
            sent = _next(record.sends_of(kind.partition("_")[0], who), at)
            if sent is not None:
                yield _fault(sent - 1, kind, who)
    yield _fault(at, "broker_down")
    yield _fault(at, "broker_wiped")
    acting = [who for since, who in record.acting if since <= at]
    if acting:
        yield _fault(at, "pause_scheduler", acting[-1])
    turn = next((turn for turn in record.turns if turn[0] > at), None)
    if turn is not None:
        began, who, messages = turn
        for needed, where in zip((0, 0, 2, 1), CRASHES, strict=True):
            if messages >= needed:
                yield _fault(began - 1, "kill_scheduler", who, where)


def alike(record: Record, prefix: Sequence[Happening], at: int) -> bool:
    """Whether the hosts' lives were the same up to a moment, so that it makes no difference which is the victim."""
    if any(fault.who.startswith("w") or fault.detail == "half-published" for fault in prefix):
        return False
    lives: dict[str, list[tuple[int, str]]] = {"w0": [], "w1": []}
    for when, whose, what in record.changes:
        if whose and when <= at:
            lives[whose].append((when, what.rsplit(" ", 1)[-1]))
    return lives["w0"] == lives["w1"]


def _same_message(one: Happening, other: Happening) -> bool:
    """Whether both would do something to the same message."""
    first, second = one.kind.partition("_")[0], other.kind.partition("_")[0]
    return (one.at, one.who, first) == (other.at, other.who, second) and first in ("report", "control")


def _next(times: list[int], at: int) -> int | None:
    index = bisect_left(times, at + 1)
    return times[index] if index < len(times) else None


def _fault(at: int, kind: str, who: str = "", detail: str = "") -> Happening:
    return Happening(at, kind, who, LENGTHS.get(kind, 0), detail)
