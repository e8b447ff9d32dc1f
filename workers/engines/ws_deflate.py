"""permessage-deflate (RFC 7692), the client's side: what is offered, what was agreed to, and the (de)compression. Pure.

There may be ten thousand connections, so nothing of zlib is made before a message needs it, and the compressor is kept
small: a sender may look back less far than was agreed, and nobody has to be told.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass

from .ws_codec import NOT_TEXT, WsError

NAME = "permessage-deflate"
_TAIL = b"\x00\x00\xff\xff"
"""What ends each message's data, and is not sent."""
_FINAL_BLOCK = b"\x01\x00\x00\xff\xff"
_MOST_FINALS = 16
"""How often the data of one message may end and begin anew; each costs a new inflater."""
_BROKEN = "protocol: broken compression"
_MOST_BITS = 15
_OUR_BITS, _OUR_MEMORY, _OUR_LEVEL = 12, 5, 6
"""A compressor takes 2^(bits + 2) + 2^(memory + 9) bytes: 32 KiB, not 256."""

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_GAP = re.compile(r"[ \t,]*")
_FIRST = re.compile(_TOKEN)
_PARAMETER = re.compile(rf'[ \t]*;[ \t]*({_TOKEN})(?:[ \t]*=[ \t]*(?:({_TOKEN})|"({_TOKEN})"))?')
_END = re.compile(r"[ \t]*(?:,|\Z)")
_BITS = frozenset(str(bits) for bits in range(8, _MOST_BITS + 1))


@dataclass(frozen=True, slots=True)
class Offer:
    """What a client asks for; the default is what browsers offer. Window bits are 8 to 15.

    ``client_max_window_bits`` None: the server may not limit the client's window. ``server_max_window_bits`` None:
    any window of the server will do.
    """

    client_no_context_takeover: bool = False
    server_no_context_takeover: bool = False
    client_max_window_bits: int | None = _MOST_BITS
    server_max_window_bits: int | None = None


_AS_BROWSERS = Offer()


class Deflate:
    """The compression of one connection, as agreed; both directions remember earlier messages unless told not to."""

    __slots__ = ("_client_bits", "_deflater", "_finals", "_forgets", "_inflater", "_server_bits", "remembers")

    def __init__(
        self,
        client_no_context_takeover: bool = False,
        server_no_context_takeover: bool = False,
        client_max_window_bits: int = _MOST_BITS,
        server_max_window_bits: int = _MOST_BITS,
    ) -> None:
        self.remembers = not client_no_context_takeover
        """What is compressed is compressed with the messages before it, so the server must see all of them."""
        self._forgets = server_no_context_takeover
        self._client_bits = client_max_window_bits
        self._server_bits = server_max_window_bits
        self._deflater: zlib._Compress | None = None
        self._inflater: zlib._Decompress | None = None
        self._finals = 0

    def compress(self, payload: bytes) -> bytes:
        """The data of one message that is not empty."""
        deflater = self._deflater
        if deflater is None:
            deflater = _deflater(self._client_bits)
            if self.remembers:
                self._deflater = deflater
        return (deflater.compress(payload) + deflater.flush(zlib.Z_SYNC_FLUSH))[: -len(_TAIL)]

    def decompress(self, piece: bytes, room: int, last: bool) -> bytes:
        """The next piece of a message decompressed; raises WsError.

        At most ``room`` + 1 bytes: the one more says that there are too many, and nothing may follow.
        """
        if last:
            piece += _TAIL
        try:
            out = self._inflate(piece, room + 1)
            if last and len(out) <= room:
                self._end()
        except zlib.error:
            raise WsError(_BROKEN, NOT_TEXT) from None
        return out

    def _inflate(self, data: bytes, most: int) -> bytes:
        inflater = self._inflater
        if inflater is None:
            inflater = self._inflater = zlib.decompressobj(-self._server_bits)
        out = inflater.decompress(data, most)
        # A block may say that it is the last one (RFC 7692, 7.2.3.4); zlib then has to begin anew, without a memory.
        while inflater.eof and inflater.unused_data and len(out) < most:
            self._finals += 1
            if self._finals > _MOST_FINALS:
                raise WsError(_BROKEN, NOT_TEXT)
            rest = inflater.unused_data
            inflater = self._inflater = zlib.decompressobj(-self._server_bits)
            out += inflater.decompress(rest, most - len(out))
        return out

    def _end(self) -> None:
        """The message is over: its data must be over too, at the end of a block, or the next one would be garbage."""
        inflater = self._inflater
        assert inflater is not None, "a message's end is decompressed before"
        if not inflater.eof:
            probe = inflater if self._forgets else inflater.copy()
            probe.decompress(_FINAL_BLOCK, 1)
            if not probe.eof:
                raise WsError(_BROKEN, NOT_TEXT)
        if inflater.eof:
            self._inflater = None
        self._finals = 0


