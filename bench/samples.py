"""What was measured, as values: a sample is one client in one round, a part all rounds of one scenario.

Kept as JSON, from which docs/performance.md is made, at once or later. Pure but for ``load`` and ``save``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

VERSION = 1
LOADS = "loads/"
"""Begins the name of Loads as a client; the path of its engine follows."""


class DataError(Exception):
    """A file of figures that can't be used; the text says why."""


@dataclass(frozen=True)
class Sample:
    """One client in one round. Processor time is in seconds, over a window of ``seconds``."""

    client: str
    round: int
    error: str = ""
    """Why there is nothing; the rest is empty then."""
    requests: int = 0
    """By the server's count, in the window."""
    seconds: float = 0.0
    cpu_s: float = 0.0
    """Of the client's whole process tree."""
    server_cpu_s: float = 0.0
    others_cpu_s: float = 0.0
    """Of whatever else ran on this machine, the bench with it."""
    rss: int = 0
    pss: int = 0
    """Bytes, of the tree."""
    roles: Mapping[str, float] = field(default_factory=dict)
    """``cpu_s`` by what the process is; Loads only."""
    path: str = ""
    """Of Loads' engine, as its own summary says; empty where that says nothing."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """Requests of a whole run: by the ``server``; by the summary ``sent``, and ``answered`` where none failed.

    With WebSockets they are messages: by the ``server``; by the summary ``out``, and ``in`` where none failed.
    """
    sessions: Mapping[str, int] = field(default_factory=dict)
    """WebSockets of a whole run: by the ``server``, and by the summary ``opened`` and ``closed``."""
    failed: int = 0
    """Requests of a whole run of Loads that failed or were interrupted, and sessions that failed."""
    figures: Mapping[str, float] = field(default_factory=dict)
    """What this scenario alone measures."""

    @property
    def cpu_per_100k(self) -> float | None:
        """CPU-seconds for 100,000 requests."""
        return self.cpu_s / self.requests * 100_000 if self.requests else None

    @property
    def rate(self) -> float | None:
        """Requests a second."""
        return self.requests / self.seconds if self.seconds else None

    @property
    def exact(self) -> bool | None:
        """Whether the summary's counts are the server's; None where there are none."""
        return self.off == 0 if self.counts else None

    @property
    def off(self) -> int:
        """By how much the summary's counts and the server's differ, at most."""
        found = [[*each.values()] for each in (self.counts, self.sessions) if each]
        return max((max(values) - min(values) for values in found), default=0)


@dataclass(frozen=True)
class Part:
    """All samples of one scenario, taken in the same minutes on one machine."""

    scenario: str
    measured: str
    """When it began: ISO 8601 in UTC."""
    rounds: int
    window_s: float
    machine: Mapping[str, str]
    versions: Mapping[str, str]
    samples: tuple[Sample, ...]

    def clients(self) -> list[str]:
        """By name, as they first came."""
        return list(dict.fromkeys(sample.client for sample in self.samples))

    def of(self, client: str) -> list[Sample]:
        """The samples of one client that have figures."""
        return [sample for sample in self.samples if sample.client == client and not sample.error]

    def paths(self) -> list[str]:
        """Those of Loads' engine that were measured."""
        return [client.removeprefix(LOADS) for client in self.clients() if client.startswith(LOADS)]


Data = Mapping[str, Part]
"""Parts by the name of their scenario."""
Figure = Callable[[Sample], float | None]


@dataclass(frozen=True)
class Spread:
    """The median of some rounds, and between what they lay."""

    median: float
    low: float
    high: float
    rounds: int


def spread(values: Iterable[float | None]) -> Spread | None:
    """Of the values that there are; None where there are none."""
    found = [value for value in values if value is not None]
    return Spread(median(found), min(found), max(found), len(found)) if found else None


def figure(part: Part | None, client: str, of: Figure) -> Spread | None:
    """One figure of a client over all rounds."""
    return spread(of(sample) for sample in part.of(client)) if part else None


def ratios(part: Part | None, client: str, other: str, of: Figure) -> Spread | None:
    """A figure of one client divided by that of another, round by round; rounds that lack one of them don't count."""
    if part is None:
        return None
    theirs = {sample.round: of(sample) for sample in part.of(other)}
    pairs = [(of(sample), theirs.get(sample.round)) for sample in part.of(client)]
    return spread(mine / their for mine, their in pairs if mine is not None and their)


def cpu(sample: Sample) -> float | None:
    """For ``figure`` and ``ratios``: CPU-seconds for 100,000 requests."""
    return sample.cpu_per_100k


def per_cpu(sample: Sample) -> float | None:
    """For the same: requests for a CPU-second."""
    return sample.requests / sample.cpu_s if sample.cpu_s else None


def named(name: str) -> Figure:
    """For the same: one of a sample's own figures."""
    return lambda sample: sample.figures.get(name)


def to_json(data: Data) -> dict[str, Any]:
    """As it is kept."""
    return {"version": VERSION, "parts": {name: asdict(part) for name, part in sorted(data.items())}}


def from_json(document: Any) -> dict[str, Part]:
    """The reverse; raises DataError."""
    try:
        if document["version"] != VERSION:
            raise DataError(f"version {document['version']} of the figures; this knows {VERSION}")
        return {name: _part(fields) for name, fields in document["parts"].items()}
    except (TypeError, KeyError, AttributeError) as error:
        raise DataError(f"these are no figures of this bench: {error!r}") from None


def _part(fields: dict[str, Any]) -> Part:
    samples = tuple(Sample(**sample) for sample in fields["samples"])
    return Part(**{**fields, "samples": samples})


def load(path: Path) -> dict[str, Part]:
    """The figures of a file; none where there is no file. Raises DataError."""
    try:
        return from_json(json.loads(path.read_text()))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: {error}") from None


def save(path: Path, data: Data) -> None:
    """Write them, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    new.write_text(json.dumps(to_json(data), indent=1, sort_keys=True) + "\n")
    new.replace(path)
