"""One running broker of each kind for the whole session, and queues on them under a prefix of each test's own."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import services

from loads_queue.queue import Queue, connect

KINDS = ("embedded", "sqs", "redis", "rabbitmq")


class Brokers:
    """Starts what is asked for, once; RabbitMQ, which takes 10 s, as soon as anything is."""

    def __init__(self, folder: Callable[[str], Path], wanted: set[str]) -> None:
        self._folder = folder
        self._stack = ExitStack()
        self._services: dict[str, services.Service] = {}
        self._missing: dict[str, BaseException] = {}
        if "rabbitmq" in wanted:
            self._start("rabbitmq")

    def _start(self, kind: str) -> None:
        folder = self._folder(kind)
        try:
            if kind == "rabbitmq":
                self._services[kind] = self._stack.enter_context(services.rabbitmq(folder))
            else:
                make = {"embedded": services.embedded, "sqs": services.moto, "redis": services.redis}[kind]
                self._services[kind] = self._stack.enter_context(services.running(make(folder)))
        except (pytest.skip.Exception, pytest.fail.Exception) as missing:
            self._missing[kind] = missing

    def __getitem__(self, kind: str) -> services.Service:
        if kind not in self._services and kind not in self._missing:
            self._start(kind)
        if kind in self._missing:
            raise self._missing[kind]
        self._services[kind].wait_ready()
        return self._services[kind]

    def close(self) -> None:
        """Stop all."""
        self._stack.close()


@pytest.fixture(scope="session")
def brokers(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Brokers]:
    """The brokers by kind."""
    wanted = {kind for kind in KINDS for item in request.session.items if f"[{kind}" in item.name}
    found = Brokers(lambda kind: tmp_path_factory.mktemp(kind), wanted)
    yield found
    found.close()


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Every kind of broker in turn."""
    return str(request.param)


@pytest.fixture
def service(brokers: Brokers, kind: str) -> services.Service:
    """The broker's process."""
    return brokers[kind]


@pytest.fixture
def prefix() -> str:
    """What keeps this test's queues apart."""
    return f"t{uuid.uuid4().hex[:12]}-"


@pytest.fixture
def queue(service: services.Service, prefix: str) -> Iterator[Queue]:
    """A queue object on the broker."""
    found = connect(service.url, prefix=prefix)
    yield found
    found.close()
