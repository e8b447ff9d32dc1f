"""``loads broker`` as a process: its address, who may come in, pollers that die, its ends, and what outlives it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
import services
from botocore.config import Config
from botocore.exceptions import ClientError

from loads_queue.embedded_http import BadRequest, Reader
from loads_queue.queue import find_broker, home_folder


def client(url: str, **changed: str) -> Any:
    """A boto3 client for a broker's URL."""
    parts = urlsplit(url)
    account = {"aws_access_key_id": parts.username, "aws_secret_access_key": parts.password, **changed}
    return boto3.client(
        "sqs", endpoint_url=f"http://127.0.0.1:{parts.port}", region_name="eu-west-1",
        config=Config(proxies={}, retries={"total_max_attempts": 1}), **account,
    )  # fmt: skip


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[services.Embedded]:
    """A broker of this test's own."""
    with services.running(services.embedded(tmp_path)) as found:
        assert isinstance(found, services.Embedded)
        yield found


def test_the_address_is_the_users_alone_and_goes_with_the_broker(broker: services.Embedded) -> None:
    address = broker.folder / "broker.json"
    assert json.loads(address.read_text())["url"] == broker.url
    assert find_broker(broker.folder) == broker.url
    for name in ("broker.json", "broker.sqlite3", "broker.lock"):
        assert (broker.folder / name).stat().st_mode & 0o077 == 0
    assert broker.stop() == 0
    assert find_broker(broker.folder) is None
    assert not address.exists()


def test_an_address_left_by_a_killed_broker_is_none(broker: services.Embedded) -> None:
    broker.kill()
    assert (broker.folder / "broker.json").exists()
    assert find_broker(broker.folder) is None


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"url": 1, "pid": 1}', '{"url": "x", "pid": -1}', '{"url":"x","pid":"1"}']
)
def test_an_address_file_that_is_none_is_no_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "broker.json").write_text(text)
    assert find_broker(tmp_path) is None


def test_the_home_folder_is_where_the_environment_says() -> None:
    assert home_folder({"LOADS_HOME": "/x", "XDG_STATE_HOME": "/y"}) == Path("/x")
    assert home_folder({"XDG_STATE_HOME": "/y"}) == Path("/y/loads")
    assert home_folder({"XDG_STATE_HOME": "relative"}) == Path.home() / ".local/state/loads"
    assert home_folder({}) == Path.home() / ".local/state/loads"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_though_a_poll_is_open(broker: services.Embedded, number: int) -> None:
    poll = hanging_poll(broker)
    began = time.monotonic()
    assert broker.stop(number) == 0
    assert time.monotonic() - began < 3
    end(poll)


def test_messages_and_address_survive_a_sigkill(broker: services.Embedded) -> None:
    sqs, before = client(broker.url), broker.url
    url = sqs.create_queue(QueueName="a", Attributes={"VisibilityTimeout": "1"})["QueueUrl"]
    for number in range(20):
        sqs.send_message(QueueUrl=url, MessageBody=str(number))
    lent = sqs.receive_message(QueueUrl=url)["Messages"][0]["Body"]
    broker.kill()
    broker.start()
    assert broker.url == before
    found = set()
    deadline = time.monotonic() + 10
    while len(found) < 20 and time.monotonic() < deadline:
        answer = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=2, VisibilityTimeout=60)
        found |= {message["Body"] for message in answer.get("Messages", [])}
    assert found == {str(number) for number in range(20)}
    assert lent == "0"


def test_one_folder_has_one_broker(broker: services.Embedded) -> None:
    second = subprocess.run(broker.command, capture_output=True, text=True, timeout=30, check=False)
    assert second.returncode == 4
    assert second.stderr == (
        f"loads: another broker runs on folder {broker.folder}: use it, or give --data another one\n"
    )
    assert find_broker(broker.folder) == broker.url


