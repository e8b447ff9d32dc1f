"""A connection for callbacks: its holder is told when it can go on reading or writing, and nothing here ever waits."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from .clock import boottime_ns
from .connection import WRITE, Connection
from .errors import from_os_error
from .permit import Permit
from .urls import Origin

_CHUNK = 65536
SENT, BLOCKED, HELD = range(3)
"""What became of a write: all has left, or nobody wants more; the rest waits for room; not one byte left, since the
permit is over."""


class Line(Connection):
    """A connection of a lane. While it has a holder that is called when there is something to read."""

    __slots__ = ("_left", "held")

    def __init__(self, hub: Any, sock: socket.socket, origin: Origin) -> None:
        super().__init__(hub, sock, origin)
        self._left: bytes | memoryview = b""
        self.held = False
        """It has a holder."""

    def hold(self, on_readable: Callable[[], object]) -> None:
        """Have somebody called whenever there is something to read."""
        self.held = True
        self._watcher.callback = on_readable
        if self._ready:
            self._ready = False
            self._watcher.start(on_readable)

    def let_go(self) -> None:
        """Nobody reads: what comes now is noted, and asked about by ``idle_alive``."""
        if self.held:
            self.held = False
            self._watcher.callback = self._on_readable

    def startle(self) -> None:
        """It became readable, and its holder does not read."""
        self.let_go()
        self._on_readable()

    def write(self, data: bytes, permit: Permit, on_writable: Callable[[], object]) -> int:
        """Write, as ``send`` does, as far as there is room; then ``on_writable`` is called to ``flush``."""
        self.written = 0
        tls = self._tls
        if tls is not None:
            tls.write(data)
            data = tls.take_output()
        self._left = memoryview(data)
        state = self.flush(permit)
        if state == BLOCKED:
            self.block(on_writable)
        return state

    def block(self, on_writable: Callable[[], object]) -> None:
        """The rest waits for room."""
        self.let_go()
        if self._writer is None:
            self._writer = self._hub.loop.io(self._sock.fileno(), WRITE)
        self._writer.start(on_writable)

    def rest(self, data: bytes, written: int) -> None:
        """Some of it has left already, by ``send_now``."""
        if self._tls is None:
            self._left = memoryview(data)[written:]
            self.written = written
        else:
            self._left, self._cipher = self._cipher, b""

    def flush(self, permit: Permit) -> int:
        """Go on writing; stops for good where the target answers early or breaks the connection."""
        if self._ready and self.written:
            self.alive = False
            return SENT
        while self._left:
            if not self.written and boottime_ns() >= permit.until:
                self.alive = self._tls is None  # What was encrypted and not sent is a gap in the stream.
                return HELD
            try:
                sent = self._sock.send(self._left)
            except (BlockingIOError, InterruptedError):
                return BLOCKED
            except OSError as error:
                if not self.written:
                    raise from_os_error(error) from None
                self.alive = False
                return SENT
            self.written += sent
            self._left = self._left[sent:]
        return SENT

    def unblock(self) -> None:
        """Nothing more is to be written."""
        if self._writer is not None:
            self._writer.stop()

    def read(self) -> bytes | None:
        """What has come, empty at the end of the stream; None: nothing whole. Raises RequestError."""
        while True:
            try:
                data = self._sock.recv(_CHUNK)
            except (BlockingIOError, InterruptedError):
                return None
            except OSError as error:
                raise from_os_error(error) from None
            tls = self._tls
            if tls is None:
                return data
            if data:
                tls.put_input(data)
            else:
                tls.put_end()
            plain = tls.read()
            if plain is not None:
                return plain

    def more(self) -> bytes | None:
        """What else had come with what was read, as ``read`` gives it."""
        return self._tls.read() if self._tls is not None else None
