"""Keeping what a final run came to: its summary, computed once and stored.

A long run takes seconds of work, in which a scheduler could hear nobody; that is done by a process of its own
(``python -m loads.scheduler.summarise RUN``, the database's URL in ``LOADS_DB``, where no process list shows it).
"""

from __future__ import annotations

import os
import sys

from .reader import Reader
from .results import summary
from .store import Store

INLINE_ROWS = 500
"""Up to so many rows the scheduler does it itself, in well under a second."""


def summarise(store: Store, reader: Reader, run: str) -> None:
    """Compute and store the summary of a final run; one that was deleted meanwhile is left alone."""
    view = reader.run_view(run)
    if view is not None:
        found = summary(view)
        store.put_summary(run, found["verdict"], found["exit_code"], found)


def command(run: str) -> list[str]:
    """The command line of the process that summarises a run."""
    return [sys.executable, "-P", "-m", "loads.scheduler.summarise", run]


def main() -> None:
    """Summarise the run that the command line names."""
    store = Store(os.environ["LOADS_DB"])
    try:
        summarise(store, Reader(store.engine), sys.argv[1])
    finally:
        store.close()


if __name__ == "__main__":
    main()
