"""Targets for tests: one that follows a script, connection by connection, and the demo target as users start it."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import sys
import threading
import urllib.request
from collections import Counter
from collections.abc import Callable
from typing import Any

Behaviour = Callable[[socket.socket, str, bytes], bool]
"""(connection, path, head) -> whether to read another request."""

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def answer(data: bytes) -> Behaviour:
    """Answer with these bytes and go on."""

    def behave(sock: socket.socket, path: str, head: bytes) -> bool:
        sock.sendall(data)
        return True

    return behave


class ScriptedServer:
    """Reads request heads and does what the script says for their paths; remembers everything."""

    def __init__(
        self,
        script: dict[str, Behaviour],
        context: ssl.SSLContext | None = None,
        greeting: bytes = b"",
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self._script = script
        self._context = context
        self._greeting = greeting
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []
        self.count: Counter[str] = Counter()
        self.connections = 0
        self._host = f"[{host}]" if ":" in host else host
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, port), family=family, backlog=200)
        self.port = self._listener.getsockname()[1]
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"{'https' if self._context else 'http'}://{self._host}:{self.port}"

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._sockets.append(sock)
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        try:
            if self._context is not None:
                sock = self._context.wrap_socket(sock, server_side=True)
                self._sockets.append(sock)
            sock.sendall(self._greeting)
            data = b""
            while True:
                while b"\r\n\r\n" not in data:
                    more = sock.recv(65536)
                    if not more:
                        return
                    data += more
                head, _, data = data.partition(b"\r\n\r\n")
                data = self._body(sock, head, data)
                path = head.split(b" ")[1].decode()
                self.heads.append(head)
                self.count[path] += 1
                if not self._script.get(path, answer(OK))(sock, path, head):
                    return
        except OSError:
            return
        finally:
            sock.close()

    def _body(self, sock: socket.socket, head: bytes, data: bytes) -> bytes:
        length = next(
            (int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0
        )
        while len(data) < length:
            more = sock.recv(65536)
            if not more:
                raise OSError("the client closed within a body")
            data += more
        self.bodies.append(data[:length])
        return data[length:]

    def close(self) -> None:
        self._listener.close()
        for sock in self._sockets:
            sock.close()

    def __enter__(self) -> ScriptedServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class DemoTarget:
    """The demo target in a process of its own."""

    def __init__(self) -> None:
        code = "from loads.workers.demo_target import serve; serve('127.0.0.1', 0)"
        self.process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()
        assert self.url.startswith("http://127.0.0.1:")

    def counter(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.url}/counter") as response:
            found: dict[str, Any] = json.load(response)
            return found

    def close(self) -> int:
        self.process.terminate()
        self.process.communicate(timeout=10)
        return self.process.returncode
