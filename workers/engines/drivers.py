"""Which driver carries an engine's iterations out: the fastest one that can, unless the worker's setting names one."""

from __future__ import annotations

import importlib
from collections.abc import Callable

from .callbacks import Lanes
from .program import Program
from .riders import Riders
from .seat import Seats
from .world import World

PATHS = ("auto", "compiled", "callbacks", "greenlets")
_COMPILED = "loads.workers.engines.compiled"
Driver = Callable[[World], Seats]


def choose(program: Program, path: str) -> Driver:
    """The driver for a program. ``path`` is one of ``PATHS``; where that driver can't run the program, the next can.

    Raises ValueError for another path, and for ``compiled`` where the extension was not built.
    """
    if path not in PATHS:
        raise ValueError(f"LOADS_ENGINE_PATH is one of {', '.join(PATHS)}, not {path!r}")
    if path in ("auto", "compiled") and not program.by_user:
        found = _compiled(program, path == "compiled")
        if found is not None:
            return found
    return greenlets if path == "greenlets" else callbacks


def callbacks(world: World) -> Seats:
    """State machines on the loop's callbacks."""
    return Lanes(world)


def greenlets(world: World) -> Seats:
    """A greenlet a user."""
    return Riders(world)


def _compiled(program: Program, wanted: bool) -> Driver | None:
    """The compiled driver, where it is there and can run a program.

    Its module has ``can(program) -> bool``, which raises ImportError without the extension, and ``Seats(world)``.
    """
    try:
        module = importlib.import_module(_COMPILED)
        able = module.can(program)
    except ImportError as error:
        if wanted:
            raise ValueError(f"LOADS_ENGINE_PATH is compiled, but {error}") from None
        return None
    if not able:
        return None
    driver: Driver = module.Seats
    return driver
