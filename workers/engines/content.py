"""Content codings (gzip, deflate) as pure, bounded, incremental decoders."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from .errors import ProtocolError

_BLOCK = 256 * 1024
_GZIP = 16 + zlib.MAX_WBITS


class ContentDecoder:
    """Decodes one body; what it gives out in all is at most ``limit`` bytes, in blocks of at most 256 KiB."""

    def __init__(self, gzip: bool, limit: int) -> None:
        self._gzip = gzip
        self._limit = limit
        self._given = 0
        self._begun = False
        self._start = b""
        self._inflate = zlib.decompressobj(_GZIP if gzip else zlib.MAX_WBITS)
        self._chosen = gzip

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The decoded bytes of the next piece; raises ProtocolError."""
        if not self._chosen:
            data = self._choose(data)
        more = bool(data)
        while more:
            if self._inflate.eof:
                if not self._gzip or data[:1] != b"\x1f":
                    return
                self._inflate = zlib.decompressobj(_GZIP)
            out = self._decompress(data)
            self._begun = True
            self._given += len(out)
            if self._given > self._limit:
                raise ProtocolError("limit: a decoded body over the limit")
            yield out
            data = self._inflate.unconsumed_tail or self._inflate.unused_data
            # A full block may leave output behind inside zlib with no input left to push it out.
            more = bool(data) or (len(out) == _BLOCK and not self._inflate.eof)

    def _choose(self, data: bytes) -> bytes:
        """Many servers call raw deflate what RFC 9110 means to be zlib's format; browsers read both."""
        start = self._start + data
        if len(start) < 2:
            self._start = start
            return b""
        self._chosen = True
        if start[0] & 0x0F != zlib.DEFLATED or int.from_bytes(start[:2]) % 31:
            self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        return start

    def _decompress(self, data: bytes) -> bytes:
        try:
            return self._inflate.decompress(data, _BLOCK)
        except zlib.error:
            raise ProtocolError("protocol: a broken content coding") from None

    def finish(self) -> None:
        """The body is over; raises ProtocolError where the coded data is not."""
        if (self._begun or self._start) and not self._inflate.eof:
            raise ProtocolError("truncated: the content coding ends early")


def decoder_for(coding: str, limit: int) -> ContentDecoder | None:
    """A decoder for a Content-Encoding, or None for one that is passed on as it came."""
    if coding in ("gzip", "x-gzip"):
        return ContentDecoder(True, limit)
    if coding == "deflate":
        return ContentDecoder(False, limit)
    return None
