"""HTTP/1.1 as a pure codec: requests to bytes, bytes to responses. No sockets, no clock, no gevent.

``ResponseReader`` takes the bytes of one connection as they come and promises three things: what it calls complete
was framed as RFC 9112 says (a chunked body is really decoded, so a body may hold ``0\\r\\n\\r\\n``); whatever a target
sends, it raises nothing but ``ProtocolError``; and what it holds is bounded by ``Limits``. The texts of its errors
come from a closed set and never quote the target, so that they can be counted by text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from .content import ContentDecoder, decoder_for
from .errors import ProtocolError, Refused

_HEAD_END = re.compile(rb"\r?\n\r?\n")
_STATUS = re.compile(r"HTTP/1\.([01]) ([1-9][0-9]{2})(?: [^\x00\r\n]*)?")
_STATUS_BYTES = re.compile(rb"HTTP/1\.[01] ([1-9][0-9]{2})(?: [^\x00\r\n]*)?\r?\n")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_BAD_VALUE = re.compile(r"[\x00\r\n\ud800-\udfff]")
_BAD_TARGET = re.compile(r"[\x00-\x20\x7f-\U0010ffff]")
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(?:;[^\x00\r\n]*)?\r?")
_CACHED_HEADS = 256
_PLAIN_BODY = 1 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """What one response may cost: bytes of its head (or trailers), interim responses, bytes of a body (decoded too)."""

    head: int = 64 * 1024
    interim: int = 32
    chunk_line: int = 4096
    body: int = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Head:
    """A response's status line and headers (names in lower case, in their order), and what they mean for framing."""

    status: int
    headers: tuple[tuple[str, str], ...]
    length: int | None
    chunked: bool
    keep_alive: bool
    coding: str
    cookies: tuple[str, ...]

    @property
    def ordinary(self) -> bool:
        """It says nothing but how long its body is."""
        return not (
            self.status < 200
            or self.status in (204, 304)
            or self.chunked
            or self.coding
            or self.cookies
            or not self.keep_alive
            or self.get("location") is not None
        )

    def get(self, name: str) -> str | None:
        """The values of a header, joined by commas, or None where it is absent; the name in lower case."""
        found = [value for key, value in self.headers if key == name]
        return ", ".join(found) if found else None


def encode_request(method: str, target: str, headers: Iterable[tuple[str, str]], body: bytes) -> bytes:
    """A request's bytes; raises Refused where a name, value or the target would break out of its place."""
    lines = [request_line(method, target)]
    lines.extend(header_line(name, value) for name, value in headers)
    return "".join(lines).encode() + b"\r\n" + body


def request_line(method: str, target: str) -> str:
    """``METHOD target HTTP/1.1`` and its line end; raises Refused."""
    if not _TOKEN.fullmatch(method):
        raise Refused("refused: the method is not a word")
    if not target or _BAD_TARGET.search(target):
        raise Refused("refused: a character that a URL can't have")
    return f"{method} {target} HTTP/1.1\r\n"


def header_line(name: str, value: str) -> str:
    """``name: value`` and its line end; raises Refused."""
    if not _TOKEN.fullmatch(name):
        raise Refused("refused: not a header name")
    if _BAD_VALUE.search(value):
        raise Refused(f"refused: a line break in the header {name}")
    return f"{name}: {value}\r\n"


class HeadParser:
    """Parses heads, and remembers the last ones: most of a target's heads are the same bytes for a whole second."""

    def __init__(self) -> None:
        self._seen: dict[bytes, Head] = {}
        self.plain: dict[bytes, tuple[int, int, int]] = {}
        """Of ordinary heads that were parsed lately the status, how many bytes follow, blank line included, and all.

        Ordinary is what asks for nothing but that the body is passed over: it has a length and no coding, the
        connection stays, and it sets no cookie and leads nowhere. (It must not be the answer to a HEAD.)
        """

    def known(self, block: bytes) -> Head | None:
        """The head of a block that was parsed before."""
        return self._seen.get(block)

    def parse(self, block: bytes) -> Head:
        """The head of a block without its final blank line; raises ProtocolError."""
        head = _parse_head(block)
        if len(self._seen) >= _CACHED_HEADS:
            self._seen.clear()
            self.plain.clear()
        if len(block) <= 2048:
            self._seen[block] = head
            if head.length is not None and head.length <= _PLAIN_BODY and head.ordinary:
                self.plain[block] = (head.status, head.length + 4, len(block) + head.length + 4)
        return head