def _deflater(bits: int) -> zlib._Compress:
    # zlib has no window of 8 bits. Without matches none is needed.
    strategy = zlib.Z_DEFAULT_STRATEGY if bits > 8 else zlib.Z_HUFFMAN_ONLY
    return zlib.compressobj(_OUR_LEVEL, zlib.DEFLATED, -max(9, min(bits, _OUR_BITS)), _OUR_MEMORY, strategy)


def offer(wanted: Offer = _AS_BROWSERS) -> str:
    """The value of Sec-WebSocket-Extensions in the request."""
    parts = [NAME]
    for name in ("client_no_context_takeover", "server_no_context_takeover"):
        if getattr(wanted, name):
            parts.append(name)
    if wanted.client_max_window_bits is not None:
        bits = wanted.client_max_window_bits
        parts.append("client_max_window_bits" + (f"={bits}" if bits < _MOST_BITS else ""))
    if wanted.server_max_window_bits is not None:
        parts.append(f"server_max_window_bits={wanted.server_max_window_bits}")
    return "; ".join(parts)


def agree(header: str | None, wanted: Offer | None = _AS_BROWSERS) -> Deflate | None:
    """What the server made of an offer (None: there was none), from its Sec-WebSocket-Extensions (None: it has none).

    None where it declined. Raises WsError for what was not offered or is malformed.
    """
    if header is None:
        return None
    extensions = _extensions(header)
    if wanted is None or [name for name, _ in extensions] != [NAME]:
        raise WsError("protocol: an extension that was not offered")
    given: dict[str, str | None] = {}
    for name, value in extensions[0][1]:
        if name in given or not _allowed(name, value, wanted):
            raise WsError("protocol: a parameter of permessage-deflate that is not allowed")
        given[name] = value
    if (wanted.server_no_context_takeover and "server_no_context_takeover" not in given) or (
        wanted.server_max_window_bits is not None and "server_max_window_bits" not in given
    ):
        raise WsError("protocol: a parameter of permessage-deflate that is missing")
    return Deflate(
        wanted.client_no_context_takeover or "client_no_context_takeover" in given,
        "server_no_context_takeover" in given,
        int(given.get("client_max_window_bits") or wanted.client_max_window_bits or _MOST_BITS),
        int(given.get("server_max_window_bits") or _MOST_BITS),
    )


def _allowed(name: str, value: str | None, wanted: Offer) -> bool:
    """Whether a server may answer an offer with a parameter (RFC 7692, 7.1)."""
    if name in ("client_no_context_takeover", "server_no_context_takeover"):
        return value is None
    if name == "client_max_window_bits":
        most = wanted.client_max_window_bits
    elif name == "server_max_window_bits":
        most = wanted.server_max_window_bits or _MOST_BITS
    else:
        return False
    return most is not None and value is not None and value in _BITS and int(value) <= most


def _extensions(header: str) -> list[tuple[str, list[tuple[str, str | None]]]]:
    """The extensions of a header with their parameters; at least one."""
    found: list[tuple[str, list[tuple[str, str | None]]]] = []
    at = _past_gap(header, 0)
    while at < len(header) or not found:
        name = _FIRST.match(header, at)
        if name is None:
            raise _malformed()
        at = name.end()
        parameters: list[tuple[str, str | None]] = []
        while parameter := _PARAMETER.match(header, at):
            parameters.append((parameter[1], parameter[2] or parameter[3]))
            at = parameter.end()
        end = _END.match(header, at)
        if end is None:
            raise _malformed()
        found.append((name[0], parameters))
        at = _past_gap(header, end.end())
    return found


def _past_gap(header: str, at: int) -> int:
    """A list may have empty elements (RFC 9110, 5.6.1.2)."""
    match = _GAP.match(header, at)
    assert match is not None, "it matches the empty string"
    return match.end()


def _malformed() -> WsError:
    return WsError("protocol: a malformed Sec-WebSocket-Extensions")
