"""Laws of the WebSocket codec: what goes in comes out however it was cut, and wsproto understands the same.

Known differences to wsproto, which the comparisons leave out: it has no limits; it refuses the close code 1014; after
a control frame between the fragments of a compressed message it takes the rest for plain; it takes compressed data
that stops within a block, and passes over what follows a final one.
"""

from __future__ import annotations

import random
import tracemalloc
import zlib
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from loads.workers.engines.ws_codec import BINARY, TEXT, Close, Codec, Event, Message, Ping, Pong, WsError
from loads.workers.engines.ws_deflate import Deflate
from ws_frames import (
    CLOSE,
    CONTINUATION,
    MANY,
    PAYLOADS,
    PING,
    PLACES,
    PONG,
    SMALL,
    TEXTS,
    closing,
    cut,
    each_byte,
    frame,
    outcome,
)
from wsproto import ConnectionType, events
from wsproto.connection import Connection
from wsproto.extensions import PerMessageDeflate

Said = tuple[Any, ...]
"""An event in terms that both codecs have: a kind and what came with it."""


def ours(event: Event) -> Said:
    if isinstance(event, Message):
        return ("text", event.text()) if event.kind == TEXT else ("binary", event.data)
    if isinstance(event, Close):
        return "close", event.code or 1005, event.reason
    return ("ping" if isinstance(event, Ping) else "pong"), event.payload


class Theirs:
    """wsproto's codec, its messages put together; ``refused`` with which code, once it has."""

    def __init__(self, side: ConnectionType, extensions: list[PerMessageDeflate] | None = None) -> None:
        self.connection = Connection(side, list(extensions or []))
        self.said: list[Said] = []
        self.refused: int | None = None
        self._parts: list[Any] = []

    def feed(self, data: bytes) -> None:
        closed = any(said[0] == "close" for said in self.said)
        if self.refused is not None or closed:
            return
        self.connection.receive_data(data)
        for event in self.connection.events():
            self._take(event)

    def _take(self, event: events.Event) -> None:
        if isinstance(event, events.Message):
            self._parts.append(event.data)
            if event.message_finished:
                text = isinstance(event, events.TextMessage)
                whole = "".join(self._parts) if text else b"".join(self._parts)
                self._parts = []
                self.said.append(("text" if text else "binary", whole))
        elif isinstance(event, events.CloseConnection):
            # A fault and a close frame are one event there; the state tells which it was.
            if self.connection.state.name == "REMOTE_CLOSING":
                self.said.append(("close", int(event.code), event.reason or ""))
            else:
                self.refused = int(event.code)
        else:
            assert isinstance(event, events.Ping | events.Pong)
            self.said.append(("ping" if isinstance(event, events.Ping) else "pong", bytes(event.payload)))


def agreed(parameters: tuple[bool, bool, int, int]) -> PerMessageDeflate:
    client_forgets, server_forgets, client_bits, server_bits = parameters
    extension = PerMessageDeflate(client_forgets, client_bits, server_forgets, server_bits)
    extension._enabled = True
    return extension


PARAMETERS = st.tuples(st.booleans(), st.booleans(), st.integers(9, 15), st.integers(9, 15))
MESSAGES = st.lists(TEXTS | PAYLOADS, min_size=1, max_size=6)
CONTROLS = st.lists(
    st.builds(lambda opcode, payload: (opcode, payload), st.sampled_from([PING, PONG]), SMALL), max_size=3
)


@st.composite
def fragmented(draw: st.DrawFn) -> tuple[bytes, list[Event]]:
    """A message in fragments with control frames between them, and the events that these are."""
    text = draw(st.booleans())
    data = draw(TEXTS).encode() if text else draw(PAYLOADS)
    kind = TEXT if text else BINARY
    pieces = cut(data, draw(PLACES))
    wire, found, size = b"", list[Event](), 0
    for at, piece in enumerate(pieces):
        last = at == len(pieces) - 1
        one = frame(CONTINUATION if at else kind, piece, fin=last)
        wire += one
        size += len(one)
        for opcode, payload in [] if last else draw(CONTROLS):
            wire += frame(opcode, payload)
            found.append((Ping if opcode == PING else Pong)(payload, 2 + len(payload)))
    return wire, [*found, Message(kind, data, size)]


