"""The WebSocket codec by the rules of RFC 6455 and RFC 7692, one after the other, with the RFCs' own examples."""

from __future__ import annotations

import tracemalloc
import zlib

import pytest
from loads.workers.engines import ws_codec
from loads.workers.engines.errors import ProtocolError, Refused
from loads.workers.engines.ws_codec import BINARY, TEXT, Close, Codec, Message, Ping, Pong, WsError, may_close_with
from loads.workers.engines.ws_deflate import Deflate
from ws_frames import CLOSE, CONTINUATION, MANY, PING, PONG, Outcome, closing, each_byte, each_cut, frame, outcome

MIB = 1 << 20
MASKED = "protocol: a masked frame from the server"
UNKNOWN = "protocol: a frame of an unknown kind"
RESERVED = "protocol: reserved bits that were not agreed"
IN_FRAGMENTS = "protocol: a control frame in fragments"
LONG_CONTROL = "protocol: a control frame over 125 bytes"
NO_START = "protocol: a continuation without a start"
WITHIN = "protocol: a new message within a fragmented one"
LONGER_FORM = "protocol: a length in a longer form than it needs"
ONE_BYTE = "protocol: a close frame of one byte"
CODE = "protocol: a close code that is not allowed"
REASON = "protocol: a close reason that is not UTF-8"
NOT_UTF8 = "protocol: a text message that is not UTF-8"
BROKEN = "protocol: broken compression"
TOO_LONG = "limit: a message over the limit"


def read(data: bytes, most: int = MANY, deflate: bool = False) -> Outcome:
    """The outcome of the bytes, which is the same for all at once, for one at a time, and in two pieces."""
    whole = outcome([data], most, Deflate() if deflate else None)
    for pieces in [each_byte(data), *(each_cut(data) if len(data) < 300 else [])]:
        assert outcome(pieces, most, Deflate() if deflate else None) == whole
    return whole


def squeezed(data: bytes, opcode: int = TEXT) -> bytes:
    """A frame with a compressed message."""
    squeeze = zlib.compressobj(wbits=-15)
    return frame(opcode, (squeeze.compress(data) + squeeze.flush(zlib.Z_SYNC_FLUSH))[:-4], rsv=4)


