"""What differs between the brokers: names, options, and the calls on a channel that Kombu opened.

Nothing here imports a broker's library; errors are the caller's to map. ``name`` is the broker's own name of a queue
in all methods but ``Broker.name``.

Names: a queue is ``prefix`` and its name; on SQS, which knows no dots, ``.`` becomes ``_``, and a name that has other
characters than letters, digits, ``.`` and ``-``, or is too long, ends in a digest instead.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import socket
import ssl
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import suppress
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

from .broker_urls import TLS, ca_file, options_of
from .queue import MAX_BODY, QueueError, QueueMissing

TIMEOUT_S = 5
"""How long connecting may take."""
_SLICE_S = 0.25
"""How long a wait on Redis and RabbitMQ lasts before a changed prefetch is looked at."""
_BATCH = 10


_MOST = 100
"""Messages taken from Redis at once."""
_TAKE = """
local taken = {}
for number = 1, tonumber(ARGV[1]) do
  local raw = redis.call('RPOP', KEYS[1])
  if not raw then break end
  local tag = ARGV[4] .. '.' .. number
  redis.call('ZADD', KEYS[3], ARGV[2], tag)
  redis.call('HSET', KEYS[2], tag, '[' .. raw .. ', "", ' .. ARGV[3] .. ']')
  taken[number] = raw
end
return taken
"""
"""Pop and lend in one step, so that a kill in between loses nothing."""


class Broker:
    """What a broker is to ``KombuQueue``."""

    library = ""
    """The library whose errors come with it."""

    receipts_last = False
    """Whether a receipt is good on another connection than that which it came from."""

    at_once = 10
    """The most messages that a ``drain`` takes."""

    def __init__(self, url: str, prefix: str) -> None:
        self.tls = urlsplit(url).scheme in TLS
        self.ca_file = ca_file(url)
        self.url = url.partition("?")[0]
        self.prefix = prefix

    def name(self, queue: str) -> str:
        """The broker's name for a queue."""
        return self.prefix + queue

    def options(self, queue: str | None, visibility_s: int) -> dict[str, Any]:
        """Kombu's transport options."""
        raise NotImplementedError

    def tls_options(self) -> dict[str, Any] | bool:
        """Kombu's ``ssl`` option; the certificate and the host's name in it are always checked."""
        return False

    def is_missing(self, error: Exception) -> bool:
        """Whether an error says that the queue does not exist."""
        return False

    def declare(self, channel: Any, name: str, visibility_s: int) -> None:
        """Have a queue exist."""
        channel.queue_declare(queue=name, durable=True, auto_delete=False)

    def send(self, channel: Any, name: str, bodies: Sequence[str], **options: Any) -> None:
        """Publish, each body confirmed by the broker."""
        for body in bodies:
            message = channel.prepare_message(
                body, content_type="application/json", content_encoding="utf-8", properties={"delivery_mode": 2}
            )
            channel.basic_publish(message, exchange="", routing_key=name, **options)

    def send_many(self, channel: Any, messages: Sequence[tuple[str, str]]) -> bool:
        """Publish to many queues at once; False where there is no such call, and nothing was done."""
        return False

    def delete(self, channel: Any, name: str) -> None:
        """Delete a queue."""
        raise NotImplementedError

    def drain(self, connection: Any, reader: Any, left_s: float, room: int) -> None:
        """Wait for a message, at most that long, and take up to ``room``; they go to the reader's callback."""
        with suppress(socket.timeout):
            connection.drain_events(timeout=min(max(left_s, 0.01), _SLICE_S))

    def settle(self, connection: Any) -> None:
        """Wait until nothing more can arrive after a cancel."""

    def ack(self, channel: Any, name: str, tags: list[Any]) -> None:
        """Acknowledge."""
        for tag in tags:
            channel.basic_ack(tag)

    def release(self, channel: Any, name: str, tags: list[Any]) -> None:
        """Requeue."""
        for tag in tags:
            channel.basic_reject(tag, requeue=True)


