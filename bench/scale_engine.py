"""An engine that makes no requests: it accounts for an open load exactly as a real one that never fails would.

Pure: what it is told (start, permit, stop) and the time give its snapshots. Iterations end in the moment in which they
are due, so a row changes only while its second lasts; what falls due without a permit is ``missed``.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from loads_queue.messages import LoadStep
from loads_queue.model import profile
from loads_queue.model.histogram import Histogram

SECOND = 1_000_000_000
VARIANTS = 40
"""So many different histograms of each size there are."""


@lru_cache(maxsize=4096)
def histogram(count: int, variant: int, typical_ns: int) -> str:
    """The encoded histogram of that many durations around a typical one."""
    dice = random.Random(f"{count} {variant} {typical_ns}")
    found = Histogram()
    for _ in range(count):
        found.record(int(typical_ns * dice.lognormvariate(0, 0.5)))
    return found.to_text()


@lru_cache(maxsize=256)
def _load(text: str) -> profile.OpenLoad:
    found = profile.from_wire(json.loads(text))
    assert isinstance(found, profile.OpenLoad)
    return found


def load_of(offer: LoadStep) -> profile.OpenLoad:
    """An offer's load; shards of one step share it."""
    return _load(json.dumps(offer.load, sort_keys=True))


@dataclass(slots=True)
class FakeEngine:
    """One claim's engine. Times are CLOCK_BOOTTIME in ns, as in the engine's own lines."""

    offer: LoadStep
    series: Sequence[str]
    shard: profile.OpenShard = field(init=False)
    end_ns: int = field(init=False)
    start: int | None = None
    next: int = 0
    """The first arrival not decided about."""
    started: int = 0
    number: int = 0
    until: int = 0
    bound: int = 0
    stopped: bool = False
    over: bool = False
    counts: dict[int, tuple[int, int]] = field(default_factory=dict)
    """By schedule second: (started, missed)."""

    def __post_init__(self) -> None:
        load = load_of(self.offer)
        self.shard = load.shard(self.offer.shard, self.offer.shards)
        self.end_ns = load.end_ns

    def told(self, line: Mapping[str, Any]) -> None:
        """Take a line of the agent's."""
        match line["type"]:
            case "start":
                self.start, self.next = line["at"], line["first"]
            case "permit":
                self.until, self.bound = line["until"], line["iterations"]
            case "stop":
                self.stopped = True

    @property
    def ends_at(self) -> int | None:
        """When the load is over, once its start is known."""
        return None if self.start is None else self.start + self.offer.delay_ns + self.end_ns

    def lines(self, now: int) -> list[dict[str, Any]]:
        """A snapshot, and the end where it is one."""
        if self.start is None or self.over:
            return []
        made = [self._snapshot(now)]
        elapsed = now - self.start - self.offer.delay_ns
        if self.stopped or elapsed >= self.end_ns:
            self.over = True
            at = max(0, now - self.start) if self.stopped else self.end_ns + self.offer.delay_ns
            made.append({"type": "end", "cause": "stopped" if self.stopped else "finished", "at_ns": at})
        return made

    def _snapshot(self, now: int) -> dict[str, Any]:
        assert self.start is not None
        zero = self.start + self.offer.delay_ns
        changed = self._advance(now - zero, self.until - zero)
        self.number += 1
        totals = {
            "next": self.next, "started": self.started, "attempted": self.started * len(self.series), "in_flight": 0,
            "users": 0, "remaining": 0, "covered_ns": max(0, now - zero),
        }  # fmt: skip
        return {
            "type": "snapshot", "number": self.number, "at": now, "rows": [self._row(second) for second in changed],
            "totals": totals, "health": {"cpu_s": 1.25, "rss_bytes": 50_000_000, "lag_ns": 120_000}, "hungry": False,
        }  # fmt: skip

    def _advance(self, elapsed: int, permitted: int) -> list[int]:
        """Decide about what fell due; the seconds whose row changed."""
        changed = []
        target = self.shard.planned_by(min(elapsed, self.end_ns)) if elapsed > 0 else 0
        allowed = min(self.shard.planned_by(max(0, permitted)), self.bound)
        while self.next < target:
            second = (self.shard.due(self.next) + self.offer.delay_ns) // SECOND
            behind = min(target, self.shard.planned_by((second + 1) * SECOND - self.offer.delay_ns))
            begun = max(0, min(behind, allowed) - self.next)
            started, missed = self.counts.get(second, (0, 0))
            self.counts[second] = started + begun, missed + behind - self.next - begun
            self.started += begun
            self.next = behind
            changed.append(second)
        return changed

    def _row(self, second: int) -> dict[str, Any]:
        started, missed = self.counts[second]
        if not started:
            return {"second": second, "missed": missed}
        kind = (self.offer.shard + second) % VARIANTS
        row: dict[str, Any] = {"second": second}
        row.update(dict.fromkeys(("started", "ok", "began", "completed"), started))
        if missed:
            row["missed"] = missed
        row["lateness"] = histogram(started, kind, 100_000)
        row["iteration_response"] = histogram(started, kind, 60_000_000)
        row["iteration_service"] = histogram(started, kind, 59_000_000)
        row["series"] = {name: self._series(started, kind + place) for place, name in enumerate(self.series)}
        return row

    def _series(self, count: int, kind: int) -> dict[str, Any]:
        return {
            **dict.fromkeys(("attempted", "answered", "ok"), count),
            "bytes_in": 1400 * count,
            "bytes_out": 210 * count,
            "response_ok": histogram(count, kind, 12_000_000),
            "service": histogram(count, kind, 11_900_000),
            "statuses": {"200": count},
        }
