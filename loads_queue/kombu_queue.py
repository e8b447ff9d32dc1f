"""Queues over Kombu: Amazon SQS and what speaks its language, Redis, RabbitMQ. The only file that knows Kombu or boto3.

Every other library's error leaves here as a ``QueueError``. One connection sends, declares and deletes, each consumer
has another: Kombu polls the queues of one connection in turn. A connection that failed is dropped and made anew by
the next call; a call that fails on a connection from before tries once more on a new one.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import kombu
from kombu.exceptions import KombuError, OperationalError

from .brokers import KINDS, TIMEOUT_S, Broker, Sqs
from .queue import MAX_BODY, VISIBILITY_S, Delivery, QueueError, QueueMissing

_KOMBU: Any = kombu
"""Kombu has annotations, but too few to call it from checked code."""


def connect(url: str, *, prefix: str = "loads-") -> KombuQueue:
    """The queue behind a broker's URL (see ``queue.connect``); raises QueueError where it is none of ours."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise QueueError(f"broker URL: {error}") from None
    kind = KINDS.get(parts.scheme)
    if kind is None:
        known = ", ".join(f"{scheme}://" for scheme in KINDS)
        raise QueueError(f"broker URL: {parts.scheme or url[:20]!r} is not known; it begins with one of {known}")
    shown = f"{parts.scheme}://{parts.hostname or ''}{f':{port}' if port else ''}"
    return KombuQueue(_Link(kind(url, prefix), shown))


class KombuQueue:
    """``queue.Queue`` over a broker."""

    def __init__(self, link: _Link) -> None:
        self._link = link
        self._broker = link.broker
        self._lock = threading.RLock()
        self._sender: Any = None
        self._visibility: dict[str, int] = {}
        self._consumers: list[KombuConsumer] = []

    def declare(self, name: str, visibility_s: int = VISIBILITY_S) -> None:
        """Have the queue exist; see ``queue.Queue``."""
        self._visibility[name] = visibility_s
        self._call(lambda channel: self._broker.declare(channel, self._broker.name(name), visibility_s), name)

    def send(self, name: str, bodies: Sequence[str]) -> None:
        """Returns when the broker has all of them; see ``queue.Queue``."""
        for body in bodies:
            _check(name, body)
        if bodies:
            self._call(lambda channel: self._broker.send(channel, self._broker.name(name), bodies), name)

    def send_many(self, messages: Sequence[tuple[str, str]]) -> bool:
        """Send (queue, body) with one call, where the broker has such a one; False, and nothing done, where it has
        none. After an error some may have been sent."""
        for name, body in messages:
            _check(name, body)
        taken: list[bool] = []
        named = [(self._broker.name(name), body) for name, body in messages]
        self._call(lambda channel: taken.append(self._broker.send_many(channel, named)), messages[0][0])
        return taken[-1]

    def consume(self, name: str, prefetch: int) -> KombuConsumer:
        """A reader of a queue; it connects at its first receive."""
        consumer = KombuConsumer(self._link, name, prefetch, self._visibility.get(name, VISIBILITY_S))
        self._consumers.append(consumer)
        return consumer

    def delete(self, name: str) -> None:
        """Have the queue and what is in it gone."""
        with suppress(QueueMissing):
            self._call(lambda channel: self._broker.delete(channel, self._broker.name(name)), name)

    def close(self) -> None:
        """End the connection and every consumer."""
        for consumer in self._consumers:
            consumer.close()
        self._consumers.clear()
        with self._lock:
            self._drop()

    def _call(self, action: Callable[[Any], None], name: str) -> None:
        """Do something on the sender's channel, once more on a new connection where an old one failed."""
        with self._lock:
            if self._sender is not None:
                try:
                    self._try(action, name)
                    return
                except QueueMissing:
                    raise
                except QueueError:
                    pass  # the connection may have been idle since the broker went and came: a new one tells
            self._try(action, name)

    def _try(self, action: Callable[[Any], None], name: str) -> None:
        try:
            with self._link.mapped(name):
                if self._sender is None:
                    self._sender = self._link.connection(None, VISIBILITY_S)
                action(self._sender.default_channel)
        except BaseException:
            self._drop()
            raise

    def _drop(self) -> None:
        sender, self._sender = self._sender, None
        _end(sender)


def _check(name: str, body: str) -> None:
    if not body.startswith("{"):
        raise QueueError(f"queue {name}: a body is the text of a JSON object, not {body[:20]!r}")
    size = len(body) if body.isascii() else len(body.encode())
    if size > MAX_BODY:
        raise QueueError(f"queue {name}: a message of {size} bytes is over the limit of {MAX_BODY}")


