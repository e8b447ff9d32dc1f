"""What every queue promises, whatever broker is behind it, and where the one on this machine is found.

At-least-once: a message that ``send`` returned for reaches a consumer, now and then more than once and not always in
order; it is gone once acknowledged. Delay, attempts and dead letters are not here: the scheduler's database has them.
Queues are named as ``messages`` names them; a prefix keeps clusters that share a broker apart.

Everything here is for greenlets of one thread (or threads, one queue object each); under gevent the process must have
been monkey-patched before the broker's library is imported, which ``connect`` does.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

MAX_BODY = 1 << 20
"""The longest body in bytes: what SQS carries; the others are held to it too."""
VISIBILITY_S = 20
ADDRESS_FILE = "broker.json"


class QueueError(Exception):
    """The broker could not do what was asked: it is away, refuses, or the body is too long. Calls may be repeated:
    each one connects again where it has to."""

    exit_code = 4


class QueueMissing(QueueError):
    """The queue does not exist (never declared, or deleted). Redis can't tell: there, a send creates it."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message on loan: it comes again unless it is acknowledged within the queue's visibility timeout.

    ``receipt`` is the broker's and means something to the consumer that it came from only.
    """

    body: str
    receipt: Any


class Consumer(Protocol):
    """One queue's reader, over a connection of its own."""

    def receive(self, timeout_s: float) -> list[Delivery]:
        """What has arrived, as soon as anything has; empty after ``timeout_s`` (SQS: rounded up to whole seconds).

        Never more than the prefetch are out unacknowledged. For one greenlet; killing it ends the wait. Raises
        QueueError, after which unacknowledged deliveries may come again and the next call connects anew.
        """
        ...

    def set_prefetch(self, prefetch: int) -> None:
        """From now on hold at most this many unacknowledged; with 0 nothing is taken from the broker at all.

        May be called from another greenlet while ``receive`` waits.
        """
        ...

    def ack(self, deliveries: Sequence[Delivery]) -> None:
        """Drop these messages for good; from any greenlet. One whose loan is over comes again all the same."""
        ...

    def release(self, deliveries: Sequence[Delivery]) -> None:
        """Hand these messages back, so that they are received again at once."""
        ...

    def close(self) -> None:
        """Hand everything unacknowledged back and end the connection; may be repeated, never raises."""
        ...


class Queue(Protocol):
    """A broker: one connection for everything but consuming, and a further one for each consumer."""

    def declare(self, name: str, visibility_s: int = VISIBILITY_S) -> None:
        """Have the queue exist; may be repeated. ``visibility_s`` has no meaning on AMQP, where the end of a
        connection returns its messages at once."""
        ...

    def send(self, name: str, bodies: Sequence[str]) -> None:
        """Returns when the broker has all of them; after an error some may have been sent. Bodies are the texts of
        JSON objects, as ``codec`` makes them, of at most ``MAX_BODY`` bytes. Raises QueueError, QueueMissing."""
        ...

    def consume(self, name: str, prefetch: int) -> Consumer:
        """A reader of a queue, which this object should have declared (Redis has its ``visibility_s`` from there).

        It connects at its first receive.
        """
        ...

    def delete(self, name: str) -> None:
        """Have the queue and what is in it gone; may be repeated."""
        ...

    def close(self) -> None:
        """End the connection and every consumer; never raises."""
        ...


def connect(url: str, *, prefix: str = "loads-") -> Queue:
    """The queue behind a broker's URL; nothing is opened before the first call. Raises QueueError for a bad URL.

    ``sqs://KEY:SECRET@HOST:PORT//`` is the broker that ``loads broker`` starts (or another SQS-compatible one),
    ``sqs://?region=eu-west-1`` Amazon's own by the machine's credentials, then ``redis://HOST:PORT/DB`` and
    ``amqp://USER:PASSWORD@HOST:PORT/VHOST``; with TLS ``rediss://`` and ``amqps://``, whose certificate is checked
    against the system's authorities, or those in a file: ``rediss://HOST:PORT/0?ca=FILE``.
    """
    from .kombu_queue import connect as connect_by_kombu  # a second of imports, which not every command needs

    return connect_by_kombu(url, prefix=prefix)


def home_folder(environ: Mapping[str, str] | None = None) -> Path:
    """Where lasting state is kept: ``LOADS_HOME``, or ``loads`` in the user's state folder."""
    env = os.environ if environ is None else environ
    if home := env.get("LOADS_HOME"):
        return Path(home).expanduser()
    state = env.get("XDG_STATE_HOME", "")
    return (Path(state) if os.path.isabs(state) else Path.home() / ".local" / "state") / "loads"


def find_broker(folder: Path | None = None) -> str | None:
    """The URL of the broker that runs on this machine with that folder (by default ``home_folder()``), or None."""
    try:
        found = json.loads(((folder or home_folder()) / ADDRESS_FILE).read_text())
        url, pid = found["url"], found["pid"]
        if not isinstance(url, str) or type(pid) is not int or pid <= 0:
            return None
        os.kill(pid, 0)
    except PermissionError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return url
