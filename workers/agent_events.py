"""What may happen to an agent (events) and what it wants done (commands), as values.

The agent's core turns one event and the time into commands and does nothing itself. Whoever carries commands out does
so in their order, and answers each ``Publish`` with one ``Published`` once the broker has the Report.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

from loads_queue.messages import Control, LoadStep, Report


@dataclass(frozen=True, slots=True)
class OfferReceived:
    """A LoadStep came from the queue; ``delivery`` is what an ``Ack`` or ``Release`` will name."""

    offer: LoadStep
    delivery: Hashable


@dataclass(frozen=True, slots=True)
class ControlReceived:
    """A Control came from this worker's queue; it may be acknowledged once the core has taken it in."""

    control: Control


@dataclass(frozen=True, slots=True)
class Published:
    """The broker has the Report of that sequence."""

    sequence: int


@dataclass(frozen=True, slots=True)
class EnginePrepared:
    """A claim's files and spec are there; ``requests_per_pass`` is how many requests one pass of the spec makes."""

    claim: str
    requests_per_pass: int


@dataclass(frozen=True, slots=True)
class EngineFailed:
    """A claim's engine could not be started at all: a file, secret or program is missing. No process was left."""

    claim: str
    detail: str


@dataclass(frozen=True, slots=True)
class EngineLine:
    """A claim's engine said something; None stands for a line that could not be read."""

    claim: str
    line: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class EngineExited:
    """A claim's engine process is gone, all its lines were handed over, and its whole group was ended.

    ``status`` is the exit status, or minus the signal; ``output`` the end of what it printed.
    """

    claim: str
    status: int
    output: str = ""


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed; ``health`` is the agent's own, for the next Report."""

    health: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Terminate:
    """The agent shall end: orderly, or at once (its parent is gone, or it was told twice)."""

    at_once: bool = False


Event = (
    OfferReceived
    | ControlReceived
    | Published
    | EnginePrepared
    | EngineFailed
    | EngineLine
    | EngineExited
    | Tick
    | Terminate
)


@dataclass(frozen=True, slots=True)
class Publish:
    """Send the Report to the scheduler, after those before it; try until the broker has it."""

    report: Report


@dataclass(frozen=True, slots=True)
class Ack:
    """Acknowledge an offer: a published Report speaks for it."""

    delivery: Hashable


@dataclass(frozen=True, slots=True)
class Release:
    """Forget an offer unacknowledged; the queue, or the scheduler, will make it again."""

    delivery: Hashable


@dataclass(frozen=True, slots=True)
class StartEngine:
    """Fetch what the offer needs and start its engine.

    Answered by EnginePrepared and the engine's own lines, or by EngineFailed; EngineExited ends it.
    """

    claim: str
    offer: LoadStep


@dataclass(frozen=True, slots=True)
class SendToEngine:
    """Write one line to a claim's engine."""

    claim: str
    line: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class KillEngine:
    """Send ``TERM`` or ``KILL`` to a claim's engine and all it started; one not yet started is not started."""

    claim: str
    signal: str


@dataclass(frozen=True, slots=True)
class SetPrefetch:
    """Take in at most that many unacknowledged offers; 0 cancels the consumer."""

    count: int


@dataclass(frozen=True, slots=True)
class Log:
    """Something for the operator."""

    level: str
    """``debug``, ``info``, ``warning`` or ``error``."""
    text: str
    run: str = ""
    shard: int | None = None


@dataclass(frozen=True, slots=True)
class Exit:
    """End the agent with that status; whatever still runs is killed."""

    status: int


Command = Publish | Ack | Release | StartEngine | SendToEngine | KillEngine | SetPrefetch | Log | Exit