class KombuConsumer:
    """``queue.Consumer`` over a connection of its own."""

    def __init__(self, link: _Link, name: str, prefetch: int, visibility_s: int) -> None:
        self._link = link
        self._broker = link.broker
        self._name = name
        self._prefetch = prefetch
        self._visibility_s = visibility_s
        self._connection: Any = None
        self._reader: Any = None
        self._applied = 0
        """The prefetch that the connection was told."""
        self._generation = 0
        self._arrived: list[Delivery] = []
        self._held: set[Any] = set()
        self.behind = False
        """Whether the last receive brought as many messages as it could, so that there may be more."""
        self._receiving = False
        self._closed = False
        self._wake = threading.Event()
        self._reading = threading.Lock()
        self._opening = threading.Lock()

    def receive(self, timeout_s: float) -> list[Delivery]:
        """What has arrived, as soon as anything has; see ``queue.Consumer``."""
        if self._receiving:
            raise RuntimeError("one greenlet at a time may receive from a consumer")
        deadline = time.monotonic() + timeout_s
        self._receiving = True
        try:
            while not self._closed:
                self._wake.clear()
                left_s = max(0.0, deadline - time.monotonic())
                room = self._room()
                if room > 0:
                    self._read(left_s)
                    self.behind = len(self._arrived) >= min(room, self._broker.at_once)
                else:
                    if self._prefetch == 0 != self._applied and self._reader is not None:
                        self.set_prefetch(0)  # it was lowered while a wait was under way, which brought nothing
                    self._wake.wait(left_s if not self._arrived else 0)
                if self._arrived and (found := self._handed_out()):
                    return found
                if time.monotonic() >= deadline - 0.01:
                    break
            return []
        finally:
            self._receiving = False
            if self._closed:
                self._end()

    def set_prefetch(self, prefetch: int) -> None:
        """Hold at most this many unacknowledged; from any greenlet."""
        self._prefetch = prefetch
        self._wake.set()
        if self._reading.acquire(blocking=False):  # whoever reads meanwhile applies it
            try:
                if self._reader is not None:
                    with self._link.mapped(self._name):
                        self._apply()
            except QueueError:
                self._drop()
                raise
            finally:
                self._reading.release()

    def ack(self, deliveries: Sequence[Delivery]) -> None:
        """Drop these messages for good; from any greenlet."""
        self._settle(deliveries, self._broker.ack)

    def release(self, deliveries: Sequence[Delivery]) -> None:
        """Hand these messages back, so that they are received again at once."""
        self._settle(deliveries, self._broker.release)

    def close(self) -> None:
        """Hand everything back and end the connection; a receive that is under way does it when its wait ends."""
        self._closed = True
        self._wake.set()
        if not self._receiving:
            self._end()

    def _room(self) -> int:
        return self._prefetch - len(self._held)

    def _read(self, left_s: float) -> None:
        """Wait on the broker for a message, or for a part of the time that is left."""
        try:
            with self._reading, self._link.mapped(self._name):
                self._open()
                self._apply()
                self._broker.drain(self._connection, self._reader, left_s, self._room())
        except QueueError:
            self._drop()
            raise

    def _open(self) -> None:
        """Connect, unless it is; the consumer itself starts in ``_apply``."""
        with self._opening:
            if self._reader is not None:
                return
            self._generation += 1
            name = self._broker.name(self._name)
            connection = self._connection = self._link.connection(self._name, self._visibility_s)
            channel = connection.default_channel
            channel.do_restore = False  # what is unacknowledged is handed back by us, not by Kombu at its exit
            self._applied = 0
            self._reader = _KOMBU.Consumer(
                channel,
                [_KOMBU.Queue(name, exchange="", routing_key=name)],
                auto_declare=False,
                on_message=self._on_message,
            )

    def _apply(self) -> None:
        """Bring the connection to the prefetch that is wanted."""
        wanted, self._applied, was = self._prefetch, self._prefetch, self._applied
        if wanted == was:
            return
        if wanted > 0:
            # RabbitMQ applies it to consumers that run already only when it is for the whole channel
            self._reader.qos(prefetch_count=wanted, apply_global=True)
        if was == 0:
            self._reader.consume()
        elif wanted == 0:
            self._reader.cancel()
            self._broker.settle(self._connection)

    def _on_message(self, message: Any) -> None:
        body = message.body
        text = body if isinstance(body, str) else bytes(body).decode("utf-8", "replace")
        delivery = Delivery(text, (self._generation, message.delivery_tag))
        self._held.add(delivery.receipt)
        self._arrived.append(delivery)

    def _handed_out(self) -> list[Delivery]:
        """What came, less what is too much now that the prefetch was lowered meanwhile; the broker is told first,
        or it would send here again what goes back."""
        if self._prefetch < self._applied:
            self.set_prefetch(self._prefetch)
        arrived, self._arrived = self._arrived, []
        surplus = len(arrived) if self._closed else min(len(arrived), max(0, -self._room()))
        if surplus:
            self.release(arrived[len(arrived) - surplus :])
        return arrived[: len(arrived) - surplus]

    def _settle(self, deliveries: Sequence[Delivery], how: Callable[[Any, str, list[Any]], None]) -> None:
        mine = [each.receipt for each in deliveries if each.receipt in self._held]
        if not mine:
            return
        try:
            with self._link.mapped(self._name):
                self._open()
                how(self._reader.channel, self._broker.name(self._name), [tag for _, tag in mine])
        finally:
            self._held.difference_update(mine)
            self._wake.set()

    def _drop(self) -> None:
        """Forget the connection, and what came over it where its receipts die with it."""
        connection, self._connection, self._reader = self._connection, None, None
        if not self._broker.receipts_last:
            self._held.clear()
            self._arrived.clear()
        _end(connection)

    def _end(self) -> None:
        """Hand back what is held, and go."""
        self._prefetch = 0
        if self._reader is not None:
            with suppress(QueueError), self._link.mapped(self._name):
                self._apply()
        if self._held and self._broker.receipts_last:
            with suppress(QueueError):
                self.release([Delivery("", receipt) for receipt in self._held])
        self._held.clear()
        self._arrived.clear()
        self._drop()


