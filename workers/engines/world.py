"""What the parts of a running engine share, and the few things that they may ask of it."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from loads_queue.model import shard as shares

from .datafile import Rows
from .net import Net
from .pacer import Pacer
from .permit import Permit
from .recorder import Recorder
from .seat import Seats
from .variables import Fixed


@dataclass(frozen=True, slots=True)
class Order:
    """The agent's ``spec`` line: which shard of which step, and within what limits."""

    run: str
    step: str
    shard: int
    shards: int
    worker: str
    spec: Mapping[str, Any]
    load: Mapping[str, Any]
    files: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    allowed_targets: str = ""
    """The worker's; empty where every target is allowed."""
    path: str = "auto"
    """Which driver carries iterations out: see ``drivers``."""
    delay_ns: int = 0
    max_in_flight: int = 10_000
    max_lateness_ns: int = 30_000_000_000
    graceful_stop_ns: int = 30_000_000_000
    graceful_ramp_down_ns: int = 30_000_000_000
    run_max_time_ns: int = 0
    seed: int = 0
    attempt: int = 0

    @classmethod
    def from_line(cls, line: Mapping[str, Any]) -> Order:
        """From the line's JSON; raises ValueError where something is missing. What is not known here is passed over."""
        names = cls.__dataclass_fields__
        try:
            return cls(**{name: value for name, value in line.items() if name in names and value is not None})
        except TypeError as error:
            raise ValueError(f"the spec line: {error}") from None

    def names(self) -> dict[str, str]:
        """The worker's own names, as a plan sees them."""
        own = {"RUN_ID": self.run, "STEP_NAME": self.step, "SHARD": str(self.shard), "WORKER_ID": self.worker}
        address = own_address()
        return {"HOST_IP": address, "PRIVATE_IP": address, **self.env, **own}


def own_address() -> str:
    """This host's address, as a target outside would see it sent from; no packet leaves to find out."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])


class Load(Protocol):
    """A load model that is running."""

    @property
    def end_at(self) -> int | None:
        """When nothing starts any more; None where only its own work ends it."""

    def begin(self) -> None:
        """Go."""

    def settle(self) -> None:
        """Decide about everything due by now, before the permit changes."""

    def change(self, changes: Any) -> None:
        """The profile has changed."""

    def stop(self) -> None:
        """Nothing starts any more."""

    def interrupt(self) -> None:
        """End what is in flight."""

    def settled_before(self, now: int) -> int:
        """The second before which nothing can be counted any more that is not under way."""

    def totals(self) -> dict[str, Any]:
        """``next``, ``users``, ``remaining``, ``held_from_ns``, ``covered_ns``; ``turns`` where it has any to tell."""

    def used(self) -> int:
        """How much of the permit's bound on iterations is used; -1 where no more is needed."""

    def cover(self, now: int) -> None:
        """Count the user-time held up to now."""

    def close(self) -> None:
        """Give everything back."""


@dataclass(slots=True)
class World:
    """The running engine, as its parts see it."""

    hub: Any
    pacer: Pacer
    base: int
    """When the run's schedule began."""
    order: Order
    permit: Permit
    net: Net
    recorder: Recorder
    scenario: Any
    """Its driver's alone: ``scenario_run.Scenario`` of HTTP, another one of WebSockets."""
    fixed: Fixed
    rows: Rows | None
    load_over: Callable[[], None]
    """The load has ended by itself: what is in flight may finish."""
    exhausted: Callable[[], None]
    """The data is used up: nothing starts any more."""
    maybe_over: Callable[[], None]
    """Something in flight has ended after the load was stopped."""
    ask_for_more: Callable[[], None]
    """Part of the permit was used."""
    await_permit: Callable[[Callable[[], object]], int]
    """Have a callback called once, in the hub, when the permit may have changed; a number for ``forget``."""
    forget: Callable[[int], None]
    """Do not call it; harmless after it was called."""
    guard: Callable[[], AbstractContextManager[None]]
    """Around a greenlet's whole life, or a callback: what escapes from it ends the engine, with its traceback."""
    seats: Seats = field(init=False)

    def row(self, number: int) -> Mapping[str, Any]:
        """The data row of a cluster-wide number; raises Exhausted."""
        return self.rows.at(number) if self.rows is not None else {}

    def row_of_turn(self, counter: int) -> Mapping[str, Any]:
        """The data row of the shard's so-manieth iteration; raises Exhausted."""
        return self.row(shares.row_index(self.order.shard, self.order.shards, counter))
