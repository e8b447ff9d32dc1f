"""The compiled response parser against the pure one: the same bytes in the same pieces mean the same to both.

`make fuzz-core` runs this with many more examples, and with the core built for AddressSanitizer.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator, Sequence

import h11
import pytest
from core_world import core
from hypothesis import example, given
from hypothesis import strategies as st
from loads.workers.engines.errors import ProtocolError
from loads.workers.engines.http1 import HeadParser, Limits, ResponseReader

from loads_queue.model.histogram import Histogram

SMALL = Limits(head=300, interim=3, chunk_line=24, body=200)
CODINGS = {"gzip": 1, "x-gzip": 1, "deflate": 2}

PLAIN = b"a plain body, 0\r\n\r\nand more"
PIECES = [
    b"HTTP/1.1 200 OK", b"HTTP/1.0 200 OK", b"HTTP/1.1 404", b"HTTP/1.1 204 ", b"HTTP/1.1 304 Not", b"HTTP/1.1 100 Go",
    b"HTTP/1.1 101 Up", b"HTTP/1.1 103 Hints", b"HTTP/1.1 099 x", b"HTTP/1.2 200 OK", b"HTTP/1.1 2000", b"HTTP", b"I",
    b"Content-Length: 5", b"content-length:26", b"Content-Length: 5, 5", b"CONTENT-LENGTH: +5", b"Content-Length:",
    b"Content-Length: 9999999999999999999", b"Content-Length: 201", b"Content-Length: 0", b"Content-Length: \xb25",
    b"Content-Length: 5\x0b", b"Transfer-Encoding: chunked", b"transfer-encoding:Chunked ",
    b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding: , chunked,", b"Connection: close",
    b"Connection: x, Keep-Alive ,y", b"Connection: keep-alive, close", b"connection:CLOSE", b"Content-Encoding: gzip",
    b"Content-Encoding: deflate", b"Content-Encoding: br", b"Content-Encoding: GZIP", b"Set-Cookie: a=b",
    b"Location: /x", b"X: \0", b"X: a\rb", b" folded", b"\tfolded: 5", b"X Y: z", b": v", b"X", b"X:", b"\xe9: v",
    b"5\r\nhello\r\n", b"1a\r\n" + PLAIN + b"\r\n", b"0\r\n", b"0\r\n\r\n", b"5;a=b\r\nhello", b"5 \t;\r\nhello\r\n",
    b"FFFFFFFFFFFFFFFF\r\n", b"00000000000000005\r\n", b"0000000000000005\r\nhello\r\n", b"5\nhello\n", b"g\r\n",
    b"5 x\r\n", b"; \r\n", b"T: v\r\n", b"T: v\r\r\n", b" T: v\r\n", b"hello", PLAIN, gzip.compress(PLAIN, mtime=0),
    zlib.compress(PLAIN), zlib.compress(PLAIN, wbits=-15), gzip.compress(b"x" * 300, mtime=0), b"x" * 30, b"y: " * 60,
    b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"\n\n", b"\r\r\n", b"\0", b" ",
]  # fmt: skip


@st.composite
def likely(draw: st.DrawFn) -> bytes:
    """Bytes that look like a response for a while."""
    heads = []
    for _ in range(draw(st.integers(1, 3))):
        end = draw(st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n"]))
        lines = [draw(st.sampled_from(PIECES[:13])), *draw(st.lists(st.sampled_from(PIECES[13:44]), max_size=4))]
        heads.append(end.join(lines) + end + end)
    return b"".join(heads) + b"".join(draw(st.lists(st.sampled_from(PIECES), max_size=6)))


@st.composite
def chunked(draw: st.DrawFn) -> bytes:
    """A chunked response, whose body may be coded, with a flaw here or there."""
    coding, body = draw(
        st.sampled_from(
            [(b"", PLAIN), (b"Content-Encoding: gzip\r\n", PIECES[64]), (b"Content-Encoding: deflate\r\n", PIECES[65])]
        )
    )
    out = b"HTTP/1.1 200 OK\r\n" + coding + b"Transfer-Encoding: chunked\r\n\r\n"
    while body:
        size = draw(st.integers(1, len(body)))
        out += b"%x%s\r\n%s\r\n" % (size, draw(st.sampled_from([b"", b";a=b", b" "])), body[:size])
        body = body[size:]
    out += b"0\r\n" + draw(st.sampled_from([b"", b"T: v\r\n", b"T v\r\n"])) + b"\r\n"
    return out + draw(st.sampled_from([b"", b"x"]))


def pieces(data: bytes, cuts: Sequence[int]) -> Iterator[bytes]:
    """The bytes, cut at some places."""
    ends = sorted({cut % (len(data) + 1) for cut in cuts} | {len(data)})
    start = 0
    for end in ends:
        if end > start:
            yield data[start:end]
        start = end


class Pair:
    """Both readers, held against each other after every step."""

    def __init__(self, limits: Limits) -> None:
        self.pure = ResponseReader(HeadParser(), limits)
        self.core = core.Reader(limits)

    def begin(self, method: str, keep: bool) -> None:
        self.pure.begin(method, keep)
        self.core.begin(method, keep)

    def feed(self, data: bytes) -> str:
        return self._both("feed", data)

    def finish(self) -> str:
        return self._both("finish")

    def _both(self, call: str, *arguments: bytes) -> str:
        said = []
        for reader in (self.pure, self.core):
            try:
                said.append(f"done {bool(getattr(reader, call)(*arguments))}")
            except ProtocolError as error:
                said.append(str(error))
        assert said[0] == said[1]
        self.compare(said[0])
        return said[0]

    def compare(self, after: str) -> None:
        pure, compiled = self.pure, self.core
        assert compiled.status == pure.status, after
        assert compiled.received == pure.received, after
        assert compiled.reusable == pure.reusable, after
        assert compiled.body == pure.body, after
        if after.startswith("done"):
            assert compiled.excess == pure.excess, after
        head = pure.head
        if head is None:
            assert compiled.framing is None
            return
        coding = CODINGS.get(head.coding, 0)
        assert compiled.framing == (head.status, head.length, head.chunked, head.keep_alive, coding)
        assert HeadParser().parse(compiled.block) == head


def hold_together(data: bytes, cuts: Sequence[int], method: str, keep: bool, limits: Limits) -> None:
    """Read one response, as it comes and then to the end of the stream."""
    pair = Pair(limits)
    for _ in range(2):  # The second time heads may be known.
        pair.begin(method, keep)
        for piece in pieces(data, cuts):
            said = pair.feed(piece)
            if said != "done False":
                break
        else:
            pair.finish()


CUTS = st.lists(st.integers(0, 400), max_size=5)
METHODS = st.sampled_from(["GET", "GET", "GET", "HEAD"])


@given(likely(), CUTS, METHODS, st.booleans())
def test_what_looks_like_a_response(data: bytes, cuts: list[int], method: str, keep: bool) -> None:
    hold_together(data, cuts, method, keep, SMALL)


@given(chunked(), CUTS, st.booleans(), st.sampled_from([SMALL, Limits()]))
def test_chunked_bodies(data: bytes, cuts: list[int], keep: bool, limits: Limits) -> None:
    hold_together(data, cuts, "GET", keep, limits)


@given(st.lists(st.sampled_from(PIECES), max_size=12).map(b"".join), CUTS, METHODS)
@example(b"HTTP/1.1 100 Go\r\n\r\nHTTP/1.1 101 Up\r\n\r\n", [3], "GET")
def test_any_pieces(data: bytes, cuts: list[int], method: str) -> None:
    hold_together(data, cuts, method, True, SMALL)


@given(chunked() | likely(), st.integers(0, 400), st.binary(max_size=3), st.integers(0, 3), CUTS)
def test_damaged_responses(data: bytes, at: int, put: bytes, cut: int, cuts: list[int]) -> None:
    at %= len(data) + 1
    hold_together(data[:at] + put + data[at + cut :], cuts, "GET", True, SMALL)


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 100 Go\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello",
        b"HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n5\n0\r\n\r\n\n3;x=y\r\nabc\r\n0\r\nT: u\r\n\r\n",
        b"HTTP/1.0 200\r\nX: y\r\n folded\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(PIECES[64]) + PIECES[64],
        b"HTTP/1.1 500 \r\n\r\nto the end",
    ],
)
def test_every_split_in_two_and_every_byte(data: bytes) -> None:
    for cut in range(len(data)):
        hold_together(data, [cut], "GET", True, Limits())
    hold_together(data, list(range(len(data))), "GET", True, Limits())


def test_as_h11_reads_it() -> None:
    data = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n0\r\n\r\n\r\n0\r\nT: u\r\n\r\n"
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="GET", target="/", headers=[("Host", "h")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(data)
    body = b""
    while not isinstance(event := connection.next_event(), h11.EndOfMessage):
        if isinstance(event, h11.Data):
            body += bytes(event.data)
    reader = core.Reader(Limits())
    reader.begin("GET", True)
    assert reader.feed(data)
    assert reader.body == body == b"0\r\n\r\n"


@given(st.lists(st.integers(-5, 200) | st.integers(0, 1 << 44) | st.integers(0, (1 << 63) - 1), max_size=60))
@example([(1 << 63) - 1] * 40)
@example([63, 64, 127, 128, (1 << 42) - 1, 1 << 42])
def test_durations_land_in_the_same_buckets(values: list[int]) -> None:
    expected, tallied = Histogram(), core.Tallied()
    for value in values:
        expected.record(value)
        tallied.record(value)
    found = tallied.histogram()
    if not values:
        assert found is None
        return
    assert (found.counts, found.count, found.sum) == (expected.counts, expected.count, expected.sum)
    assert (found.min, found.max, found.clamped) == (expected.min, expected.max, expected.clamped)
