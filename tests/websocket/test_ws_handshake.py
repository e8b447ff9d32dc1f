"""The opening handshake of WebSocket: what is asked, and what may be answered."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st
from loads.workers.engines.errors import ProtocolError, Refused, RequestError
from loads.workers.engines.http1 import HeadParser
from loads.workers.engines.ws_codec import WsError
from loads.workers.engines.ws_deflate import Deflate, Offer, agree, offer
from loads.workers.engines.ws_handshake import Agreed, accept_of, judge, new_key, request
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, Request
from wsproto.extensions import PerMessageDeflate

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
GOOD = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Accept": ACCEPT}


def answered(
    changed: dict[str, str | None] | None = None,
    status: int = 101,
    subprotocols: tuple[str, ...] = (),
    deflate: bool = False,
) -> Agreed:
    """The judgement of a good answer, of which some headers are changed, or left out where they are None."""
    headers = {**GOOD, **(changed or {})}
    lines = [
        f"HTTP/1.1 {status} Whatever",
        *(f"{name}: {value}" for name, value in headers.items() if value is not None),
    ]
    head = HeadParser().parse("\r\n".join(lines).encode())
    return judge(head.status, head.headers, KEY, subprotocols, deflate)


class TestRequest:
    def test_as_it_is_written(self) -> None:
        data = request("h:81", "/chat?a=b", KEY, [("Origin", "http://x")], ["v2", "v1"], True)
        assert data == (
            b"GET /chat?a=b HTTP/1.1\r\nHost: h:81\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Protocol: v2, v1\r\n"
            b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\nOrigin: http://x\r\n\r\n"
        )

    def test_nothing_is_offered_unasked_and_a_host_of_the_plans_own_is_the_only_one(self) -> None:
        data = request("h", "/", KEY, [("host", "other")], [], False)
        assert data.count(b"ost: ") == 1 and b"host: other\r\n" in data
        assert b"Extensions" not in data and b"Protocol" not in data

    @pytest.mark.parametrize(
        ("host", "target", "header"),
        [
            ("h\r\nX: y", "/", ("A", "b")),
            ("h", "/ HTTP/1.1\r\nX: y", ("A", "b")),
            ("h", "/ä", ("A", "b")),
            ("h", "/", ("A", "b\r\nX: y")),
            ("h", "/", ("A", "b\nX: y")),
            ("h", "/", ("A\r\nX", "y")),
            ("h", "/", ("A:", "y")),
        ],
    )
    def test_nothing_breaks_out_of_its_place(self, host: str, target: str, header: tuple[str, str]) -> None:
        with pytest.raises(Refused):
            request(host, target, KEY, [header], [], False)

    @pytest.mark.parametrize(
        "name", ["Upgrade", "connection", "Sec-WebSocket-Key", "sec-websocket-protocol", "SEC-WEBSOCKET-VERSION",
                 "Content-Length", "Transfer-Encoding"],
    )  # fmt: skip
    def test_headers_of_the_handshakes_own(self, name: str) -> None:
        with pytest.raises(Refused, match="refused: a header that the handshake sets"):
            request("h", "/", KEY, [(name, "x")], [], False)

    @pytest.mark.parametrize("names", [["a b"], ["a,b"], [""], ["a", "a"], ["a\r\nX: y"], ["ä"], ['"a"']])
    def test_subprotocols_that_are_none(self, names: list[str]) -> None:
        with pytest.raises(Refused):
            request("h", "/", KEY, [], names, False)

    def test_keys(self) -> None:
        assert len(base64.b64decode(new_key(), validate=True)) == 16
        assert new_key() != new_key()
        assert accept_of(KEY) == ACCEPT


class TestJudgement:
    def test_an_upgrade(self) -> None:
        assert answered() == Agreed(None, None)
        assert answered({"Upgrade": "WebSocket", "Connection": "keep-alive, UPGRADE"}) == Agreed(None, None)
        assert answered({"Sec-WebSocket-Protocol": "v1"}, subprotocols=("v2", "v1")).subprotocol == "v1"
        assert answered(subprotocols=("v2", "v1")).subprotocol is None

    @pytest.mark.parametrize("status", [200, 204, 301, 400, 403, 426, 503, 100])
    def test_another_status_is_counted_as_in_http(self, status: int) -> None:
        with pytest.raises(RequestError) as caught:
            answered(status=status)
        assert str(caught.value) == f"status: {status}"

    @pytest.mark.parametrize(
        ("changed", "text"),
        [
            ({"Upgrade": None}, "not an upgrade to websocket"),
            ({"Upgrade": "h2c"}, "not an upgrade to websocket"),
            ({"Upgrade": "websocket, h2c"}, "not an upgrade to websocket"),
            ({"Connection": None}, "not an upgrade to websocket"),
            ({"Connection": "keep-alive"}, "not an upgrade to websocket"),
            ({"Sec-WebSocket-Accept": None}, "a wrong Sec-WebSocket-Accept"),
            ({"Sec-WebSocket-Accept": ACCEPT.lower()}, "a wrong Sec-WebSocket-Accept"),
            ({"Sec-WebSocket-Accept": f"{ACCEPT}, {ACCEPT}"}, "a wrong Sec-WebSocket-Accept"),
            ({"sec-websocket-accept": ACCEPT}, "a wrong Sec-WebSocket-Accept"),
            ({"Sec-WebSocket-Protocol": "v3"}, "a subprotocol that was not offered"),
            ({"Sec-WebSocket-Protocol": "V1"}, "a subprotocol that was not offered"),
            ({"Sec-WebSocket-Protocol": "v1, v2"}, "a subprotocol that was not offered"),
            ({"Sec-WebSocket-Protocol": ""}, "a subprotocol that was not offered"),
            ({"Sec-WebSocket-Extensions": "permessage-deflate"}, "an extension that was not offered"),
            ({"Sec-WebSocket-Extensions": "x-other"}, "an extension that was not offered"),
        ],
    )
    def test_what_is_no_consent(self, changed: dict[str, str | None], text: str) -> None:
        with pytest.raises(ProtocolError) as caught:
            answered(changed, subprotocols=("v2", "v1"))
        assert str(caught.value) == f"protocol: {text}"

    def test_compression(self) -> None:
        assert answered({"Sec-WebSocket-Extensions": "permessage-deflate"}, deflate=True).deflate is not None
        assert answered(deflate=True).deflate is None


def parameters(deflate: Deflate | None) -> tuple[bool, bool, int, int]:
    assert deflate is not None
    return not deflate.remembers, deflate._forgets, deflate._client_bits, deflate._server_bits


class TestDeflate:
    @pytest.mark.parametrize(
        ("wanted", "header"),
        [
            (Offer(), "permessage-deflate; client_max_window_bits"),
            (Offer(client_max_window_bits=None), "permessage-deflate"),
            (
                Offer(True, True, 9, 10),
                "permessage-deflate; client_no_context_takeover; server_no_context_takeover; "
                "client_max_window_bits=9; server_max_window_bits=10",
            ),
        ],
    )
    def test_offers(self, wanted: Offer, header: str) -> None:
        assert offer(wanted) == header

    @pytest.mark.parametrize(
        ("header", "wanted", "expected"),
        [
            ("permessage-deflate", Offer(), (False, False, 15, 15)),
            (" ,permessage-deflate ,, ", Offer(), (False, False, 15, 15)),
            ("permessage-deflate; client_max_window_bits=10", Offer(), (False, False, 10, 15)),
            ('permessage-deflate;server_max_window_bits="8"', Offer(), (False, False, 15, 8)),
            ("permessage-deflate; server_no_context_takeover", Offer(), (False, True, 15, 15)),
            ("permessage-deflate ; client_no_context_takeover", Offer(), (True, False, 15, 15)),
            ("permessage-deflate", Offer(True, client_max_window_bits=9), (True, False, 9, 15)),
            ("permessage-deflate; server_max_window_bits = 9", Offer(server_max_window_bits=10), (False, False, 15, 9)),
        ],
    )
    def test_what_may_be_agreed_to(self, header: str, wanted: Offer, expected: tuple[bool, bool, int, int]) -> None:
        assert parameters(agree(header, wanted)) == expected

    def test_no_answer_declines(self) -> None:
        assert agree(None) is None

    @pytest.mark.parametrize(
        ("more", "wanted"),
        [
            ("client_max_window_bits", Offer()),
            ("client_max_window_bits=7", Offer()),
            ("client_max_window_bits=16", Offer()),
            ("client_max_window_bits=09", Offer()),
            ("client_max_window_bits=+9", Offer()),
            ("client_max_window_bits=10", Offer(client_max_window_bits=None)),
            ("client_max_window_bits=10", Offer(client_max_window_bits=9)),
            ("server_max_window_bits", Offer()),
            ("server_max_window_bits=11", Offer(server_max_window_bits=10)),
            ("server_no_context_takeover=1", Offer()),
            ("client_no_context_takeover; client_no_context_takeover", Offer()),
            ("server_max_window_bits=9; server_max_window_bits=9", Offer()),
            ("x", Offer()),
            ("CLIENT_NO_CONTEXT_TAKEOVER", Offer()),
        ],
    )
    def test_parameters_that_are_not_allowed(self, more: str, wanted: Offer) -> None:
        with pytest.raises(WsError, match="protocol: a parameter of permessage-deflate that is not allowed"):
            agree(f"permessage-deflate; {more}", wanted)

    @pytest.mark.parametrize("wanted", [Offer(server_no_context_takeover=True), Offer(server_max_window_bits=10)])
    def test_what_was_asked_of_the_server_must_be_granted(self, wanted: Offer) -> None:
        with pytest.raises(WsError, match="that is missing"):
            agree("permessage-deflate", wanted)

    @pytest.mark.parametrize(
        "header", ["permessage-deflate, permessage-deflate", "x", "x, permessage-deflate", "permessage-deflate, x;y=z"]
    )
    def test_other_extensions(self, header: str) -> None:
        with pytest.raises(WsError, match="protocol: an extension that was not offered"):
            agree(header)

    @pytest.mark.parametrize(
        "header", ["", ",", ";", "permessage-deflate;", "permessage-deflate; =1", "permessage-deflate; a=", "a b",
                   'permessage-deflate; server_max_window_bits="', 'permessage-deflate; server_max_window_bits="9',
                   "permessage-deflate\n", "permessage-deflate; ä=1"],
    )  # fmt: skip
    def test_malformed_answers(self, header: str) -> None:
        with pytest.raises(WsError, match="protocol: a malformed Sec-WebSocket-Extensions"):
            agree(header)

    @given(st.text('permssagedflt-;=,"9 cwindowbits_ä\t', max_size=60) | st.text(max_size=20))
    def test_nothing_but_a_wserror_is_raised(self, header: str) -> None:
        try:
            agree(header)
        except WsError as error:
            assert error.code == 1002


@pytest.mark.parametrize("deflate", [False, True])
def test_wsproto_takes_our_request_and_we_its_answer(deflate: bool) -> None:
    server, key = WSConnection(ConnectionType.SERVER), new_key()
    server.receive_data(request("h", "/chat", key, [("Origin", "http://h")], ["v2", "v1"], deflate))
    [asked] = server.events()
    assert isinstance(asked, Request)
    assert (asked.host, asked.target, asked.subprotocols) == ("h", "/chat", ["v2", "v1"])
    extensions = [PerMessageDeflate()] if deflate else []
    answer = server.send(AcceptConnection(subprotocol="v1", extensions=extensions))  # type: ignore[arg-type]
    head = HeadParser().parse(answer[: answer.index(b"\r\n\r\n")])
    agreed = judge(head.status, head.headers, key, ["v2", "v1"], deflate)
    assert agreed.subprotocol == "v1"
    assert (agreed.deflate is not None) is deflate
