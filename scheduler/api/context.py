"""What the handlers work with: the store, the files, the token; one for each application."""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

from flask import current_app

from loads_queue.files import FileStore

from ..live_data import Errors, now_of
from ..live_wire import to_wire
from ..projects import Projects
from ..reader import Reader
from ..view import RunView
from .queries import Queries

KEY = "loads"


class Views:
    """Views of runs, each kept for a moment: any number of viewers costs the store one look.

    A run has a reader of its own, since a reader remembers the rows that it has read; the runs that nobody has looked
    at for longest are forgotten.
    """

    FRESH_S = 0.4
    MOST = 16

    def __init__(self, database: str) -> None:
        self._database = database
        self._readers: OrderedDict[str, Reader] = OrderedDict()
        self._kept: dict[str, tuple[float, RunView]] = {}
        self._errors: dict[str, Errors] = {}
        self._lock = Lock()

    def get(self, run: str) -> RunView | None:
        """How a run stands, or stood ``FRESH_S`` ago; None where there is no such run."""
        with self._lock:
            at, view = self._kept.get(run, (0.0, None))
            if view is not None and time.monotonic() - at < self.FRESH_S:
                self._readers.move_to_end(run)
                return view
            reader = self._readers.pop(run, None) or Reader(self._database)
            view = reader.run_view(run)
            if view is None:
                reader.close()
                self._forget(run)
                return None
            self._readers[run] = reader
            self._kept[run] = (time.monotonic(), view)
            while len(self._readers) > self.MOST:
                oldest, unused = self._readers.popitem(last=False)
                self._forget(oldest)
                unused.close()
            return view

    def live(self, run: str) -> dict[str, Any] | None:
        """What the live screen needs."""
        view = self.get(run)
        if view is None:
            return None
        return to_wire(view, now_of(view, self._errors.setdefault(run, Errors())))

    def _forget(self, run: str) -> None:
        self._kept.pop(run, None)
        self._errors.pop(run, None)


@dataclass(frozen=True)
class Context:
    """Everything that a handler may touch."""

    database: str
    files: FileStore
    token: str
    hosts: frozenset[str]
    lease_ttl_ns: int
    """For how long a worker counts as present after it was heard."""
    reader: Reader = field(init=False)
    queries: Queries = field(init=False)
    projects: Projects = field(init=False)
    views: Views = field(init=False)

    def __post_init__(self) -> None:
        reader = Reader(self.database)
        object.__setattr__(self, "reader", reader)
        object.__setattr__(self, "queries", Queries(reader.engine))
        object.__setattr__(self, "projects", Projects(reader.engine))
        object.__setattr__(self, "views", Views(self.database))


def here() -> Context:
    """The present application's."""
    found: Context = current_app.extensions[KEY]
    return found
