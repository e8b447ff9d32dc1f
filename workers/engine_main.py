"""The runner of an engine process: ``python -m loads.workers.engine_main ENGINE --in FD --out FD``.

It imports the standard library and the one engine that it runs. Lines of JSON come in on one descriptor (spec,
start, permit, adjust, stop) and go out on the other (ready, snapshot, end); the end of the first ends the process.
Standard output and error belong to whatever the engine runs, and are captured as its output.
"""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
from collections.abc import Callable, Sequence
from importlib import metadata

BUILT_IN = {
    "http": "loads.workers.engines.http:run",
    "websocket": "loads.workers.engines.websocket:run",
}
"""Known without a search of what is installed, which would take longer than everything else of the start."""

Engine = Callable[[int, int], int]


def load_engine(name: str) -> Engine:
    """The engine of a name, from the entry-point group ``loads.engines``; raises LookupError."""
    place = BUILT_IN.get(name)
    if place is None:
        found = [entry.value for entry in metadata.entry_points(group="loads.engines", name=name)]
        if not found:
            raise LookupError(f"no engine is called {name!r}: install the package that brings it, or mend the plan")
        place = found[0]
    module, _, attribute = place.partition(":")
    engine: Engine = getattr(importlib.import_module(module), attribute)
    return engine


def main(arguments: Sequence[str] | None = None) -> int:
    """Run an engine to its end; the exit status is 0 after an ``end`` line, 2 for wrong usage."""
    parser = argparse.ArgumentParser(prog="python -m loads.workers.engine_main", description="Run one engine.")
    parser.add_argument("engine")
    parser.add_argument("--in", dest="fd_in", type=int, required=True, metavar="FD")
    parser.add_argument("--out", dest="fd_out", type=int, required=True, metavar="FD")
    options = parser.parse_args(arguments)
    # Ctrl-C reaches the whole group of processes at a terminal: the agent alone decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        engine = load_engine(options.engine)
    except LookupError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return engine(options.fd_in, options.fd_out)


if __name__ == "__main__":
    sys.exit(main())
