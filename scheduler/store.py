"""The store: everything that must outlive the scheduler, in one transaction a decision.

``commit`` writes what changed, the rows, the notes and the outgoing messages together, under the scheduler's epoch;
``outgoing`` and ``sent`` are the outbox's other half. Readers (command line, API) use ``reader``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from loads_queue.messages import Clock, End, Hello, Message, Totals
from loads_queue.model.states import ClaimState, RunState, ShardState

from . import tables
from .cluster import Claim, Cluster, Life, Refusal, Run, Shard, Worker
from .database import open_engine
from .effects import Note, PutRows
from .upserts import Upserts, pack_row

EPOCH_FREE_NS = 5_000_000_000


def epoch_is_held(holder: str, renewed_at: int, now: int) -> bool:
    """Whether somebody acts; two schedulers' clocks may differ a little, so a renewal may seem to lie ahead."""
    return bool(holder) and abs(now - renewed_at) < EPOCH_FREE_NS


class EpochLost(Exception):
    """Another scheduler acts on this database now; this one must stop at once."""

    exit_code = 4


@dataclass(frozen=True, slots=True)
class Order:
    """Something that a person asked of a run, on its way to the scheduler."""

    id: int
    run: str
    action: str
    args: Mapping[str, Any]
    who: str


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message of the outbox, encoded."""

    id: int
    queue: str
    body: str


class Store:
    """A database as the scheduler uses it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.engine = open_engine(url)
        self._insert = (sqlite if self.engine.dialect.name == "sqlite" else postgresql).insert
        self._upserts = Upserts(self._insert)
        self._version = 0
        """The last version that a row was given: readers ask for later ones."""
        self._outgoing = 0
        """The last id that a message of the outbox was given."""
        self._epoch = 0
        """The epoch that was taken here."""

    def close(self) -> None:
        """Give the connections back."""
        self.engine.dispose()

    # One acting scheduler

    def acted_until(self) -> int | None:
        """When a scheduler last held the epoch; None where none ever did."""
        with self.engine.connect() as connection:
            found: int | None = connection.execute(select(tables.epochs.c.renewed_at)).scalar()
            return found

    def take_epoch(self, holder: str, now: int) -> int | None:
        """The next epoch, where nobody holds it or its holder was silent for 5 s; else None."""
        first = self._insert(tables.epochs).values(id=1, number=0, holder="", renewed_at=now)
        with self.engine.begin() as connection:
            connection.execute(first.on_conflict_do_nothing())  # of several at once, all but one wait here
            row = connection.execute(select(tables.epochs).where(tables.epochs.c.id == 1).with_for_update()).one()
            if epoch_is_held(row.holder, row.renewed_at, now):
                return None
            number: int = row.number + 1
            connection.execute(update(tables.epochs).values(number=number, holder=holder, renewed_at=now))
            self._count_on(connection)
            self._epoch = number
            return number

    def _count_on(self, connection: Connection) -> None:
        """Go on numbering where the last scheduler ended; from here on nobody else writes rows or messages."""
        self._version = connection.execute(select(func.max(tables.rows.c.version))).scalar() or 0
        self._outgoing = connection.execute(select(func.max(tables.outbox.c.id))).scalar() or 0

    def renew_epoch(self, epoch: int, now: int) -> None:
        """Hold the epoch for longer; raises EpochLost."""
        with self.engine.begin() as connection:
            self._guard(connection, epoch)
            connection.execute(update(tables.epochs).values(renewed_at=now))

    def free_epoch(self, epoch: int) -> None:
        """Let another scheduler take over at once."""
        with self.engine.begin() as connection:
            connection.execute(update(tables.epochs).where(tables.epochs.c.number == epoch).values(holder=""))

    def _guard(self, connection: Connection, epoch: int) -> None:
        number = connection.execute(_EPOCH).scalar()
        if number != epoch:
            raise EpochLost("another scheduler has taken over this database")

    # Decisions

    def commit(
        self,
        cluster: Cluster,
        notes: Iterable[Note],
        rows: Iterable[PutRows],
        messages: Sequence[tuple[str, str]],
        received: Sequence[str],
        orders: Sequence[int],
        now: int,
    ) -> list[Outgoing]:
        """Write one decision: what changed, rows, notes, (queue, body) to send, message ids received, orders taken."""
        with self.engine.begin() as connection:
            self._guard(connection, cluster.epoch)
            self._upserts.save(connection, cluster.changed.values())
            self._version = self._upserts.put_rows(connection, rows, self._version)
            written = [{"run": note.run, "at": note.at, "who": note.who, "what": note.what} for note in notes]
            if written:
                connection.execute(insert(tables.events), written)
            for ident in received:
                statement = self._insert(tables.inbox).values(id=ident, at=now)
                connection.execute(statement.on_conflict_do_nothing())
            if orders:
                connection.execute(update(tables.orders).where(tables.orders.c.id.in_(orders)).values(taken=True))
            outgoing = [
                Outgoing(ident, queue, body) for ident, (queue, body) in enumerate(messages, start=self._outgoing + 1)
            ]
            # Never given twice, even where a commit fails without saying whether it was done.
            self._outgoing += len(outgoing)
            if outgoing:
                connection.execute(
                    _OUTBOX, [{"id": each.id, "queue": each.queue, "body": each.body} for each in outgoing]
                )
        cluster.changed.clear()
        return outgoing

    def outgoing(self, limit: int = 1000) -> list[Outgoing]:
        """Messages that were committed and not yet marked as sent, oldest first."""
        with self.engine.connect() as connection:
            found = connection.execute(select(tables.outbox).order_by(tables.outbox.c.id).limit(limit))
            return [Outgoing(row.id, row.queue, row.body) for row in found]

    def sent(self, messages: Iterable[Outgoing]) -> None:
        """Forget messages that the broker has. Once another scheduler acts, their ids are its own to give."""
        ours = select(tables.epochs.c.number).scalar_subquery() == self._epoch
        wanted = tables.outbox.c.id.in_([each.id for each in messages])
        with self.engine.begin() as connection:
            connection.execute(delete(tables.outbox).where(wanted, ours))

    def received(self, ident: str) -> bool:
        """Whether a message of this id was taken in before."""
        with self.engine.connect() as connection:
            statement = select(tables.inbox.c.id).where(tables.inbox.c.id == ident)
            return connection.execute(statement).first() is not None

    def dead_letter(self, queue: str, at: int, reason: str, body: str, kind: str = "") -> None:
        """Keep a message that could not be taken in, with the reason."""
        # PostgreSQL holds no zero bytes; such a body is no message of ours and can only be looked at.
        reason, body = (each.replace("\0", "\N{SYMBOL FOR NULL}") for each in (reason, body))
        with self.engine.begin() as connection:
            values = {"queue": queue, "kind": kind, "at": at, "reason": reason, "body": body}
            connection.execute(insert(tables.dead_letters).values(**values))

    def bury(self, ident: int) -> None:
        """Forget a dead letter."""
        with self.engine.begin() as connection:
            connection.execute(delete(tables.dead_letters).where(tables.dead_letters.c.id == ident))

    def put_summary(self, run: str, verdict: str, exit_code: int, data: Mapping[str, Any]) -> None:
        """Keep a final run's summary."""
        values = {"run": run, "verdict": verdict, "exit_code": exit_code, "data": pack_row(data)}
        with self.engine.begin() as connection:
            connection.execute(self._upserts.of(tables.summaries), values)

    def count_rows(self, run: str) -> int:
        """How many rows there are of a run."""
        with self.engine.connect() as connection:
            wanted = select(func.count()).select_from(tables.rows).where(tables.rows.c.run == run)
            return connection.execute(wanted).scalar() or 0

    def unsummarised(self) -> list[str]:
        """Final runs without a summary: the scheduler ended before it was written."""
        wanted = (
            select(tables.runs.c.id)
            .select_from(tables.runs.outerjoin(tables.summaries, tables.runs.c.id == tables.summaries.c.run))
            .where(tables.runs.c.state == RunState.FINISHED, tables.summaries.c.run.is_(None))
        )
        with self.engine.connect() as connection:
            return list(connection.execute(wanted).scalars())

    def purge(self, run: str) -> None:
        """Forget a run and everything of it; its job's id stays known, so that a late copy does not run it again."""
        with self.engine.begin() as connection:
            for table in (tables.rows, tables.claims, tables.shards, tables.events, tables.summaries):
                connection.execute(delete(table).where(table.c.run == run))
            connection.execute(delete(tables.runs).where(tables.runs.c.id == run))

    def orders(self) -> list[Order]:
        """What people asked for and the scheduler has not taken up yet."""
        with self.engine.connect() as connection:
            return [Order(row.id, row.run, row.action, row.args, row.who) for row in connection.execute(_ORDERS)]

    def load(self, cluster: Cluster) -> None:
        """Fill a cluster with every run that is not finished, its shards and claims, and all workers."""
        with self.engine.connect() as connection:
            active = select(tables.runs).where(tables.runs.c.state != RunState.FINISHED)
            for row in connection.execute(active).mappings():
                cluster.runs[row["id"]] = run_from(dict(row))
            names = list(cluster.runs)
            for row in connection.execute(select(tables.shards).where(tables.shards.c.run.in_(names))).mappings():
                shard = shard_from(dict(row))
                cluster.shards[shard.key] = shard
            for row in connection.execute(select(tables.claims).where(tables.claims.c.run.in_(names))).mappings():
                cluster.claims[row["id"]] = claim_from(dict(row))
            for row in connection.execute(select(tables.workers)).mappings():
                cluster.workers[row["name"]] = worker_from(dict(row))


