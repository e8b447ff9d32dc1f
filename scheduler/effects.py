"""What the scheduler's decisions ask of its edge; each is done in, or after, one database transaction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from loads_queue.messages import Control, LoadStep


@dataclass(frozen=True, slots=True)
class Publish:
    """Send a message once the transaction is committed (it goes through the outbox)."""

    queue: str
    message: LoadStep | Control


@dataclass(frozen=True, slots=True)
class PutRows:
    """Keep rows of a claim; of two of the same second the higher sequence counts."""

    run: str
    step: int
    shard: int
    claim: str
    sequence: int
    rows: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Note:
    """Add a line to a run's list of events."""

    run: str
    at: int
    what: str
    who: str = ""
    shard: int | None = None
    """Which of a step's shards it is about; for the log."""


@dataclass(frozen=True, slots=True)
class PutFile:
    """Have the file store hold these bytes, before any message that names their SHA-256 is published."""

    digest: str
    data: bytes


Command = Publish | PutRows | Note | PutFile