def _parse_head(block: bytes) -> Head:
    lines = block.decode("latin-1").replace("\r\n", "\n").split("\n")
    match = _STATUS.fullmatch(lines[0])
    if match is None:
        raise ProtocolError("protocol: not an HTTP/1 status line")
    headers = _headers(lines[1:])
    lengths = {part.strip() for name, value in headers if name == "content-length" for part in value.split(",")}
    codings = _words(headers, "transfer-encoding")
    if codings and codings != ["chunked"]:
        raise ProtocolError("protocol: a transfer encoding other than chunked")
    connection = _words(headers, "connection")
    persistent = "keep-alive" in connection if match[1] == "0" else "close" not in connection
    if codings and lengths:
        persistent = False  # RFC 9112, 6.1: whoever sends both may mean either.
    return Head(
        status=int(match[2]),
        headers=tuple(headers),
        length=_length(lengths),
        chunked=bool(codings),
        keep_alive=persistent,
        coding=next((value.lower() for name, value in headers if name == "content-encoding"), ""),
        cookies=tuple(value for name, value in headers if name == "set-cookie"),
    )


def _headers(lines: list[str]) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for line in lines:
        if line[:1] in (" ", "\t") and found:
            name, value = found[-1]
            found[-1] = (name, (value + " " + line.strip(" \t")).strip(" \t"))
            continue
        name, colon, value = line.partition(":")
        if not colon or not _TOKEN.fullmatch(name) or _BAD_VALUE.search(value):
            raise ProtocolError("protocol: a malformed header")
        found.append((name.lower(), value.strip(" \t")))
    return found


def _words(headers: list[tuple[str, str]], wanted: str) -> list[str]:
    return [
        word.strip(" \t").lower()
        for name, value in headers
        if name == wanted
        for word in value.split(",")
        if word.strip(" \t")
    ]


def _length(lengths: set[str]) -> int | None:
    if not lengths:
        return None
    text = lengths.pop()
    if lengths or not text.isascii() or not text.isdecimal() or len(text) > 18:
        raise ProtocolError("protocol: a malformed content-length")
    return int(text)


_HEAD, _LENGTH, _CLOSE, _CHUNK_SIZE, _CHUNK_DATA, _CHUNK_END, _TRAILERS, _DONE = range(8)