_EPOCH = select(tables.epochs.c.number).with_for_update()
_OUTBOX = insert(tables.outbox)
_ORDERS = select(tables.orders).where(tables.orders.c.taken.is_(False)).order_by(tables.orders.c.id)


def encode_with(encode: Any, queue: str, message: Message, now: int, secret: bytes | None) -> tuple[str, str]:
    """A message for the outbox, as (queue, body)."""
    return queue, encode(message, queue, now, secret)


def _values(row: Mapping[str, Any], cls: type) -> dict[str, Any]:
    return {each.name: row[each.name] for each in fields(cls)}


def run_from(row: Mapping[str, Any]) -> Run:
    """A run as the store has it."""
    values = _values(row, Run)
    values["state"] = RunState(row["state"])
    values["shards"] = tuple(row["shards"])
    values["changes"] = {step: tuple(tuple(change) for change in of) for step, of in row["changes"].items()}
    return Run(**values)


def shard_from(row: Mapping[str, Any]) -> Shard:
    """A shard as the store has it."""
    return Shard(**{**_values(row, Shard), "state": ShardState(row["state"])})


def claim_from(row: Mapping[str, Any]) -> Claim:
    """A claim as the store has it."""
    values = _values(row, Claim)
    values["state"] = ClaimState(row["state"])
    values["totals"] = _totals(row["totals"])
    values["turns"] = tuple(row["turns"])
    values["warnings"] = tuple(row["warnings"])
    values["end"] = End(**row["end"]) if row["end"] is not None else None
    return Claim(**values)


def _totals(found: Mapping[str, Any]) -> Totals:
    turns = found.get("turns")
    changes = tuple(tuple(change) for change in found.get("changes", ()))
    return Totals(**{**found, "turns": None if turns is None else tuple(turns), "changes": changes})


def worker_from(row: Mapping[str, Any]) -> Worker:
    """A worker as the store has it."""
    values = _values(row, Worker)
    hello = row["hello"]
    if hello is not None:
        values["hello"] = Hello(
            **{**hello, "addresses": tuple(hello["addresses"]), "slot_kinds": tuple(hello["slot_kinds"])}
        )
    values["clock"] = Clock(**row["clock"])
    values["former"] = {name: Life(life["applied"], set(life["ahead"])) for name, life in row["former"].items()}
    values["ahead"] = set(row["ahead"])
    values["refusals"] = {name: Refusal(**item) for name, item in row["refusals"].items()}
    return Worker(**values)