class TestExamplesOfTheRfcs:
    """RFC 6455, 5.7, and RFC 7692, 7.2.3."""

    @pytest.mark.parametrize(
        ("data", "event"),
        [
            ("810548656c6c6f", Message(TEXT, b"Hello", 7)),
            ("010348656c80026c6f", Message(TEXT, b"Hello", 9)),
            ("890548656c6c6f", Ping(b"Hello", 7)),
            ("827e0100" + "00" * 256, Message(BINARY, bytes(256), 260)),
            ("827f0000000000010000" + "00" * 65536, Message(BINARY, bytes(65536), 65546)),
        ],
    )
    def test_frames(self, data: str, event: object) -> None:
        assert read(bytes.fromhex(data)) == ([event], None)

    def test_masked_frames_are_what_a_client_sends(self, monkeypatch: pytest.MonkeyPatch) -> None:
        key = bytes.fromhex("37fa213d")
        monkeypatch.setattr(ws_codec, "_keys", [key, key])
        codec = Codec(MANY)
        assert codec.message(TEXT, b"Hello").hex() == "818537fa213d7f9f4d5158"
        assert codec.pong(b"Hello").hex() == "8a8537fa213d7f9f4d5158"

    @pytest.mark.parametrize(
        ("data", "size"),
        [
            ("c107f248cdc9c90700", 9),
            ("4103f248cd8004c9c90700", 11),
            ("c10b000500faff48656c6c6f00", 13),
            ("c108f348cdc9c9070000", 10),
            ("c10df24805000000ffffcac9c90700", 15),
        ],
        ids=["whole", "fragments", "not compressed", "a final block", "two blocks"],
    )
    def test_compressed_frames(self, data: str, size: int) -> None:
        assert read(bytes.fromhex(data), deflate=True) == ([Message(TEXT, b"Hello", size)], None)

    def test_the_window_is_kept_from_one_message_to_the_next(self) -> None:
        events, fault = read(bytes.fromhex("c107f248cdc9c90700" + "c105f200110000"), deflate=True)
        assert ([event.data for event in events], fault) == ([b"Hello", b"Hello"], None)  # type: ignore[union-attr]

    def test_without_takeover_it_is_not(self) -> None:
        forgetful = Deflate(server_no_context_takeover=True)
        events, fault = outcome([bytes.fromhex("c107f248cdc9c90700" + "c105f200110000")], MANY, forgetful)
        assert (len(events), fault) == (1, (BROKEN, 1007))


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (frame(TEXT, b"abc", mask=b"key!"), MASKED),
        (frame(PING, mask=b"key!"), MASKED),
        *((frame(opcode, b"abc"), UNKNOWN) for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)),
        *((frame(opcode, b"abc", rsv=rsv), RESERVED) for opcode in (TEXT, BINARY, PING, CLOSE) for rsv in range(1, 8)),
        *((frame(opcode, b"ab", fin=False), IN_FRAGMENTS) for opcode in (CLOSE, PING, PONG)),
        *((frame(opcode, bytes(126)), LONG_CONTROL) for opcode in (CLOSE, PING, PONG)),
        (frame(PING, b"abc", form=126), LONG_CONTROL),
        (frame(CONTINUATION, b"abc"), NO_START),
        (frame(CONTINUATION, b"abc", fin=False), NO_START),
        (frame(TEXT, b"a") + frame(CONTINUATION, b"b"), NO_START),
        (frame(TEXT, b"a", fin=False) + frame(CONTINUATION, b"b") + frame(CONTINUATION, b"c"), NO_START),
        (frame(TEXT, b"a", fin=False) + frame(TEXT, b"b"), WITHIN),
        (frame(BINARY, fin=False) + frame(PING) + frame(BINARY, b"b", fin=False), WITHIN),
        (frame(BINARY, bytes(125), form=126), LONGER_FORM),
        (frame(BINARY, b"", form=126), LONGER_FORM),
        (frame(BINARY, bytes(65535), form=127), LONGER_FORM),
        (frame(BINARY, bytes(3), form=127), LONGER_FORM),
        (b"\x82\x7f\x80" + bytes(7), "protocol: a length of 64 bits"),
        (b"\x82\x7f" + b"\xff" * 8, "protocol: a length of 64 bits"),
        (frame(CLOSE, b"\x03"), ONE_BYTE),
        *(
            (closing(code, b"why"), CODE)
            for code in (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535)
        ),
    ],
)  # fmt: skip
def test_what_is_refused_with_1002(data: bytes, text: str) -> None:
    assert read(frame(PONG) + data + frame(PONG))[1] == (text, 1002)


@pytest.mark.parametrize("code", [*range(1000, 1004), *range(1007, 1015), 3000, 3999, 4000, 4999])
def test_close_codes_that_are_allowed(code: int) -> None:
    assert read(closing(code, "Ende: ü".encode())) == ([Close(code, "Ende: ü", 12)], None)
    assert may_close_with(code)


def test_a_close_frame_without_a_code() -> None:
    assert read(frame(CLOSE)) == ([Close(None, "", 2)], None)


@pytest.mark.parametrize("reason", [b"\xff", b"ab\xc3", b"\xed\xa0\x80", b"\xc0\x80"])
def test_a_reason_that_is_not_utf8(reason: bytes) -> None:
    assert read(closing(1000, reason)) == ([], (REASON, 1007))


def test_what_comes_after_a_close_frame_is_passed_over_and_not_held() -> None:
    codec = Codec(MANY)
    assert codec.feed(frame(BINARY, b"abc", fin=False) + closing(1001) + frame(3) + b"\x82") == [Close(1001, "", 4)]
    for _ in range(3):
        assert codec.feed(b"\xff" * 1000) == []
    assert codec.held == 0


def test_what_comes_after_a_fault_is_passed_over_too() -> None:
    codec = Codec(MANY)
    with pytest.raises(WsError) as caught:
        codec.feed(frame(TEXT, b"one") + frame(PING, b"two") + frame(BINARY, b"th", fin=False) + frame(3))
    assert caught.value.events == [Message(TEXT, b"one", 5), Ping(b"two", 5)]
    assert isinstance(caught.value, ProtocolError)
    assert codec.feed(frame(TEXT, b"four")) == []
    assert codec.held == 0


