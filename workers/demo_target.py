"""A small HTTP target for trying Loads out and for tests: it does what its paths say, and counts exactly.

``/counter`` gives the complete request heads that were received, by path and in total, itself not counted, so that
a ledger can be held against the target's own count. Not for the open internet: it trusts whoever may connect.
"""

from __future__ import annotations

import errno
import json
import re
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl

import gevent
import gevent.event
from gevent import socket
from gevent.server import StreamServer

from . import demo_websocket

HELP = b"""Loads demo target
/              this page
/status/N      the status N
/delay/MS      200 after so many milliseconds
/bytes/N       a body of N bytes
/echo          what it got, as JSON
/flaky?rate=R  500 for exactly that share of requests, else 200
/ws            a WebSocket that echoes
/counter       request heads received, as JSON
"""
_MOST_HEAD = 64 * 1024
_MOST_BODY = 16 * 1024 * 1024
_MOST_BYTES = 1 << 30
_MOST_DELAY_MS = 600_000
_MOST_PATHS = 10_000
_BLOCK = b"x" * 65536
_REQUEST_LINE = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+) (\S+) HTTP/1\.([01])")
_REDIRECTS = (301, 302, 303, 307, 308)


class TargetError(Exception):
    """The target can't start; the text says why, to people."""

    exit_code = 2


class _Bad(Exception):
    """A request that gets this status and the end of its connection."""

    def __init__(self, status: int) -> None:
        self.status = status


