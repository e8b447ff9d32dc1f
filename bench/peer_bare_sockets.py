"""What no client can pass: sockets that send a frame made beforehand and don't look at the echo. Not for import by us.

Each has one ``send`` and one ``recv`` a round trip, and an ``epoll_wait`` that serves all that are ready. There is no
masking, no parsing, no counting, and no load model: all that is left is Python's way to the kernel, and the kernel.
"""

import os
import select
import signal
import socket
from urllib.parse import urlsplit

URL = urlsplit(os.environ["BENCH_URL"])
TEXT = os.environ["BENCH_TEXT"].encode()
CONNECTIONS = int(os.environ["BENCH_CONNECTIONS"])
SECONDS = int(os.environ["BENCH_SECONDS"])
HANDSHAKE = (
    f"GET {URL.path} HTTP/1.1\r\nHost: {URL.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
).encode()
# Masked with four zeros, which leave the text as it is.
FRAME = bytes((0x81, 0x80 | len(TEXT), 0, 0, 0, 0)) + TEXT


def connected() -> socket.socket:
    """One more connection, after its handshake."""
    found = socket.create_connection((URL.hostname, URL.port))
    found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    found.sendall(HANDSHAKE)
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += found.recv(4096)
    return found


def main() -> None:
    """Until told to end, or the time is over."""
    signal.alarm(SECONDS)
    sockets = {each.fileno(): each for each in (connected() for _ in range(CONNECTIONS))}
    ready = select.epoll()
    for number, each in sockets.items():
        ready.register(number, select.EPOLLIN)
        each.send(FRAME)
    while True:
        for number, _ in ready.poll():
            each = sockets[number]
            each.recv(256)
            each.send(FRAME)


main()
