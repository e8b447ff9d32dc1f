"""The rules of the protocol switched off, one at a time, each at the one place that holds it.

A simulator that finds nothing may be blind. ``found`` runs worlds with a rule switched off until an invariant breaks;
the same world with the rule must hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

from loads.scheduler import core, intake, reader, reserve
from loads.scheduler.cluster import Cluster, Run
from loads.workers import agent, agent_events, claims

from loads_queue.model.states import ShardState
from tests.simulator.broker import Manner
from tests.simulator.schedulers import SchedulerProcess
from tests.simulator.seeds import Outcome, judge
from tests.simulator.setup import HTTP, Happening, HostSetup, JobSetup, Setup, draw
from tests.simulator.store import ModelStore
from tests.simulator.world import MS, SECOND

MOST = 60
"""So many worlds at most until a counterexample is found."""


@dataclass(frozen=True)
class Mutation:
    """A rule, what is done to it, and the worlds in which it matters."""

    rule: int
    what: str
    off: Callable[[], Any]
    """A context manager: within it the rule does not hold."""
    worlds: Callable[[int], Setup]

    def __str__(self) -> str:
        return f"rule {self.rule}: {self.what}"


def found(mutation: Mutation) -> Outcome | None:
    """The first world that breaks an invariant without the rule; None where none does."""
    with mutation.off():
        for seed in range(MOST):
            outcome = judge(seed, mutation.worlds(seed))
            if outcome.problems:
                return outcome
    return None


# Rule 1: commit, then publish; take in, then acknowledge


def _published_first() -> Any:
    before = SchedulerProcess._commit

    def commit(self: SchedulerProcess, commands: list[Any], *rest: Any) -> None:
        for command in commands:
            if hasattr(command, "message"):
                self.broker.send(command.queue, command.message)
        if self.dice.random() < 0.1:
            self.crash_at = "uncommitted"
            self._cut("uncommitted")
            return
        before(self, commands, *rest)

    return mock.patch.object(SchedulerProcess, "_commit", commit)


def _acknowledged_first() -> Any:
    before = SchedulerProcess._take

    def take(self: SchedulerProcess, arrived: list[Any], now: int) -> None:
        for delivery, _ in arrived:
            self.broker.ack(delivery)
        before(self, arrived, now)

    return mock.patch.object(SchedulerProcess, "_take", take)


def _crashing(seed: int) -> Setup:
    return replace(draw(seed), crash_share=0.1)


# Rule 2: one acting scheduler


def _unguarded() -> Any:
    return mock.patch.object(ModelStore, "_guard", lambda self, epoch: None)


def _two_schedulers(seed: int) -> Setup:
    pause = Happening(4 * SECOND + seed % 50 * 100 * MS, "pause_scheduler", "sched0", 8 * SECOND)
    return replace(draw(seed), schedulers=((0, 0), (0, 20 * MS)), happenings=(pause,))


def _late_controls(seed: int) -> Setup:
    return replace(_two_schedulers(seed), manner=Manner(slow=0.5, slow_up_to=8 * SECOND))


def _any_epoch() -> Any:
    before = agent.step

    def step(state: Any, event: Any, now: Any) -> Any:
        if isinstance(event, agent_events.ControlReceived):
            control = event.control
            newest = replace(control, epoch=max(control.epoch, state.epoch), revision=state.revision + 1)
            event = agent_events.ControlReceived(newest)
        return before(state, event, now)

    return mock.patch.object(agent, "step", step)


# Rule 3: offers are for free slots


def _unreserved() -> Any:
    before = reserve.reserve

    def anyway(cluster: Cluster, run: Run, now: int) -> bool:
        others = {name: other for name, other in cluster.runs.items() if other is not run}
        held = {name: other.shards for name, other in others.items()}
        for other in others.values():
            other.shards = ()
        try:
            return before(cluster, run, now)
        finally:
            for name, other in others.items():
                other.shards = held[name]

    return mock.patch.object(core, "reserve", anyway)


def _scarce(seed: int) -> Setup:
    load = {"rate": 5, "for": "3s"}
    plan = {"name": "p", "steps": [{"name": "s0", "workers": 4, "load": load, "http": HTTP}]}
    jobs = tuple(JobSetup(f"run{number}", 3 * SECOND + number * 5 * MS, plan) for number in range(2))
    return Setup(hosts=(HostSetup("w0", 2), HostSetup("w1", 2)), jobs=jobs)


# Rule 4: claims are granted by compare-and-set


def _granted_always() -> Any:
    before = intake._grant

    def grant(cluster: Cluster, worker: Any, said: Any, at: int) -> str:
        for shard in cluster.shards.values():
            same = (shard.run, shard.index) == (said.run, said.shard) and f"s{shard.step}" == said.step
            if same and shard.state is ShardState.GRANTED:
                shard.state, shard.attempt = ShardState.OFFERED, said.attempt
        return before(cluster, worker, said, at)

    return mock.patch.object(intake, "_grant", grant)


def _doubled(seed: int) -> Setup:
    return replace(draw(seed), manner=Manner(duplicate=0.5))


# Rule 5: the permit


def _permit_before_report() -> Any:
    before = agent.make_reports

    def make(state: Any, now: Any, *rest: Any, **more: Any) -> Iterator[Any]:
        yield from before(state, now, *rest, **more)
        for claim in state.claims.values():
            claim.published = claim.published.widened(claim.stated)
            yield from claims.give(claim)

    return mock.patch.object(agent, "make_reports", make)


# Rule 6: leases age only while the scheduler can hear


def _ageing_always() -> Any:
    def tick(cluster: Cluster, now: int, *_: Any) -> None:
        cluster.age += max(0, now - (cluster.last_tick if cluster.last_tick is not None else now))
        cluster.last_tick = now

    return mock.patch.object(core, "_tick", tick)


def _deaf(seed: int) -> Setup:
    down = Happening(5 * SECOND + seed * 50 * MS, "broker_down", "", 8 * SECOND)
    return replace(draw(seed), manner=Manner(), happenings=(down,), crash_share=0.0, broken_engines=0.0)


# Rule 7: a takeover begins behind everything that may have been done


def _taken_up_where_heard() -> Any:
    before = intake.beginning

    def beginning(cluster: Cluster, shard: Any, now: int) -> Any:
        first, turns = before(cluster, shard, now)
        own = [c for c in cluster.claims_of(shard.run) if (c.step, c.shard) == (shard.step, shard.index)]
        heard = (c.first + c.totals.started if c.totals.next is None else c.totals.next for c in own)
        known = max(heard, default=0)
        return (min(first, known), ()) if own else (first, turns)

    return mock.patch.object(intake, "beginning", beginning)


def _killing(seed: int) -> Setup:
    setup = draw(seed)
    kills = tuple(Happening(at * SECOND, "kill_agent", setup.hosts[0].name, SECOND) for at in (5, 9))
    return replace(setup, happenings=kills)


# Rule 8: final only once all is known


def _final_at_once() -> Any:
    return mock.patch.object(core, "_known", lambda *_: True)


def _slow(seed: int) -> Setup:
    return replace(draw(seed), manner=Manner(slow=0.3, slow_up_to=3 * SECOND))


def _changes_thought_heard() -> Any:
    before = reader.claim_evidence
    return mock.patch.object(reader, "claim_evidence", lambda *args: replace(before(*args), changes=None))


def _steered_unheard(seed: int) -> Setup:
    """Somebody changes the load, Controls are late, and soon after that hosts are gone."""
    setup, at = draw(seed), 5 * SECOND + seed % 10 * 200 * MS
    orders = tuple(Happening(at, "adjust", job.id, detail="3" if seed % 2 else "1/2") for job in setup.jobs)
    gone = tuple(Happening(at + 5 * SECOND, "kill_agent", host.name, SECOND) for host in setup.hosts)
    late = Manner(slow=0.6, slow_up_to=8 * SECOND)
    return replace(setup, happenings=(*orders, *gone), manner=late, crash_share=0.0, broken_engines=0.0)


@contextmanager
def nothing() -> Iterator[None]:
    """Every rule holds."""
    yield


MUTATIONS = (
    Mutation(1, "messages are published before the commit", _published_first, _crashing),
    Mutation(1, "messages are acknowledged before the commit", _acknowledged_first, _crashing),
    Mutation(2, "commits are not guarded by the epoch", _unguarded, _two_schedulers),
    Mutation(2, "workers obey a lower epoch", _any_epoch, _late_controls),
    Mutation(3, "slots are not reserved", _unreserved, _scarce),
    Mutation(4, "claims are granted without comparing", _granted_always, _doubled),
    Mutation(5, "an engine has its permit before the Report is out", _permit_before_report, draw),
    Mutation(6, "leases age while the scheduler can't hear", _ageing_always, _deaf),
    Mutation(7, "a takeover begins where the lost attempt was last heard of", _taken_up_where_heard, _killing),
    Mutation(8, "a run is final without waiting", _final_at_once, _slow),
    Mutation(8, "an engine is taken to have heard of every change", _changes_thought_heard, _steered_unheard),
)
