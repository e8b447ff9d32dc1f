"""The target's own log, which knows every send that was really made; and what each engine was publicly allowed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from loads_queue.messages import Report
from tests.simulator.world import SECOND, World


@dataclass
class Sends:
    """What one claim's engine really did."""

    requests: int = 0
    """Of which at least a byte was written."""
    reached: int = 0
    """Those that came to the target."""
    answered: int = 0
    attempted: int = 0
    turns: list[tuple[int, int]] = field(default_factory=list)
    """(key of the iteration, true time) of each iteration started."""


@dataclass
class Allowed:
    """What the Reports that the broker had have stated of a claim."""

    until_ns: int = 0
    iterations: int = 0
    requests: int = 0


class Target:
    """All-knowing: judges each send against what was published before it (rule 5)."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.claims: dict[str, Sends] = {}
        self.allowed: dict[str, Allowed] = {}
        self.places: dict[str, tuple[str, str, int, int]] = {}
        """By claim: run, step, shard, attempt."""
        self.reports: dict[str, list[Report]] = {}
        self.last_send: dict[str, int] = {}
        """By run, in true time."""

    def published(self, report: Report) -> None:
        """The broker has a Report."""
        self.reports.setdefault(report.worker, []).append(report)
        for said in report.claims:
            if said.permit_until_ns is None:
                continue
            allowed = self.allowed.setdefault(said.claim, Allowed())
            allowed.until_ns = max(allowed.until_ns, said.permit_until_ns)
            allowed.iterations = max(allowed.iterations, said.bound_iterations)
            allowed.requests = max(allowed.requests, said.bound_requests)

    def of(self, claim: str) -> Sends:
        """The sends of a claim."""
        return self.claims.setdefault(claim, Sends())

    def began(self, claim: str, key: int, bound: int, schedule_ns: int) -> None:
        """An iteration was started; ``bound`` is what it uses of the bound on iterations."""
        allowed = self.allowed.get(claim, Allowed())
        if schedule_ns > allowed.until_ns or bound > allowed.iterations:
            self._forbidden(claim, f"iteration {key}", schedule_ns, allowed)
        self.of(claim).turns.append((key, self.world.now))

    def request(self, claim: str, schedule_ns: int, sent: bool, reached: bool) -> None:
        """A request was attempted; ``sent`` where a byte was written, ``reached`` where the target saw it."""
        allowed = self.allowed.get(claim, Allowed())
        sends = self.of(claim)
        sends.attempted += 1
        if schedule_ns > allowed.until_ns or sends.attempted > allowed.requests:
            self._forbidden(claim, f"request {sends.attempted}", schedule_ns, allowed)
        sends.requests += sent
        sends.reached += reached
        if claim in self.places:
            self.last_send[self.places[claim][0]] = self.world.now

    def _forbidden(self, claim: str, what: str, schedule_ns: int, allowed: Allowed) -> None:
        self.world.wrong(f"{claim}: {what} at {schedule_ns / SECOND:.4f} s of the schedule, allowed {allowed}")

    def of_shard(self, run: str, step: str, shard: int) -> Counter[int]:
        """How often each iteration of a shard was really started, over all attempts."""
        found: Counter[int] = Counter()
        for claim, place in self.places.items():
            if place[:3] == (run, step, shard):
                found.update(key for key, _ in self.of(claim).turns)
        return found
