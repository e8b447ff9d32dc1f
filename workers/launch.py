"""Wires a worker's process together: signals, folder, queue, service.

The process must have been monkey-patched by gevent before this is imported.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import secrets
import shutil
import signal
import socket
import sys
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import gevent
from gevent.os import make_nonblocking, nb_read

from loads_queue.address import Address, find_server
from loads_queue.logs import configure
from loads_queue.messages import Hello, control_queue
from loads_queue.queue import Queue, QueueError, connect, find_broker
from loads_queue.settings import Settings

from . import agent_state
from .engine_pool import EnginePool
from .engine_process import PidFiles
from .engine_spec import ALLOWED_TARGETS, ENGINE_PATH
from .files import WorkerFiles
from .service import Service
from .spool import Spool, adopt

ENGINES, SPOOL = "engines", "spool"
LONG_GONE_S = 7 * 86_400
"""After so long what a worker of another broker left is nobody's."""

log = logging.getLogger("loads.worker")


class WorkerError(Exception):
    """A worker can't begin; the text says what to do."""

    def __init__(self, text: str, exit_code: int) -> None:
        super().__init__(text)
        self.exit_code = exit_code


def launch(settings: Settings, parent_fd: int | None = None) -> int:
    """Be a worker until told to end; returns the exit status. Raises WorkerError and QueueError."""
    configure(settings.log_format)
    broker = settings.broker or find_broker(settings.home)
    if broker is None:
        raise WorkerError("no broker: give --broker URL, set LOADS_BROKER, or start `loads broker` here", 4)
    environ = {**os.environ, ALLOWED_TARGETS: settings.allowed_targets, ENGINE_PATH: settings.engine_path}
    home = settings.home
    name = settings.name or f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
    slots = settings.slots or len(os.sched_getaffinity(0))
    hello = Hello(version("loads-cluster"), socket.gethostname(), os.getpid(), region=settings.region)
    agent = agent_state.Settings(
        name, secrets.token_hex(8), hello, slots, lambda: secrets.token_hex(8), drain_after_ns=settings.drain_after_ns
    )
    with _own_folder(home, name, broker) as folder:
        pids = PidFiles(folder / ENGINES)
        _end_leftovers(pids, name)
        _inherit(folder)
        spool = Spool(folder / SPOOL, agent.incarnation)
        files = WorkerFiles(settings.files, lambda: _server(settings))
        queue = connect(broker, prefix=settings.queue_prefix)
        service = Service(
            agent, queue, lambda tell: EnginePool(name, files, pids, environ, tell), secret=settings.secret, spool=spool
        )
        _listen(service, parent_fd)
        try:
            status = service.run(lambda: _ready(name, slots))
        finally:
            if settings.name is None:
                _delete_queue(queue, name)
            queue.close()
        if spool.empty:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            log.info("what the scheduler does not have yet stays in %s for the next worker here", folder)
        return status


def _server(settings: Settings) -> Address | None:
    """Where files are fetched: the scheduler that is set, or this machine's; a token alone is for either."""
    here = find_server(settings.home)
    if settings.server is None:
        return here and Address(here.url, settings.token or here.token)
    known = here.token if here is not None and here.url.rstrip("/") == settings.server.rstrip("/") else ""
    return Address(settings.server, settings.token or known)


def _ready(name: str, slots: int) -> None:
    sys.stdout.write(json.dumps({"worker": name, "slots": slots}) + "\n")
    sys.stdout.flush()
    log.info("worker %s takes offers for %d slots", name, slots)


def _listen(service: Service, parent_fd: int | None) -> None:
    """Have signals, and the end of the parent, end the service."""
    for number in (signal.SIGTERM, signal.SIGINT):
        gevent.signal_handler(number, service.terminate)
    if parent_fd is not None:
        make_nonblocking(parent_fd)
        gevent.spawn(_end_with_parent, parent_fd, service)


def _end_with_parent(descriptor: int, service: Service) -> None:
    while nb_read(descriptor, 1024):
        pass
    service.terminate(at_once=True)


def _delete_queue(queue: Queue, name: str) -> None:
    """A name that was made up is never used again, nor is its queue."""
    try:
        queue.delete(control_queue(name))
    except QueueError as error:
        log.info("queue %s stays: %s", control_queue(name), error)


@contextlib.contextmanager
def _own_folder(home: Path, name: str, broker: str) -> Iterator[Path]:
    """The worker's folder, its alone as long as it lives; workers of other brokers may have the same name."""
    if not name or not all(letter.isascii() and (letter.isalnum() or letter in "-_.") for letter in name):
        raise WorkerError(f"not a worker's name: {name!r}: letters, digits, '-', '_' and '.'", 2)
    folder = home / "workers" / f"{name}@{hashlib.sha256(broker.encode()).hexdigest()[:12]}"
    try:
        lock = _lock(folder)
    except OSError as error:
        raise WorkerError(f"can't use {folder}: {error.strerror}: set LOADS_HOME to a folder of yours", 2) from None
    if lock is None:
        raise WorkerError(f"a worker named {name} runs here already: choose another --name", 2)
    try:
        yield folder
    finally:
        os.close(lock)


def _lock(folder: Path) -> int | None:
    """The descriptor that holds a folder, made where it is missing, or None where a living worker holds it."""
    while True:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return None
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(lock), os.stat(folder / "lock")):
                return lock
        os.close(lock)  # Its owner removed the folder in between.


def _end_leftovers(pids: PidFiles, name: str) -> None:
    for pid in pids.end_leftovers():
        log.warning("ended engine process %d, which an earlier worker %s left behind", pid, name)


def _inherit(folder: Path) -> None:
    """Take over what workers of this host and broker left that are gone and, by their names, may never come back."""
    broker = folder.name.rpartition("@")[2]
    for other in folder.parent.glob("*"):
        ours = other.name.endswith(f"@{broker}")
        if other == folder or not (ours or time.time() - other.stat().st_mtime > LONG_GONE_S):
            continue
        lock = _lock(other)
        if lock is None:
            continue
        try:
            _end_leftovers(PidFiles(other / ENGINES), other.name)
            if ours and (lives := adopt(folder / SPOOL, other / SPOOL)):
                log.info("took over the unsent Reports of %d lives of %s", lives, other.name)
            shutil.rmtree(other, ignore_errors=True)
        finally:
            os.close(lock)
