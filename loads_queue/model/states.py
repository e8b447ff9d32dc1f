"""The states of runs, shards and claims, each as one table: ``{(state, event): state}``.

A pair that stands in no table is refused with ``WrongTransition``: it is a fault of ours, never of a user or a
message, since messages are compared with the state before they become events.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar


class WrongTransition(Exception):
    """An event came to a state that has no place for it."""


class RunState(StrEnum):
    """Where a run stands."""

    WAITING = "waiting"
    """For slots, or for its turn."""
    STARTING = "starting"
    """Its shards are offered, or being prepared."""
    RUNNING = "running"
    """It has a start time."""
    STOPPING = "stopping"
    """Aborted: shards are told to stop."""
    FINALISING = "finalising"
    """All load is over; last reports are awaited."""
    FINISHED = "finished"
    """Its ledger is final."""


class RunEvent(StrEnum):
    """What happens to a run."""

    REFUSE = "refuse"
    """Its plan can't be run."""
    RESERVE = "reserve"
    START = "start"
    STOP = "stop"
    LOAD_OVER = "load_over"
    FINAL = "final"


RUN_STATES: Mapping[tuple[RunState, RunEvent], RunState] = {
    (RunState.WAITING, RunEvent.REFUSE): RunState.FINISHED,
    (RunState.WAITING, RunEvent.RESERVE): RunState.STARTING,
    (RunState.WAITING, RunEvent.STOP): RunState.STOPPING,
    (RunState.STARTING, RunEvent.START): RunState.RUNNING,
    (RunState.STARTING, RunEvent.STOP): RunState.STOPPING,
    (RunState.STARTING, RunEvent.LOAD_OVER): RunState.FINALISING,
    (RunState.RUNNING, RunEvent.STOP): RunState.STOPPING,
    (RunState.RUNNING, RunEvent.LOAD_OVER): RunState.FINALISING,
    (RunState.STOPPING, RunEvent.LOAD_OVER): RunState.FINALISING,
    (RunState.FINALISING, RunEvent.FINAL): RunState.FINISHED,
}


class ShardState(StrEnum):
    """Where a shard stands."""

    PENDING = "pending"
    """Not offered yet."""
    OFFERED = "offered"
    GRANTED = "granted"
    """One claim holds it."""
    OVER = "over"
    """No further attempt will come."""


class ShardEvent(StrEnum):
    """What happens to a shard."""

    OFFER = "offer"
    GRANT = "grant"
    RELEASE = "release"
    """Its claim ended before its work was done."""
    CLOSE = "close"


SHARD_STATES: Mapping[tuple[ShardState, ShardEvent], ShardState] = {
    (ShardState.PENDING, ShardEvent.OFFER): ShardState.OFFERED,
    (ShardState.OFFERED, ShardEvent.OFFER): ShardState.OFFERED,
    (ShardState.OFFERED, ShardEvent.GRANT): ShardState.GRANTED,
    (ShardState.GRANTED, ShardEvent.RELEASE): ShardState.PENDING,
    (ShardState.PENDING, ShardEvent.CLOSE): ShardState.OVER,
    (ShardState.OFFERED, ShardEvent.CLOSE): ShardState.OVER,
    (ShardState.GRANTED, ShardEvent.CLOSE): ShardState.OVER,
}


class ClaimState(StrEnum):
    """Where a granted claim stands, as the scheduler knows it."""

    GRANTED = "granted"
    READY = "ready"
    RUNNING = "running"
    ENDED = "ended"
    """Its last report is here."""
    DEAD = "dead"
    """Its lease ended without a last report; one that comes late still counts."""


class ClaimEvent(StrEnum):
    """What happens to a claim."""

    READY = "ready"
    RUN = "run"
    END = "end"
    EXPIRE = "expire"


CLAIM_STATES: Mapping[tuple[ClaimState, ClaimEvent], ClaimState] = {
    (ClaimState.GRANTED, ClaimEvent.READY): ClaimState.READY,
    (ClaimState.GRANTED, ClaimEvent.RUN): ClaimState.RUNNING,
    (ClaimState.READY, ClaimEvent.READY): ClaimState.READY,
    (ClaimState.READY, ClaimEvent.RUN): ClaimState.RUNNING,
    (ClaimState.RUNNING, ClaimEvent.RUN): ClaimState.RUNNING,
    (ClaimState.GRANTED, ClaimEvent.END): ClaimState.ENDED,
    (ClaimState.READY, ClaimEvent.END): ClaimState.ENDED,
    (ClaimState.RUNNING, ClaimEvent.END): ClaimState.ENDED,
    (ClaimState.DEAD, ClaimEvent.END): ClaimState.ENDED,
    (ClaimState.GRANTED, ClaimEvent.EXPIRE): ClaimState.DEAD,
    (ClaimState.READY, ClaimEvent.EXPIRE): ClaimState.DEAD,
    (ClaimState.RUNNING, ClaimEvent.EXPIRE): ClaimState.DEAD,
}

S = TypeVar("S", bound=StrEnum)
E = TypeVar("E", bound=StrEnum)


def after(table: Mapping[tuple[S, E], S], state: S, event: E) -> S:
    """The state that follows; raises ``WrongTransition`` where the table has none."""
    try:
        return table[state, event]
    except KeyError:
        raise WrongTransition(f"{event} while {state}") from None


def transitions(table: Mapping[tuple[S, E], S]) -> list[tuple[S, E, S]]:
    """The table as edges, for diagrams."""
    return [(state, event, following) for (state, event), following in table.items()]
