"""What survives a scheduler's crash: the store's promises, kept in memory.

The same calls as ``loads.scheduler.store.Store``. It keeps values, never the scheduler's own objects, and only what
``changed`` names, so that something that was changed and not touched is lost by a crash here as it is there.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from loads.scheduler.cluster import Claim, Cluster, Run, Shard, Worker
from loads.scheduler.effects import Note, PutRows
from loads.scheduler.store import EpochLost, Order, Outgoing, epoch_is_held

from loads_queue.model.states import RunState

_NAMES = {kind: tuple(each.name for each in fields(kind)) for kind in (Run, Shard, Claim, Worker)}


class ModelStore:
    """A database as schedulers use it."""

    def __init__(self) -> None:
        self.number = 0
        self.holder = ""
        self.renewed_at = 0
        self.saved: dict[type, dict[Any, dict[str, Any]]] = {Run: {}, Shard: {}, Claim: {}, Worker: {}}
        self.rows: dict[str, dict[int, tuple[int, Mapping[str, Any]]]] = {}
        self.notes: list[Note] = []
        self.outbox: dict[int, Outgoing] = {}
        self.inbox: set[str] = set()
        self.placed: list[Order] = []
        self.taken: set[int] = set()
        self.commits: list[int] = []
        """The epoch of each commit."""
        self._messages = 0

    # One acting scheduler

    def take_epoch(self, holder: str, now: int) -> int | None:
        """The next epoch, where nobody holds it or its holder was silent; else None."""
        if epoch_is_held(self.holder, self.renewed_at, now):
            return None
        self.number += 1
        self.holder, self.renewed_at = holder, now
        self._messages = max(self.outbox, default=0)
        return self.number

    def renew_epoch(self, epoch: int, now: int) -> None:
        """Hold the epoch for longer; raises EpochLost."""
        self._guard(epoch)
        self.renewed_at = now

    def free_epoch(self, epoch: int) -> None:
        """Let another scheduler take over at once."""
        if self.number == epoch:
            self.holder = ""

    def _guard(self, epoch: int) -> None:
        if self.number != epoch:
            raise EpochLost("another scheduler has taken over this database")

    # Decisions

    def commit(
        self,
        cluster: Cluster,
        notes: Iterable[Note],
        rows: Iterable[PutRows],
        messages: Sequence[tuple[str, Any]],
        received: Sequence[str],
        orders: Sequence[int],
        now: int,
    ) -> list[Outgoing]:
        """Write one decision."""
        self._guard(cluster.epoch)
        for thing in cluster.changed.values():
            self._save(thing)
        for put in rows:
            self._put_rows(put)
        self.notes.extend(notes)
        self.inbox.update(received)
        self.taken.update(orders)
        self.commits.append(cluster.epoch)
        outgoing = []
        for queue, body in messages:
            self._messages += 1
            outgoing.append(Outgoing(self._messages, queue, body))
            self.outbox[self._messages] = outgoing[-1]
        cluster.changed.clear()
        return outgoing

    def _save(self, thing: Any) -> None:
        kind = type(thing)
        values = {name: _own(getattr(thing, name)) for name in _NAMES[kind]}
        self.saved[kind][_key(thing)] = values

    def _put_rows(self, put: PutRows) -> None:
        mine = self.rows.setdefault(put.claim, {})
        for row in put.rows:
            held = mine.get(row["second"])
            if held is None or held[0] < put.sequence:
                mine[row["second"]] = (put.sequence, row)

    def outgoing(self, limit: int = 1000) -> list[Outgoing]:
        """Messages that were committed and not yet marked as sent, oldest first."""
        return list(self.outbox.values())[:limit]

    def sent(self, messages: Iterable[Outgoing]) -> None:
        """Forget messages that the broker has."""
        for message in messages:
            self.outbox.pop(message.id, None)

    def received(self, ident: str) -> bool:
        """Whether a message of this id was taken in before."""
        return ident in self.inbox

    def orders(self) -> list[Order]:
        """What people asked for and the scheduler has not taken up yet."""
        return [order for order in self.placed if order.id not in self.taken]

    def order(self, run: str, action: str, args: Mapping[str, Any], who: str) -> None:
        """Ask for something, as people do."""
        self.placed.append(Order(len(self.placed) + 1, run, action, args, who))

    def load(self, cluster: Cluster) -> None:
        """Fill a cluster with every run that is not finished, its shards and claims, and all workers."""
        for run in self.all(Run):
            if run.state is not RunState.FINISHED:
                cluster.runs[run.id] = run
        for shard in self.all(Shard):
            if shard.run in cluster.runs:
                cluster.shards[shard.key] = shard
        for claim in self.all(Claim):
            if claim.run in cluster.runs:
                cluster.claims[claim.id] = claim
        for worker in self.all(Worker):
            cluster.workers[worker.name] = worker

    # For those who judge

    def all(self, kind: type) -> list[Any]:
        """Everything of a kind, as committed."""
        return [kind(**{name: _own(value) for name, value in of.items()}) for of in self.saved[kind].values()]

    def state_of(self, run: str) -> RunState | None:
        """A run's state, as committed."""
        found = self.saved[Run].get(run)
        return None if found is None else found["state"]

    def has_granted(self, claim: str) -> bool:
        """Whether a claim was committed."""
        return claim in self.saved[Claim]


def _own(value: Any) -> Any:
    """A value that nobody else changes."""
    if isinstance(value, dict):
        return (
            copy.deepcopy(value) if any(hasattr(each, "__dataclass_fields__") for each in value.values()) else {**value}
        )
    return copy.copy(value) if isinstance(value, set | dict | list) else value


def _key(thing: Any) -> Any:
    if isinstance(thing, Shard):
        return thing.key
    return thing.name if isinstance(thing, Worker) else thing.id