class ResponseReader:
    """Reads the responses of a connection one after the other: ``begin``, ``feed`` until it says True, or ``finish``.

    After that ``head`` and ``body`` (decoded; empty unless ``keep`` was asked for) stand, ``trailers`` too, and
    ``reusable`` says whether the connection may carry another request. ``status`` is set as soon as a final status
    line has come, even where the rest of the response fails.
    """

    __slots__ = (
        "_buffer", "_content", "_decoded", "_heads", "_interim", "_keep", "_left", "_limits", "_no_body", "_parts",
        "_raw", "_state", "excess", "head", "received", "trailers",
    )  # fmt: skip

    def __init__(self, heads: HeadParser, limits: Limits) -> None:
        self._heads = heads
        self._limits = limits
        self._state = _DONE
        self.begin("GET", False)

    def begin(self, method: str, keep: bool) -> None:
        """Expect the response to a request; its body is kept only where ``keep`` says so."""
        self._state = _HEAD
        self._buffer = b""
        self._no_body = method == "HEAD"
        self._keep = keep
        self._parts: list[bytes] = []
        self._interim = self._raw = self._decoded = self._left = 0
        self._content: ContentDecoder | None = None
        self.head: Head | None = None
        self.trailers: list[tuple[str, str]] = []
        self.received = 0
        self.excess = False

    @property
    def body(self) -> bytes:
        """The decoded body so far."""
        return b"".join(self._parts)

    @property
    def status(self) -> int | None:
        """The final status, or None where no status line came back."""
        if self.head is not None:
            return self.head.status
        match = _STATUS_BYTES.match(self._buffer) if self._state == _HEAD else None
        status = int(match[1]) if match else None
        return status if status is not None and status >= 200 else None

    @property
    def reusable(self) -> bool:
        """Whether the connection may carry another request."""
        head = self.head
        return self._state == _DONE and head is not None and head.keep_alive and not self.excess

    def feed(self, data: bytes) -> bool:
        """Take bytes in; True once the response is complete. Raises ProtocolError."""
        self.received += len(data)
        if self._state == _HEAD:
            return self._read_head(data)
        if self._state == _LENGTH:
            return self._read_length(data)
        if self._state == _CLOSE:
            self._take(data)
            return False
        return self._read_chunks(data)

    def finish(self) -> None:
        """The target has closed its side; raises ProtocolError unless that ends the response properly."""
        if self._state == _CLOSE:
            self._end()
            self.excess = True
        elif self._state == _HEAD and not self._buffer and not self._interim:
            raise ProtocolError("closed: before the response")
        elif self._state == _HEAD:
            raise ProtocolError("truncated: the target closed within the head")
        elif self._state != _DONE:
            raise ProtocolError("truncated: the target closed within the body")

    def _read_head(self, data: bytes) -> bool:
        if self._buffer:
            data = self._buffer + data
        while True:
            end = data.find(b"\r\n\r\n")
            head = self._heads.known(data[:end]) if end >= 0 else None
            if head is None:
                match = _HEAD_END.search(data)
                if match is None or match.start() > self._limits.head:
                    self._buffer = data
                    self._check_partial_head(data)
                    return False
                self._buffer = data[: match.end()]
                head = self._heads.parse(data[: match.start()])
                end = match.end()
            else:
                end += 4
            data = data[end:]
            if head.status >= 200:
                self._buffer = b""
                return self._begin_body(head, data)
            self._buffer = data
            self._pass_interim(head)
            if not data:
                return False

    def _check_partial_head(self, data: bytes) -> None:
        if len(data) > self._limits.head:
            raise ProtocolError("limit: a response head over 64 KiB")
        start = data[:9]
        if not b"HTTP/1.1 ".startswith(start) and not b"HTTP/1.0 ".startswith(start):
            raise ProtocolError("protocol: not an HTTP/1 status line")

    def _pass_interim(self, head: Head) -> None:
        self._interim += 1
        if head.status == 101:
            raise ProtocolError("protocol: 101 without an upgrade")
        if self._interim > self._limits.interim:
            raise ProtocolError("limit: too many interim responses")

    def _begin_body(self, head: Head, data: bytes) -> bool:
        self.head = head
        if self._no_body or head.status == 204 or head.status == 304:
            self._state = _DONE
            self.excess = bool(data)
            return True
        if head.coding:
            self._content = decoder_for(head.coding, self._limits.body)
        if head.chunked:
            self._state = _CHUNK_SIZE
            return self._read_chunks(data)
        if head.length is None:
            self._state = _CLOSE
            self._take(data)
            return False
        if head.length > self._limits.body:
            raise ProtocolError("limit: a body over the limit")
        self._state = _LENGTH
        self._left = head.length
        return self._read_length(data)

    def _read_length(self, data: bytes) -> bool:
        left = self._left - len(data)
        if left > 0:
            self._left = left
            self._take(data)
            return False
        if left < 0:
            self.excess = True
            data = data[:left]
        self._take(data)
        self._end()
        return True

    def _take(self, data: bytes) -> None:
        self._raw += len(data)
        if self._raw > self._limits.body:
            raise ProtocolError("limit: a body over the limit")
        if self._content is not None:
            for part in self._content.feed(data):
                if self._keep:
                    self._parts.append(part)
        elif self._keep and data:
            self._parts.append(data)

    def _end(self) -> None:
        if self._content is not None:
            self._content.finish()
        self._state = _DONE

    def _read_chunks(self, data: bytes) -> bool:
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        position = 0
        while True:
            if self._state == _CHUNK_DATA:
                piece = data[position : position + self._left]
                self._take(piece)
                self._left -= len(piece)
                position += len(piece)
                if self._left:
                    return False
                self._state = _CHUNK_END
            end = data.find(b"\n", position)
            if end < 0:
                self._keep_line(data[position:])
                return False
            line = data[position:end]
            position = end + 1
            if self._chunk_line(line):
                self.excess = position < len(data)
                self._end()
                return True

    def _keep_line(self, rest: bytes) -> None:
        if len(rest) > self._limits.chunk_line or (self._state == _CHUNK_END and rest not in (b"", b"\r")):
            raise ProtocolError("protocol: a malformed chunk")
        self._buffer = rest

    def _chunk_line(self, line: bytes) -> bool:
        """Take one line of chunked framing in; True after the last one."""
        if self._state == _CHUNK_END:
            if line not in (b"", b"\r"):
                raise ProtocolError("protocol: a malformed chunk")
            self._state = _CHUNK_SIZE
        elif self._state == _CHUNK_SIZE:
            match = _CHUNK_LINE.fullmatch(line)
            if match is None or len(line) > self._limits.chunk_line:
                raise ProtocolError("protocol: a malformed chunk")
            self._left = int(match[1], 16)
            self._state = _CHUNK_DATA if self._left else _TRAILERS
        else:
            self._interim += len(line)
            if line in (b"", b"\r"):
                return True
            if self._interim > self._limits.head:
                raise ProtocolError("limit: trailers over 64 KiB")
            self.trailers.extend(_headers([line.rstrip(b"\r").decode("latin-1")]))
        return False
