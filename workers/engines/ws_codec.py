"""The client's side of WebSocket (RFC 6455) as a pure codec: messages to frames, bytes to events. No sockets, no clock.

``Codec.feed`` takes the bytes of one connection as they come and promises: the events are the same however the bytes
were split; it refuses whatever RFC 6455 (and RFC 7692, where it was agreed) does not allow, as soon as the bytes say
so; it raises nothing but ``WsError``, whose texts come from a closed set and never quote the target; and it holds no
more than one message of ``max_message`` bytes beside what zlib keeps. After a close frame or a fault it takes nothing
any more.
"""

from __future__ import annotations

import codecs
import functools
import io
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .errors import ProtocolError, Refused

if TYPE_CHECKING:
    from .ws_deflate import Deflate

TEXT, BINARY = 1, 2
_CLOSE, _PING, _PONG = 8, 9, 10
_OPCODES = frozenset({0, TEXT, BINARY, _CLOSE, _PING, _PONG})
_FINAL, _PACKED, _RESERVED, _MASKED = 0x80, 0x40, 0x70, 0x80
_SHORT = 125
"""The longest payload whose length stands in a frame's second byte, and the longest one of a control frame."""
_WORTH_PACKING = 16
"""Shorter messages are sent as they are: their frame has no room to become smaller by anything that matters."""
PROTOCOL, NOT_TEXT, TOO_LONG = 1002, 1007, 1009
_NOT_UTF8 = "protocol: a text message that is not UTF-8"
_OVER_LIMIT = "limit: a message over the limit"


@dataclass(slots=True)
class Message:
    """A whole message: ``data`` decompressed, ``size`` the bytes of its frames on the wire, headers included."""

    kind: int
    data: bytes
    size: int

    def text(self) -> str:
        """As text; what is not UTF-8 (in a binary message alone) is replaced."""
        return self.data.decode("utf-8", "replace")


@dataclass(slots=True)
class Ping:
    """The target's ping; ``size``: bytes of its frame."""

    payload: bytes
    size: int


@dataclass(slots=True)
class Pong:
    """The target's pong; ``size``: bytes of its frame."""

    payload: bytes
    size: int


@dataclass(slots=True)
class Close:
    """The target's close frame; ``code`` is None where it had none (what RFC 6455 calls 1005)."""

    code: int | None
    reason: str
    size: int


Event = Message | Ping | Pong | Close


class WsError(ProtocolError):
    """The target sent what WebSocket does not allow, or more than the limit.

    ``code`` is what to send in the close frame (1002, 1007 or 1009); ``events`` is what was whole before the fault.
    """

    def __init__(self, text: str, code: int = PROTOCOL) -> None:
        super().__init__(text)
        self.code = code
        self.events: list[Event] = []