class TestFragments:
    def test_control_frames_may_stand_between_them(self) -> None:
        data = frame(TEXT, b"a", fin=False) + frame(PING, b"?") + frame(CONTINUATION, fin=False) + frame(PONG, b"!")
        events, fault = read(data + frame(CONTINUATION, b"b") + frame(BINARY, b"c"))
        assert fault is None
        assert events == [Ping(b"?", 3), Pong(b"!", 3), Message(TEXT, b"ab", 8), Message(BINARY, b"c", 3)]

    def test_what_looks_like_a_frame_may_be_a_payload(self) -> None:
        looks = frame(TEXT, b"a") * 8
        data = frame(BINARY, looks, fin=False) + frame(CONTINUATION, looks) + frame(PING, looks)
        assert read(data) == ([Message(BINARY, looks * 2, 52), Ping(looks, 26)], None)

    def test_empty_ones(self) -> None:
        assert read(frame(BINARY, fin=False) + frame(CONTINUATION)) == ([Message(BINARY, b"", 4)], None)
        assert read(frame(TEXT)) == ([Message(TEXT, b"", 2)], None)

    def test_a_character_may_be_cut_in_two(self) -> None:
        one, two = "a€".encode()[:2], "a€".encode()[2:]
        assert read(frame(TEXT, one, fin=False) + frame(PING) + frame(CONTINUATION, two))[0][1] == Message(
            TEXT, "a€".encode(), 8
        )

    def test_only_the_first_one_says_that_it_is_compressed(self) -> None:
        first = frame(TEXT, bytes.fromhex("f248cd"), fin=False, rsv=4)
        rest = bytes.fromhex("c9c90700")
        assert read(first + frame(CONTINUATION, rest, rsv=4), deflate=True) == ([], (RESERVED, 1002))
        assert read(first + frame(PING, rsv=4), deflate=True) == ([], (RESERVED, 1002))

    def test_control_frames_may_stand_between_compressed_ones(self) -> None:
        data = bytes.fromhex("4103f248cd") + frame(PING, b"?") + bytes.fromhex("8004c9c90700")
        assert read(data, deflate=True) == ([Ping(b"?", 3), Message(TEXT, b"Hello", 11)], None)

    def test_compressed_and_plain_messages_may_alternate(self) -> None:
        data = bytes.fromhex("c107f248cdc9c90700") + frame(TEXT, b"plain") + bytes.fromhex("c105f200110000")
        events, _ = read(data, deflate=True)
        assert [event.data for event in events] == [b"Hello", b"plain", b"Hello"]  # type: ignore[union-attr]