@dataclass(frozen=True, slots=True)
class Request:
    """One request, whole."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    keep_alive: bool

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> dict[str, str]:
        """The last value of each name in the query."""
        return dict(parse_qsl(self.target.partition("?")[2], keep_blank_values=True))

    def header(self, name: str) -> str:
        """The values of a header (name in lower case), joined by commas."""
        return ", ".join(value for key, value in self.headers if key == name)


class Reader:
    """Bytes of one connection, as far as they were received."""

    def __init__(self, sock: Any) -> None:
        self._sock = sock
        self._data = b""

    def head(self) -> str | None:
        """The next request head without its blank line, or None at the end of the stream."""
        while (end := self._data.find(b"\r\n\r\n")) < 0:
            if len(self._data) > _MOST_HEAD:
                raise _Bad(431)
            if not self._more():
                return None
        head, self._data = self._data[:end], self._data[end + 4 :]
        return head.decode("latin-1")

    def exactly(self, length: int) -> bytes:
        """So many bytes; raises ConnectionError where the stream ends before."""
        pieces = [self._data[:length]]
        missing = length - len(pieces[0])
        self._data = self._data[length:]
        while missing > 0:
            data = self._sock.recv(min(65536, missing))
            if not data:
                raise ConnectionError("the client closed within a body")
            pieces.append(data)
            missing -= len(data)
        return b"".join(pieces)

    def line(self) -> bytes:
        """A line of at most 4 KiB without its end."""
        while (end := self._data.find(b"\r\n")) < 0:
            if len(self._data) > 4096 or not self._more():
                raise _Bad(400)
        line, self._data = self._data[:end], self._data[end + 2 :]
        return line

    def _more(self) -> bool:
        data = self._sock.recv(65536)
        self._data += data
        return bool(data)


class Target:
    """The target's state, and what it answers."""

    def __init__(self) -> None:
        self.total = 0
        self.by_path: dict[str, int] = {}
        self._owed: dict[str, Fraction] = {}

    def handle(self, sock: Any, _: object) -> None:
        """Serve one connection to its end."""
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._serve(sock)
        except OSError:
            # The client went away; everything it asked completely is counted already.
            return
        finally:
            sock.close()

    def _serve(self, sock: Any) -> None:
        reader = Reader(sock)
        while True:
            try:
                head = reader.head()
                if head is None:
                    return
                request = self._read(reader, sock, head)
            except _Bad as bad:
                sock.sendall(_response(bad.status, b"", close=True))
                return _linger(sock)
            if request.path == "/ws" and request.header("upgrade"):
                demo_websocket.serve(sock, reader, request)
                return _linger(sock)
            for piece in self._answer(request):
                sock.sendall(piece)
            if not request.keep_alive:
                return

    def _read(self, reader: Reader, sock: Any, head: str) -> Request:
        first, *lines = head.split("\r\n")
        match = _REQUEST_LINE.fullmatch(first)
        if match is None:
            raise _Bad(400)
        headers = tuple(_header(line) for line in lines)
        self._count(match[2].partition("?")[0])
        request = Request(match[1], match[2], headers, b"", True)
        if request.header("expect").lower() == "100-continue":
            sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = _read_body(reader, request)
        connection = request.header("connection").lower()
        keep = "keep-alive" in connection if match[3] == "0" else "close" not in connection
        return Request(match[1], match[2], headers, body, keep)

    def _count(self, path: str) -> None:
        if path == "/counter":
            return
        self.total += 1
        if path not in self.by_path and len(self.by_path) >= _MOST_PATHS:
            path = "(other)"
        self.by_path[path] = self.by_path.get(path, 0) + 1

    def _answer(self, request: Request) -> Iterator[bytes]:
        name, slash, argument = request.path[1:].partition("/")
        route = _ROUTES.get(name) if request.path.startswith("/") else None
        if route is None or bool(slash) is not (name in _WITH_ARGUMENT):
            return iter((_respond(request, 404, b"no such path; / lists them\n"),))
        return route(self, request, argument)

    def _get_root(self, request: Request, _: str) -> Iterator[bytes]:
        yield _respond(request, 200, HELP)

    def _get_status(self, request: Request, argument: str) -> Iterator[bytes]:
        status = _number(argument, 200, 599)
        if status is None:
            yield _respond(request, 404, b"/status/N: from 200 to 599\n")
            return
        more = (("Location", "/"),) if status in _REDIRECTS else ()
        yield _respond(request, status, f"{status}\n".encode(), more=more)

    def _get_delay(self, request: Request, argument: str) -> Iterator[bytes]:
        delay = _number(argument, 0, _MOST_DELAY_MS)
        if delay is None:
            yield _respond(request, 404, b"/delay/MS: up to 600000\n")
            return
        gevent.sleep(delay / 1000)
        yield _respond(request, 200, b"late\n")

    def _get_bytes(self, request: Request, argument: str) -> Iterator[bytes]:
        length = _number(argument, 0, _MOST_BYTES)
        if length is None:
            yield _respond(request, 404, b"/bytes/N: up to 1073741824\n")
            return
        kind = "application/octet-stream"
        if request.method == "HEAD" or length <= len(_BLOCK):
            yield _respond(request, 200, _BLOCK[:length], kind, length=length)
            return
        yield _respond(request, 200, b"", kind, length=length)
        for start in range(0, length, len(_BLOCK)):
            yield _BLOCK[: length - start]

    def _get_echo(self, request: Request, _: str) -> Iterator[bytes]:
        yield _json(
            request,
            {
                "method": request.method,
                "path": request.path,
                "query": request.query,
                "headers": dict(request.headers),
                "body": request.body.decode("utf-8", "replace"),
            },
        )

    def _get_flaky(self, request: Request, _: str) -> Iterator[bytes]:
        text = request.query.get("rate", "0.1")
        if not re.fullmatch(r"0(\.[0-9]{1,9})?|1(\.0{1,9})?|\.[0-9]{1,9}", text):
            yield _respond(request, 404, b"/flaky?rate=R: from 0 to 1\n")
            return
        if len(self._owed) > 1000:
            self._owed.clear()
        owed = self._owed.get(text, Fraction(0)) + Fraction(text)
        self._owed[text] = owed - 1 if owed >= 1 else owed
        yield _respond(request, 500 if owed >= 1 else 200, b"")

    def _get_ws(self, request: Request, _: str) -> Iterator[bytes]:
        yield _respond(request, 426, b"/ws: a WebSocket\n", more=(("Upgrade", "websocket"),))

    def _get_counter(self, request: Request, _: str) -> Iterator[bytes]:
        yield _json(request, {"total": self.total, "paths": self.by_path})