class Codec:
    """One connection after its handshake; ``max_message``: the most bytes of a message, as sent and decompressed."""

    __slots__ = (
        "_begun", "_deflate", "_final", "_got", "_held", "_kind", "_left", "_limit", "_over", "_packed", "_partial",
        "_rest", "_short", "_size", "_wire",
    )  # fmt: skip

    def __init__(self, max_message: int, deflate: Deflate | None = None) -> None:
        self._limit = max_message
        self._short = min(_SHORT, max_message)
        self._deflate = deflate
        self._begun = False
        """Something is under way: a frame, or a message in several. Or nothing is taken any more."""
        self._over = False
        self._rest = b""
        """The beginning of a frame, whose header (of a control frame: all of it) is not here yet."""
        self._left = 0
        """How many bytes the payload of a data frame still has to come."""
        self._final = False
        """That frame is its message's last."""
        self._kind = 0
        """Of the message under way; 0 where there is none."""
        self._packed = False
        """It is compressed."""
        self._wire = 0
        """Bytes that the headers of its frames have announced."""
        self._got = 0
        """Bytes that it was decompressed to."""
        self._size = 0
        self._partial = b""
        """Of a text the beginning of a character."""
        self._held: io.BytesIO | None = None
        """What is here of it. (Its buffer becomes the message's bytes without another copy.)"""

    @property
    def held(self) -> int:
        """How many bytes it keeps of what is not whole yet."""
        return len(self._rest) + len(self._partial) + (self._held.tell() if self._held is not None else 0)

    def feed(self, data: bytes) -> list[Event]:
        """The events that are whole with these bytes, in their order; raises WsError."""
        events: list[Event] = []
        at, size = 0, len(data)
        # The short way, of which tens of thousands a second are taken: short messages in one frame.
        if not self._begun:
            while at + 1 < size:
                first, length = data[at], data[at + 1]
                end = at + 2 + length
                if length > self._short or end > size or (first != 0x81 and first != 0x82):
                    break
                payload = data[at + 2 : end]
                if first == 0x81 and not payload.isascii() and not _is_utf8(payload):
                    break
                events.append(Message(first & 0x0F, payload, length + 2))
                at = end
            if at == size:
                return events
        try:
            self._read(data, at, events)
        except WsError as error:
            self._stop()
            error.events = events
            raise
        return events

    def message(self, kind: int, payload: bytes) -> bytes:
        """A frame with a whole message (``kind`` TEXT: of UTF-8), compressed where that was agreed and is worth it."""
        deflate = self._deflate
        if deflate is not None and len(payload) >= _WORTH_PACKING:
            packed = deflate.compress(payload)
            # What a compressor remembers, the other side must have seen too.
            if deflate.remembers or len(packed) < len(payload):
                return _frame(_FINAL | _PACKED | kind, packed)
        return _frame(_FINAL | kind, payload)

    def ping(self, payload: bytes = b"") -> bytes:
        """A ping; raises Refused for more than 125 bytes."""
        return _control(_PING, payload)

    def pong(self, payload: bytes) -> bytes:
        """The answer to a ping with this payload; raises Refused for more than 125 bytes."""
        return _control(_PONG, payload)

    def close(self, code: int | None, reason: str = "") -> bytes:
        """A close frame; raises Refused for a code that may not be sent, and for over 123 bytes of reason."""
        if code is None and not reason:
            return _frame(_FINAL | _CLOSE, b"")
        if code is None or not may_close_with(code):
            raise Refused("refused: a close code that may not be sent")
        try:
            payload = code.to_bytes(2) + reason.encode()
        except UnicodeEncodeError:
            raise Refused("refused: a close reason that is not text") from None
        if len(payload) > _SHORT:
            raise Refused("refused: a close reason over 123 bytes")
        return _frame(_FINAL | _CLOSE, payload)

    def _stop(self) -> None:
        """Take nothing any more, and hold nothing."""
        self._over = self._begun = True
        self._rest = self._partial = b""
        self._held = None

    def _read(self, data: bytes, at: int, events: list[Event]) -> None:
        if self._rest:
            data, self._rest = self._rest + data, b""
        while at < len(data) and not self._over:
            if self._left:
                at = self._take(data, at, events)
                continue
            after = self._begin(data, at, events)
            if after == at:
                self._rest = data[at:]
                break
            at = after
        self._begun = bool(self._over or self._rest or self._kind)

    def _begin(self, data: bytes, at: int, events: list[Event]) -> int:
        """Take a frame in from its header on: where the next bytes stand, or ``at`` where too few are here."""
        if len(data) - at < 2:
            return at
        first, length = data[at], data[at + 1]
        opcode = first & 0x0F
        self._check(first, opcode, length)
        start = at + 2
        if length > _SHORT:
            start = at + (4 if length == 126 else 10)
            if len(data) < start:
                return at
            length = _long_length(data[at + 2 : start])
        if opcode & 0x08:
            end = start + length
            if end > len(data):
                return at
            self._take_control(opcode, data[start:end], end - at, events)
            return end
        if opcode:
            self._kind = opcode
            self._packed = bool(first & _PACKED)
            self._wire = self._got = self._size = 0
        self._wire += length
        if self._wire > (_most_packed(self._limit) if self._packed else self._limit):
            raise WsError(_OVER_LIMIT, TOO_LONG)
        self._size += start - at + length
        self._left = length
        self._final = bool(first & _FINAL)
        return self._take(data, start, events)

    def _check(self, first: int, opcode: int, second: int) -> None:
        """What a frame's first two bytes can be wrong in."""
        if second & _MASKED:
            raise WsError("protocol: a masked frame from the server")
        if opcode not in _OPCODES:
            raise WsError("protocol: a frame of an unknown kind")
        reserved = first & _RESERVED
        if reserved and (reserved != _PACKED or opcode not in (TEXT, BINARY) or self._deflate is None):
            raise WsError("protocol: reserved bits that were not agreed")
        if opcode & 0x08:
            if not first & _FINAL:
                raise WsError("protocol: a control frame in fragments")
            if second > _SHORT:
                raise WsError("protocol: a control frame over 125 bytes")
        elif opcode and self._kind:
            raise WsError("protocol: a new message within a fragmented one")
        elif not opcode and not self._kind:
            raise WsError("protocol: a continuation without a start")

    def _take(self, data: bytes, at: int, events: list[Event]) -> int:
        """Take in what is here of a data frame's payload; where the next bytes stand."""
        end = min(at + self._left, len(data))
        piece = data[at:end]
        self._left -= end - at
        last = self._final and not self._left
        if self._packed:
            piece = self._unpack(piece, last)
        elif self._kind == TEXT:
            self._check_text(piece, last)
        if not last:
            if piece:
                if self._held is None:
                    self._held = io.BytesIO()
                self._held.write(piece)
            return end
        if self._held is not None:
            self._held.write(piece)
            piece = self._held.getvalue()
            self._held = None
        events.append(Message(self._kind, piece, self._size))
        self._kind = 0
        return end

    def _unpack(self, piece: bytes, last: bool) -> bytes:
        assert self._deflate is not None, "a compressed frame is refused where that was not agreed"
        room = self._limit - self._got
        piece = self._deflate.decompress(piece, room, last)
        self._got += len(piece)
        over = len(piece) > room
        if self._kind == TEXT:
            # What is wrong within the limit comes first, as it does where the bytes come one by one.
            self._check_text(piece[:room] if over else piece, last and not over)
        if over:
            raise WsError(_OVER_LIMIT, TOO_LONG)
        return piece

    def _check_text(self, piece: bytes, last: bool) -> None:
        if not self._partial:
            if piece.isascii():
                return
        else:
            piece = self._partial + piece
        try:
            _, used = codecs.utf_8_decode(piece, "strict", last)
        except UnicodeDecodeError:
            raise WsError(_NOT_UTF8, NOT_TEXT) from None
        self._partial = rest = piece[used:]
        # CPython waits for the third byte of a surrogate, which can't make it good any more.
        if rest[:1] == b"\xed" and rest[1:] >= b"\xa0":
            raise WsError(_NOT_UTF8, NOT_TEXT)

    def _take_control(self, opcode: int, payload: bytes, size: int, events: list[Event]) -> None:
        if opcode == _PING:
            events.append(Ping(payload, size))
        elif opcode == _PONG:
            events.append(Pong(payload, size))
        else:
            events.append(_closing(payload, size))
            self._stop()