@given(st.lists(fragmented(), max_size=4), PLACES)
def test_what_went_in_comes_out_however_it_was_fragmented_and_cut(
    messages: list[tuple[bytes, list[Event]]], places: list[int]
) -> None:
    wire = b"".join(data for data, _ in messages) + closing(4000, b"over")
    expected = [event for _, found in messages for event in found]
    assert outcome(cut(wire, places)) == ([*expected, Close(4000, "over", 8)], None)


@st.composite
def frames(draw: st.DrawFn) -> bytes:
    """A frame that is mostly right."""
    opcode = draw(st.sampled_from([CONTINUATION, TEXT, TEXT, BINARY, PING, PONG, CLOSE, 3]))
    payload = draw(SMALL | st.text(max_size=9).map(str.encode) | st.sampled_from([b"\xc3", b"\xa4", b"\xe2\x82"]))
    if opcode == CLOSE and draw(st.booleans()):
        payload = draw(st.integers(995, 1020) | st.integers(0, 65535)).to_bytes(2) + payload[:20]
    return frame(
        opcode,
        payload,
        fin=draw(st.booleans()) or opcode >= CLOSE,
        rsv=draw(st.sampled_from([0] * 20 + [1, 2, 4, 7])),
        form=draw(st.sampled_from([0] * 20 + [126, 127])),
        mask=draw(st.sampled_from([b""] * 20 + [b"mask"])),
    )


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """Frames that are right or wrong, of which some bytes are others."""
    data = bytearray(b"".join(draw(st.lists(frames(), max_size=8))))
    for place, byte in draw(st.lists(st.tuples(st.integers(0, 1 << 12), st.integers(0, 255)), max_size=3)):
        if data:
            data[place % len(data)] = byte
    return bytes(data)


def leaves_out(data: list[Said]) -> bool:
    return any(said[0] == "close" and said[1] == 1014 for said in data)


@given(mutated() | st.binary(max_size=60))
@example(frame(TEXT, b"a", fin=False) + frame(PING) + frame(CONTINUATION, b"b"))
def test_wsproto_refuses_the_same_and_understands_the_same(data: bytes) -> None:
    found, fault = outcome([data])
    said = [ours(event) for event in found]
    theirs = Theirs(ConnectionType.CLIENT)
    theirs.feed(data)
    if fault is not None and fault[1] != 1009 and theirs.refused is None:
        theirs.feed(bytes(16))  # It looks at a header when all of it is there.
    if leaves_out(said) or (fault is not None and fault[1] == 1009):
        return
    assert (said, fault and fault[1]) == (theirs.said[: len(said)] if fault else theirs.said, theirs.refused)


@given(mutated() | st.binary(max_size=60), PLACES, st.sampled_from([5, 100, MANY]))
def test_how_the_bytes_are_cut_changes_nothing(data: bytes, places: list[int], most: int) -> None:
    whole = outcome([data], most)
    assert outcome(cut(data, places), most) == whole
    assert outcome(each_byte(data), most) == whole


@given(mutated() | st.binary(max_size=60), PLACES, st.integers(0, 150), st.booleans())
def test_nothing_but_a_wserror_is_ever_raised_and_no_more_than_the_bound_held(
    data: bytes, places: list[int], most: int, deflate: bool
) -> None:
    codec = Codec(most, Deflate() if deflate else None)
    for piece in cut(data, places):
        try:
            codec.feed(piece)
        except WsError as error:
            assert error.code in (1002, 1007, 1009)
            assert str(error).partition(":")[0] in ("protocol", "limit")
            assert codec.held == 0
        assert codec.held <= most + 140


@given(st.lists(st.tuples(st.booleans(), st.binary(max_size=80)), max_size=6), PLACES, st.booleans())
def test_damaged_compression_is_a_wserror(messages: list[tuple[bool, bytes]], places: list[int], forgets: bool) -> None:
    deflate = Deflate(client_no_context_takeover=forgets)
    data = b""
    for broken, payload in messages:
        packed = payload if broken or not payload else deflate.compress(payload)
        data += frame(BINARY, packed, rsv=4)
    whole = outcome([data], 500, Deflate(False, forgets))
    assert outcome(cut(data, places), 500, Deflate(False, forgets)) == whole
    assert whole[1] is None or whole[1][1] in (1007, 1009)


