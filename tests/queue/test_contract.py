"""What ``queue.Queue`` promises, held against real servers of every kind: one suite for all."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import services

from loads_queue.queue import MAX_BODY, Consumer, Delivery, Queue, QueueError, QueueMissing, connect

NAME = "steps.any.process"
LOST_S = 12
"""By when a message whose reader died must have come again: visibility 1 s here, and what a slow machine adds."""


def bodies(count: int) -> list[str]:
    """Distinct messages."""
    return [json.dumps({"number": number}) for number in range(count)]


def gather(consumer: Consumer, count: int, within_s: float = 10) -> list[Delivery]:
    """Receive until that many are here; whatever there is after that time."""
    deadline = time.monotonic() + within_s
    found: list[Delivery] = []
    while len(found) < count and (left := deadline - time.monotonic()) > 0:
        found += consumer.receive(left)
    return found


def declared(queue: Queue, name: str = NAME, visibility_s: int = 20) -> Queue:
    """The queue, with a queue."""
    queue.declare(name, visibility_s)
    return queue


def test_bodies_arrive_exactly_as_they_were_sent(queue: Queue) -> None:
    texts = [
        '{"plain":1}', '{ "spaces" : [1, 2] }\n', '{"text":"äöü € 𝄞 \\u0000 \\n \\" \\\\"}', '{"body":"eyJhIjoxfQ=="}',
        json.dumps({"big": "x" * 300_000}),
    ]  # fmt: skip
    consumer = declared(queue).consume(NAME, 10)
    queue.send(NAME, texts)
    found = gather(consumer, len(texts))
    assert sorted(each.body for each in found) == sorted(texts)
    consumer.ack(found)
    assert consumer.receive(0) == []


def test_a_batch_of_any_length_arrives_and_is_gone_once_acknowledged(queue: Queue) -> None:
    consumer = declared(queue, visibility_s=1).consume(NAME, 40)
    queue.send(NAME, bodies(33))
    found = gather(consumer, 33)
    assert sorted(each.body for each in found) == sorted(bodies(33))
    consumer.ack(found)
    assert gather(consumer, 1, within_s=1.3) == []


def test_a_library_that_stumbles_over_a_lost_connection_is_an_error_of_the_queue(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    consumer: Any = declared(queue).consume(NAME, 1)
    with monkeypatch.context() as broken, pytest.raises(QueueError, match="no attribute 'get'"):
        broken.setattr(consumer._broker, "drain", lambda *_: None.get)  # type: ignore[attr-defined]
        consumer.receive(1)
    queue.send(NAME, bodies(1))
    assert len(gather(consumer, 1)) == 1


def test_sending_nothing_is_nothing(queue: Queue) -> None:
    consumer = declared(queue).consume(NAME, 10)
    queue.send(NAME, [])
    assert consumer.receive(0) == []


def test_a_receive_returns_as_soon_as_a_message_arrives(queue: Queue, service: services.Service, prefix: str) -> None:
    consumer = declared(queue).consume(NAME, 1)
    assert consumer.receive(0) == []
    other = connect(service.url, prefix=prefix)
    other.declare("elsewhere")
    sent_at: list[float] = []

    def send() -> None:
        sent_at.append(time.monotonic())
        other.send(NAME, ["{}"])

    timer = threading.Timer(0.3, send)
    timer.start()
    found = consumer.receive(10)
    took = time.monotonic() - sent_at[0]
    timer.join()
    other.close()
    assert [each.body for each in found] == ["{}"]
    assert took < 2


def test_a_receive_is_over_when_its_time_is(queue: Queue) -> None:
    consumer = declared(queue).consume(NAME, 1)
    consumer.receive(0)
    began = time.monotonic()
    assert consumer.receive(1) == []
    assert 0.9 < time.monotonic() - began < 3


READER = """
import sys
from loads_queue.queue import connect
queue = connect(sys.argv[1], prefix=sys.argv[2])
queue.declare(sys.argv[3], 1)
found = queue.consume(sys.argv[3], 1).receive(20)
print(found[0].body, flush=True)
sys.stdin.read()
"""


def test_what_a_killed_reader_held_comes_again(queue: Queue, service: services.Service, prefix: str) -> None:
    declared(queue, visibility_s=1).send(NAME, ['{"only":1}'])
    reader = subprocess.Popen(
        [sys.executable, "-c", READER, service.url, prefix, NAME], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with reader:
        assert reader.stdout is not None
        assert reader.stdout.readline().strip() == b'{"only":1}'
        reader.kill()
    consumer = queue.consume(NAME, 1)
    found = gather(consumer, 1, LOST_S)
    assert [each.body for each in found] == ['{"only":1}']
    consumer.ack(found)


def test_no_more_than_the_prefetch_is_out(queue: Queue, service: services.Service, prefix: str) -> None:
    first = declared(queue).consume(NAME, 2)
    queue.send(NAME, bodies(5))
    held = gather(first, 3, within_s=1)
    assert len(held) == 2
    other = connect(service.url, prefix=prefix)
    other.declare(NAME)
    second = other.consume(NAME, 10)
    rest = gather(second, 3)
    assert len(rest) == 3
    assert sorted(each.body for each in held + rest) == bodies(5)
    first.ack(held)
    second.ack(rest)
    other.close()


def test_an_acknowledgement_makes_room(queue: Queue) -> None:
    consumer = declared(queue).consume(NAME, 1)
    queue.send(NAME, bodies(3))
    for number in range(3):
        found = consumer.receive(10)
        assert len(found) == 1, number
        consumer.ack(found)


def test_without_prefetch_nothing_is_taken(queue: Queue, service: services.Service, prefix: str) -> None:
    idle = declared(queue).consume(NAME, 1)
    assert idle.receive(0) == []
    idle.set_prefetch(0)
    queue.send(NAME, bodies(1))
    assert idle.receive(0.5) == []
    other = connect(service.url, prefix=prefix)
    other.declare(NAME)
    busy = other.consume(NAME, 1)
    found = gather(busy, 1)
    assert len(found) == 1
    busy.release(found)
    other.close()
    idle.set_prefetch(1)
    again = gather(idle, 1)
    assert len(again) == 1
    idle.ack(again)


def test_a_raised_prefetch_ends_the_wait_of_a_full_consumer(queue: Queue) -> None:
    consumer = declared(queue).consume(NAME, 1)
    queue.send(NAME, bodies(2))
    first = gather(consumer, 1)
    timer = threading.Timer(0.2, consumer.set_prefetch, [2])
    timer.start()
    second = consumer.receive(10)
    timer.join()
    assert len(first) == len(second) == 1
    consumer.ack(first + second)


@pytest.mark.parametrize("how", ["release", "close", "close the queue"])
def test_what_is_handed_back_comes_again_at_once(queue: Queue, how: str) -> None:
    consumer = declared(queue, visibility_s=60).consume(NAME, 5)
    queue.send(NAME, bodies(2))
    found = gather(consumer, 2)
    assert len(found) == 2
    if how == "release":
        consumer.release(found)
    elif how == "close":
        consumer.close()
        consumer = queue.consume(NAME, 5)
    else:
        queue.close()
        consumer = queue.consume(NAME, 5)
    again = gather(consumer, 2)
    assert sorted(each.body for each in again) == bodies(2)
    consumer.ack(again)


def test_queues_and_prefixes_are_apart(queue: Queue, service: services.Service, prefix: str) -> None:
    other = connect(service.url, prefix=prefix + "other-")
    readers = []
    for owner, name in ((queue, "control.a"), (queue, "control.a.b"), (queue, "control.a-b"), (other, "control.a")):
        owner.declare(name)
        owner.send(name, [json.dumps({"to": len(readers)})])
        readers.append(owner.consume(name, 10))
    for number, reader in enumerate(readers):
        found = gather(reader, 1)
        assert [json.loads(each.body) for each in found] == [{"to": number}]
        reader.ack(found)
        assert reader.receive(0) == []
    other.close()


def test_names_of_any_kind_work(queue: Queue) -> None:
    for name in ("control." + "long" * 40, "control.ünïcode/with:signs", "control.A_b"):
        queue.declare(name)
        queue.send(name, [json.dumps({"to": name})])
        consumer = queue.consume(name, 1)
        found = gather(consumer, 1)
        assert [json.loads(each.body)["to"] for each in found] == [name]
        consumer.ack(found)


def test_declaring_again_changes_nothing(queue: Queue) -> None:
    queue.declare(NAME, 5)
    queue.send(NAME, bodies(1))
    queue.declare(NAME, 5)
    queue.declare(NAME, 7)
    consumer = queue.consume(NAME, 1)
    found = gather(consumer, 1)
    assert len(found) == 1
    consumer.ack(found)


def test_a_deleted_queue_is_gone_and_can_be_had_again(queue: Queue, kind: str) -> None:
    declared(queue).send(NAME, bodies(3))
    queue.delete(NAME)
    queue.delete(NAME)
    if kind != "redis":  # there a list is a queue by having something in it
        with pytest.raises(QueueMissing, match="does not exist"):
            queue.send(NAME, bodies(1))
        with pytest.raises(QueueMissing, match="does not exist"):
            queue.consume(NAME, 1).receive(1)
    queue.declare(NAME)
    consumer = queue.consume(NAME, 5)
    assert consumer.receive(0.5) == []
    queue.send(NAME, ['{"new":1}'])
    found = gather(consumer, 1)
    assert [each.body for each in found] == ['{"new":1}']
    consumer.ack(found)


def test_a_body_that_is_too_long_or_no_object_is_refused_before_it_is_sent(queue: Queue) -> None:
    consumer = declared(queue).consume(NAME, 5)
    with pytest.raises(QueueError, match=str(MAX_BODY)):
        queue.send(NAME, ["{}", '{"a":"' + "x" * MAX_BODY + '"}'])
    with pytest.raises(QueueError, match="JSON object"):
        queue.send(NAME, ["[]"])
    assert consumer.receive(0) == []


def test_a_body_of_just_the_limit_arrives(queue: Queue) -> None:
    text = '{"a":"' + "x" * (MAX_BODY - 8) + '"}'
    assert len(text) == MAX_BODY
    consumer = declared(queue).consume(NAME, 5)
    queue.send(NAME, [text, "{}"])
    found = gather(consumer, 2)
    assert sorted(len(each.body) for each in found) == [2, MAX_BODY]
    consumer.ack(found)


def until(works: Callable[[], None], within_s: float = 30) -> None:
    """Call until it raises no QueueError."""
    deadline = time.monotonic() + within_s
    while True:
        try:
            works()
            return
        except QueueError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def test_a_broker_that_goes_is_an_error_and_one_that_comes_back_is_used(
    queue: Queue, service: services.Service, kind: str
) -> None:
    consumer = declared(queue).consume(NAME, 5)
    assert consumer.receive(0) == []
    service.kill()
    with pytest.raises(QueueError) as sending:
        queue.send(NAME, bodies(1))
    with pytest.raises(QueueError) as receiving:
        consumer.receive(1)
    for error in (sending.value, receiving.value):
        assert f"127.0.0.1:{service.port}" in str(error)
        assert "secret" not in str(error)
        assert service.url.split("@")[0].rpartition(":")[2] not in str(error) or kind in ("redis", "rabbitmq")
    service.start()
    service.wait_ready()
    until(lambda: queue.declare(NAME))
    until(lambda: queue.send(NAME, ['{"after":1}']))
    found: list[Delivery] = []
    until(lambda: found.extend(gather(consumer, 1)))
    assert '{"after":1}' in [each.body for each in found]
    consumer.ack(found)


GREENLETS = Path(__file__).with_name("greenlets.py")


def test_greenlets_of_a_patched_process_work_together(service: services.Service, prefix: str) -> None:
    done = subprocess.run(
        [sys.executable, str(GREENLETS), service.url, prefix], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["received"] == found["sent"] == 60
    assert found["after_kill"] == 1
    assert found["surplus"] == 1
    assert found["worst_stall_s"] < 0.25
    assert done.stderr == ""