_ROUTES: dict[str, Callable[[Target, Request, str], Iterator[bytes]]] = {
    "": Target._get_root,
    "status": Target._get_status,
    "delay": Target._get_delay,
    "bytes": Target._get_bytes,
    "echo": Target._get_echo,
    "flaky": Target._get_flaky,
    "ws": Target._get_ws,
    "counter": Target._get_counter,
}
_WITH_ARGUMENT = ("status", "delay", "bytes")


def _header(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    if not colon or not name or name != name.strip():
        raise _Bad(400)
    return name.lower(), value.strip(" \t")


def _linger(sock: Any) -> None:
    """Let the client read the last answer: closing with its bytes unread would reset the connection."""
    sock.shutdown(socket.SHUT_WR)
    with gevent.Timeout(1, False):
        while sock.recv(65536):
            pass


def _read_body(reader: Reader, request: Request) -> bytes:
    if request.header("transfer-encoding"):
        return _read_chunks(reader)
    text = request.header("content-length") or "0"
    length = _number(text, 0, 1 << 62)
    if length is None:
        raise _Bad(400)
    if length > _MOST_BODY:
        raise _Bad(413)
    return reader.exactly(length)


def _read_chunks(reader: Reader) -> bytes:
    pieces: list[bytes] = []
    total = 0
    while True:
        size = reader.line().partition(b";")[0].strip()
        if not re.fullmatch(rb"[0-9A-Fa-f]{1,8}", size):
            raise _Bad(400)
        length = int(size, 16)
        total += length
        if total > _MOST_BODY:
            raise _Bad(413)
        if length == 0:
            while reader.line():
                pass
            return b"".join(pieces)
        pieces.append(reader.exactly(length))
        if reader.line():
            raise _Bad(400)


def _number(text: str, low: int, high: int) -> int | None:
    if not re.fullmatch(r"[0-9]{1,18}", text, re.ASCII) or not low <= int(text) <= high:
        return None
    return int(text)


def _json(request: Request, value: object) -> bytes:
    return _respond(request, 200, json.dumps(value).encode() + b"\n", "application/json")


def _respond(
    request: Request,
    status: int,
    body: bytes,
    kind: str = "text/plain; charset=utf-8",
    more: tuple[tuple[str, str], ...] = (),
    length: int | None = None,
) -> bytes:
    return _response(status, body, kind, more, length, close=not request.keep_alive, no_body=request.method == "HEAD")


def _response(
    status: int,
    body: bytes,
    kind: str = "text/plain",
    more: tuple[tuple[str, str], ...] = (),
    length: int | None = None,
    close: bool = False,
    no_body: bool = False,
) -> bytes:
    lines = [f"HTTP/1.1 {status} {_reason(status)}"]
    if status not in (204, 304):
        lines += [f"Content-Type: {kind}", f"Content-Length: {len(body) if length is None else length}"]
    lines += [f"{name}: {value}" for name, value in more]
    if close:
        lines.append("Connection: close")
    head = "\r\n".join((*lines, "", "")).encode()
    return head if no_body or status in (204, 304) else head + body


def _reason(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Status"


def announce(url: str) -> None:
    """Say where the target is, on standard output."""
    import sys

    sys.stdout.write(f"{url}\n")
    sys.stdout.flush()


def serve(host: str = "127.0.0.1", port: int = 8000, ready: Callable[[str], object] = announce) -> None:
    """Serve until SIGTERM or SIGINT, then return; ``ready`` is told the URL. Raises TargetError.

    ``port`` 0 takes any that is free. Call it from the main thread: it handles signals.
    """
    server = StreamServer(_listener(host, port), Target().handle)
    stopped = gevent.event.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        gevent.signal_handler(number, stopped.set)
    server.start()
    shown = f"[{host}]" if ":" in host else host
    ready(f"http://{shown}:{server.server_port}")
    stopped.wait()
    server.stop(timeout=0)


def _listener(host: str, port: int) -> Any:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
        sock.listen(1024)
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            raise TargetError(f"port {port} of {host} is in use: choose another one with --port (0 is any)") from None
        raise TargetError(f"can't listen on {host} port {port}: {error.strerror or error}") from None
    return sock