@given(MESSAGES, st.lists(st.tuples(st.booleans(), SMALL), max_size=3), st.none() | PARAMETERS)
def test_wsproto_reads_what_we_send(
    messages: list[str | bytes], controls: list[tuple[bool, bytes]], parameters: tuple[bool, bool, int, int] | None
) -> None:
    codec = Codec(MANY, Deflate(*parameters) if parameters else None)
    theirs = Theirs(ConnectionType.SERVER, [agreed(parameters)] if parameters else None)
    expected: list[Said] = []
    for message in messages:
        text = isinstance(message, str)
        theirs.feed(codec.message(TEXT, message.encode()) if text else codec.message(BINARY, message))
        expected.append(("text" if text else "binary", message))
    for ping, payload in controls:
        theirs.feed(codec.ping(payload) if ping else codec.pong(payload))
        expected.append(("ping" if ping else "pong", payload))
    theirs.feed(codec.close(3001, "ü"))
    assert (theirs.said, theirs.refused) == ([*expected, ("close", 3001, "ü")], None)


@given(MESSAGES, PARAMETERS, PLACES)
def test_we_read_what_wsproto_sends(
    messages: list[str | bytes], parameters: tuple[bool, bool, int, int], places: list[int]
) -> None:
    server = Connection(ConnectionType.SERVER, [agreed(parameters)])
    wire = b""
    for message in messages:
        kind = events.TextMessage if isinstance(message, str) else events.BytesMessage
        half = len(message) // 2
        wire += bytes(server.send(kind(data=message[:half], message_finished=False)))  # type: ignore[type-var]
        wire += bytes(server.send(kind(data=message[half:])))  # type: ignore[type-var]
    found, fault = outcome(cut(wire, places), MANY, Deflate(*parameters))
    expected = [("text" if isinstance(message, str) else "binary", message) for message in messages]
    assert ([ours(event) for event in found], fault) == (expected, None)


@pytest.mark.parametrize("client_forgets", [False, True])
@pytest.mark.parametrize("server_forgets", [False, True])
@pytest.mark.parametrize("client_bits", [8, 9, 12, 15])
@pytest.mark.parametrize("server_bits", [8, 9, 12, 15])
def test_each_combination_of_parameters(
    client_forgets: bool, server_forgets: bool, client_bits: int, server_bits: int
) -> None:
    """Beyond the window too. wsproto has none of 8 bits, so zlib itself is the judge."""
    client = Deflate(client_forgets, server_forgets, client_bits, server_bits)
    server = Deflate(server_forgets, client_forgets, server_bits, client_bits)
    for inflater, sender, receiver in (
        (Windowed(client_bits), client, server),
        (Windowed(server_bits), server, client),
    ):
        for payload in (NOISE * 4, b"abc" * 300, b"\0" * 70000, NOISE[:300] * 3, b"abc" * 300):
            packed = sender.compress(payload)
            assert receiver.decompress(packed, MANY, True) == payload
            assert (inflater if sender.remembers else Windowed(inflater.bits)).message(packed) == payload


NOISE = random.Random(6455).randbytes(1000)


class Windowed:
    """zlib, made to keep to its window: beyond the output of one call it has nothing but that."""

    def __init__(self, bits: int) -> None:
        self.bits = bits
        self._inflater = zlib.decompressobj(-bits)

    def message(self, packed: bytes) -> bytes:
        out = piece = self._inflater.decompress(packed + b"\0\0\xff\xff", 50)
        while piece:
            piece = self._inflater.decompress(self._inflater.unconsumed_tail, 50)
            out += piece
        return out


def test_many_small_fragments_take_no_more_than_their_bytes() -> None:
    wire = frame(BINARY, b"a", fin=False) + frame(CONTINUATION, b"b", fin=False) * 200_000
    codec = Codec(MANY)
    tracemalloc.start()
    try:
        codec.feed(wire)
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert codec.held == 200_001
    assert held < 300_000
