"""Connections on raw non-blocking sockets, each with one persistent io watcher on gevent's loop.

A connection belongs to at most one greenlet at a time, which waits in the hub. The read watcher stays armed for the
connection's whole life: waiting for readability before the first ``recv`` costs no system call, and a target that
closes an idle connection is noticed before anything is sent on it. Whoever waits may be thrown an exception by the
hub at any time (a timeout, an interruption); then the connection must be closed.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from typing import Any

from .clock import boottime_ns
from .errors import RequestError, Resource, from_os_error
from .permit import Permit
from .tls import TlsStream
from .urls import Origin

READ, WRITE = 1, 2
_CHUNK = 65536

Address = tuple[int, Any]
"""An address family and a socket address."""


class Connection:
    """A connected stream to an origin, plain or TLS."""

    __slots__ = (
        "_cipher", "_hub", "_ready", "_sock", "_tls", "_waiter", "_watcher", "_writer", "alive", "origin", "recv",
        "send_now", "written",
    )  # fmt: skip

    def __init__(self, hub: Any, sock: socket.socket, origin: Origin) -> None:
        self._hub = hub
        self._sock = sock
        self._tls: TlsStream | None = None
        self._waiter: Callable[[], object] | None = None
        self._writer: Any = None
        self._ready = False
        self.recv: Callable[[int], bytes] = sock.recv
        self.send_now: Callable[[bytes], int] = sock.send
        """As a socket's, without waiting, over TLS too: what there is no room for is then ``send_rest``'s."""
        self._cipher: bytes | memoryview = b""
        self.origin = origin
        self.alive = True
        self.written = 0
        """Bytes of the last request that left."""
        self._watcher = hub.loop.io(sock.fileno(), READ)

    def connect(self, address: Any, switch: Callable[[], object]) -> None:
        """Connect; raises RequestError. ``switch`` resumes the caller's greenlet."""
        code = self._sock.connect_ex(address)
        if code == errno.EINPROGRESS:
            self._wait_writable(switch)
            code = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise from_os_error(OSError(code, ""))
        self._watcher.start(self._on_readable)

    def secure(self, tls: TlsStream, switch: Callable[[], object]) -> None:
        """Shake hands for TLS; raises RequestError."""
        self._tls = tls
        while True:
            done = tls.handshake()
            self._flush(tls.take_output(), switch)
            if done:
                self.send_now, self.recv = self._send_secured, self._receive_secured
                return
            data = self._receive_raw(switch)
            if not data:
                raise RequestError("tls: the target closed during the handshake")
            tls.put_input(data)

    def send(self, data: bytes, switch: Callable[[], object], permit: Permit) -> bool:
        """Write all of it; ``written`` counts what left, also where an exception ends it.

        False, and not one byte has left, where the permit is over: the clock is read right before the first byte is
        written, since the whole process may have been stopped at any point before that. It stops early where the
        target answers before it has everything, or breaks the connection: what the target has said by then is for
        ``receive``. Raises RequestError where not one byte could be written.
        """
        self.written = 0
        if self._tls is None:
            return self._flush(data, switch, permit)
        self._tls.write(data)
        if self._flush(self._tls.take_output(), switch, permit):
            return True
        self.alive = False  # What was encrypted and not sent is a gap in the stream: nothing more can go over it.
        return False

    def send_rest(self, data: bytes, done: int, switch: Callable[[], object]) -> None:
        """Go on writing, as ``send`` does, what ``send_now`` has begun."""
        if self._tls is None:
            self.written = done
            self._flush(data, switch, done=done)
        else:
            began = self.written
            self._flush(bytes(self._cipher), switch)
            self.written += began

    def _flush(self, data: bytes, switch: Callable[[], object], permit: Permit | None = None, done: int = 0) -> bool:
        while done < len(data):
            if permit is not None and not done and boottime_ns() >= permit.until:
                return False
            try:
                done += self._sock.send(memoryview(data)[done:] if done else data)
                self.written = done
            except (BlockingIOError, InterruptedError):
                self._wait_writable(switch)
                if self._ready and done:
                    self.alive = False
                    break
            except OSError as error:
                if not done:
                    raise from_os_error(error) from None
                self.alive = False
                break
        return True

    def _send_secured(self, data: bytes) -> int:
        """All of it, or -1 where there was no room for some of what it became."""
        tls = self._tls
        assert tls is not None, "it is for TLS alone"
        tls.write(data)
        cipher = tls.take_output()
        try:
            self.written = self._sock.send(cipher)
        except (BlockingIOError, InterruptedError):
            self.written = 0
        if self.written == len(cipher):
            return len(data)
        self._cipher = memoryview(cipher)[self.written :]
        return -1

    def _receive_secured(self, most: int) -> bytes:
        """All that has come, empty at the end of the stream; raises BlockingIOError where it is no whole record."""
        tls = self._tls
        assert tls is not None, "it is for TLS alone"
        cipher = self._sock.recv(_CHUNK)
        if cipher:
            tls.put_input(cipher)
        else:
            tls.put_end()
        data = tls.read_all()
        if data is None:
            raise BlockingIOError
        return data

    def receive(self, switch: Callable[[], object]) -> bytes:
        """The next bytes, empty at the target's end of the stream; raises RequestError."""
        tls = self._tls
        if tls is None:
            return self._receive_raw(switch)
        while True:
            data = tls.read()
            if data is not None:
                return data
            cipher = self._receive_raw(switch)
            if cipher:
                tls.put_input(cipher)
            else:
                tls.put_end()

    def _receive_raw(self, switch: Callable[[], object]) -> bytes:
        while True:
            self.wait(switch)
            try:
                return self._sock.recv(_CHUNK)
            except (BlockingIOError, InterruptedError):
                continue
            except OSError as error:
                raise from_os_error(error) from None

    def wait(self, switch: Callable[[], object]) -> None:
        """Wait until there is something to read."""
        if not self._ready:
            self._waiter = switch
            try:
                self._hub.switch()
            finally:
                self._waiter = None
        elif not self._watcher.active:
            self._watcher.start(self._on_readable)
        self._ready = False

    def _on_readable(self) -> None:
        waiter = self._waiter
        if waiter is not None:
            waiter()
            return
        # Nobody waits: a greenlet that is busy writing reads later, and an idle connection is over or broken,
        # unless it is TLS saying something of its own (session tickets).
        self._ready = True
        self._watcher.stop()
        if self._writer is not None and self._writer.active:
            self._writer.feed(WRITE, self._writer.callback)

    def idle_alive(self) -> bool:
        """Whether an idle connection may carry a request: the target has neither closed it nor said anything."""
        if self.alive and self._ready:
            self.alive = self._tls is not None and self._only_tls_chatter(self._tls)
        return self.alive

    def _only_tls_chatter(self, tls: TlsStream) -> bool:
        try:
            data = self._sock.recv(_CHUNK)
            tls.put_input(data)
            quiet = bool(data) and tls.read() is None
        except BlockingIOError:
            quiet = True
        except (OSError, RequestError):
            return False
        if quiet:
            self._ready = False
            self._watcher.start(self._on_readable)
        return quiet

    def spoke_first(self) -> bool:
        """Whether a target has sent anything, or closed, before it was asked (one look, without waiting)."""
        if self._tls is not None:
            return False
        try:
            return bool(self._sock.recv(1, socket.MSG_PEEK))
        except OSError:
            return False

    def _wait_writable(self, switch: Callable[[], object]) -> None:
        if self._writer is None:
            self._writer = self._hub.loop.io(self._sock.fileno(), WRITE)
        self._writer.start(switch)
        try:
            self._hub.switch()
        finally:
            self._writer.stop()

    def close(self) -> None:
        """Give the socket back; harmless when repeated."""
        self.alive = False
        if self._watcher is None:
            return
        for watcher in (self._watcher, self._writer):
            if watcher is not None:
                watcher.stop()
                watcher.close()
        self._watcher = self._writer = None
        self.send_now, self.recv = self._sock.send, self._sock.recv  # Nothing that leads back to this object.
        self._sock.close()