def test_a_port_that_is_taken_is_an_error_for_people(tmp_path: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        command = [*services.loads(), "broker", "--data", str(tmp_path), "--listen", where]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (4, f"loads: the broker can't listen on {where}: Address already in use\n")


def test_a_folder_that_can_not_be_used_is_an_error_for_people(tmp_path: Path) -> None:
    (tmp_path / "broker.sqlite3").write_bytes(b"no database " * 1000)
    command = [*services.loads(), "broker", "--data", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (
        4, f"loads: the broker can't use folder {tmp_path}: file is not a database\n",
    )  # fmt: skip


def test_a_full_disk_is_told_to_whoever_sends(tmp_path: Path) -> None:
    limited = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000));"
        "from loads_queue.cli import main; main()"
    )
    service = services.embedded(tmp_path)
    service.command = [sys.executable, "-c", limited, "broker", "--data", str(tmp_path)]
    with services.running(service):
        sqs = client(service.url)
        url = sqs.create_queue(QueueName="a")["QueueUrl"]
        with pytest.raises(ClientError, match="the broker can't keep its messages"):
            sqs.send_message(QueueUrl=url, MessageBody="x" * 500_000)
        assert sqs.get_queue_url(QueueName="a")["QueueUrl"] == url


def test_it_listens_on_loopback_alone(tmp_path: Path) -> None:
    command = [*services.loads(), "broker", "--data", str(tmp_path), "--listen", "0.0.0.0:0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    assert "'0.0.0.0:0' is not 127.0.0.1:PORT" in done.stderr


@pytest.mark.parametrize("changed", [{"aws_secret_access_key": "wrong"}, {"aws_access_key_id": "someone"}])
def test_another_secret_or_key_is_refused(broker: services.Embedded, changed: dict[str, str]) -> None:
    with pytest.raises(ClientError) as caught:
        client(broker.url, **changed).list_queues()
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403


def test_errors_are_those_that_boto3_knows(broker: services.Embedded) -> None:
    sqs = client(broker.url)
    with pytest.raises(sqs.exceptions.QueueDoesNotExist):
        sqs.get_queue_url(QueueName="none")
    url = sqs.create_queue(QueueName="a")["QueueUrl"]
    with pytest.raises(sqs.exceptions.ReceiptHandleIsInvalid):
        sqs.delete_message(QueueUrl=url, ReceiptHandle="none")
    with pytest.raises(sqs.exceptions.QueueNameExists):
        sqs.create_queue(QueueName="a", Attributes={"VisibilityTimeout": "1"})
    with pytest.raises(sqs.exceptions.UnsupportedOperation):
        sqs.tag_queue(QueueUrl=url, Tags={"a": "b"})


@pytest.mark.parametrize(
    "raw",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nX-Amz-Target: AmazonSQS.ListQueues\r\nContent-Length: 2\r\n\r\n{}",
        b"nonsense\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"x" * 20_000,
    ],
)
def test_what_is_not_signed_or_no_request_is_refused(broker: services.Embedded, raw: bytes) -> None:
    with closing(socket.create_connection(("127.0.0.1", broker.port), timeout=5)) as sock:
        sock.sendall(raw)
        assert sock.recv(100).split(b" ")[1] in (b"400", b"403")
    client(broker.url).list_queues()


def hanging_poll(broker: services.Embedded, queue: str = "a") -> subprocess.Popen[bytes]:
    """A process in the middle of a long poll, with ``queue`` declared and empty."""
    code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r}); sys.path.insert(0, {str(Path(__file__).parent.parent)!r})