class Amqp(Broker):
    """RabbitMQ: publisher confirms, and unroutable messages come back as errors."""

    library = "amqp"

    def options(self, queue: str | None, visibility_s: int) -> dict[str, Any]:
        """Kombu's transport options."""
        return {"confirm_publish": True}

    def tls_options(self) -> dict[str, Any] | bool:
        """What py-amqp takes; it checks the host's name only where it is given one."""
        host = urlsplit(self.url).hostname
        return self.tls and {"cert_reqs": ssl.CERT_REQUIRED, "ca_certs": self.ca_file, "server_hostname": host}

    def is_missing(self, error: Exception) -> bool:
        """NOT_FOUND, or the broker's own end of a consumer."""
        return getattr(error, "reply_code", None) == 404 or type(error).__name__ == "ConsumerCancelled"

    def send(self, channel: Any, name: str, bodies: Sequence[str], **options: Any) -> None:
        """Publish, each body confirmed by the broker; one that no queue takes comes back before its confirmation."""
        returned: list[object] = []
        channel.events["basic_return"] = {lambda *reason: returned.append(reason)}
        super().send(channel, name, bodies, mandatory=True, confirm_timeout=2 * TIMEOUT_S)
        if returned:
            raise QueueMissing(f"queue {name} does not exist on this RabbitMQ")

    def delete(self, channel: Any, name: str) -> None:
        """Delete a queue."""
        channel.queue_delete(queue=name)

    def drain(self, connection: Any, reader: Any, left_s: float, room: int) -> None:
        """Wait for a message, then take those that have arrived with it."""
        with suppress(socket.timeout):
            connection.drain_events(timeout=min(max(left_s, 0.01), _SLICE_S))
            for _ in range(min(_BATCH, room) - 1):
                connection.drain_events(timeout=0.001)


class Redis(Broker):
    """Redis: lists, and what is unacknowledged in a hash a queue, as Kombu keeps it."""

    library = "redis"
    receipts_last = True
    at_once = _MOST

    def options(self, queue: str | None, visibility_s: int) -> dict[str, Any]:
        """Kombu's transport options. Unacknowledged messages are kept apart by queue, since Kombu restores all that
        it finds there by one visibility timeout; the lock on them must not outlive a killed process by 5 minutes."""
        base = f"{self.name(queue or '')}.unacked"
        return {
            "body_encoding": None,
            "priority_steps": [0],
            "visibility_timeout": visibility_s,
            "unacked_key": base,
            "unacked_index_key": f"{base}.index",
            "unacked_mutex_key": f"{base}.mutex",
            "unacked_mutex_expire": 5,
            "socket_connect_timeout": TIMEOUT_S,
            "socket_timeout": 3 * TIMEOUT_S,
        }

    def tls_options(self) -> dict[str, Any] | bool:
        """What redis-py takes; by itself Kombu would check nothing."""
        checked = {"ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_ca_certs": self.ca_file, "ssl_check_hostname": True}
        return self.tls and checked

    def delete(self, channel: Any, name: str) -> None:
        """Delete a queue's list and what is unacknowledged of it."""
        channel.queue_purge(queue=name)
        channel.client.delete(f"{name}.unacked", f"{name}.unacked.index")

    def drain(self, connection: Any, reader: Any, left_s: float, room: int) -> None:
        """Take what is there with one call, or wait for a message as Kombu does (which looks for expired loans only
        while none come).

        A blocking pop lasts no longer than the wait, or it could take a message after a cancel (Redis 6 or newer).
        """
        channel = reader.channel
        channel.brpop_timeout = _SLICE_S
        if time.monotonic() - getattr(channel, "loads_restored", 0.0) >= 1:
            channel.loads_restored = time.monotonic()
            channel.qos.restore_visible(num=None, interval=1)
        if channel._in_poll or not self._take(channel, reader, room):
            super().drain(connection, reader, left_s, room)

    def _take(self, channel: Any, reader: Any, room: int) -> int:
        """Lend up to ``room`` messages at once, as Kombu keeps what is on loan, under receipts of our own."""
        name = reader.queues[0].name
        keys = [name, channel.unacked_key, channel.unacked_index_key]
        base = uuid.uuid4().hex
        found = _client(channel).eval(_TAKE, 3, *keys, min(room, _MOST), time.time(), json.dumps(name), base)
        for number, raw in enumerate(found, start=1):
            message = json.loads(raw)
            body = channel.decode_body(message["body"], message["properties"].get("body_encoding"))
            reader.on_message(SimpleNamespace(body=body, delivery_tag=f"{base}.{number}"))
        return len(found)

    def send(self, channel: Any, name: str, bodies: Sequence[str], **options: Any) -> None:
        """Publish with one call."""
        _client(channel).lpush(name, *(self._message(channel, name, body) for body in bodies))

    def send_many(self, channel: Any, messages: Sequence[tuple[str, str]]) -> bool:
        """Publish with one round trip."""
        pipe = _client(channel).pipeline(transaction=False)
        for name, body in messages:
            pipe.lpush(name, self._message(channel, name, body))
        pipe.execute()
        return True

    def _message(self, channel: Any, name: str, body: str) -> str:
        """A body in Kombu's own wrapping."""
        message = channel.prepare_message(
            body, content_type="application/json", content_encoding="utf-8", properties={"delivery_mode": 2}
        )
        channel._inplace_augment_message(message, "", name)
        return json.dumps(message)

    def ack(self, channel: Any, name: str, tags: list[Any]) -> None:
        """Acknowledge with one round trip."""
        pipe = _client(channel).pipeline()
        pipe.zrem(channel.unacked_index_key, *tags)
        pipe.hdel(channel.unacked_key, *tags)
        pipe.execute()
        for tag in tags:
            if tag in channel.qos._delivered:  # came by Kombu's own pop, and is counted by it
                channel.qos._quick_ack(tag)

    def settle(self, connection: Any) -> None:
        """Wait for the blocking pop that may be under way: Kombu puts what it brings back."""
        deadline = time.monotonic() + 2 * _SLICE_S
        while connection.default_channel._in_poll and time.monotonic() < deadline:
            with suppress(socket.timeout):
                connection.drain_events(timeout=0.05)


