"""A connection that is read and written at the same time: while what is to be sent waits for room, reading goes on."""

from __future__ import annotations

from collections.abc import Callable

from .connection import WRITE
from .errors import RequestError, from_os_error
from .line import BLOCKED, HELD, Line
from .permit import Permit


class Wire(Line):
    """A line of a WebSocket; ``attach`` says who hears of what happens to it."""

    __slots__ = ("_on_room", "_permit")

    def attach(self, on_readable: Callable[[], object], on_room: Callable[[], object], permit: Permit) -> None:
        """Have somebody called whenever there is something to read, and once what waited for room has left."""
        self._on_room = on_room
        self._permit = permit
        self.hold(on_readable)

    @property
    def idle(self) -> bool:
        """Nothing waits for room: more may be ``put``."""
        return not self._left

    def put(self, data: bytes) -> None:
        """Send all of it, what there is no room for a little later; raises RequestError where none of it can be sent.

        Only where it is ``idle``. The permit was looked at by the caller; a process that was stopped since then, over
        the permit's end, sends nothing any more.
        """
        if self._tls is not None:
            if self.write(data, self._permit, self._on_writable) == HELD:
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
        try:
            state = self.flush(self._permit)
        except RequestError:
            state = HELD
        if state == BLOCKED:
            return
        self.unblock()
        if state == HELD or not self.alive:
            return  # Broken: whoever reads is told of it.
        self._left = b""
        self._on_room()
