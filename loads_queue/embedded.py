"""The broker for one machine: an SQS-compatible server on 127.0.0.1 whose messages are in one SQLite file.

It speaks the AWS JSON protocol, so that every part talks to it exactly as it talks to Amazon SQS. What it does and
doesn't do of SQS stands in ``embedded_api``. Requests must be signed with the secret in its URL, which is made at
random once a folder and kept there with the messages, as is the port; so a broker that comes back on its folder is
found by those who knew it before.

The folder holds ``broker.sqlite3``, ``broker.lock`` (one broker a folder) and, while it runs, ``broker.json`` with its
URL; all are for the user alone.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import signal
import socket as plain_socket
import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import gevent
from gevent import socket
from gevent.event import Event
from gevent.server import StreamServer

from .embedded_api import Api, ApiError, ReceiveRequest
from .embedded_http import BadRequest, Reader, Request, refusal, response
from .embedded_store import Message, Store
from .queue import ADDRESS_FILE, QueueError

HOST = "127.0.0.1"
KEY = "embedded"
"""The access key in the URL; the secret after it is what lets a request in."""
_TARGET = "AmazonSQS."
_EXPIRE_EVERY_S = 60


@dataclass(frozen=True, slots=True)
class Settings:
    """How to start: ``port`` 0 is the one of last time where it is free, else any; ``listen_fd`` is a socket that
    listens already, ``parent_fd`` a descriptor whose end of file ends the broker."""

    folder: Path
    port: int = 0
    listen_fd: int | None = None
    parent_fd: int | None = None


def serve(settings: Settings, ready: Callable[[str], None]) -> None:
    """Run until SIGTERM, SIGINT or the parent's end; ``ready`` is called with the URL once requests are answered.

    Raises QueueError where the folder or the port can't be used.
    """
    folder = settings.folder
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = _lock(folder / "broker.lock")
        store = Store(folder / "broker.sqlite3", _steady_ms())
    except (OSError, sqlite3.Error) as error:
        raise QueueError(f"the broker can't use folder {folder}: {error}") from None
    listener = _listener(settings, store)
    secret = store.setting("secret") or secrets.token_hex(16)
    store.set_setting("secret", secret)
    port = listener.getsockname()[1]
    store.set_setting("port", str(port))
    url = f"sqs://{KEY}:{secret}@{HOST}:{port}//"
    server = Server(store, listener, secret)
    stop = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        gevent.signal_handler(number, stop.set)
    if settings.parent_fd is not None:
        gevent.spawn(_wait_for_end, settings.parent_fd).link(lambda _: stop.set())
    server.start()
    try:
        _write_address(folder / ADDRESS_FILE, url)
        ready(url)
        while not stop.wait(_EXPIRE_EVERY_S):
            with suppress(sqlite3.Error):  # whoever sends is told; here it is tried again
                server.api.expire()
    finally:
        (folder / ADDRESS_FILE).unlink(missing_ok=True)
        server.stop()
        store.close()
        os.close(lock)


class Server:
    """The connections, and who waits for messages on them."""

    def __init__(self, store: Store, listener: socket.socket, secret: str) -> None:
        self._secret = secret
        self._waiting: dict[str, dict[Event, None]] = {}
        self._server = StreamServer(listener, self._connection)
        self.api = Api(store, f"http://{HOST}:{listener.getsockname()[1]}", self._wake)

    def start(self) -> None:
        """Answer requests."""
        self._server.start()

    def stop(self) -> None:
        """Cut all connections."""
        self._server.stop(timeout=0)

    def _wake(self, queue: str) -> None:
        """Have those who wait on a queue look again, who waits longest first."""
        for waiter in self._waiting.get(queue, ()):
            waiter.set()

    def _connection(self, sock: socket.socket, _: object) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        reader = Reader(sock)
        try:
            while (request := reader.next()) is not None:
                self._answer(sock, request)
        except BadRequest as error:
            sock.sendall(response(400, str(error).encode(), {"Connection": "close"}))
        except (_PollerGone, ConnectionError):
            return

    def _answer(self, sock: socket.socket, request: Request) -> None:
        try:
            action, params = self._admit(request)
            if action == "ReceiveMessage":
                self._receive(sock, self.api.receive_request(params))
                return
            sock.sendall(_result(self.api.call(action, params)))
        except ApiError as error:
            sock.sendall(_error(error))
        except sqlite3.Error as error:
            sock.sendall(_error(ApiError("InternalFailure", f"the broker can't keep its messages: {error}", 500)))

    def _admit(self, request: Request) -> tuple[str, dict[str, object]]:
        if refused := refusal(request, KEY, self._secret, time.time()):
            raise ApiError(*refused, status=403)
        target = request.headers.get("x-amz-target", "")
        if request.method != "POST" or not target.startswith(_TARGET):
            raise ApiError("UnknownOperationException", "only SQS's AWS JSON protocol is spoken here", 404)
        try:
            params = json.loads(request.body or b"{}")
        except (ValueError, RecursionError):
            raise ApiError("SerializationException", "the body is not JSON") from None
        if not isinstance(params, dict):
            raise ApiError("SerializationException", "the body is no JSON object")
        return target.removeprefix(_TARGET), params

    def _receive(self, sock: socket.socket, request: ReceiveRequest) -> None:
        """Wait for messages and send them; nothing is lent to a poller that is seen to be gone."""
        messages = self._await(sock, request)
        try:
            sock.sendall(_result(self.api.received(messages)))
        except ConnectionError:
            self.api.hand_back(request, messages)
            raise

    def _await(self, sock: socket.socket, request: ReceiveRequest) -> list[Message]:
        deadline = time.monotonic() + request.wait_s
        waiters = self._waiting.setdefault(request.queue, {})
        waiter = Event()
        waiters[waiter] = None
        try:
            while True:
                if _gone(sock):
                    raise _PollerGone
                messages = self.api.receive(request)
                left_s = deadline - time.monotonic()
                if messages or left_s <= 0:
                    return messages
                due_ms = self.api.next_visible_in_ms(request)
                # one millisecond more, so that the message is due by the store's clock when the wait is over
                waiter.wait(left_s if due_ms is None else max(0.001, min(left_s, (due_ms + 1) / 1000)))
                waiter.clear()
        finally:
            del waiters[waiter]
            if not waiters:
                self._waiting.pop(request.queue, None)


class _PollerGone(Exception):
    """Whoever asked has hung up."""


def _gone(sock: socket.socket) -> bool:
    """Whether the peer has closed: it sends nothing while it waits, so anything to read but data is the end."""
    try:
        return not sock._sock.recv(1, plain_socket.MSG_PEEK | plain_socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True


def _result(result: dict[str, object] | None) -> bytes:
    return _json(200, {} if result is None else result, {})


def _error(error: ApiError) -> bytes:
    wire: dict[str, object] = {"__type": f"com.amazonaws.sqs#{error.code}", "message": error.message}
    return _json(error.status, wire, {"x-amzn-query-error": f"{error.query_code};Sender"})


def _json(status: int, wire: dict[str, object], headers: dict[str, str]) -> bytes:
    headers = {"Content-Type": "application/x-amz-json-1.0", "x-amzn-RequestId": secrets.token_hex(16), **headers}
    return response(status, json.dumps(wire).encode(), headers)


def _steady_ms() -> Callable[[], int]:
    """Unix milliseconds that never jump while the process runs: a clock set back must not hide messages."""
    offset = time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    return lambda: (time.clock_gettime_ns(time.CLOCK_BOOTTIME) + offset) // 1_000_000


def _lock(path: Path) -> int:
    """Hold the folder; raises QueueError where another broker does."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise QueueError(f"another broker runs on folder {path.parent}: use it, or give --data another one") from None
    return descriptor


