"""Wires the scheduler's process together: signals, broker, store, API, queue, service.

The process must have been monkey-patched by gevent before this is imported. What a scheduler of ``loads run`` does not
need (children, stored plans) is imported when it is needed: that command's time to the first request is counted.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import gevent
import gevent.event
from gevent.os import tp_read

from loads_queue.files import FileStore
from loads_queue.logs import configure
from loads_queue.queue import QueueError, connect, find_broker
from loads_queue.settings import FROM_FLAG, Settings

from . import cluster
from .service import EpochLost, clock, ready_line, serve
from .store import Store

if TYPE_CHECKING:
    from .children import Child
    from .planfile import Loaded

BROKER_PATIENCE_S = 1.5
"""How long a broker that holds our folder may take to end, before it is taken for one that stays."""


INHERIT_EVERY_S = 0.3


class LaunchError(Exception):
    """The scheduler can't go on; the text says what to do."""

    exit_code = 4


def launch(
    settings: Settings, load: tuple[Path, ...] = (), hosts: tuple[str, ...] = (), parent_fd: int | None = None
) -> None:
    """Run a scheduler until SIGTERM, SIGINT, or the end of the process that holds ``parent_fd``'s other end.

    ``load`` are files whose plans are to be stored, ``hosts`` further names of the API. Raises LaunchError, PlanError,
    StoreError and QueueError; by then every child has ended.
    """
    configure(settings.log_format)
    _Scheduler(settings, hosts, parent_fd).run(_read(load))


class _Scheduler:
    """One scheduler's process."""

    def __init__(self, settings: Settings, hosts: tuple[str, ...], parent_fd: int | None) -> None:
        self.settings = settings
        self.hosts = hosts
        self.parent_fd = parent_fd
        self.stop = gevent.event.Event()
        self.lost: list[str] = []
        self.url: str | None = None
        self.stored: list[str] = []

    def run(self, loaded: list[tuple[Path, Loaded]]) -> None:
        """From the first signal handler to the last child's end."""
        settings = self.settings
        _make_home(settings.home)
        # These end a greenlet and are told at the end, in words; no traceback is printed on the way.
        hub = gevent.get_hub()
        hub.NOT_ERROR = (*hub.NOT_ERROR, QueueError, EpochLost)
        for number in (signal.SIGTERM, signal.SIGINT):
            gevent.signal_handler(number, self._signalled)
        watcher = None
        if self.parent_fd is not None:
            watcher = gevent.spawn(_end_with_parent, self.parent_fd, self.stop)
        try:
            with self._api() as api, self._broker() as broker, self._store(loaded) as store:
                self.url = None if api is None else str(api.start()["url"])
                queue = connect(broker, prefix=settings.queue_prefix)
                try:
                    holder = f"{socket.gethostname()}.{os.getpid()}"
                    chosen = cluster.Settings(lease_ttl_ns=settings.lease_ttl_ns, max_attempts=settings.max_attempts)
                    files = FileStore(settings.files)
                    serve(store, queue, holder, clock(), self._ready, self.stop, chosen, files, settings.secret)
                finally:
                    queue.close()
        finally:
            if watcher is not None:
                watcher.kill()
        if self.lost:
            raise LaunchError("; ".join(self.lost))

    def _signalled(self) -> None:
        """The first signal asks for an end in order, the second one leaves at once; the children end with us."""
        if self.stop.is_set():
            os._exit(130)
        self.stop.set()

    def _child(self, child: Child) -> contextlib.AbstractContextManager[object]:
        return contextlib.closing(_Stopping(child))

    def _lose(self, why: str) -> None:
        self.lost.append(why)
        self.stop.set()

    @contextlib.contextmanager
    def _broker(self) -> Iterator[str]:
        """The broker's URL: the given one, that of a broker which runs on our folder, or that of a child."""
        if self.settings.broker is not None:
            yield self.settings.broker
            return
        from .children import Child

        data = ["--data", str(self.settings.home)]
        child = Child("broker", data, lambda said: [*data, "--listen", _listen_of(said["url"])], self._lose)
        with self._child(child):
            if not _free(self.settings.home, BROKER_PATIENCE_S) and (found := find_broker(self.settings.home)):
                heir = gevent.spawn(self._inherit, child)
                try:
                    yield found
                finally:
                    heir.kill()
            else:
                yield str(child.start()["url"])

    def _inherit(self, child: Child) -> None:
        """Take over the broker of another scheduler once that is gone; it comes back at the same address."""
        from .children import ChildError

        while not child.said:
            gevent.sleep(INHERIT_EVERY_S)
            if _free(self.settings.home, 0):
                with contextlib.suppress(ChildError):  # another one was quicker
                    child.start()

    @contextlib.contextmanager
    def _store(self, loaded: list[tuple[Path, Loaded]]) -> Iterator[Store]:
        store = Store(self.settings.db)
        try:
            if loaded:
                self.stored = store_plans(store, self.settings.files, loaded)
            yield store
        finally:
            store.close()

    @contextlib.contextmanager
    def _api(self) -> Iterator[Child | None]:
        """The API, begun: it gets ready while the rest does."""
        settings = self.settings
        # A scheduler that belongs to another command answers nobody else, unless it is told to.
        if self.parent_fd is not None and settings.sources["listen"] != FROM_FLAG:
            yield None
            return
        from .children import Child

        common = ["--db", settings.db, "--files", str(settings.files), "--log-format", settings.log_format]
        common += ["--lease-ttl", f"{settings.lease_ttl_ns}ns"]
        if settings.token is not None:
            common += ["--token", settings.token]
        for name in self.hosts:
            common += ["--host", name]
        first = [*common, "--listen", settings.listen]
        child = Child("api", first, lambda said: [*common, "--listen", said["listen"]], self._lose)
        with self._child(child):
            child.begin()
            yield child

    def _ready(self) -> None:
        """Tell a parent, or a person, that the scheduler acts."""
        if sys.stdout.isatty() and self.parent_fd is None:
            from .greeting import greeting

            text = greeting(self.settings, self.url, self.stored)
        elif self.url is not None:
            text = json.dumps({"ready": True, "url": self.url})
        else:
            text = ready_line()
        sys.stdout.write(text + "\n")
        sys.stdout.flush()