def open_socket(family: int) -> socket.socket:
    """A non-blocking TCP socket; raises Resource where the generator has none left."""
    try:
        sock = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise Resource(str(from_os_error(error))) from None
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


class Pool:
    """Idle connections by origin; the one used last goes out first. Of more than ``most`` those of the origin that has
    had one for the longest make way, so that a user, who uses one at a time, never has more open.
    """

    __slots__ = ("_count", "_idle", "_most")

    def __init__(self, most: int) -> None:
        self._idle: dict[Origin, list[Connection]] = {}
        self._count = 0
        self._most = most

    def take(self, origin: Origin) -> Connection | None:
        """A connection that may carry a request now, or None."""
        idle = self._idle.get(origin)
        while idle:
            connection = idle.pop()
            self._count -= 1
            if connection.idle_alive():
                return connection
            connection.close()
        if self._count >= self._most:
            self._evict()  # Another one is about to be opened.
        return None

    def has(self, origin: Origin) -> bool:
        """Whether ``take`` may well find one."""
        return bool(self._idle.get(origin))

    def give(self, connection: Connection) -> None:
        """Take a connection back."""
        if self._count >= self._most:
            self._evict()
        self._idle.setdefault(connection.origin, []).append(connection)
        self._count += 1

    def _evict(self) -> None:
        origin = next(origin for origin, idle in self._idle.items() if idle)
        self._idle[origin].pop(0).close()
        self._count -= 1
        if not self._idle[origin]:
            del self._idle[origin]

    def close(self) -> None:
        """Close every idle connection."""
        for idle in self._idle.values():
            for connection in idle:
                connection.close()
        self._idle.clear()
        self._count = 0