from test_broker import client
sqs = client({broker.url!r})
url = sqs.create_queue(QueueName={queue!r})["QueueUrl"]
print("polling", flush=True)
sqs.receive_message(QueueUrl=url, WaitTimeSeconds=20)
"""
    poll = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert poll.stdout is not None
    assert poll.stdout.readline() == b"polling\n"
    poll.stdout.close()
    time.sleep(0.3)  # the poll's own request is on its way
    return poll


def end(poll: subprocess.Popen[bytes]) -> None:
    """SIGKILL, as far as the poller can tell."""
    poll.kill()
    poll.wait()


def connections(port: int) -> int:
    """How many connections to a port are established, seen from its side."""
    wanted = f"0100007F:{port:04X}"
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return sum(1 for line in lines if line.split()[1] == wanted and line.split()[3] == "01")


def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_poller_that_died_swallows_nothing(broker: services.Embedded) -> None:
    end(hanging_poll(broker))
    sqs = client(broker.url)
    url = sqs.get_queue_url(QueueName="a")["QueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody="x")
    assert [message["Body"] for message in sqs.receive_message(QueueUrl=url)["Messages"]] == ["x"]


def test_a_poll_ends_when_a_hidden_message_comes_back(broker: services.Embedded) -> None:
    sqs = client(broker.url)
    url = sqs.create_queue(QueueName="a", Attributes={"VisibilityTimeout": "1"})["QueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody="x")
    sqs.receive_message(QueueUrl=url)
    began = time.monotonic()
    assert len(sqs.receive_message(QueueUrl=url, WaitTimeSeconds=20)["Messages"]) == 1
    assert 0.9 < time.monotonic() - began < 2.5


def test_a_poll_of_a_queue_that_is_deleted_ends(broker: services.Embedded) -> None:
    poll = hanging_poll(broker)
    sqs = client(broker.url)
    sqs.delete_queue(QueueUrl=sqs.get_queue_url(QueueName="a")["QueueUrl"])
    until(lambda: connections(broker.port) <= 1)
    end(poll)


def test_it_ends_with_its_parent_and_accepts_on_a_socket_it_was_given(tmp_path: Path) -> None:
    ours, theirs = os.pipe()[::-1]
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
        command = [*services.loads(), "broker", "--data", str(tmp_path), "--parent-fd", str(theirs)]
        process = subprocess.Popen(
            [*command, "--listen-fd", str(listener.fileno())],
            stdout=subprocess.PIPE, pass_fds=(theirs, listener.fileno()),
        )  # fmt: skip
    os.close(theirs)
    assert process.stdout is not None
    url = json.loads(process.stdout.readline())["url"]
    assert urlsplit(url).port == port
    client(url).list_queues()
    os.close(ours)
    assert process.wait(10) == 0
    process.stdout.close()
    assert find_broker(tmp_path) is None


@pytest.mark.parametrize("option", ["--listen-fd", "--parent-fd"])
def test_a_descriptor_that_is_none_is_no_traceback(tmp_path: Path, option: str) -> None:
    command = [*services.loads(), "broker", "--data", str(tmp_path), option, "99"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert "Traceback" not in done.stderr
    assert done.returncode == (4 if option == "--listen-fd" else 0)


class Pieces:
    """A socket that gives its bytes in the pieces it was made of."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = list(pieces)

    def recv(self, size: int, /) -> bytes:
        """The next piece."""
        return self.pieces.pop(0) if self.pieces else b""


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_requests_are_read_whatever_pieces_they_come_in(size: int) -> None:
    data = b"POST / HTTP/1.1\r\nContent-Length: 3\r\nA: b\r\n\r\n{1}POST /x HTTP/1.1\r\n\r\n"
    reader = Reader(Pieces(*(data[at : at + size] for at in range(0, len(data), size))))
    first, second = reader.next(), reader.next()
    assert first is not None and second is not None
    assert (first.method, first.path, first.body, first.headers["a"]) == ("POST", "/", b"{1}", "b")
    assert (second.path, second.body) == ("/x", b"")
    assert reader.next() is None


def test_a_request_that_breaks_off_is_the_end() -> None:
    assert Reader(Pieces(b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\n{")).next() is None
    with pytest.raises(BadRequest):
        Reader(Pieces(b"POST / HTTP/1.1\r\nno colon\r\n\r\n")).next()
