"""Offers, claims and slots: rule by rule, in virtual time."""

from __future__ import annotations

from loads.workers.agent_events import (
    Ack,
    EngineFailed,
    KillEngine,
    OfferReceived,
    Publish,
    Release,
    SetPrefetch,
    StartEngine,
)

from tests.agent.world import MS, SECOND, World, of, offer


def test_a_fresh_agent_takes_offers_for_all_its_slots_and_says_hello() -> None:
    world = World(slots=3)
    assert of(SetPrefetch, world.commands) == [SetPrefetch(3)]
    [report] = world.reports
    assert report.hello is not None and (report.slots, report.free) == (3, 3)


def test_hello_is_repeated_until_the_scheduler_has_it() -> None:
    world = World()
    world.run(2 * SECOND)
    assert all(report.hello for report in world.reports)
    world.control(applied=1)
    world.run(SECOND)
    assert world.reports[-1].hello is None


def test_a_new_scheduler_is_greeted_anew() -> None:
    world = World()
    world.control(applied=1)
    world.control(applied=1, epoch=2)
    world.run(SECOND)
    assert world.reports[-1].hello is not None
    world.control(applied=world.reports[-1].sequence, epoch=2)
    world.run(SECOND)
    assert world.reports[-1].hello is None


def test_an_offer_is_acknowledged_only_after_the_report_with_its_claim_is_published() -> None:
    world = World(publishes=False)
    world.publish_all()
    world.run(SECOND)
    world.publish_all()
    commands = world.offer()
    world.run(50 * MS)
    assert world.last().state == "claimed"
    assert not of(Ack, world.commands) and not of(StartEngine, commands)
    assert of(Ack, world.publish_all()) == [Ack("delivery of offer")]


def test_a_report_made_before_the_claim_does_not_speak_for_it() -> None:
    world = World(publishes=False)
    world.offer()
    assert not world.reports[0].claims
    assert not of(Ack, world.publish(1))


def test_a_claim_stands_in_every_report_until_it_is_decided() -> None:
    world = World()
    world.offer()
    world.run(5 * SECOND)
    assert len(world.reports) > 5
    assert all([claim.state for claim in report.claims] == ["claimed"] for report in world.reports[1:])