def _end(connection: Any) -> None:
    """Close a connection that may be broken already: what goes wrong now is of no consequence."""
    if connection is not None:
        with suppress(Exception):
            connection.release()


class _Link:
    """A broker, how to connect to it, and what its library raises."""

    def __init__(self, broker: Broker, shown: str) -> None:
        self.broker = broker
        self._shown = shown

    def connection(self, queue: str | None, visibility_s: int) -> Any:
        """A connection to send with, or to consume one queue."""
        transport = _sqs_transport() if isinstance(self.broker, Sqs) else None
        options = {**self.broker.options(queue, visibility_s), "max_retries": 0}  # or Kombu tries for 5 s
        tls = self.broker.tls_options()
        return _KOMBU.Connection(
            self.broker.url, ssl=tls, transport=transport, connect_timeout=TIMEOUT_S, transport_options=options
        )

    @contextmanager
    def mapped(self, name: str) -> Iterator[None]:
        """Turn what the libraries raise into QueueError; ``name`` is the queue's."""
        try:
            yield
        except QueueError:
            raise
        except _errors(self.broker.library) as error:
            if self.broker.is_missing(error):
                raise QueueMissing(f"broker {self._shown}: queue {name} does not exist") from error
            why = " ".join(str(error).split()) or type(error).__name__
            if isinstance(error, KeyError):
                why = f"an answer without {why}, as one that was cut off"
            away = isinstance(error, OSError) or "Connect" in type(error).__name__
            hint = "; is it up, and the URL right?" if away else ""
            raise QueueError(f"broker {self._shown}, queue {name}: {why}{hint}") from error


@cache
def _errors(library: str) -> tuple[type[Exception], ...]:
    """What a broker's library raises when the broker is away or refuses, an AttributeError included: it is how Kombu
    and the libraries under it meet a connection, or an answer, that was lost under them."""
    common = (KombuError, OperationalError, OSError, AttributeError)
    if library == "amqp":
        from amqp.exceptions import AMQPError

        return (*common, AMQPError)
    if library == "redis":
        try:
            from redis.exceptions import RedisError
        except ImportError:
            raise QueueError("redis:// needs the redis package: pip install 'loads-cluster[redis]'") from None
        return (*common, RedisError)
    from botocore.exceptions import BotoCoreError, ClientError

    # A KeyError: an answer that was cut off, or is not the service's, lacks what every answer has.
    return (*common, BotoCoreError, ClientError, KeyError)


@cache
def _sqs_transport() -> Any:
    """Kombu's SQS transport, less what costs time here: a ListQueues and a boto3 client a connection."""
    from kombu.transport import SQS

    clients: dict[str, Any] = {}
    channel_class: Any = SQS.Channel
    transport_class: Any = SQS.Transport

    class Channel(channel_class):  # type: ignore[misc]
        """Looks queues up by name, one call each, and never creates one on the way."""

        def _update_queue_cache(self, queue_name_prefix: str) -> None:
            return

        def _new_queue(self, queue: str, **_: Any) -> str:
            if queue not in self._queue_cache:
                self._queue_cache[queue] = self.sqs().get_queue_url(QueueName=queue)["QueueUrl"]
            return str(self._queue_cache[queue])

        def new_sqs_client(self, *account: Any, **options: Any) -> Any:
            key = json.dumps([self.endpoint_url, account, options, self.transport_options], sort_keys=True)
            if key not in clients:
                clients[key] = super().new_sqs_client(*account, **options)
            return clients[key]

    class Transport(transport_class):  # type: ignore[misc]
        """SQS over such channels."""

    Transport.Channel = Channel
    return Transport
