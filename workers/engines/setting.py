"""What a kind of engine makes of the agent's spec: all that a ``session`` needs to know of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from loads_queue.model.scenario import Data, Dns, Tls

from .drivers import Driver
from .urls import Origin
from .world import Order


@dataclass(frozen=True, slots=True)
class Setting:
    """A scenario that can be run, and what it needs around it."""

    scenario: Any
    """For the driver alone."""
    driver: Driver
    origins: tuple[Origin, ...]
    """Where it connects to, as far as that is known beforehand, in the plan's order."""
    data: Data | None
    dns: Dns
    tls: Tls
    shares: bool
    """Iterations of a rate share their connections."""
    sources: tuple[str, ...] = ()
    """The local addresses that its sockets are bound to, in turn; empty: the system chooses."""


Prepare = Callable[[Order], Setting]
"""Raises ValueError (or OSError) for what can't be run."""
