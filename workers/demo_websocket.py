"""The demo target's WebSocket (RFC 6455): it echoes every message, answers pings, and closes as it is asked to."""

from __future__ import annotations

import base64
import binascii
import hashlib
import struct
from typing import Any, Protocol

_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_MOST = 16 * 1024 * 1024
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


class Source(Protocol):
    """Where frames come from."""

    def exactly(self, length: int, /) -> bytes:
        """So many bytes; raises ConnectionError at the end of the stream."""


class Asked(Protocol):
    """The request for an upgrade."""

    @property
    def method(self) -> str: ...
    def header(self, name: str, /) -> str: ...


class _Broken(Exception):
    """The client broke the protocol; the code says how."""

    def __init__(self, code: int) -> None:
        self.code = code


def accept_key(key: str) -> str:
    """The Sec-WebSocket-Accept that belongs to a Sec-WebSocket-Key."""
    return base64.b64encode(hashlib.sha1(key.encode() + _MAGIC).digest()).decode()


def frame(opcode: int, payload: bytes) -> bytes:
    """One unmasked final frame."""
    length = len(payload)
    if length < 126:
        head = struct.pack("!BB", 0x80 | opcode, length)
    elif length < 65536:
        head = struct.pack("!BBH", 0x80 | opcode, 126, length)
    else:
        head = struct.pack("!BBQ", 0x80 | opcode, 127, length)
    return head + payload


def serve(sock: Any, source: Source, request: Asked) -> None:
    """Shake hands and echo until either side closes."""
    refusal = _refusal(request)
    if refusal is not None:
        sock.sendall(refusal)
        return
    accept = accept_key(request.header("sec-websocket-key"))
    sock.sendall(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept.encode() + b"\r\n\r\n"
    )
    try:
        _echo(sock, source)
    except _Broken as broken:
        sock.sendall(frame(CLOSE, struct.pack("!H", broken.code)))


def _refusal(request: Asked) -> bytes | None:
    version = request.header("sec-websocket-version")
    words = {word.strip() for word in request.header("connection").lower().split(",")}
    try:
        nonce = base64.b64decode(request.header("sec-websocket-key"), validate=True)
    except (binascii.Error, ValueError):
        nonce = b""
    if request.header("upgrade").lower() == "websocket" and version != "13":
        status, more = "426 Upgrade Required", "Sec-WebSocket-Version: 13\r\n"
    elif request.method != "GET" or "upgrade" not in words or len(nonce) != 16:
        status, more = "400 Bad Request", ""
    else:
        return None
    return f"HTTP/1.1 {status}\r\n{more}Content-Length: 0\r\nConnection: close\r\n\r\n".encode()


def _echo(sock: Any, source: Source) -> None:
    kind = 0
    pieces: list[bytes] = []
    while True:
        final, opcode, payload = _read_frame(source, sum(map(len, pieces)))
        if opcode == PING:
            sock.sendall(frame(PONG, payload))
        elif opcode == CLOSE:
            sock.sendall(frame(CLOSE, _close_reply(payload)))
            return
        elif opcode != PONG:
            if (opcode == CONTINUATION) != bool(kind):
                raise _Broken(1002)
            kind = kind or opcode
            pieces.append(payload)
            if final:
                sock.sendall(frame(kind, _message(kind, b"".join(pieces))))
                kind, pieces = 0, []


def _read_frame(source: Source, held: int) -> tuple[bool, int, bytes]:
    first, second = source.exactly(2)
    opcode, length = first & 0x0F, second & 0x7F
    control = opcode >= CLOSE
    if first & 0x70 or opcode not in (CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG) or not second & 0x80:
        raise _Broken(1002)
    if control and (length > 125 or not first & 0x80):
        raise _Broken(1002)
    if length == 126:
        (length,) = struct.unpack("!H", source.exactly(2))
    elif length == 127:
        (length,) = struct.unpack("!Q", source.exactly(8))
    if length + held > _MOST:
        raise _Broken(1009)
    mask = source.exactly(4)
    return bool(first & 0x80), opcode, _unmasked(source.exactly(length), mask)


def _unmasked(data: bytes, mask: bytes) -> bytes:
    """XOR with the mask, in one operation on whole numbers."""
    if not data:
        return data
    whole = (mask * (len(data) // 4 + 1))[: len(data)]
    return (int.from_bytes(data) ^ int.from_bytes(whole)).to_bytes(len(data))


def _message(kind: int, payload: bytes) -> bytes:
    if kind == TEXT:
        try:
            payload.decode()
        except UnicodeDecodeError:
            raise _Broken(1007) from None
    return payload


def _close_reply(payload: bytes) -> bytes:
    if not payload:
        return b""
    code = int.from_bytes(payload[:2]) if len(payload) >= 2 else 0
    known = 1000 <= code <= 1014 and code not in (1004, 1005, 1006)
    if not known and not 3000 <= code <= 4999:
        raise _Broken(1002)
    _message(TEXT, payload[2:])
    return payload[:2]
