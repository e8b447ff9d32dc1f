"""A connection that is read and written at the same time: while what is to be sent waits for room, reading goes on."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .connection import WRITE
from .errors import RequestError, from_os_error
from .line import BLOCKED, HELD, Line
from .urls import Origin

if TYPE_CHECKING:
    from .net import Gate


class Wire(Line):
    """A line of a WebSocket; ``attach`` says who hears of what happens to it."""

    __slots__ = ("_asked", "_gate", "_on_room")

    def __init__(self, hub: Any, sock: socket.socket, origin: Origin) -> None:
        super().__init__(hub, sock, origin)
        self._asked = 0

    def attach(self, on_readable: Callable[[], object], on_room: Callable[[], object], gate: Gate) -> None:
        """Have somebody called whenever there is something to read, and once what waited for room has left."""
        self._on_room = on_room
        self._gate = gate
        self.hold(on_readable)

    @property
    def idle(self) -> bool:
        """Nothing waits for room: more may be ``put``."""
        return not self._left

    def put(self, data: bytes) -> None:
        """Send all of it, what there is no room for a little later; raises RequestError where none of it can be sent.

        Only where it is ``idle``. The permit was looked at by the caller; a process that was stopped since then, over
        the permit's end, sends nothing any more. What found no room for its first byte waits for a permit too.
        """
        if self._tls is not None:
            if self.write(data, self._gate.permit, self._on_writable) == HELD:
                raise RequestError("refused: the permit is over")
            return
        try:
            sent = self.send_now(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError as error:
            raise from_os_error(error) from None
        self.written = sent
        if sent < len(data):
            self._left = memoryview(data)[sent:]
            self.block(self._on_writable)

    def block(self, on_writable: Callable[[], object]) -> None:
        """The rest waits for room, and whoever reads goes on."""
        if self._writer is None:
            self._writer = self._hub.loop.io(self._sock.fileno(), WRITE)
        self._writer.start(on_writable)

    def _on_writable(self) -> None:
        self.unblock()
        try:
            state = self.flush(self._gate.permit)
        except RequestError:
            return  # Broken: whoever reads is told of it.
        if state == BLOCKED:
            self.block(self._on_writable)
        elif state == HELD:
            self.alive = True  # Over TLS too: it is not dropped, so that nothing comes before it.
            self._asked = self._gate.await_permit(self._on_permit)
        elif self.alive:
            self._left = b""
            self._on_room()

    def _on_permit(self) -> None:
        self._asked = 0
        self._on_writable()

    def close(self) -> None:
        """Give the socket back; harmless when repeated."""
        if self._asked:
            self._gate.forget(self._asked)
            self._asked = 0
        super().close()
