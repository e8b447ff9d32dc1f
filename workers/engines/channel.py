"""The engine's two descriptors: JSON lines in, JSON lines out, on gevent's loop.

Writing never blocks the load: what the pipe does not take at once waits in memory, and ``clear`` says whether it
does, so that no second snapshot is made before the first has left.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from typing import Any

_CHUNK = 65536
_READ, _WRITE = 1, 2


class Channel:
    """Lines from and to the agent. The end of its descriptor, or a line that is no JSON object, calls ``on_end``."""

    def __init__(self, hub: Any, fd_in: int, fd_out: int) -> None:
        os.set_blocking(fd_in, False)
        os.set_blocking(fd_out, False)
        self._fd_in = fd_in
        self._fd_out = fd_out
        self._partial = b""
        self._waiting = bytearray()
        self._reader = hub.loop.io(fd_in, _READ)
        self._writer = hub.loop.io(fd_out, _WRITE)
        self._on_line: Callable[[Mapping[str, Any]], None] | None = None
        self._on_end: Callable[[str], None] | None = None

    def listen(self, on_line: Callable[[Mapping[str, Any]], None], on_end: Callable[[str], None]) -> None:
        """Call ``on_line`` in the hub for every line, and ``on_end`` with the reason when there can be no more."""
        self._on_line = on_line
        self._on_end = on_end
        self._reader.start(self._read)

    @property
    def clear(self) -> bool:
        """Whether everything written has left."""
        return not self._waiting

    def write(self, line: Mapping[str, Any]) -> None:
        """Send a line, soon."""
        self._waiting += json.dumps(line, separators=(",", ":")).encode() + b"\n"
        self._flush()

    def drain(self) -> None:
        """Wait until everything written has left; blocks the whole process, for its end."""
        os.set_blocking(self._fd_out, True)
        self._flush()

    def _read(self) -> None:
        assert self._on_line is not None and self._on_end is not None, "the channel is read after listen()"
        try:
            data = os.read(self._fd_in, _CHUNK)
        except BlockingIOError:
            return
        except OSError as error:
            data = b""
            self._on_end(f"reading from the agent: {error}")
        if not data:
            self._reader.stop()
            self._on_end("the agent closed the engine's descriptor")
            return
        *lines, self._partial = (self._partial + data).split(b"\n")
        for line in lines:
            try:
                value = json.loads(line)
            except ValueError:
                value = None
            if not isinstance(value, dict):
                self._on_end("the agent sent a line that is no JSON object")
                return
            self._on_line(value)

    def _flush(self) -> None:
        try:
            while self._waiting:
                del self._waiting[: os.write(self._fd_out, self._waiting)]
        except BlockingIOError:
            if not self._writer.active:
                self._writer.start(self._flush)
            return
        except OSError as error:
            self._waiting.clear()
            if self._on_end is not None:
                self._on_end(f"writing to the agent: {error}")
        if self._writer.active:
            self._writer.stop()