class _Stopping:
    """A child as something that is closed."""

    def __init__(self, child: Child) -> None:
        self.close = child.stop


def store_plans(store: Store, files: Path, loaded: list[tuple[Path, Loaded]]) -> list[str]:
    """Store the plans of files; returns a line for people about each file."""
    from .projects import Projects, StoredPlan
    from .result_files import user

    folder = FileStore(files)
    lines = []
    for path in dict.fromkeys(path for path, _ in loaded):
        plans = [each for other, each in loaded if other == path]
        project = plans[0].project or path.stem
        made = [
            StoredPlan(
                project, plan.plan.name, plan.document, {name: folder.put(Path(at)) for name, at in plan.files.items()}
            )
            for plan in plans
        ]
        stored = Projects(store.engine).store(project, made, user())
        parts = [
            f"{word} {', '.join(names)}" for word, names in (("added", stored.added), ("kept", stored.kept)) if names
        ]
        lines.append(f"{project}: {'; '.join(parts)}")
    return lines


def _read(paths: tuple[Path, ...]) -> list[tuple[Path, Loaded]]:
    """Every plan of the files that are to be stored; raises PlanError before anything has started."""
    if not paths:
        return []
    from .planfile import read_all

    return [(path, loaded) for path in paths for loaded in read_all(str(path))]


def _make_home(home: Path) -> None:
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise LaunchError(f"can't use {home}: {error.strerror}: set LOADS_HOME to a folder of yours") from None


def _free(home: Path, patience_s: float) -> bool:
    """Whether no broker holds the folder; one whose scheduler was killed is about to end and is waited for."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            with open(home / "broker.lock", "rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except FileNotFoundError:
            return True
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            gevent.sleep(0.05)


def _listen_of(url: str) -> str:
    """``HOST:PORT`` of a broker's URL."""
    return url.rpartition("@")[2].rstrip("/")


def _end_with_parent(fd: int, stop: gevent.event.Event) -> None:
    while tp_read(fd, 1024):
        pass
    stop.set()