def _listener(settings: Settings, store: Store) -> socket.socket:
    if settings.listen_fd is not None:
        try:
            inherited = socket.socket(fileno=settings.listen_fd)
            host = inherited.getsockname()[0]
        except OSError as error:
            raise QueueError(f"descriptor {settings.listen_fd} is no listening socket: {error.strerror}") from None
        if host != HOST:
            raise QueueError(f"descriptor {settings.listen_fd} listens on {host}; the broker is for {HOST} alone")
        inherited.setblocking(False)
        return inherited
    last = int(store.setting("port") or 0)
    for port in (settings.port,) if settings.port else (last, 0):
        try:
            return _listen(port)
        except OSError as error:
            if port == settings.port and settings.port:
                raise QueueError(f"the broker can't listen on {HOST}:{port}: {error.strerror}") from None
    raise QueueError(f"the broker finds no free port on {HOST}")


def _listen(port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((HOST, port))
        sock.listen(256)
    except OSError:
        sock.close()
        raise
    return sock


def _wait_for_end(descriptor: int) -> None:
    """Return at the descriptor's end of file (or when it is no descriptor at all)."""
    try:
        while True:
            socket.wait_read(descriptor)
            if not os.read(descriptor, 4096):
                return
    except OSError:
        return


def _write_address(path: Path, url: str) -> None:
    """Whole or not at all, for the user alone."""
    part = path.with_name(f"{path.name}.{os.getpid()}")
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump({"url": url, "pid": os.getpid()}, file)
    part.replace(path)