class Sqs(Broker):
    """Amazon SQS, and servers that speak its language where the URL names a host."""

    library = "boto3"
    receipts_last = True

    def __init__(self, url: str, prefix: str) -> None:
        parts = urlsplit(url)
        query = options_of(url, ("region", "tls"))
        self._region = query.get("region")
        self._secure = query.get("tls", "0" if parts.hostname else "1") == "1"
        self._local = parts.hostname in ("127.0.0.1", "localhost", "::1")
        super().__init__(url.partition("?")[0], re.sub(r"[^A-Za-z0-9_-]", "-", prefix))

    def name(self, queue: str) -> str:
        """The queue's name in SQS's alphabet, at most 80 characters; no two queues share one."""
        plain = queue.replace(".", "_")
        if re.fullmatch(r"[A-Za-z0-9.-]+", queue) and len(self.prefix) + len(plain) <= 80:
            return self.prefix + plain
        digest = hashlib.sha256(queue.encode()).hexdigest()[:16]
        return f"{(self.prefix + re.sub(r'[^A-Za-z0-9-]', '_', plain))[:62]}__{digest}"

    def options(self, queue: str | None, visibility_s: int) -> dict[str, Any]:
        """Kombu's transport options."""
        config: dict[str, Any] = {
            "connect_timeout": TIMEOUT_S,
            "read_timeout": 30,
            "retries": {"total_max_attempts": 2, "mode": "standard"},
            "max_pool_connections": 64,
        }
        if self._local:
            config["proxies"] = {}  # a proxy from the environment knows nothing of this machine's ports
        region = self._region or ("us-east-1" if self._local else None)
        return {"region": region, "is_secure": self._secure, "polling_interval": 0.05, "client-config": config}

    def is_missing(self, error: Exception) -> bool:
        """SQS's NonExistentQueue, under either of its names."""
        code = str((getattr(error, "response", None) or {}).get("Error", {}).get("Code", ""))
        return code.endswith(("NonExistentQueue", "QueueDoesNotExist"))

    def declare(self, channel: Any, name: str, visibility_s: int) -> None:
        """Create the queue, or set the visibility timeout of the one that is there."""
        wanted = {"VisibilityTimeout": str(visibility_s)}
        client = channel.sqs()
        try:
            url = client.create_queue(QueueName=name, Attributes=wanted)["QueueUrl"]
        except client.exceptions.QueueNameExists:
            url = client.get_queue_url(QueueName=name)["QueueUrl"]
            client.set_queue_attributes(QueueUrl=url, Attributes=wanted)
        channel._queue_cache[name] = url

    def send(self, channel: Any, name: str, bodies: Sequence[str], **options: Any) -> None:
        """Send in batches of at most 10 messages and 1 MiB."""
        url = channel._new_queue(name)
        for batch in _batches(bodies):
            entries = [{"Id": str(number), "MessageBody": body} for number, body in enumerate(batch)]
            _whole(channel.sqs().send_message_batch(QueueUrl=url, Entries=entries))

    def delete(self, channel: Any, name: str) -> None:
        """Delete a queue."""
        url = channel._new_queue(name)
        channel._queue_cache.pop(name, None)
        channel.sqs().delete_queue(QueueUrl=url)

    def drain(self, connection: Any, reader: Any, left_s: float, room: int) -> None:
        """One long poll, in whole seconds (less a little, or a poll that ends early would cost another second)."""
        reader.channel.wait_time_seconds = min(20, max(0, math.ceil(left_s - 0.05)))
        with suppress(socket.timeout):
            connection.drain_events(timeout=0)

    def ack(self, channel: Any, name: str, tags: list[Any]) -> None:
        """Delete in batches."""
        for entries in self._entries(channel, tags):
            result = channel.sqs().delete_message_batch(QueueUrl=channel._new_queue(name), Entries=entries)
            _whole(result, but=("ReceiptHandleIsInvalid", "InvalidParameterValue"))

    def release(self, channel: Any, name: str, tags: list[Any]) -> None:
        """End the loans; one that has ended already is as wanted."""
        for entries in self._entries(channel, tags):
            hidden = [{**entry, "VisibilityTimeout": 0} for entry in entries]
            channel.sqs().change_message_visibility_batch(QueueUrl=channel._new_queue(name), Entries=hidden)

    def _entries(self, channel: Any, tags: list[Any]) -> Iterator[list[dict[str, Any]]]:
        """Batches of receipt handles, which Kombu stops counting as held."""
        for tag in tags:
            channel.qos.ack(tag)
        for at in range(0, len(tags), _BATCH):
            yield [{"Id": str(number), "ReceiptHandle": tag} for number, tag in enumerate(tags[at : at + _BATCH])]


def _client(channel: Any) -> Any:
    """A Redis client for calls that don't block; Kombu would make one for each call."""
    if not hasattr(channel, "loads_client"):
        channel.loads_client = channel._create_client()
    return channel.loads_client


def _batches(bodies: Sequence[str]) -> Iterator[list[str]]:
    """Bodies in order, in lists of at most 10 and 1 MiB."""
    batch: list[str] = []
    size = 0
    for body in bodies:
        length = len(body.encode())
        if batch and (len(batch) == _BATCH or size + length > MAX_BODY):
            yield batch
            batch, size = [], 0
        batch.append(body)
        size += length
    if batch:
        yield batch


def _whole(result: dict[str, Any], but: tuple[str, ...] = ()) -> None:
    """Raise QueueError where entries of a batch failed, other than for these reasons."""
    failed = [entry for entry in result.get("Failed", []) if entry.get("Code") not in but]
    if failed:
        first = failed[0]
        raise QueueError(f"the broker refused {len(failed)} messages: {first.get('Code')}: {first.get('Message', '')}")


KINDS: dict[str, type[Broker]] = {"sqs": Sqs, "redis": Redis, "rediss": Redis, "amqp": Amqp, "amqps": Amqp}
"""By the scheme of the URL."""