def may_close_with(code: int) -> bool:
    """Whether a close frame may carry a code: those of RFC 6455 and of its registry, and 3000 to 4999."""
    return 1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999


def _closing(payload: bytes, size: int) -> Close:
    if not payload:
        return Close(None, "", size)
    if len(payload) == 1:
        raise WsError("protocol: a close frame of one byte")
    code = int.from_bytes(payload[:2])
    if not may_close_with(code):
        raise WsError("protocol: a close code that is not allowed")
    try:
        return Close(code, payload[2:].decode(), size)
    except UnicodeDecodeError:
        raise WsError("protocol: a close reason that is not UTF-8", NOT_TEXT) from None


def _long_length(data: bytes) -> int:
    """A length of two or eight bytes, which must need them."""
    length = int.from_bytes(data)
    if length <= (_SHORT if len(data) == 2 else 0xFFFF):
        raise WsError("protocol: a length in a longer form than it needs")
    if length >> 63:
        raise WsError("protocol: a length of 64 bits")
    return length


def _most_packed(limit: int) -> int:
    """How long a message within the limit may be when compressed: what does not compress becomes an eighth longer."""
    return limit + (limit >> 2) + 64


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


_HEADS = {
    _FINAL | bits: tuple(bytes((_FINAL | bits, _MASKED | length)) for length in range(_SHORT + 1))
    for bits in (TEXT, BINARY, _PACKED | TEXT, _PACKED | BINARY, _CLOSE, _PING, _PONG)
}
"""The first two bytes of short frames, by their first byte and their payload's length."""
_KEYS_AT_ONCE = 1024
_keys: list[bytes] = []
"""Masking keys to be used, each once.

RFC 6455 (10.3) wants them unpredictable, so that whoever chooses the payload can't choose the bytes on the wire. From
the kernel's generator, in batches, a key costs a tenth of a microsecond: what ``random`` takes, which can be predicted.
"""


def _more_keys() -> bytes:
    block = os.urandom(4 * _KEYS_AT_ONCE)
    _keys.extend(block[at : at + 4] for at in range(0, len(block), 4))
    return _keys.pop()


_BY_TABLES = 1024
"""Up to so many bytes the XOR of two whole numbers is the quicker way; from 64 KiB on it takes twice as long."""


def _masked_by_tables(payload: bytes, key: bytes) -> bytes:
    masked = bytearray(payload)
    for at, byte in enumerate(key):
        masked[at::4] = masked[at::4].translate(_xor_table(byte))
    return bytes(masked)


@functools.cache
def _xor_table(byte: int) -> bytes:
    return bytes(byte ^ other for other in range(256))


def _frame(first: int, payload: bytes) -> bytes:
    """A masked frame."""
    size = len(payload)
    try:
        key = _keys.pop()
    except IndexError:
        key = _more_keys()
    if size > _BY_TABLES:
        masked = _masked_by_tables(payload, key)
    else:
        mask = (key * ((size >> 2) + 1))[:size]
        masked = (int.from_bytes(payload) ^ int.from_bytes(mask)).to_bytes(size)
    if size <= _SHORT:
        return _HEADS[first][size] + key + masked
    if size <= 0xFFFF:
        return b"%c\xfe%b%b%b" % (first, size.to_bytes(2), key, masked)
    return b"%c\xff%b%b%b" % (first, size.to_bytes(8), key, masked)


def _control(opcode: int, payload: bytes) -> bytes:
    if len(payload) > _SHORT:
        raise Refused("refused: a control frame over 125 bytes")
    return _frame(_FINAL | opcode, payload)
