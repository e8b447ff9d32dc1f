"""Engines in virtual time that speak the engine's lines: written from the protocol, not from the real engines.

They send by their permit alone, tell the target's log of each send, and know nothing of agents or schedulers. What all
kinds have in common stands here; ``engine_open`` and ``engine_users`` say when iterations begin.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from loads_queue.messages import LoadStep
from loads_queue.model import profile
from tests.simulator.world import MS, SECOND, Action, Process

if TYPE_CHECKING:
    from tests.simulator.host import Host

TARGET = "GET /"
EARLY_NS = 50 * MS
PHASE_NS = 20 * MS


class Counts(dict[str, int]):
    """Counts by name; one never counted is 0."""

    def __missing__(self, name: str) -> int:
        return 0


class Turn:
    """An iteration under way."""

    __slots__ = ("failed", "key", "left", "over", "rest", "row", "series", "series_second")

    def __init__(self, key: int, row: int, requests: int, rest: Action | None) -> None:
        self.key = key
        self.row = row
        """The second that it counts in."""
        self.left = requests
        self.rest = rest
        """What its user does afterwards."""
        self.failed = self.over = False
        self.series: Counts | None = None
        """Of the request that is under way."""
        self.series_second = 0


class EngineProcess(Process):
    """One engine: spec, start, permits, snapshots, stop, end."""

    def __init__(
        self,
        host: Host,
        claim: str,
        offer: LoadStep,
        say: Callable[[Mapping[str, Any]], None],
        gone: Callable[[int], None],
    ) -> None:
        super().__init__(host.world, f"{host.name}/e")
        self.host, self.claim, self.offer, self._say, self._gone = host, claim, offer, say, gone
        self.dice = host.world.dice(claim)
        self.requests_per_pass = 1 + offer.step_index % 2
        self.load = profile.from_wire(offer.load)
        self.base: int | None = None
        """When the run's schedule began or begins (boot)."""
        self.zero = 0
        """The same of the step's."""
        self.until = self.bound = self.bound_requests = 0
        self.used_mark = self.requests_mark = 0
        self.started = self.attempted = self.number = 0
        self.rows: dict[int, Counts] = {}
        self.series: dict[int, Counts] = {}
        self.dirty: set[int] = set()
        self.turns: set[Turn] = set()
        self.blocked: list[Action] = []
        self.closing: str | None = None
        self.ended = False
        self.asked = False
        self.last_snapshot = 0
        self.stops = 0
        self.changes: tuple[tuple[int, int, int], ...] = ()
        self.applied = self.changes
        """Those that what was counted goes by."""
        host.target.places[claim] = (offer.run, offer.step, offer.shard, offer.attempt)
        self.after(self.dice.randrange(10 * MS, 300 * MS), self._ready)

    # Its life

    def _ready(self) -> None:
        if self.dice.random() < self.host.broken_engines:
            self._end("failed", "could not start, as was decided by dice")
            return
        self.say({"type": "ready"})
        self._tick()

    def say(self, line: Mapping[str, Any]) -> None:
        """A line to the agent."""
        self._say(line)

    def hear(self, line: Mapping[str, Any]) -> None:
        """A line from the agent."""
        if self.ended:
            return
        match line["type"]:
            case "start":
                self._start(line)
            case "permit":
                self._permit(line)
            case "adjust":
                self._adjust(line["changes"])
            case "stop":
                self.close(line["cause"], line["grace_ns"])

    def cut_off(self) -> None:
        """The control descriptor is at its end: the engine ends at once."""
        self.kill()

    def signal(self, signal: str) -> None:
        """TERM works once the process runs, KILL at any time."""
        if signal == "KILL":
            self.die(-9)
        else:
            self.do(lambda: self.die(-15))

    def die(self, status: int) -> None:
        """The process is gone without a word."""
        if self.alive:
            self.kill()
            self._gone(status)

    def _start(self, line: Mapping[str, Any]) -> None:
        if self.base is not None or self.closing is not None:
            return
        self.base = line["at"]
        self.zero = line["at"] + self.offer.delay_ns
        heard = self.boot
        if line.get("changes"):
            self.changes = self.applied = tuple(tuple(change) for change in line["changes"])
        if self.offer.run_max_time_ns:
            self.at(self.zero + self.offer.run_max_time_ns, self._max_time)
        self.begin(line["first"], line.get("turns") or None, heard)

    def _permit(self, line: Mapping[str, Any]) -> None:
        if self.base is not None:
            self.settle()
        self.until, self.bound, self.bound_requests = line["until"], line["iterations"], line["requests"]
        used = self.used()
        self.used_mark = used + max(0, self.bound - used) // 2
        self.requests_mark = self.attempted + max(0, self.bound_requests - self.attempted) // 2
        self.asked = False
        blocked, self.blocked = self.blocked, []
        for action in blocked:
            action()
        self.ask()

    def _adjust(self, changes: Any) -> None:
        self.changes = tuple(tuple(change) for change in changes)
        if self.base is not None and self.closing is None:
            self.applied = self.changes
            self.change()

    def own_changes(self) -> list[tuple[int, int, int]]:
        """The changes in the profile's own time."""
        return [(at - self.offer.delay_ns, top, bottom) for at, top, bottom in self.changes]

    def _max_time(self) -> None:
        if self.closing is None:
            self.close("max_time", 0)
        elif self.closing != "finished":
            self.interrupt()

    def close(self, cause: str, grace_ns: int) -> None:
        """Nothing starts any more; what is in flight has that long."""
        if self.closing is None:
            if self.base is not None:
                self.settle()
            self.closing = cause
        if self.base is None:
            self._end(self.closing, "")
            return
        self.at(self.boot + grace_ns, self.interrupt)
        self.maybe_over()

    def interrupt(self) -> None:
        """End what is in flight."""
        for turn in sorted(self.turns, key=lambda turn: turn.key):
            self.cut_short(turn)
        self.maybe_over()

    def cut_short(self, turn: Turn) -> None:
        """End one iteration here."""
        if turn.over:
            return
        if turn.series is not None:
            turn.series["in_flight"] -= 1
            turn.series["interrupted"] += 1
            self.dirty.add(turn.series_second)
            turn.series = None
        self._end_turn(turn, "interrupted")

    def maybe_over(self) -> None:
        """End, where all is done."""
        if self.closing is not None and not self.turns and not self.ended:
            self._end(self.closing, "")

    def _end(self, cause: str, detail: str) -> None:
        if self.ended:
            return
        self.ended = True
        self.closing = cause
        if self.base is not None:
            self.snapshot(last=True)
        at = None if self.base is None else self.boot - self.base
        self.say({"type": "end", "cause": cause, "detail": detail, "at_ns": at})
        self.after(MS, lambda: self.die(0))

    # Time

    @property
    def boot(self) -> int:
        """CLOCK_BOOTTIME of the host."""
        return self.host.clock.boot

    def at(self, boot: int, action: Action) -> None:
        """Do something at a time of CLOCK_BOOTTIME."""
        self.after(self.host.clock.until(boot), action)

    def second_of(self, boot: int) -> int:
        """The second of the schedule that a time lies in."""
        assert self.base is not None
        return max(0, (boot - self.base) // SECOND)

    # Counting

    def row(self, second: int) -> Counts:
        """The row of a second, as one that changes."""
        self.dirty.add(second)
        row = self.rows.get(second)
        if row is None:
            row = self.rows[second] = Counts()
        return row

    def series_of(self, second: int) -> Counts:
        """The same of its requests."""
        self.dirty.add(second)
        series = self.series.get(second)
        if series is None:
            series = self.series[second] = Counts()
        return series

    # What kinds of load differ in

    def begin(self, first: int, turns: list[int] | None, heard: int) -> None:
        """The schedule begins, or began, at ``base``."""
        raise NotImplementedError

    def settle(self) -> None:
        """Account for everything that is due by now, by the permit as it stands."""

    def change(self) -> None:
        """The profile has changed."""

    def used(self) -> int:
        """How much of the bound on iterations is used."""
        raise NotImplementedError

    def totals(self) -> dict[str, Any]:
        """Where the shard stands."""
        raise NotImplementedError

    # Iterations and requests

    def permitted(self) -> bool:
        """Whether time allows to start something."""
        return self.boot < self.until

    def start_turn(self, key: int, bound: int, row_at: int, rest: Action | None = None) -> Turn:
        """An iteration begins; it counts in the second of ``row_at`` (boot), and uses the bound up to ``bound``."""
        assert self.base is not None
        second = self.second_of(row_at)
        row = self.row(second)
        row["started"] += 1
        row["in_flight"] += 1
        self.started += 1
        self.host.target.began(self.claim, key, bound, self.boot - self.base)
        turn = Turn(key, second, self.requests_per_pass, rest)
        self.turns.add(turn)
        self._request(turn)
        self.ask()
        return turn

    def _request(self, turn: Turn) -> None:
        if turn.over:
            return
        if not self.permitted() or self.attempted >= self.bound_requests:
            self.blocked.append(lambda: self._request(turn))
            self.ask()
            return
        assert self.base is not None
        dice = self.dice
        now = self.boot
        self.attempted += 1
        fate = dice.random()
        self.host.target.request(self.claim, now - self.base, sent=fate >= 0.02, reached=fate >= 0.05)
        second = self.second_of(now)
        series = self.series_of(second)
        series["attempted"] += 1
        if fate < 0.02:
            series["unsent"] += 1
            series["failed"] += 1
            turn.failed = True
            self.after(MS, lambda: self._next(turn))
            return
        series["in_flight"] += 1
        turn.series, turn.series_second = series, second
        wait = dice.randrange(MS, 300 * MS) if dice.random() < 0.9 else dice.randrange(MS, 3 * SECOND)
        self.after(wait, lambda: self._answer(turn, fate))

    def _answer(self, turn: Turn, fate: float) -> None:
        series = turn.series
        if turn.over or series is None:
            return
        turn.series = None
        self.dirty.add(turn.series_second)
        series["in_flight"] -= 1
        if fate >= 0.1:
            series["answered"] += 1
            self.host.target.of(self.claim).answered += 1
        if fate >= 0.15:
            series["ok"] += 1
        else:
            series["failed"] += 1
            turn.failed = True
        self._next(turn)

    def _next(self, turn: Turn) -> None:
        if turn.over:
            return
        turn.left -= 1
        if turn.left:
            self._request(turn)
        else:
            self._end_turn(turn, "failed" if turn.failed else "ok")
            self.maybe_over()

    def _end_turn(self, turn: Turn, how: str) -> None:
        turn.over = True
        self.turns.discard(turn)
        row = self.row(turn.row)
        row["in_flight"] -= 1
        row[how] += 1
        if turn.rest is not None:
            turn.rest()

    # Snapshots

    def hungry(self) -> bool:
        """Whether half of the permit's room is used."""
        if self.base is None or self.closing is not None:
            return False
        used = self.used()
        return used > self.used_mark or used >= self.bound or self.attempted > self.requests_mark

    def ask(self) -> None:
        """A snapshot soon, where the permit runs short."""
        if self.asked or not self.hungry():
            return
        self.asked = True
        self.at(max(self.boot, self.last_snapshot + EARLY_NS), lambda: None if self.ended else self.snapshot())

    def _tick(self) -> None:
        if self.ended:
            return
        if self.number or self.base is not None:
            self.snapshot()
        since = self.boot - (self.base or 0) - PHASE_NS
        self.at((self.base or 0) + (since // SECOND + 1) * SECOND + PHASE_NS, self._tick)

    def snapshot(self, last: bool = False) -> None:
        """Say where it stands."""
        if self.base is not None and not last:
            self.settle()
        self.number += 1
        self.last_snapshot = self.boot
        rows = []
        for second in sorted(self.dirty):
            row: dict[str, Any] = {"second": second, **self.rows.get(second, {})}
            if second in self.series:
                row["series"] = {TARGET: dict(self.series[second])}
            rows.append(row)
        self.dirty.clear()
        totals: dict[str, Any] = {"next": None, "users": 0, "remaining": 0, "held_from_ns": None, "covered_ns": 0}
        if self.base is not None:
            totals |= self.totals()
        totals |= {"started": self.started, "attempted": self.attempted, "in_flight": len(self.turns)}
        totals["changes"] = [list(change) for change in self.applied]
        self.say({
            "type": "snapshot",
            "number": self.number,
            "at": self.boot,
            "rows": rows,
            "totals": totals,
            "health": {},
            "hungry": self.hungry(),
            "warnings": [],
        })  # fmt: skip


def make_engine(
    host: Host,
    claim: str,
    offer: LoadStep,
    say: Callable[[Mapping[str, Any]], None],
    gone: Callable[[int], None],
) -> EngineProcess:
    """The engine for an offer's load."""
    from tests.simulator.engine_open import OpenEngine
    from tests.simulator.engine_users import ClosedEngine, CountedEngine

    kinds: dict[str, type[EngineProcess]] = {"open": OpenEngine, "closed": ClosedEngine, "iterations": CountedEngine}
    return kinds[profile.from_wire(offer.load).kind](host, claim, offer, say, gone)
