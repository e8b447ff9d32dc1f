"""Redis, many messages at a time: none lost, none beyond the prefetch, none in a queue that it is not for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import services

from loads_queue.kombu_queue import KombuQueue, connect


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder: Path = tmp_path_factory.mktemp("redis")
    with services.running(services.redis(folder)) as service:
        yield service.url


@pytest.fixture
def queue(url: str, request: pytest.FixtureRequest) -> Iterator[KombuQueue]:
    found = connect(url, prefix=f"{request.node.name}-")
    yield found
    found.close()


def bodies(count: int) -> list[str]:
    return [f'{{"number":{number}}}' for number in range(count)]


def test_a_receive_takes_what_is_there_up_to_the_prefetch_and_says_whether_more_may_wait(queue: KombuQueue) -> None:
    queue.declare("reports")
    queue.send("reports", bodies(130))
    consumer = queue.consume("reports", 60)
    first = consumer.receive(5)
    assert [each.body for each in first] == bodies(130)[:60] and consumer.behind
    assert consumer.receive(0.1) == []
    consumer.ack(first)
    second = consumer.receive(5)
    assert [each.body for each in second] == bodies(130)[60:120] and consumer.behind
    consumer.ack(second)
    third = consumer.receive(5)
    assert [each.body for each in third] == bodies(130)[120:] and not consumer.behind
    consumer.ack(third)
    assert consumer.receive(0.1) == [] and not consumer.behind


def test_what_was_taken_together_comes_back_singly_where_it_was_not_acknowledged(queue: KombuQueue) -> None:
    queue.declare("reports", 1)
    queue.send("reports", bodies(5))
    consumer = queue.consume("reports", 10)
    taken = consumer.receive(5)
    assert len(taken) == 5
    consumer.ack(taken[:2])
    consumer.release([taken[2]])
    (back,) = consumer.receive(5)
    assert back.body == taken[2].body
    consumer.close()  # hands the rest back
    heir = queue.consume("reports", 10)
    rest = heir.receive(5)
    assert sorted(each.body for each in rest) == bodies(5)[2:]
    heir.ack(rest)


def test_messages_for_many_queues_go_with_one_call_each_to_its_own(queue: KombuQueue) -> None:
    names = ["control.a", 'control."b\\', "control.ü"]
    for name in names:
        queue.declare(name)
    assert queue.send_many([(name, f'{{"for":{number}}}') for number, name in enumerate(names)])
    for number, name in enumerate(names):
        consumer = queue.consume(name, 1)
        (found,) = consumer.receive(5)
        assert found.body == f'{{"for":{number}}}'
        consumer.release([found])
        (found,) = consumer.receive(5)
        consumer.ack([found])
