"""The embedded broker's queues and messages, in one SQLite file.

Every call is one transaction that is in the file when it returns (write-ahead log: it survives a SIGKILL of the
process, and with ``synchronous=NORMAL`` all but its last moments survive a power cut). Times are Unix milliseconds
from the clock given. What SQS calls a receipt handle is the message's number and a nonce that changes with every
receive; an old one still names the message but no longer touches it. No waiting, no network, no limits checked here.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import sqlite3
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS queues (
    id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, attributes TEXT NOT NULL,
    created INTEGER NOT NULL, modified INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS messages (
    number INTEGER PRIMARY KEY AUTOINCREMENT, queue INTEGER NOT NULL, id TEXT NOT NULL, body TEXT NOT NULL,
    md5 TEXT NOT NULL, sent INTEGER NOT NULL, visible INTEGER NOT NULL, receives INTEGER NOT NULL DEFAULT 0,
    first INTEGER, nonce TEXT);
CREATE INDEX IF NOT EXISTS messages_by_queue ON messages (queue, visible, number);
"""


class UnknownReceipt(Exception):
    """A receipt handle that this broker never gave out."""


class NotInFlight(Exception):
    """The message is not on loan by that receipt (any more)."""


@dataclass(slots=True)
class QueueRecord:
    """A queue as it stands: ``attributes`` are SQS's, as it writes them (texts)."""

    number: int
    name: str
    attributes: dict[str, str]
    created: int
    modified: int


@dataclass(frozen=True, slots=True)
class Message:
    """A message as it is handed out."""

    id: str
    body: str
    md5: str
    receipt: str
    sent: int
    first: int
    receives: int


@dataclass(frozen=True, slots=True)
class Counts:
    """How many messages of a queue can be received now, are on loan, and wait for their delay."""

    visible: int
    in_flight: int
    delayed: int


@dataclass(slots=True)
class Taken:
    """What a receive found: messages, and the queues' numbers that dead letters were moved to."""

    messages: list[Message] = field(default_factory=list)
    moved_to: set[int] = field(default_factory=set)


