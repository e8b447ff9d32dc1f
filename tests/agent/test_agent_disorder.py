"""Disorder: however Controls are doubled, delayed and reordered, and Reports held back, the outcome stands."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from loads.workers.agent_events import (
    Ack,
    Command,
    ControlReceived,
    EnginePrepared,
    KillEngine,
    OfferReceived,
    Published,
    SendToEngine,
    StartEngine,
    Tick,
)

from loads_queue.messages import Control
from tests.agent.world import MS, SECOND, World, of, offer


class Law:
    """Watches every command of a world: what no order of messages may bring about."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.seen = 0

    def hold(self) -> None:
        published = [report for report in self.world.reports if report.sequence in self.world.published]
        stated = [claim for report in published for claim in report.claims]
        new = self.world.commands[self.seen :]
        self.seen = len(self.world.commands)
        for command in new:
            if isinstance(command, SendToEngine) and command.line["type"] == "permit":
                start = self.world.state.claims[command.claim].start
                assert start is not None
                line = command.line
                mine = [claim for claim in stated if claim.claim == command.claim]
                assert any((claim.permit_until_ns or 0) >= line["until"] - start for claim in mine)
                assert any(claim.bound_iterations >= line["iterations"] for claim in mine)
                assert any(claim.bound_requests >= line["requests"] for claim in mine)
        held = sum(1 for claim in self.world.state.claims.values() if claim.alive)
        assert held <= self.world.settings.slots
        assert self.world.state.free >= 0


def orders(world: World, position: int) -> Control:
    """The Controls of one life, in their order: undecided, granted, waiting, running, changed, stopping."""
    start = world.now + 10 * SECOND + 1_700_000_000 * SECOND
    run: dict[str, Any] = {"action": "run", "start_at": start}
    stages = (
        (), (world.order(),), (world.order(),), (world.order(**run),), (world.order(**run),),
        (world.order(**run, changes=((0, 2, 1),)),), (world.order(**run, changes=((0, 2, 1),)),),
        (world.order(start_at=start, action="stop", stop_grace_ns=5 * SECOND),),
    )  # fmt: skip
    return world.build(*stages[position], revision=position + 1, applied=0, echo=None)


def outcome(world: World) -> tuple[str, list[str], int, int]:
    claim = world.state.claims["claim1"]
    told = [line["type"] for line in world.lines() if line["type"] in ("start", "stop")]
    return claim.state.value, told, world.state.revision, len(of(StartEngine, world.commands))


@given(st.lists(st.integers(0, 7), max_size=40), st.data())
def test_doubled_delayed_and_reordered_controls_never_change_the_outcome(order: list[int], data: st.DataObject) -> None:
    world = World(publishes=False)
    law = Law(world)
    world.publish_all()
    world.offer()
    controls = [orders(world, position) for position in range(8)]
    ready = data.draw(st.integers(0, len(order)))
    for index, position in enumerate([*order, 1, 4, 7, 2, 0]):
        world.do(ControlReceived(controls[position]))
        law.hold()
        if index >= ready and world.state.claims["claim1"].state == "preparing":
            world.line(type="ready")
        world.now += data.draw(st.integers(0, 300)) * MS
        world.do(Tick())
        if data.draw(st.booleans()):
            world.publish_all()
        law.hold()
    state, told, revision, starts = outcome(world)
    assert revision == 8 and starts <= 1
    assert told in (["start", "stop"], ["stop"], []) and told.count("start") <= 1
    assert state == ("running" if told else "ended")


events = st.one_of(
    st.tuples(st.just("offer"), st.integers(0, 4)),
    st.tuples(st.just("grant"), st.integers(1, 5)),
    st.tuples(st.just("run"), st.integers(1, 5)),
    st.tuples(st.just("refuse"), st.integers(1, 5)),
    st.tuples(st.just("stop"), st.integers(1, 5)),
    st.tuples(st.just("ready"), st.integers(1, 5)),
    st.tuples(st.just("snapshot"), st.integers(1, 5)),
    st.tuples(st.just("end"), st.integers(1, 5)),
    st.tuples(st.just("exit"), st.integers(1, 5)),
    st.tuples(st.just("publish"), st.integers(0, 3)),
    st.tuples(st.just("wait"), st.integers(1, 3000)),
    st.tuples(st.just("applied"), st.integers(0, 40)),
)


class Anything:
    """Carries drawn events out against a world, as far as a real edge could produce them."""

    def __init__(self) -> None:
        self.world = World(publishes=False)
        self.law = Law(self.world)
        self.numbers: dict[str, int] = {}
        self.waiting: list[int] = []
        self.acked: set[object] = set()
        self.carried: dict[object, str | None] = {}
        """By delivery, the claim that its offer had then."""

    def do(self, what: str, number: int) -> None:
        world, claim = self.world, f"claim{number}"
        before = len(world.commands)
        alive = claim in world.state.claims and world.state.claims[claim].alive
        match what:
            case "offer":
                delivery = f"delivery {len(self.carried)}"
                world.do(OfferReceived(offer(f"o{number}"), delivery))
                claims = world.state.claims.values()
                self.carried[delivery] = next((each.id for each in claims if each.offer.id == f"o{number}"), None)
            case "grant" | "run":
                start = world.start_at(SECOND) if what == "run" else None
                action = "run" if what == "run" else "wait"
                world.control(world.order(claim, action=action, start_at=start), applied=world.state.applied)
            case "refuse":
                world.control(world.order(claim, decision="refused"), applied=world.state.applied)
            case "stop":
                world.control(world.order(claim, action="stop"), applied=world.state.applied)
            case "applied":
                world.control(applied=number)
            case "wait":
                world.now += number * MS
                world.do(Tick())
            case "publish":
                waiting = [report.sequence for report in world.reports if report.sequence not in world.published]
                if waiting:
                    sequence = waiting[number % len(waiting)]
                    world.published.add(sequence)
                    world.do(Published(sequence))
            case _ if alive:
                self.engine(what, claim)
        self.check(world.commands[before:])

    def engine(self, what: str, claim: str) -> None:
        world = self.world
        match what:
            case "ready":
                world.do(EnginePrepared(claim, 1))
                if world.state.claims[claim].state == "preparing":
                    world.line(claim, type="ready")
            case "snapshot":
                self.numbers[claim] = self.numbers.get(claim, 0) + 1
                world.snapshot(self.numbers[claim], claim, rows=[{"second": self.numbers[claim]}])
            case "end":
                world.line(claim, type="end", cause="finished")
            case "exit":
                world.exit(claim, 1)

    def check(self, commands: list[Command]) -> None:
        self.law.hold()
        for ack in of(Ack, commands):
            self.acked.add(ack.delivery)
        for command in of(KillEngine, commands):
            assert command.claim in self.world.state.claims


@given(st.lists(events, max_size=120))
def test_no_order_of_events_breaks_a_law(happenings: list[tuple[str, int]]) -> None:
    anything = Anything()
    for what, number in happenings:
        anything.do(what, number)
    spoken = {
        claim.claim
        for report in anything.world.reports
        if report.sequence in anything.world.published
        for claim in report.claims
    }
    ordered = {claim for claim in anything.world.state.claims if anything.world.state.claims[claim].order}
    for delivery in anything.acked:
        if (claim := anything.carried[delivery]) in anything.world.state.claims:
            assert claim in spoken | ordered
