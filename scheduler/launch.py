"""Wires the scheduler's process together: signals, store, queue, service."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys

import gevent
import gevent.event
from gevent.os import tp_read

from loads_queue.queue import connect

from .service import clock, ready_line, serve
from .store import Store


def launch(broker: str, db: str, parent_fd: int | None) -> None:
    """Run a scheduler until SIGTERM, SIGINT, or the end of the process that holds ``parent_fd``'s other end."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("botocore").setLevel(logging.WARNING)
    stop = gevent.event.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        gevent.signal_handler(number, stop.set)
    watcher = gevent.spawn(_end_with_parent, parent_fd, stop) if parent_fd is not None else None
    store = Store(db)
    queue = connect(broker)
    try:
        serve(store, queue, f"{socket.gethostname()}.{os.getpid()}", clock(), lambda: print_ready(), stop)
    finally:
        if watcher is not None:
            watcher.kill()
        queue.close()
        store.close()


def print_ready() -> None:
    """Tell a parent, or a person, that the scheduler acts."""
    sys.stdout.write(ready_line() + "\n")
    sys.stdout.flush()


def _end_with_parent(fd: int, stop: gevent.event.Event) -> None:
    while tp_read(fd, 1024):
        pass
    stop.set()
