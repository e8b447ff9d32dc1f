"""The demo target does what its paths say, and its counter is exact."""

from __future__ import annotations

import base64
import http.client
import json
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from loads.workers.demo_websocket import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, accept_key

SERVE = "import sys; from loads.workers.demo_target import serve; serve('127.0.0.1', int(sys.argv[1]))"


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    process = subprocess.Popen([sys.executable, "-c", SERVE, "0"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    yield urlsplit(process.stdout.readline().strip()).port or 0
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=10) == ("", None)
    assert process.returncode == 0


@pytest.fixture
def client(port: int) -> Iterator[http.client.HTTPConnection]:
    found = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    yield found
    found.close()


def ask(
    client: http.client.HTTPConnection, method: str, target: str, body: Any = None, **headers: str
) -> tuple[int, bytes]:
    client.request(method, target, body, headers)
    response = client.getresponse()
    return response.status, response.read()


def raw(port: int, data: bytes) -> bytes:
    """All that comes back until the target closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        sock.sendall(data)
        out = b""
        while more := sock.recv(65536):
            out += more
        return out


def count(client: http.client.HTTPConnection) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(ask(client, "GET", "/counter")[1])
    return found


class TestPaths:
    @pytest.mark.parametrize(
        ("target", "status", "length"),
        [
            ("/", 200, None), ("/status/200", 200, None), ("/status/503", 503, None), ("/status/204", 204, 0),
            ("/status/304", 304, 0), ("/status/100", 404, None), ("/status/x", 404, None), ("/status", 404, None),
            ("/bytes/0", 200, 0), ("/bytes/100000", 200, 100_000), ("/bytes/-1", 404, None),
            ("/bytes/9999999999", 404, None), ("/status/", 404, None), ("/echo/", 404, None), ("nothing", 404, None),
            ("/delay/1", 200, None), ("/delay/x", 404, None), ("/flaky?rate=2", 404, None), ("/none", 404, None),
            ("/root", 404, None), ("/ws", 426, None), ("/echo/x", 404, None), ("/%00", 404, None),
        ],
    )  # fmt: skip
    def test_they_answer(
        self, client: http.client.HTTPConnection, target: str, status: int, length: int | None
    ) -> None:
        found, body = ask(client, "GET", target)
        assert found == status
        assert length is None or len(body) == length
        assert ask(client, "GET", "/")[0] == 200, "the connection is kept"

    @pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH", "ODD"])
    def test_echo(self, client: http.client.HTTPConnection, method: str) -> None:
        status, body = ask(client, method, "/echo?a=1&b=x%20y&a=2", "héllo".encode(), **{"X-Mine": "1"})
        found = json.loads(body)
        assert (status, found["method"], found["path"], found["query"]) == (
            200,
            method,
            "/echo",
            {"a": "2", "b": "x y"},
        )
        assert found["body"] == "héllo" and found["headers"]["x-mine"] == "1"

    def test_echo_of_chunks(self, client: http.client.HTTPConnection) -> None:
        client.request(
            "POST", "/echo", iter([b"0\r\n\r\n", b"abc"]), encode_chunked=True, headers={"Transfer-Encoding": "chunked"}
        )
        assert json.loads(client.getresponse().read())["body"] == "0\r\n\r\nabc"

    def test_head_has_no_body(self, client: http.client.HTTPConnection) -> None:
        client.request("HEAD", "/bytes/70000")
        response = client.getresponse()
        assert (response.getheader("Content-Length"), response.read()) == ("70000", b"")

    def test_flaky_fails_exactly_its_share(self, client: http.client.HTTPConnection) -> None:
        found = [ask(client, "GET", "/flaky?rate=0.15")[0] for _ in range(100)]
        assert found.count(500) == 15 and found.count(200) == 85
        assert {ask(client, "GET", f"/flaky?rate={rate}")[0] for rate in ("0", "0.0")} == {200}
        assert ask(client, "GET", "/flaky?rate=1")[0] == 500

    def test_redirects_have_a_place(self, client: http.client.HTTPConnection) -> None:
        client.request("GET", "/status/302")
        response = client.getresponse()
        response.read()
        assert response.getheader("Location") == "/"


class TestCounter:
    def test_complete_heads_by_path_itself_not_counted(self, client: http.client.HTTPConnection, port: int) -> None:
        before = count(client)
        for target in ("/", "/?a=1", "/status/404", "/nowhere", "/counter"):
            ask(client, "GET", target)
        with socket.create_connection(("127.0.0.1", port)) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n")
        raw(port, b"POST / HTTP/1.1\r\nContent-Length: 9\r\nConnection: close\r\n\r\nshortGET /")
        after = count(client)
        assert after["total"] - before["total"] == 5
        assert after["paths"]["/"] - before["paths"].get("/", 0) == 3
        assert "/counter" not in after["paths"] and sum(after["paths"].values()) == after["total"]

    def test_pipelined_requests_are_all_counted_and_answered(
        self, client: http.client.HTTPConnection, port: int
    ) -> None:
        before = count(client)["total"]
        data = raw(
            port, b"GET /status/201 HTTP/1.1\r\n\r\n" * 9 + b"GET /status/202 HTTP/1.1\r\nConnection: close\r\n\r\n"
        )
        assert data.count(b"HTTP/1.1 201") == 9 and data.count(b"HTTP/1.1 202") == 1
        assert count(client)["total"] - before == 10


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"garbage\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nbad header\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", 400),
        (b"GET / HTTP/1.1\r\nA: " + b"b" * 70_000, 431),
        (b"GET /ws HTTP/1.1\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 8\r\n\r\n", 426),
        (b"GET /ws HTTP/1.1\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n", 400),
        (b"GET / HTTP/1.0\r\n\r\n", 200),
    ],
)
def test_what_is_no_request(port: int, data: bytes, status: int) -> None:
    assert raw(port, data).startswith(b"HTTP/1.1 %d " % status)


class WebSocket:
    """A client that does what it is told, right or wrong."""

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=10)
        key = base64.b64encode(os.urandom(16)).decode()
        self.sock.sendall(
            f"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        self.file = self.sock.makefile("rb")
        lines = iter(self.file.readline, b"\r\n")
        head = b"".join(lines)
        assert head.startswith(b"HTTP/1.1 101 ") and accept_key(key).encode() in head

    def send(self, opcode: int, payload: bytes = b"", final: bool = True, masked: bool = True, bits: int = 0) -> None:
        length = len(payload)
        if length < 126:
            size = struct.pack("!B", length)
        else:
            size = struct.pack("!BH", 126, length) if length < 65536 else struct.pack("!BQ", 127, length)
        first = opcode | (0x80 if final else 0) | bits
        mask = os.urandom(4) if masked else b""
        if masked:
            size = bytes([size[0] | 0x80]) + size[1:]
            payload = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
        self.sock.sendall(bytes([first]) + size + mask + payload)

    def receive(self) -> tuple[int, bytes]:
        first, length = self.file.read(2)
        if length == 126:
            (length,) = struct.unpack("!H", self.file.read(2))
        elif length == 127:
            (length,) = struct.unpack("!Q", self.file.read(8))
        return first & 0x0F, self.file.read(length)


@pytest.fixture
def socket_client(port: int) -> Iterator[WebSocket]:
    found = WebSocket(port)
    yield found
    found.file.close()
    found.sock.close()


class TestWebSocket:
    @pytest.mark.parametrize("length", [0, 1, 125, 126, 65535, 65536, 200_000])
    def test_it_echoes(self, socket_client: WebSocket, length: int) -> None:
        for opcode in (TEXT, BINARY):
            socket_client.send(opcode, b"x" * length)
            assert socket_client.receive() == (opcode, b"x" * length)

    def test_pieces_with_a_ping_between(self, socket_client: WebSocket) -> None:
        socket_client.send(TEXT, "é".encode()[:1], final=False)
        socket_client.send(PING, b"p")
        socket_client.send(CONTINUATION, "é".encode()[1:])
        assert socket_client.receive() == (PONG, b"p")
        assert socket_client.receive() == (TEXT, "é".encode())

    def test_it_closes_as_asked(self, socket_client: WebSocket) -> None:
        socket_client.send(CLOSE, struct.pack("!H", 1000) + b"bye")
        assert socket_client.receive() == (CLOSE, struct.pack("!H", 1000))
        assert socket_client.file.read() == b""

    @pytest.mark.parametrize(
        ("frame", "code"),
        [
            ({"opcode": TEXT, "masked": False}, 1002),
            ({"opcode": 3}, 1002),
            ({"opcode": TEXT, "bits": 0x40}, 1002),
            ({"opcode": CONTINUATION}, 1002),
            ({"opcode": PING, "final": False}, 1002),
            ({"opcode": PING, "payload": b"x" * 126}, 1002),
            ({"opcode": TEXT, "payload": b"\xff"}, 1007),
            ({"opcode": CLOSE, "payload": b"x"}, 1002),
            ({"opcode": CLOSE, "payload": struct.pack("!H", 1005)}, 1002),
        ],
    )
    def test_who_breaks_the_protocol_is_told_how(
        self, socket_client: WebSocket, frame: dict[str, Any], code: int
    ) -> None:
        socket_client.send(**frame)
        assert socket_client.receive() == (CLOSE, struct.pack("!H", code))
        assert socket_client.file.read() == b""

    def test_a_handshake_is_a_request_too(self, client: http.client.HTTPConnection, port: int) -> None:
        before = count(client)["paths"].get("/ws", 0)
        WebSocket(port).sock.close()
        assert count(client)["paths"]["/ws"] == before + 1


def test_a_port_in_use_is_an_error_for_people(port: int) -> None:
    code = (
        "import sys; from loads.workers.demo_target import TargetError, serve\n"
        "try: serve('127.0.0.1', int(sys.argv[1]))\n"
        "except TargetError as error: print(error); sys.exit(error.exit_code)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(port)], capture_output=True, text=True, timeout=20)
    assert (done.returncode, done.stderr) == (2, "")
    assert done.stdout == f"port {port} of 127.0.0.1 is in use: choose another one with --port (0 is any)\n"


def test_the_command_says_where_it_is_and_ends_quietly() -> None:
    code = "from loads.workers.commands import demo_target; demo_target()"
    arguments = [sys.executable, "-c", code, "--port", "0"]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("http://127.0.0.1:") and raw(urlsplit(line.strip()).port or 0, b"GET / HTTP/1.0\r\n\r\n")
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=10) == ("", "")
    assert process.returncode == 0
