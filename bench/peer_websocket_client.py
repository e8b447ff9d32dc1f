"""What websocket-client does in the comparison: a text out, its echo in, again and again. Not for import by us.

Its argument is ``threads`` (each of the connections in a thread of its own), ``one`` (a single connection) or ``turns``
(one thread that sends on every connection, then receives on every one, so that it rarely has to wait). Its options are
those that cost least: no lock, and no check of UTF-8 in pure Python; ``recv`` decodes, and so checks, all the same.
"""

import os
import signal
import sys
import threading
from typing import Any

from websocket import create_connection  # type: ignore[import-not-found]

URL = os.environ["BENCH_URL"]
TEXT = os.environ["BENCH_TEXT"]
WAY = sys.argv[1]
CONNECTIONS = int(os.environ["BENCH_CONNECTIONS"])
SECONDS = int(os.environ["BENCH_SECONDS"])


def connected() -> Any:
    """One more connection."""
    return create_connection(URL, enable_multithread=False, skip_utf8_validation=True)


def alone(socket: Any) -> None:
    """One connection, as fast as it goes."""
    while True:
        socket.send(TEXT)
        socket.recv()


def in_turn(sockets: list[Any]) -> None:
    """All of them, in step."""
    while True:
        for socket in sockets:
            socket.send(TEXT)
        for socket in sockets:
            socket.recv()


def main() -> None:
    """Until told to end, or the time is over."""
    signal.alarm(SECONDS)
    sockets = [connected() for _ in range(1 if WAY == "one" else CONNECTIONS)]
    if WAY == "threads":
        for socket in sockets:
            threading.Thread(target=alone, args=(socket,), daemon=True).start()
        signal.pause()
    elif WAY == "one":
        alone(sockets[0])
    else:
        in_turn(sockets)


main()
