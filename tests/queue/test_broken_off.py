"""A broker that breaks off in the middle of an answer is an outage like any other, and never an error of ours."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator

import pytest
from botocore import exceptions

from loads_queue.brokers import Sqs
from loads_queue.kombu_queue import connect
from loads_queue.queue import QueueError

ANSWERS = {
    "reset": None,
    "closed": b"",
    "half a head": b"HTTP/1.1 200 O",
    "half a body": b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"Qu',
    "garbage": b"\x16\x03\x01\0\xff" * 30 + b"\r\n\r\n",
    "not JSON": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n<>",
}


@pytest.fixture(params=ANSWERS)
def broken(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a broker that does that to everybody."""
    answer = ANSWERS[request.param]

    def serve() -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            with sock:
                sock.recv(65536)
                if answer is None:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                else:
                    sock.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        yield f"sqs://key:secret@127.0.0.1:{listener.getsockname()[1]}"


def test_it_is_a_queue_error_for_senders_and_readers(broken: str) -> None:
    queue = connect(broken)
    try:
        with pytest.raises(QueueError):
            queue.send("jobs", ["{}"])
        with pytest.raises(QueueError):
            queue.consume("jobs", 1).receive(0.1)
    finally:
        queue.close()


@pytest.mark.parametrize(
    "error",
    [
        exceptions.ConnectionClosedError(error=OSError(), endpoint_url="http://127.0.0.1"),
        exceptions.ReadTimeoutError(error=OSError(), endpoint_url="http://127.0.0.1"),
        exceptions.HTTPClientError(error=OSError()),
        exceptions.EndpointConnectionError(error=OSError(), endpoint_url="http://127.0.0.1"),
        exceptions.ClientError({}, "ReceiveMessage"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_without_an_answer_says_nothing_of_a_missing_queue(error: Exception) -> None:
    assert not Sqs("sqs://key:secret@127.0.0.1:1", "").is_missing(error)
