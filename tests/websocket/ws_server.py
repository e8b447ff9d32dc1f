"""A WebSocket server for tests that does what a script says, also what no server may do."""

from __future__ import annotations

import socket
import ssl
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

from loads.workers.demo_websocket import CLOSE, PING, PONG, TEXT, accept_key, frame

Behaviour = Callable[["Peer"], None]
"""What is done with a connection whose upgrade was consented to."""


class Peer:
    """One connection of a client; raises ConnectionError at its end."""

    def __init__(self, server: WsServer, sock: socket.socket, head: bytes, data: bytes) -> None:
        self.server = server
        self.sock = sock
        self.head = head
        self._data = data

    def header(self, name: str) -> str:
        """A header of the handshake, empty where there is none."""
        for line in self.head.decode("latin-1").split("\r\n")[1:]:
            key, _, value = line.partition(":")
            if key.lower() == name.lower():
                return value.strip()
        return ""

    def upgrade(self, *lines: str, accept: str | None = None) -> None:
        """Consent."""
        accept = accept_key(self.header("sec-websocket-key")) if accept is None else accept
        told = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"]
        self.sock.sendall("\r\n".join([*told, f"Sec-WebSocket-Accept: {accept}", *lines, "", ""]).encode())

    def exactly(self, length: int) -> bytes:
        """So many bytes."""
        while len(self._data) < length:
            data = self.sock.recv(65536)
            if not data:
                raise ConnectionError
            self._data += data
        found, self._data = self._data[:length], self._data[length:]
        return found

    def read(self) -> tuple[int, bytes]:
        """The next frame: its first byte's low half, and its payload."""
        first, second = self.exactly(2)
        assert second & 0x80, "a client masks"
        length = second & 0x7F
        if length > 125:
            length = int.from_bytes(self.exactly(2 if length == 126 else 8))
        mask, payload = self.exactly(4), self.exactly(length)
        found = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
        self.server.frames[first & 0x0F] += 1
        if first & 0x0F == CLOSE:
            self.server.closes.append(found)
        elif first & 0x0F < CLOSE:
            self.server.messages.append(found)
        return first & 0x0F, found

    def send(self, opcode: int, payload: bytes) -> None:
        """One whole frame."""
        self.sock.sendall(frame(opcode, payload))


def echo(peer: Peer) -> None:
    """As an echo server does."""
    peer.upgrade()
    while True:
        opcode, payload = peer.read()
        if opcode == PING:
            peer.send(PONG, payload)
        elif opcode == CLOSE:
            peer.send(CLOSE, payload)
            return
        elif opcode != PONG:
            peer.send(opcode, payload)


def say(data: bytes) -> Behaviour:
    """Consent, send these bytes, and wait for the client to leave."""

    def behave(peer: Peer) -> None:
        peer.upgrade()
        peer.sock.sendall(data)
        while True:
            peer.read()

    return behave


def answer(data: bytes) -> Behaviour:
    """Answer the handshake with these bytes."""

    def behave(peer: Peer) -> None:
        peer.sock.sendall(data)

    return behave


class WsServer:
    """Does what the script says for the path of a handshake (echoes, where it says nothing); remembers everything."""

    def __init__(self, script: dict[str, Behaviour] | None = None, context: ssl.SSLContext | None = None) -> None:
        self._script = script or {}
        self._context = context
        self.heads: list[bytes] = []
        self.messages: list[bytes] = []
        self.closes: list[bytes] = []
        self.frames: Counter[int] = Counter()
        self.connections = 0
        self.peers: list[str] = []
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=200)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"{'wss' if self._context else 'ws'}://127.0.0.1:{self.port}"

    def _accept(self) -> None:
        while True:
            try:
                sock, (host, *_) = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self.peers.append(host)
            self._sockets.append(sock)
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        try:
            if self._context is not None:
                sock = self._context.wrap_socket(sock, server_side=True)
                self._sockets.append(sock)
            data = b""
            while b"\r\n\r\n" not in data:
                more = sock.recv(65536)
                if not more:
                    return
                data += more
            head, _, rest = data.partition(b"\r\n\r\n")
            self.heads.append(head)
            path = head.split(b" ")[1].decode()
            self._script.get(path, echo)(Peer(self, sock, head, rest))
        except OSError:
            pass
        finally:
            sock.close()

    def __enter__(self) -> WsServer:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        for sock in self._sockets:
            sock.close()


def conversation(url: str, *actions: dict[str, Any], **more: Any) -> dict[str, Any]:
    """The spec of a step, as the engine gets it."""
    return {
        "url": url, "timeout_ns": 5_000_000_000, "headers": [], "auth": None, "subprotocols": [], "deflate": False,
        "tls": {"verify": True, "ca": None}, "dns": {"resolve": "cached", "pick": "rotate", "hosts": []},
        "source_addresses": [], "max_message": 1 << 20, "data": None, "do": list(actions), **more,
    }  # fmt: skip


def send(value: Any = "hello", kind: str = "text", **more: Any) -> dict[str, Any]:
    return {
        "type": "send", "name": "say", "kind": kind, "value": value, "reply": None, "within_ns": None,
        "on_error": "continue", **more,
    }  # fmt: skip


ORDER = {"by": "order"}


def by_id(expr: str) -> dict[str, str]:
    return {"by": "id", "expr": expr}


def expect(kind: str = "any", value: Any = None, **more: Any) -> dict[str, Any]:
    return {
        "type": "expect", "name": "hear", "kind": kind, "value": value, "within_ns": None, "extract": [],
        "on_error": "continue", **more,
    }  # fmt: skip


def hold(seconds: float) -> dict[str, Any]:
    return {"type": "hold", "low_ns": int(seconds * 1e9), "high_ns": int(seconds * 1e9)}


def every(seconds: float, *do: dict[str, Any], for_s: float | None = None) -> dict[str, Any]:
    for_ns = None if for_s is None else int(for_s * 1e9)
    return {"type": "every", "period_ns": int(seconds * 1e9), "for_ns": for_ns, "do": list(do)}


def loop(times: int | None, *do: dict[str, Any], for_s: float | None = None) -> dict[str, Any]:
    return {"type": "loop", "times": times, "for_ns": None if for_s is None else int(for_s * 1e9), "do": list(do)}


def ping(seconds: float | None = None) -> dict[str, Any]:
    return {"type": "ping", "within_ns": None if seconds is None else int(seconds * 1e9)}


def close(code: int = 1000, reason: str = "") -> dict[str, Any]:
    return {"type": "close", "code": code, "reason": reason}


__all__ = ["CLOSE", "PING", "PONG", "TEXT", "frame"]