class TestText:
    @pytest.mark.parametrize(
        "data", [b"\xff", b"a\xc3", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", b"ok\x80"]
    )
    def test_what_is_not_utf8_is_refused_with_1007(self, data: bytes) -> None:
        assert read(frame(TEXT, data)) == ([], (NOT_UTF8, 1007))
        assert read(frame(TEXT, bytes(200) + data)) == ([], (NOT_UTF8, 1007))
        assert read(frame(TEXT, data, fin=False) + frame(CONTINUATION)) == ([], (NOT_UTF8, 1007))
        assert read(frame(BINARY, data)) == ([Message(BINARY, data, 2 + len(data))], None)

    @pytest.mark.parametrize("data", [b"a\xff", b"a\xf4\x90", b"\xe0\x9f", b"\xed\xa0"])
    def test_it_is_refused_before_the_frame_is_whole(self, data: bytes) -> None:
        codec = Codec(MANY)
        assert codec.feed(b"\x81\x7e\x01\x00") == []
        with pytest.raises(WsError, match=NOT_UTF8):
            codec.feed(data)

    def test_text(self) -> None:
        assert Message(TEXT, "ä€".encode(), 7).text() == "ä€"
        assert Message(BINARY, b"a\xff", 4).text() == "a�"


class TestLimits:
    def test_a_message_of_the_limit_is_taken(self) -> None:
        for most in (3, 125, 126, 70000):
            assert read(frame(BINARY, bytes(most)), most)[1] is None
            assert read(frame(BINARY, b"a", fin=False) + frame(CONTINUATION, bytes(most - 1)), most)[1] is None

    @pytest.mark.parametrize("most", [3, 125, 126, 70000])
    def test_the_header_alone_is_enough_to_refuse_one(self, most: int) -> None:
        header = frame(BINARY, bytes(most + 1))[: -most - 1]
        assert read(header, most) == ([], (TOO_LONG, 1009))
        assert outcome([header + bytes(most + 1)], most) == ([], (TOO_LONG, 1009))
        assert read(b"\x82\x7f\x7f" + b"\xff" * 7, most) == ([], (TOO_LONG, 1009))

    def test_fragments_are_added_up(self) -> None:
        data = frame(BINARY, bytes(60), fin=False) + frame(CONTINUATION, bytes(41))[:2]
        assert read(data, 100) == ([], (TOO_LONG, 1009))

    def test_fragments_without_end_are_not_held(self) -> None:
        codec = Codec(100)
        codec.feed(frame(BINARY, b"a", fin=False))
        for _ in range(100):
            codec.feed(frame(CONTINUATION, fin=False) * 50)
        assert codec.held == 1

    def test_control_frames_are_no_part_of_the_message(self) -> None:
        assert read(frame(PING, bytes(125)), 10) == ([Ping(bytes(125), 127)], None)

    @pytest.mark.parametrize("text", [False, True])
    def test_a_bomb_stops_at_the_limit_in_bounded_memory(self, text: bool) -> None:
        squeeze = zlib.compressobj(wbits=-15)
        bomb = b"".join(squeeze.compress(bytes(MIB)) for _ in range(300)) + squeeze.flush(zlib.Z_SYNC_FLUSH)
        data = frame(TEXT if text else BINARY, bomb[:-4], rsv=4)
        codec = Codec(MIB, Deflate())
        tracemalloc.start()
        try:
            with pytest.raises(WsError, match=TOO_LONG) as caught:
                for at in range(0, len(data), 65536):
                    codec.feed(data[at : at + 65536])
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert caught.value.code == 1009
        assert peak < 4 * MIB
        assert codec.held == 0

    def test_a_compressed_message_of_the_limit_is_taken_and_one_more_byte_is_not(self) -> None:
        for size, fault in ((5000, None), (5001, (TOO_LONG, 1009)), (50000, (TOO_LONG, 1009))):
            assert read(squeezed(b"a" * size), 5000, deflate=True)[1] == fault

    def test_it_holds_for_each_message_anew(self) -> None:
        assert len(read(frame(BINARY, bytes(100)) * 3, 100)[0]) == 3
        packed = squeezed(b"a" * 5000) + frame(PONG) + squeezed(b"b" * 5000)
        assert len(read(packed, 5000, deflate=True)[0]) == 3

    def test_the_header_of_a_compressed_message_may_be_enough_too(self) -> None:
        assert read(frame(BINARY, bytes(10000), rsv=4)[:4], 5000, deflate=True) == ([], (TOO_LONG, 1009))

    def test_what_is_wrong_within_the_limit_comes_first(self) -> None:
        assert read(squeezed(b"\xff" + b"a" * 500), 100, deflate=True) == ([], (NOT_UTF8, 1007))
        assert read(squeezed("€".encode() * 500), 100, deflate=True) == ([], (TOO_LONG, 1009))

    def test_what_does_not_compress_is_taken_up_to_the_limit(self) -> None:
        noise = bytes(range(256)) * 2
        fixed = zlib.compressobj(9, zlib.DEFLATED, -9, 1, zlib.Z_FIXED)
        packed = fixed.compress(noise) + fixed.flush(zlib.Z_SYNC_FLUSH)
        events, fault = read(frame(BINARY, packed[:-4], rsv=4), len(noise), deflate=True)
        assert (events[0].data, fault) == (noise, None)  # type: ignore[union-attr]

    def test_a_big_message_in_pieces_takes_its_own_memory_and_no_more_than_a_pass_over_it(self) -> None:
        data = frame(BINARY, bytes(8 * MIB))
        pieces = [data[at : at + 65536] for at in range(0, len(data), 65536)]
        codec = Codec(8 * MIB)
        tracemalloc.start()
        try:
            events = [event for piece in pieces for event in codec.feed(piece)]
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert [len(event.data) for event in events] == [8 * MIB]  # type: ignore[union-attr]
        assert peak < 8 * MIB * 5 // 4


class TestBrokenCompression:
    @pytest.mark.parametrize(
        "packed",
        [
            b"",
            b"\xff",
            b"\x07",
            bytes.fromhex("f248cd"),
            bytes.fromhex("000500faff4865"),
            bytes.fromhex("f348cdc9c907"),
            bytes.fromhex("0300") * 40 + b"\x00",
        ],
        ids=["empty", "noise", "a bad block", "cut", "cut when stored", "final and no more", "ever ending"],
    )
    @pytest.mark.parametrize("forgets", [False, True])
    def test_is_refused_with_1007_at_the_end_of_its_message(self, packed: bytes, forgets: bool) -> None:
        assert outcome([frame(BINARY, packed, rsv=4)], MANY, Deflate(False, forgets)) == ([], (BROKEN, 1007))

    @pytest.mark.parametrize("room", [4, 7, 100])
    def test_the_limit_holds_behind_a_final_block_too(self, room: int) -> None:
        squeeze = zlib.compressobj(wbits=-15)
        bomb = squeeze.compress(bytes(MIB)) + squeeze.flush()
        assert len(Deflate().decompress(bytes.fromhex("f348cdc9c90700") + bomb, room, False)) == room + 1

    def test_a_message_may_end_with_a_final_block_and_the_next_one_begins_anew(self) -> None:
        data = frame(TEXT, bytes.fromhex("f348cdc9c9070000"), rsv=4) + frame(TEXT, b"\x01", rsv=4)
        events, fault = read(data * 2, deflate=True)
        assert ([event.data for event in events], fault) == ([b"Hello", b""] * 2, None)  # type: ignore[union-attr]


class TestSending:
    def test_a_masking_key_is_never_used_again(self) -> None:
        codec = Codec(MANY)
        keys = [codec.ping()[2:] for _ in range(3000)]
        assert all(len(key) == 4 for key in keys)
        assert len(set(keys)) >= 2998  # Of 3,000 random ones two are alike in one case of a thousand.

    @pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536])
    def test_lengths_are_as_short_as_they_can_be(self, size: int) -> None:
        data = Codec(MANY).message(BINARY, bytes(size))
        form, more = (size, 0) if size < 126 else (126, 2) if size < 65536 else (127, 8)
        assert data[:2] == bytes((0x82, 0x80 | form))
        assert data[2 : 2 + more] == (size.to_bytes(more) if more else b"")
        assert len(data) == 6 + more + size

    @pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 5, 124, 125, 1023, 1024, 1025, 1026, 1027, 70001])
    def test_the_mask_goes_round(self, size: int) -> None:
        payload = bytes(at * 7 % 251 for at in range(size))
        data = Codec(MANY).message(BINARY, payload)
        key, masked = data[len(data) - size - 4 :][:4], data[len(data) - size :]
        assert bytes(byte ^ key[at % 4] for at, byte in enumerate(masked)) == payload

    def test_short_messages_are_not_compressed(self) -> None:
        codec = Codec(MANY, Deflate())
        assert codec.message(TEXT, b"aaaaaaaa")[0] == 0x81
        assert codec.message(TEXT, b"a" * 50)[0] == 0xC1

    def test_what_does_not_compress_is_sent_as_it_is_unless_the_server_has_to_know_it(self) -> None:
        noise = bytes(range(256))
        assert Codec(MANY, Deflate(client_no_context_takeover=True)).message(BINARY, noise)[0] == 0x82
        remembering = Codec(MANY, Deflate())
        assert remembering.message(BINARY, noise)[0] == 0xC2
        assert len(remembering.message(BINARY, noise)) < 50

    def test_a_close_frame_may_carry_nothing(self) -> None:
        assert Codec(MANY).close(None)[:2] == b"\x88\x80"

    @pytest.mark.parametrize(
        ("code", "reason"),
        [(1005, ""), (1006, ""), (1015, ""), (999, ""), (2000, ""), (5000, ""), (None, "why"), (1000, "ü" * 62),
         (1000, "\ud800")],
    )  # fmt: skip
    def test_close_frames_that_may_not_be_sent(self, code: int | None, reason: str) -> None:
        with pytest.raises(Refused):
            Codec(MANY).close(code, reason)

    def test_control_frames_of_more_than_125_bytes(self) -> None:
        codec = Codec(MANY)
        assert len(codec.ping(bytes(125))) == len(codec.pong(bytes(125))) == 131
        for make in (codec.ping, codec.pong):
            with pytest.raises(Refused):
                make(bytes(126))
