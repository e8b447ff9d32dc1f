"""Frames as a server makes them, right or wrong, written apart from the codec under test; and ways to feed them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from hypothesis import strategies as st
from loads.workers.engines.ws_codec import Codec, Event, WsError
from loads.workers.engines.ws_deflate import Deflate

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
MANY = 1 << 20


def frame(opcode: int, payload: bytes = b"", fin: bool = True, rsv: int = 0, form: int = 0, mask: bytes = b"") -> bytes:
    """One frame; ``rsv``: its three bits as a number, 4 the first; ``form``: 126 or 127 for a length that is longer
    than it needs to be."""
    size = len(payload)
    form = form or (size if size < 126 else 126 if size < 65536 else 127)
    longer = size.to_bytes({126: 2, 127: 8}.get(form, 0)) if form > 125 else b""
    if mask:
        payload = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
    return bytes((fin << 7 | rsv << 4 | opcode, bool(mask) << 7 | form)) + longer + mask + payload


def closing(code: int, reason: bytes = b"") -> bytes:
    return frame(CLOSE, code.to_bytes(2) + reason)


Outcome = tuple[list[Event], tuple[str, int] | None]


def outcome(pieces: Iterable[bytes], most: int = MANY, deflate: Deflate | None = None) -> Outcome:
    """The events of all of the pieces, and the text and code of the fault that ended them."""
    codec, events = Codec(most, deflate), []
    for piece in pieces:
        try:
            events += codec.feed(piece)
        except WsError as error:
            return events + error.events, (str(error), error.code)
    return events, None


def each_byte(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    """The data in pieces, cut at the places."""
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[low:high] for low, high in itertools.pairwise(edges)]


def each_cut(data: bytes) -> list[list[bytes]]:
    """All ways to cut it in two."""
    return [[data[:place], data[place:]] for place in range(1, len(data))]


PLACES = st.lists(st.integers(0, 1 << 16), max_size=12)
TEXTS = st.text(max_size=40) | st.text("aé€😀", max_size=200) | st.just("x" * 126) | st.just("ü" * 40000)
PAYLOADS = st.binary(max_size=140) | st.just(b"\xff" * 126) | st.just(b"ab" * 33000)
SMALL = st.binary(max_size=125)