class Store:
    """Queues and messages; for one thread."""

    def __init__(self, path: Path, now_ms: Callable[[], int]) -> None:
        path.touch(mode=0o600)
        self.now = now_ms
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.executescript(_SCHEMA)
        self._queues = {
            name: QueueRecord(number, name, json.loads(attributes), created, modified)
            for number, name, attributes, created, modified in self._db.execute("SELECT * FROM queues")
        }

    def close(self) -> None:
        """Write the log back into the file and close it."""
        self._db.close()

    def setting(self, name: str) -> str | None:
        """A text kept beside the messages."""
        row = self._db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def set_setting(self, name: str, value: str) -> None:
        """Keep a text beside the messages."""
        self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))

    # Queues

    def queue(self, name: str) -> QueueRecord | None:
        """A queue by name."""
        return self._queues.get(name)

    def queues(self) -> list[QueueRecord]:
        """All queues, by name."""
        return [self._queues[name] for name in sorted(self._queues)]

    def create_queue(self, name: str, attributes: Mapping[str, str]) -> QueueRecord:
        """Add a queue whose name is free."""
        now = self.now()
        number = self._db.execute(
            "INSERT INTO queues (name, attributes, created, modified) VALUES (?, ?, ?, ?)",
            (name, json.dumps(dict(attributes)), now, now),
        ).lastrowid
        assert number is not None
        self._queues[name] = QueueRecord(number, name, dict(attributes), now, now)
        return self._queues[name]

    def set_attributes(self, queue: QueueRecord, attributes: Mapping[str, str]) -> None:
        """Replace all attributes of a queue."""
        now = self.now()
        self._db.execute(
            "UPDATE queues SET attributes = ?, modified = ? WHERE id = ?",
            (json.dumps(dict(attributes)), now, queue.number),
        )
        queue.attributes, queue.modified = dict(attributes), now

    def delete_queue(self, queue: QueueRecord) -> None:
        """Forget a queue and its messages."""
        with self._transaction():
            self.purge(queue)
            self._db.execute("DELETE FROM queues WHERE id = ?", (queue.number,))
        del self._queues[queue.name]

    def purge(self, queue: QueueRecord) -> None:
        """Forget a queue's messages."""
        self._db.execute("DELETE FROM messages WHERE queue = ?", (queue.number,))

    def counts(self, queue: QueueRecord) -> Counts:
        """How many messages a queue holds."""
        now = self.now()
        row = self._db.execute(
            "SELECT COUNT(*) FILTER (WHERE visible <= :now), COUNT(*) FILTER (WHERE visible > :now AND nonce NOT NULL),"
            " COUNT(*) FILTER (WHERE visible > :now AND nonce IS NULL) FROM messages WHERE queue = :queue",
            {"now": now, "queue": queue.number},
        ).fetchone()
        return Counts(*row)

    # Messages

    def send(self, queue: QueueRecord, bodies: Sequence[tuple[str, int]]) -> list[tuple[str, str]]:
        """Add (body, delay in seconds) pairs; their (id, MD5) pairs."""
        now = self.now()
        sent = [
            (str(uuid.uuid4()), hashlib.md5(body.encode(), usedforsecurity=False).hexdigest()) for body, _ in bodies
        ]
        with self._transaction():
            self._db.executemany(
                "INSERT INTO messages (queue, id, body, md5, sent, visible) VALUES (?, ?, ?, ?, ?, ?)",
                [
                    (queue.number, ident, body, md5, now, now + delay_s * 1000)
                    for (body, delay_s), (ident, md5) in zip(bodies, sent, strict=True)
                ],
            )
        return sent

    def receive(self, queue: QueueRecord, limit: int, visibility_s: int, dead: tuple[QueueRecord, int] | None) -> Taken:
        """Lend out up to ``limit`` messages, those that became visible first first.

        ``dead`` is (dead-letter queue, most receives): a message received that often is moved there instead.
        """
        now = self.now()
        taken = Taken()
        if self.next_visible(queue) is None:
            return taken
        with self._transaction():
            while len(taken.messages) < limit:
                rows = self._db.execute(
                    "SELECT number, id, body, md5, sent, first, receives FROM messages"
                    " WHERE queue = ? AND visible <= ? ORDER BY visible, number LIMIT ?",
                    (queue.number, now, limit - len(taken.messages)),
                ).fetchall()
                if not rows:
                    break
                for number, *values, receives in rows:
                    if dead is not None and receives >= dead[1] and dead[0].number != queue.number:
                        self._bury(number, dead[0], now)
                        taken.moved_to.add(dead[0].number)
                    else:
                        taken.messages.append(self._lend(number, values, receives + 1, now, visibility_s))
        return taken

    def _lend(self, number: int, values: list[str | int | None], receives: int, now: int, visibility_s: int) -> Message:
        ident, body, md5, sent, first = values
        nonce = secrets.token_hex(8)
        first = now if first is None else first
        self._db.execute(
            "UPDATE messages SET visible = ?, receives = ?, first = ?, nonce = ? WHERE number = ?",
            (now + visibility_s * 1000, receives, first, nonce, number),
        )
        return Message(str(ident), str(body), str(md5), f"{number}-{nonce}", int(sent or 0), int(first), receives)

    def _bury(self, number: int, queue: QueueRecord, now: int) -> None:
        self._db.execute(
            "UPDATE messages SET queue = ?, visible = ?, receives = 0, first = NULL, nonce = NULL WHERE number = ?",
            (queue.number, now, number),
        )

    def next_visible(self, queue: QueueRecord) -> int | None:
        """When the next message can be received (now, or in the past: at once); None where there is none."""
        row = self._db.execute("SELECT MIN(visible) FROM messages WHERE queue = ?", (queue.number,)).fetchone()
        return None if row[0] is None else int(row[0])

    def delete(self, queue: QueueRecord, receipts: Sequence[str]) -> list[bool]:
        """Drop messages; False for each receipt that this broker never gave out. An outdated one changes nothing."""
        with self._transaction():
            return [self._delete(queue, receipt) for receipt in receipts]

    def _delete(self, queue: QueueRecord, receipt: str) -> bool:
        try:
            number, nonce = _parse(receipt)
        except UnknownReceipt:
            return False
        self._db.execute(
            "DELETE FROM messages WHERE number = ? AND nonce = ? AND queue = ?", (number, nonce, queue.number)
        )
        return True

    def change_visibility(self, queue: QueueRecord, receipt: str, visibility_s: int) -> None:
        """Extend or end a loan, from now on; raises UnknownReceipt or NotInFlight."""
        number, nonce = _parse(receipt)
        now = self.now()
        changed = self._db.execute(
            "UPDATE messages SET visible = ? WHERE number = ? AND nonce = ? AND queue = ? AND visible > ?",
            (now + visibility_s * 1000, number, nonce, queue.number, now),
        ).rowcount
        if not changed:
            raise NotInFlight

    def expire(self, retention_s: Callable[[QueueRecord], int]) -> int:
        """Drop what was sent longer ago than its queue keeps messages; how many."""
        now = self.now()
        dropped = 0
        for queue in self._queues.values():
            dropped += self._db.execute(
                "DELETE FROM messages WHERE queue = ? AND sent < ?", (queue.number, now - retention_s(queue) * 1000)
            ).rowcount
        return dropped

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")


def _parse(receipt: str) -> tuple[int, str]:
    number, dash, nonce = receipt.partition("-")
    if not (dash and number.isascii() and number.isdecimal() and len(number) < 19 and len(nonce) == 16):
        raise UnknownReceipt
    return int(number), nonce
