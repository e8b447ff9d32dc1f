"""rediss:// and amqps:// against real servers with a certificate of their own: carried, and checked."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import services

from loads_queue.queue import Queue, QueueError, connect

KINDS = ("redis", "rabbitmq")
NAME = "steps.any.process"


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def queues() -> Iterator[Callable[[str], Queue]]:
    """Queue objects by URL, under a prefix of this test's own."""
    prefix, made = f"t{uuid.uuid4().hex[:12]}-", []

    def connected(url: str) -> Queue:
        made.append(connect(url, prefix=prefix))
        return made[-1]

    yield connected
    for each in made:
        each.close()


def until(works: Callable[[], None], within_s: float = 30) -> None:
    """Call until it raises no QueueError: a server may open its port for TLS a little later than the other."""
    deadline = time.monotonic() + within_s
    while True:
        try:
            works()
            return
        except QueueError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def test_messages_are_carried(service: services.Service, queues: Callable[[str], Queue]) -> None:
    queue = queues(service.tls_url)
    until(lambda: queue.declare(NAME, 20))
    bodies = [json.dumps({"number": number}) for number in range(25)]
    queue.send(NAME, bodies)
    consumer = queue.consume(NAME, 30)
    found = []
    deadline = time.monotonic() + 10
    while len(found) < 25 and time.monotonic() < deadline:
        found += consumer.receive(1)
    assert sorted(each.body for each in found) == sorted(bodies)
    consumer.ack(found)
    assert consumer.receive(0) == []


def test_the_same_queues_are_there_without_tls(service: services.Service, queues: Callable[[str], Queue]) -> None:
    plain = queues(service.url)
    plain.declare(NAME, 20)
    tls = queues(service.tls_url)
    until(lambda: tls.send(NAME, ['{"over":"tls"}']))
    consumer = plain.consume(NAME, 1)
    found = consumer.receive(10)
    assert [each.body for each in found] == ['{"over":"tls"}']
    consumer.ack(found)


# Redis would wait for the end of what it takes for a line: that attempt ends by its timeout alone.
@pytest.mark.parametrize(
    ("kind", "wrong"),
    [*((kind, wrong) for kind in KINDS for wrong in ("authority", "system", "name")), ("rabbitmq", "plain")],
)
def test_a_server_that_is_not_who_it_should_be_gets_nothing(
    service: services.Service, queues: Callable[[str], Queue], tmp_path: Path, wrong: str
) -> None:
    until(lambda: queues(service.tls_url).declare(NAME))
    url = service.tls_url
    if wrong == "authority":
        url = f"{url.partition('?')[0]}?ca={services.certificate(tmp_path)[0]}"
    elif wrong == "system":
        url = url.partition("?")[0]
    elif wrong == "name":
        url = url.replace("127.0.0.1", "localhost")
    else:
        url = url.replace(str(urlsplit(url).port), str(service.port))
    queue = queues(url)
    with pytest.raises(QueueError) as sending:
        queue.send(NAME, ['{"secret":1}'])
    with pytest.raises(QueueError):
        queue.consume(NAME, 1).receive(1)
    assert "guest:" not in str(sending.value)
    if wrong != "plain":
        assert "certificate" in str(sending.value).lower()


@pytest.mark.parametrize("kind", ["redis"])
def test_a_server_that_comes_back_is_used_again(service: services.Service, queues: Callable[[str], Queue]) -> None:
    queue = queues(service.tls_url)
    queue.declare(NAME, 20)
    consumer = queue.consume(NAME, 5)
    assert consumer.receive(0) == []
    service.kill()
    with pytest.raises(QueueError):
        queue.send(NAME, ["{}"])
    service.start()
    service.wait_ready()
    until(lambda: queue.send(NAME, ['{"after":1}']))
    found = []
    until(lambda: found.extend(consumer.receive(5)))
    assert '{"after":1}' in [each.body for each in found]


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("rediss://127.0.0.1:1/0?ca=/no/such/file", "/no/such/file"),
        ("amqps://u:p@127.0.0.1:1//?ca=", "not a file of PEM certificates"),
        ("redis://127.0.0.1:1/0?ca=x", "redis:// has no option ca; there are none"),
        ("rediss://127.0.0.1:1/0?ssl_cert_reqs=none", "rediss:// has no option ssl_cert_reqs; there is ca"),
        ("sqs://k:s@127.0.0.1:1//?ca=x", "sqs:// has no option ca; there are region and tls"),
    ],
)
def test_a_wrong_option_is_refused_before_anything_is_opened(url: str, problem: str) -> None:
    with pytest.raises(QueueError) as caught:
        connect(url)
    assert problem in str(caught.value) and "u:p" not in str(caught.value)


def test_a_file_that_holds_no_certificate_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing of the kind")
    with pytest.raises(QueueError, match="not a file of PEM certificates"):
        connect(f"rediss://127.0.0.1:1/0?ca={tmp_path / 'ca.pem'}")