def test_claims_of_one_moment_share_a_report() -> None:
    world = World(slots=8)
    world.run(SECOND // 2)
    before = len(world.reports)
    for number in range(8):
        world.offer(f"offer{number}", shard=number, shards=8)
    world.run(20 * MS)
    assert len(world.reports) == before + 2
    assert len(world.reports[-1].claims) == 8


def test_prefetch_is_the_free_slots_and_none_cancels() -> None:
    world = World(slots=2)
    world.offer("a")
    world.offer("b")
    assert [command.count for command in of(SetPrefetch, world.commands)] == [2, 1, 0]
    assert of(Release, world.offer("c")) == [Release("delivery of c")]


def test_prefetch_falls_before_the_acknowledgement_could_let_more_in() -> None:
    world = World(slots=1)
    commands = world.offer()
    assert commands[0] == SetPrefetch(0)


def test_a_redelivered_offer_makes_no_second_claim() -> None:
    world = World(slots=4)
    world.offer()
    world.run(50 * MS)
    assert of(Ack, world.do(OfferReceived(offer(), "again"))) == [Ack("again")]
    assert len(world.state.claims) == 1


def test_a_redelivered_offer_waits_for_the_report_too() -> None:
    world = World(slots=4, publishes=False)
    world.offer()
    assert not of(Ack, world.do(OfferReceived(offer(), "again")))
    world.publish(1)
    world.run(50 * MS)
    assert [ack.delivery for ack in of(Ack, world.publish_all())] == ["delivery of offer", "again"]


def test_a_granted_claim_starts_its_engine_once() -> None:
    world = World()
    world.offer()
    world.run(50 * MS)
    assert of(StartEngine, world.control(world.order())) == [StartEngine("claim1", offer())]
    assert not of(StartEngine, world.control(world.order()))
    world.run(50 * MS)
    assert world.last().state == "preparing"


def test_a_refused_claim_frees_its_slot_and_leaves_the_reports() -> None:
    world = World(slots=1)
    world.offer()
    world.run(50 * MS)
    commands = world.control(world.order(decision="refused", reason="late"))
    assert of(SetPrefetch, commands) == [SetPrefetch(1)]
    world.run(SECOND)
    assert world.reports[-1].claims == ()


def test_a_claim_taken_over_ends_its_engine_and_gets_no_further_permit() -> None:
    world = World()
    world.running()
    world.snapshot(1)
    world.run(SECOND)
    permits = len(world.lines(kind="permit"))
    assert permits > 0
    world.control(world.order(decision="refused", reason="taken over"))
    world.snapshot(2)
    world.run(900 * MS)
    assert world.lines()[-1] == {"type": "stop", "grace_ns": 0, "cause": "stopped"}
    assert len(world.lines(kind="permit")) == permits
    world.line(type="end", cause="stopped", detail="", at_ns=SECOND)
    world.run(50 * MS)
    end = world.last().end
    assert end is not None and (end.cause, end.detail) == ("lapsed", "taken over")


def test_an_engine_that_could_not_be_started_fails_the_claim() -> None:
    world = World(slots=1)
    world.offer()
    world.run(50 * MS)
    world.control(world.order())
    commands = world.do(EngineFailed("claim1", "secret TOKEN is not set"))
    assert of(SetPrefetch, commands) == [SetPrefetch(1)]
    world.run(50 * MS)
    end = world.last().end
    assert end is not None and (end.cause, end.detail) == ("failed", "secret TOKEN is not set")


def test_a_load_that_is_none_fails_the_claim_before_any_engine() -> None:
    world = World()
    world.offer(load={"kind": "nonsense"})
    world.run(50 * MS)
    assert not of(StartEngine, world.control(world.order()))
    world.run(50 * MS)
    end = world.last().end
    assert end is not None and end.cause == "failed" and "load" in end.detail


def test_a_claim_stopped_before_its_start_ends_at_once() -> None:
    world = World()
    world.offer()
    world.run(50 * MS)
    world.control(world.order())
    commands = world.control(world.order(action="stop", stop_grace_ns=30 * SECOND, reason="aborted"))
    assert of(KillEngine, commands) == [KillEngine("claim1", "KILL")]
    assert world.state.free == 1
    world.exit(status=-9)
    assert world.state.free == 2
    world.run(50 * MS)
    end = world.last().end
    assert end is not None and (end.cause, end.detail) == ("stopped", "aborted")


def test_a_grant_that_comes_with_a_stop_never_starts_anything() -> None:
    world = World()
    world.offer()
    world.run(50 * MS)
    commands = world.control(world.order(action="stop"))
    assert not of(StartEngine, commands)
    world.run(50 * MS)
    assert world.last().end is not None


def test_an_ended_claim_is_reported_until_it_is_applied_and_then_forgotten() -> None:
    world = World()
    world.running()
    world.line(type="end", cause="finished", detail="", at_ns=60 * SECOND)
    world.exit()
    world.run(3 * SECOND)
    told = [report.sequence for report in world.reports if any(claim.end for claim in report.claims)]
    assert len(told) > 2
    world.control(applied=told[0] - 1)
    world.run(SECOND)
    assert world.last().end is not None
    world.control(applied=told[0])
    world.run(SECOND)
    assert world.reports[-1].claims == () and not world.state.claims


def test_a_worker_that_is_refused_takes_nothing_until_it_is_welcome() -> None:
    world = World(slots=2)
    assert of(SetPrefetch, world.control(refused="clock is 3 s ahead")) == [SetPrefetch(0)]
    assert of(Release, world.offer()) == [Release("delivery of offer")]
    assert of(SetPrefetch, world.control()) == [SetPrefetch(2)]


def test_reports_go_on_every_interval_and_follow_the_one_ordered() -> None:
    world = World()
    world.run(10 * SECOND)
    assert len(of(Publish, world.commands)) == 11
    world.control(report_interval_ns=2 * SECOND)
    before = len(world.reports)
    world.run(10 * SECOND)
    assert len(world.reports) - before in (5, 6)
