"""The response reader: what it takes, what it refuses, and that nothing else ever comes out of it."""

from __future__ import annotations

import gzip
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loads.workers.engines.errors import ProtocolError, Refused
from loads.workers.engines.http1 import HeadParser, Limits, ResponseReader, encode_request, header_line, request_line

SMALL = Limits(head=1024, interim=4, chunk_line=64, body=4096)


def reader(method: str = "GET", keep: bool = True, limits: Limits = SMALL) -> ResponseReader:
    found = ResponseReader(HeadParser(), limits)
    found.begin(method, keep)
    return found


def read(data: bytes, method: str = "GET", step: int = 0, closes: bool = False) -> ResponseReader:
    """The reader after all of the bytes, in pieces of ``step``; the response must be complete."""
    found = reader(method)
    pieces = [data[at : at + step] for at in range(0, len(data), step)] if step else [data]
    done = False
    for piece in pieces:
        done = found.feed(piece)
    if closes:
        assert not done
        found.finish()
    else:
        assert done
    return found


@pytest.mark.parametrize("step", [0, 1, 2, 3, 7])
class TestWhole:
    def test_length(self, step: int) -> None:
        found = read(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: b\r\n\r\nhello", step=step)
        assert (found.status, found.body, found.reusable, found.excess) == (200, b"hello", True, False)
        assert found.head is not None and found.head.get("x-a") == "b"
        assert found.received == 51

    def test_chunks_that_hold_the_last_chunk(self, step: int) -> None:
        body = b"5\r\n0\r\n\r\n\r\n3;x=y\r\nabc\r\n0\r\nT: u\r\n\r\n"
        found = read(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n" + body, step=step)
        assert found.body == b"0\r\n\r\nabc"
        assert found.trailers == [("t", "u")]
        assert found.reusable

    def test_until_the_end(self, step: int) -> None:
        found = read(b"HTTP/1.1 200 OK\r\n\r\nhello", step=step, closes=True)
        assert (found.body, found.reusable) == (b"hello", False)

    def test_interim_responses_come_first(self, step: int) -> None:
        data = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: a\r\n\r\nHTTP/1.1 204 No\r\n\r\n"
        found = read(data, step=step)
        assert (found.status, found.body, found.reusable) == (204, b"", True)

    def test_bare_line_feeds(self, step: int) -> None:
        found = read(b"HTTP/1.1 200 OK\nContent-Length: 3\nA: x\n\nabc", step=step)
        assert (found.body, found.reusable) == (b"abc", True)

    def test_gzip(self, step: int) -> None:
        body = gzip.compress(b"a" * 3000)
        head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        assert read(head + body, step=step).body == b"a" * 3000

    def test_both_sorts_of_deflate(self, step: int) -> None:
        raw = zlib.compressobj(wbits=-15)
        for body in (zlib.compress(b"abc" * 100), raw.compress(b"abc" * 100) + raw.flush()):
            head = f"HTTP/1.1 200 OK\r\nContent-Encoding: deflate\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            assert read(head + body, step=step).body == b"abc" * 100


@pytest.mark.parametrize(
    ("method", "data"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"),
        ("GET", b"HTTP/1.1 204 No\r\nContent-Length: 10\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ],
)
def test_no_body(method: str, data: bytes) -> None:
    found = read(data, method)
    assert (found.body, found.reusable) == (b"", True)


@pytest.mark.parametrize(
    ("head", "reusable"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\n", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: x, Close\r\n\r\n", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\nConnection: Keep-Alive\r\n\r\n", True),
    ],
)
def test_who_may_be_asked_again(head: bytes, reusable: bool) -> None:
    assert read(head + b"x").reusable is reusable


def test_bytes_too_many_end_the_connection_but_not_the_response() -> None:
    found = read(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nxy")
    assert (found.body, found.excess, found.reusable) == (b"x", True, False)


def test_a_length_beside_chunks_is_not_trusted_with_another_request() -> None:
    found = read(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n")
    assert (found.body, found.reusable) == (b"x", False)


def test_several_gzip_members() -> None:
    body = gzip.compress(b"one") + gzip.compress(b"two")
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    assert read(head + body).body == b"onetwo"


def test_a_full_block_of_output_with_no_input_left_is_not_lost() -> None:
    plain = b"\0" * (256 * 1024 * 2)
    body = gzip.compress(plain)
    found = reader(limits=Limits())
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    assert found.feed(head + body)
    assert found.body == plain


OK = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    ("data", "reason", "status"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", "protocol: not an HTTP/1 status line", None),
        (b"\x00" * 50, "protocol: not an HTTP/1 status line", None),
        (b"\r\nHTTP/1.1 200 OK\r\n\r\n", "protocol: not an HTTP/1 status line", None),
        (b"HTTP/2 200\r\n\r\n", "protocol: not an HTTP/1 status line", None),
        (b"HTTP/1.1 20 OK\r\n\r\n", "protocol: not an HTTP/1 status line", None),
        (b"HTTP/1.1 101 Switching\r\n\r\n", "protocol: 101 without an upgrade", None),
        (OK + b"no colon\r\n\r\n", "protocol: a malformed header", 200),
        (OK + b"a b: c\r\n\r\n", "protocol: a malformed header", 200),
        (OK + b"a: \x00\r\n\r\n", "protocol: a malformed header", 200),
        (OK + b"a: x\ry\r\n\r\n", "protocol: a malformed header", 200),
        (OK + b"Content-Length: -1\r\n\r\n", "protocol: a malformed content-length", 200),
        (OK + b"Content-Length: 1e3\r\n\r\n", "protocol: a malformed content-length", 200),
        (OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n", "protocol: a malformed content-length", 200),
        (OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n", "protocol: a transfer encoding other than chunked", 200),
        (OK + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n", "protocol: a malformed chunk", 200),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n", "protocol: a malformed chunk", 200),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\nxx\r\n", "protocol: a malformed chunk", 200),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"1" * 100, "protocol: a malformed chunk", 200),
        (OK + b"Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFF\r\n" + b"x" * 5000, "limit: a body over the limit", 200),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"a: b\r\n" * 300, "limit: trailers over 64 KiB", 200),
        (OK + b"Content-Length: 5000\r\n\r\n", "limit: a body over the limit", 200),
        (OK + b"\r\n" + b"x" * 5000, "limit: a body over the limit", 200),
        (OK + b"a: " + b"b" * 2000, "limit: a response head over 64 KiB", 200),
        (OK + b"a: " + b"b" * 2000 + b"\r\n\r\n", "limit: a response head over 64 KiB", 200),
        (b"HTTP/1.1 102 P\r\n\r\n" * 9, "limit: too many interim responses", None),
        (
            OK + b"Content-Encoding: gzip\r\nContent-Length: 9\r\n\r\nnot gzip!",
            "protocol: a broken content coding",
            200,
        ),
        (
            OK + b"Content-Encoding: deflate\r\nContent-Length: 9\r\n\r\n\xff\xff\xff\xff!!!!!",
            "protocol: a broken content coding",
            200,
        ),
    ],
)
def test_what_is_refused(data: bytes, reason: str, status: int | None) -> None:
    for step in (len(data), 1, 5):
        found = reader()
        with pytest.raises(ProtocolError, match=f"^{reason}$"):
            for at in range(0, len(data), step):
                found.feed(data[at : at + step])
        assert found.status == status


@pytest.mark.parametrize(
    ("data", "reason", "status"),
    [
        (b"", "closed: before the response", None),
        (b"HTTP/1.", "truncated: the target closed within the head", None),
        (b"HTTP/1.1 100 C\r\n\r\n", "truncated: the target closed within the head", None),
        (OK + b"a: b\r\n", "truncated: the target closed within the head", 200),
        (OK + b"Content-Length: 3\r\n\r\nab", "truncated: the target closed within the body", 200),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\na", "truncated: the target closed within the body", 200),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", "truncated: the target closed within the body", 200),
        (
            OK + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(b"hello", mtime=0)[:-9],
            "truncated: the content coding ends early",
            200,
        ),
    ],
)
def test_what_ends_too_early(data: bytes, reason: str, status: int | None) -> None:
    found = reader()
    if data:
        assert not found.feed(data)
    with pytest.raises(ProtocolError, match=f"^{reason}$"):
        found.finish()
    assert found.status == status


def test_a_bomb_goes_off_at_the_limit() -> None:
    bomb = gzip.compress(b"\0" * 50_000_000)
    found = reader(keep=False, limits=Limits(body=1_000_000))
    with pytest.raises(ProtocolError, match=r"^limit: a decoded body over the limit$"):
        found.feed(OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb) + bomb)


def test_what_is_not_kept_takes_no_memory() -> None:
    found = reader(keep=False, limits=Limits())
    found.feed(OK + b"Content-Length: 3000000\r\n\r\n")
    for _ in range(29):
        assert not found.feed(b"x" * 100_000)
    assert found.feed(b"x" * 100_000)
    assert found.body == b""


def test_known_heads_are_remembered_and_forgotten() -> None:
    heads = HeadParser()
    for number in range(1000):
        heads.parse(b"HTTP/1.1 200 OK\r\nX: %d" % number)
    assert len(heads._seen) <= 256
    assert heads.known(b"HTTP/1.1 200 OK\r\nX: 999") is not None


PIECES = st.sampled_from(
    [
        b"HTTP/1.1 200 OK\r\n", b"HTTP/1.0 404 \r\n", b"HTTP/1.1 100 C\r\n\r\n", b"Content-Length: 4\r\n",
        b"Transfer-Encoding: chunked\r\n", b"Content-Encoding: gzip\r\n", b"\r\n", b"\n", b"\r", b"4\r\nabcd\r\n",
        b"0\r\n\r\n", b"ffffffffffffffff\r\n", b"Connection: close\r\n", b" folded\r\n", b": \r\n", b"\x00", b"abcd",
        gzip.compress(b"abcd"),
    ]
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(PIECES, st.binary(max_size=20)), max_size=12), st.sampled_from(["GET", "HEAD"]))
def test_no_bytes_raise_anything_else(pieces: list[bytes], method: str) -> None:
    found = reader(method)
    try:
        for piece in pieces:
            if found.feed(piece):
                break
        else:
            found.finish()
    except ProtocolError as error:
        assert 0 < len(str(error)) < 80
    assert found.status is None or 200 <= found.status <= 999
    assert len(found.body) <= SMALL.body


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(PIECES, st.binary(max_size=20)), max_size=8), st.data())
def test_how_the_bytes_are_cut_makes_no_difference(pieces: list[bytes], data: st.DataObject) -> None:
    def outcome(cuts: list[bytes]) -> tuple[object, ...]:
        found = reader()
        error = None
        try:
            if not any(found.feed(cut) for cut in cuts if cut):
                found.finish()
        except ProtocolError as raised:
            error = str(raised)
        return found.status, error, found.body if error is None else b""

    whole = b"".join(pieces)
    at = data.draw(st.lists(st.integers(0, len(whole)), max_size=6).map(sorted))
    cuts = [whole[low:high] for low, high in zip([0, *at], [*at, len(whole)], strict=True)]
    assert outcome(cuts) == outcome([whole])


def test_a_request_as_bytes() -> None:
    data = encode_request("POST", "/a?b=c", [("Host", "h"), ("X-Y", "ü")], b"body")
    assert data == "POST /a?b=c HTTP/1.1\r\nHost: h\r\nX-Y: ü\r\n\r\nbody".encode()


@pytest.mark.parametrize(
    ("name", "value"),
    [("X", "a\r\nY: b"), ("X", "a\nb"), ("X", "a\0"), ("X Y", "a"), ("X:", "a"), ("", "a"), ("X\n", "a")],
)
def test_a_header_never_breaks_out(name: str, value: str) -> None:
    with pytest.raises(Refused):
        header_line(name, value)


@pytest.mark.parametrize(
    ("method", "target"), [("GET", "/a b"), ("GET", "/\r\n"), ("GET", ""), ("GE T", "/"), ("", "/")]
)
def test_a_request_line_never_breaks_out(method: str, target: str) -> None:
    with pytest.raises(Refused):
        request_line(method, target)
