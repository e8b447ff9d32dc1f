"""The scheduler's decisions, one rule at a time, in virtual time."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest
from loads.scheduler import core
from loads.scheduler.cluster import Cluster, JobReceived, ReportReceived, SteerRequested, StopRequested, Tick
from loads.scheduler.effects import Note, Publish, PutFile, PutRows
from loads.scheduler.jobs import read_plan

from loads_queue.messages import ClaimReport, Clock, Control, End, Hello, Job, LoadStep, Report, Totals
from loads_queue.model.states import ClaimState, RunState, ShardState

SECOND = 1_000_000_000
HTTP = {"base_url": "http://127.0.0.1:9", "do": [{"get": "/"}]}


class Bench:
    """A cluster and its messages: what each worker would hear."""

    def __init__(self) -> None:
        self.cluster = Cluster(epoch=3)
        self.now = 0
        self.offers: list[LoadStep] = []
        self.controls: dict[str, Control] = {}
        self.notes: list[str] = []
        self.rows: list[PutRows] = []
        self.files: dict[str, bytes] = {}
        self.sequences: dict[str, int] = {}

    def step(self, *events: Any) -> None:
        for command in core.step(self.cluster, list(events), self.now, read_plan):
            if isinstance(command, Note):
                self.notes.append(command.what)
            elif isinstance(command, PutRows):
                self.rows.append(command)
            elif isinstance(command, PutFile):
                self.files[command.digest] = command.data
            elif isinstance(command, Publish) and isinstance(command.message, LoadStep):
                self.offers.append(command.message)
            elif isinstance(command, Publish) and isinstance(command.message, Control):
                self.controls[command.message.worker] = command.message

    def tick(self, seconds: float = 0.1) -> None:
        """Let time pass, in ticks, with every worker reporting."""
        end = self.now + int(seconds * SECOND)
        while self.now < end:
            self.now = min(end, self.now + SECOND // 10)
            self.step(Tick())

    def report(self, worker: str, *claims: ClaimReport, slots: int = 2, **more: Any) -> Report:
        self.sequences[worker] = self.sequences.get(worker, 0) + 1
        report = Report(
            id=f"{worker}-{self.sequences[worker]}",
            worker=worker,
            incarnation="life",
            sequence=self.sequences[worker],
            epoch=0,
            revision=0,
            sent_at=self.now,
            slots=slots,
            free=slots,
            claims=claims,
            hello=Hello("1", worker, 1) if self.sequences[worker] == 1 else None,
        )
        report = replace(report, **more)
        self.step(ReportReceived(report, self.now))
        return report

    def job(self, plan: dict[str, Any] | None = None, id: str = "r1", **more: Any) -> None:
        self.step(JobReceived(Job(id=id, plan=plan or simple(), **more)))

    def run(self, id: str = "r1") -> Any:
        return self.cluster.runs[id]

    def order(self, worker: str, claim: str) -> Any:
        return next(order for order in self.controls[worker].claims if order.claim == claim)


def simple(workers: int = 2, **more: Any) -> dict[str, Any]:
    step = {"name": "only", "workers": workers, "load": {"rate": 10, "for": "4s"}, "http": HTTP}
    return {"name": "plan", "steps": [step], **more}


def said(offer: LoadStep, claim: str, state: str = "claimed", **more: Any) -> ClaimReport:
    return ClaimReport(claim, offer.run, offer.step, offer.shard, offer.attempt, state, **more)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def granted(bench: Bench, plan: dict[str, Any] | None = None) -> list[LoadStep]:
    """Two workers that each hold a ready shard of the run, which has begun."""
    bench.report("a")
    bench.report("b")
    bench.job(plan)
    first, second = bench.offers
    bench.report("a", said(first, "ca"))
    bench.report("b", said(second, "cb"))
    bench.report("a", said(first, "ca", "ready"))
    bench.report("b", said(second, "cb", "ready"))
    assert bench.run().state is RunState.RUNNING
    return [first, second]


def test_a_run_waits_until_all_its_slots_are_free(bench: Bench) -> None:
    bench.job()
    bench.report("a", slots=1)
    bench.tick(3)
    assert bench.offers == []
    assert bench.run().reason == "1 of 2 slots free after 3s: start more workers or lower `workers:`"
    bench.report("a", slots=2)
    assert [(offer.shard, offer.shards, offer.attempt) for offer in bench.offers] == [(0, 2, 1), (1, 2, 1)]


def test_a_run_that_never_gets_its_slots_ends_by_its_timeout(bench: Bench) -> None:
    bench.job(simple(ready_timeout="5s"))
    bench.tick(4.9)
    assert bench.run().state is RunState.WAITING
    bench.tick(0.3)
    run = bench.run()
    assert (run.state, run.outcome) == (RunState.FINISHED, "no_capacity")
    assert run.reason.startswith("0 of 2 slots free after 5s")


def test_a_run_behind_another_waits_for_it_without_a_timeout(bench: Bench) -> None:
    bench.report("a", slots=2)
    bench.job(simple(2), id="r1")
    bench.job(simple(2, ready_timeout="1s"), id="r2")
    for _ in range(5):
        bench.tick(1)
        bench.report("a", slots=2)
    assert bench.run("r1").state is RunState.STARTING
    assert bench.run("r2").state is RunState.WAITING
    assert bench.run("r2").reason == "waiting for other runs to end: 0 of 2 slots free"


def test_the_same_job_twice_is_one_run(bench: Bench) -> None:
    bench.job()
    bench.job()
    assert len(bench.cluster.runs) == 1


def test_a_wrong_plan_ends_its_run_at_once_and_says_everything(bench: Bench) -> None:
    bench.job({"name": "bad", "steps": [{"name": "x", "http": {}, "load": {"rate": -1, "for": "ever"}}]})
    run = bench.run()
    assert (run.state, run.outcome) == (RunState.FINISHED, "refused")
    assert "steps[0].load.rate" in run.reason and "steps[0].load.for" in run.reason


def test_one_start_time_once_everybody_is_ready(bench: Bench) -> None:
    bench.report("a", clock=Clock(0, 40_000_000))
    bench.report("b", clock=Clock(0, 10_000_000))
    bench.job()
    first, second = bench.offers
    bench.report("a", said(first, "ca"))
    bench.report("b", said(second, "cb"))
    bench.report("a", said(first, "ca", "ready"))
    assert bench.order("a", "ca").action == "wait" and bench.run().start_at is None
    bench.now += SECOND
    bench.report("b", said(second, "cb", "ready"), clock=Clock(0, 90_000_000))
    start_at = bench.run().start_at
    assert start_at == bench.now + 500_000_000 + 2 * 90_000_000 + 2 * 5_000_000
    for worker, claim in (("a", "ca"), ("b", "cb")):
        order = bench.order(worker, claim)
        assert (order.decision, order.action, order.start_at, order.first) == (
            "granted",
            "run",
            bench.run().start_at,
            0,
        )


def test_two_claims_for_one_offer_get_one_grant(bench: Bench) -> None:
    bench.report("a")
    bench.report("b")
    bench.job(simple(1))
    (offer,) = bench.offers
    bench.report("a", said(offer, "ca"))
    bench.report("b", said(offer, "cb"))
    assert bench.order("a", "ca").decision == "granted"
    refused = bench.order("b", "cb")
    assert (refused.decision, refused.reason) == ("refused", "another claim holds the shard")
    bench.report("b")
    assert not bench.cluster.workers["b"].refusals


def test_a_claim_of_an_older_attempt_is_refused(bench: Bench) -> None:
    bench.report("a")
    bench.job(simple(1))
    for _ in range(11):
        bench.tick(1)
        bench.report("a")
    first, again = bench.offers
    assert (first.attempt, again.attempt) == (1, 2)
    bench.report("a", said(first, "old"))
    assert bench.order("a", "old").decision == "refused"
    bench.report("a", said(again, "new"))
    assert bench.order("a", "new").decision == "granted"


def test_a_report_taken_in_twice_changes_nothing_but_is_answered(bench: Bench) -> None:
    offers = granted(bench)
    row = {"second": 0, "started": 1, "ok": 1}
    report = bench.report("a", said(offers[0], "ca", "running", snapshot=1, rows=(row,)))
    assert len(bench.rows) == 1
    before = bench.cluster.claims["ca"]
    bench.step(ReportReceived(report, bench.now))
    assert len(bench.rows) == 1 and bench.cluster.claims["ca"] is before
    assert bench.cluster.workers["a"].applied == report.sequence


def test_a_hole_is_not_applied_until_it_is_filled(bench: Bench) -> None:
    offers = granted(bench)
    worker = bench.cluster.workers["a"]
    known = worker.applied
    missing = known + 1
    bench.sequences["a"] += 1
    bench.report("a", said(offers[0], "ca", "running", snapshot=2))
    assert worker.applied == known
    late = bench.report("a", said(offers[0], "ca", "running", snapshot=1), sequence=missing)
    assert late.sequence == missing and worker.applied == missing + 1
    assert bench.cluster.claims["ca"].snapshot == 2


def test_only_an_advancing_snapshot_renews_a_lease(bench: Bench) -> None:
    offers = granted(bench)
    for second in range(12):
        bench.tick(1)
        bench.report("a", said(offers[0], "ca", "running", snapshot=second + 1))
        bench.report("b", said(offers[1], "cb", "running", snapshot=5))
    assert bench.cluster.claims["ca"].state is ClaimState.RUNNING
    assert bench.cluster.claims["cb"].state is ClaimState.DEAD
    assert any("nothing heard from b for 10 s" in note for note in bench.notes)


def test_the_schedulers_own_pause_ages_no_lease(bench: Bench) -> None:
    offers = granted(bench)
    bench.tick()
    for worker, offer, claim in (("a", offers[0], "ca"), ("b", offers[1], "cb")):
        bench.report(worker, said(offer, claim, "running", snapshot=1))
    bench.now += 60 * SECOND
    bench.step(Tick())
    bench.tick(9)
    assert all(claim.state is ClaimState.RUNNING for claim in bench.cluster.claims.values())
    bench.tick(1.2)
    assert all(claim.state is ClaimState.DEAD for claim in bench.cluster.claims.values())


def test_an_abort_stops_what_runs_and_ends_with_the_last_report(bench: Bench) -> None:
    offers = granted(bench)
    for worker, offer, claim in (("a", offers[0], "ca"), ("b", offers[1], "cb")):
        bench.report(worker, said(offer, claim, "running", snapshot=1))
    bench.step(StopRequested("r1", "ann"))
    assert bench.run().state is RunState.STOPPING
    for worker, claim in (("a", "ca"), ("b", "cb")):
        order = bench.order(worker, claim)
        assert (order.action, order.stop_grace_ns) == ("stop", SECOND)
    end = End("stopped", at_ns=SECOND)
    bench.report("a", said(offers[0], "ca", "ended", snapshot=2, end=end, totals=Totals(next=5)))
    assert bench.run().state is RunState.STOPPING
    bench.report("b", said(offers[1], "cb", "ended", snapshot=2, end=end, totals=Totals(next=5)))
    run = bench.run()
    assert (run.state, run.outcome, run.reason) == (RunState.FINISHED, "aborted", "aborted by ann")
    bench.step(StopRequested("r1", "ann"))
    assert bench.run().state is RunState.FINISHED


def test_an_abort_of_a_waiting_run_ends_it_at_once(bench: Bench) -> None:
    bench.job()
    bench.step(StopRequested("r1", "ann"))
    assert bench.run().state is RunState.FINISHED


def test_a_run_is_final_only_with_every_report_before_the_end(bench: Bench) -> None:
    offers = granted(bench)
    end = End("finished", at_ns=4 * SECOND)
    bench.report("a", said(offers[0], "ca", "ended", end=end))
    hole = bench.sequences["b"] + 1
    bench.sequences["b"] += 1
    bench.report("b", said(offers[1], "cb", "ended", end=end))
    bench.tick(1)
    assert bench.run().state is RunState.FINALISING
    bench.report("b", said(offers[1], "cb", "running", rows=({"second": 1, "started": 1, "ok": 1},)), sequence=hole)
    assert bench.run().state is RunState.FINISHED and bench.rows


def test_a_shard_that_cannot_start_ends_the_run_and_says_why(bench: Bench) -> None:
    bench.report("a")
    bench.job()
    first, second = bench.offers
    bench.report("a", said(first, "c1"), said(second, "c2"))
    bench.report("a", said(first, "c1", "ended", end=End("failed", "secret API_TOKEN is not set")), said(second, "c2"))
    run = bench.run()
    assert (run.state, run.outcome) == (RunState.STOPPING, "failed")
    assert run.reason == "step 'only' could not start: secret API_TOKEN is not set"
    assert bench.order("a", "c2").action == "stop"


def test_an_engine_that_dies_before_the_start_is_tried_again(bench: Bench) -> None:
    bench.report("a")
    bench.job(simple(1))
    bench.report("a", said(bench.offers[0], "c1"))
    bench.report("a", said(bench.offers[0], "c1", "ended", end=End("crashed", "signal 9")))
    assert [offer.attempt for offer in bench.offers] == [1, 2]
    bench.report("a", said(bench.offers[1], "c2"))
    bench.report("a", said(bench.offers[1], "c2", "ready"))
    assert bench.run().state is RunState.RUNNING


def test_an_engine_that_dies_later_is_taken_over_behind_what_it_may_have_done(bench: Bench) -> None:
    offers = granted(bench)
    start = bench.run().start_at
    bench.now = start + SECOND
    end = End("crashed", "signal 9", at_ns=SECOND)
    bench.report("a", said(offers[0], "ca", "ended", end=end, totals=Totals(next=3), permit_until_ns=9 * SECOND))
    again = bench.offers[-1]
    assert (again.shard, again.attempt) == (0, 2)
    bench.report("b", said(offers[1], "cb", "running", snapshot=1), said(again, "c2"))
    order = bench.order("b", "c2")
    share = bench.cluster.plans["r1"].steps[0].load.shard(0, 2)
    assert (order.decision, order.action, order.start_at) == ("granted", "run", start)
    assert order.first == share.planned_by(SECOND + SECOND // 2) > 3
    assert bench.cluster.shards["r1", 0, 0].losses == 1


def test_a_lease_that_ends_is_taken_over(bench: Bench) -> None:
    plan = simple()
    plan["steps"][0]["load"] = {"rate": 10, "for": "60s"}
    offers = granted(bench, plan)
    for second in range(11):
        bench.tick(1)
        bench.report("b", said(offers[1], "cb", "running", snapshot=second + 1))
    assert bench.cluster.claims["ca"].state is ClaimState.DEAD
    assert bench.offers[-1].attempt == 2
    bench.report("a", said(offers[0], "ca", "running", snapshot=99))
    assert bench.order("a", "ca").action == "stop"
    assert bench.cluster.claims["ca"].state is ClaimState.DEAD


def test_a_shard_is_given_up_after_its_attempts(bench: Bench) -> None:
    plan = simple(1)
    plan["steps"][0]["load"] = {"rate": 10, "for": "60s"}
    bench.report("a")
    bench.job(plan)
    for attempt in range(1, 6):
        offer = bench.offers[-1]
        assert offer.attempt == attempt
        name = f"c{attempt}"
        bench.report("a", said(offer, name))
        bench.report("a", said(offer, name, "ready"))
        bench.report("a", said(offer, name, "ended", end=End("crashed", "signal 9", at_ns=SECOND)))
    assert bench.cluster.shards["r1", 0, 0].state is ShardState.OVER
    assert len(bench.offers) == 5


def test_on_worker_loss_fail_ends_the_run(bench: Bench) -> None:
    offers = granted(bench, simple(on_worker_loss="fail"))
    bench.report("a", said(offers[0], "ca", "ended", end=End("crashed", "signal 9", at_ns=SECOND)))
    run = bench.run()
    assert (run.state, run.outcome) == (RunState.STOPPING, "failed")
    assert "only shard 1/2 was lost with a" in run.reason


def test_a_hand_back_goes_on_where_it_ended_and_costs_no_attempt(bench: Bench) -> None:
    plan = simple()
    plan["steps"][0]["load"] = {"users": 4, "iterations": 10}
    offers = granted(bench, plan)
    end = End("lapsed", "the worker is ending", at_ns=SECOND)
    totals = Totals(started=7, turns=(4, 3))
    bench.report("a", said(offers[0], "ca", "ended", end=end, totals=totals, bound_iterations=9), leaving=True)
    bench.report("b", said(offers[1], "cb", "running", snapshot=1), said(bench.offers[-1], "c2"))
    assert bench.order("b", "c2").turns == (4, 3)
    assert bench.cluster.shards["r1", 0, 0].losses == 0


def test_counted_turns_are_taken_over_behind_the_bound(bench: Bench) -> None:
    plan = simple()
    plan["steps"][0]["load"] = {"users": 4, "iterations": 10}
    offers = granted(bench, plan)
    end = End("crashed", "signal 9", at_ns=SECOND)
    bench.report("a", said(offers[0], "ca", "ended", end=end, totals=Totals(started=7), bound_iterations=6))
    bench.report("b", said(offers[1], "cb", "running", snapshot=1), said(bench.offers[-1], "c2"))
    order = bench.order("b", "c2")
    assert (order.first, order.turns) == (6, ())


def test_a_shard_past_its_end_is_not_taken_over(bench: Bench) -> None:
    offers = granted(bench)
    bench.now = bench.run().start_at + 3_700_000_000
    bench.report("a", said(offers[0], "ca", "ended", end=End("crashed", at_ns=SECOND)))
    assert bench.cluster.shards["r1", 0, 0].state is ShardState.OVER


def test_a_worker_that_started_again_loses_its_claims_at_once_and_its_late_reports_count(bench: Bench) -> None:
    offers = granted(bench)
    bench.report("a", said(offers[0], "ca", "running", snapshot=1))
    bench.report("a", incarnation="second", hello=Hello("1", "a", 2), sequence=1)
    assert bench.cluster.claims["ca"].state is ClaimState.DEAD
    assert any("a has started again" in note for note in bench.notes)
    assert bench.offers[-1].attempt == 2
    late = said(offers[0], "ca", "running", snapshot=2, rows=({"second": 0, "started": 1, "ok": 1},))
    bench.report("a", late, sequence=50)
    assert bench.rows[-1].claim == "ca"
    assert bench.cluster.workers["a"].incarnation == "second"


def test_a_hole_in_what_a_former_life_said_is_waited_for(bench: Bench) -> None:
    """A worker handed back, a Report of it went with its broker, and it started again before it could send it anew."""
    offers = granted(bench)
    hole = bench.sequences["a"] = bench.sequences["a"] + 1
    bench.report("a", said(offers[0], "ca", "ended", snapshot=3, end=End("finished", at_ns=4 * SECOND)))
    bench.report("b", said(offers[1], "cb", "ended", snapshot=3, end=End("finished", at_ns=4 * SECOND)))
    bench.report("a", incarnation="second", hello=Hello("1", "a", 2), sequence=1)
    bench.tick(5)
    assert bench.run().state is RunState.FINALISING
    row = {"second": 0, "started": 1, "ok": 1}
    bench.report("a", said(offers[0], "ca", "running", snapshot=2, rows=(row,)), sequence=hole)
    bench.tick(0.1)
    assert bench.run().state is RunState.FINISHED and len(bench.rows) == 1


def test_a_hole_that_nobody_can_fill_holds_a_run_up_for_a_minute(bench: Bench) -> None:
    offers = granted(bench)
    bench.sequences["a"] += 1
    for worker, claim, offer in (("a", "ca", offers[0]), ("b", "cb", offers[1])):
        bench.report(worker, said(offer, claim, "ended", snapshot=3, end=End("finished", at_ns=4 * SECOND)))
    bench.tick(59)
    assert bench.run().state is RunState.FINALISING
    bench.tick(2)
    assert bench.run().state is RunState.FINISHED
    assert bench.cluster.workers["a"].whole_until("life") < bench.cluster.claims["ca"].sequence
    assert bench.cluster.claims["ca"].holed and not bench.cluster.claims["cb"].holed
    bench.report("a", sequence=bench.sequences["a"] - 1)
    assert bench.cluster.claims["ca"].holed, "what comes after a run was final fills no hole"


def test_a_scheduler_that_stumbles_again_and_again_still_sees_who_is_gone(bench: Bench) -> None:
    plan = simple()
    plan["steps"][0]["load"] = {"rate": 10, "for": "90s"}
    granted(bench, plan)
    for _ in range(5):
        bench.now += 1_500_000_000
        bench.tick(4)
    assert not any(claim.active for claim in bench.cluster.claims.values() if claim.attempt == 1)


def test_after_a_pause_of_its_own_a_scheduler_gives_leases_as_much_time_as_that_took(bench: Bench) -> None:
    plan = simple()
    plan["steps"][0]["load"] = {"rate": 10, "for": "90s"}
    granted(bench, plan)
    bench.tick(9)
    bench.now += 5 * SECOND
    bench.tick(4.5)
    assert all(claim.active for claim in bench.cluster.claims.values())
    bench.tick(1)
    assert not any(claim.active for claim in bench.cluster.claims.values() if claim.attempt == 1)


def test_an_outage_gives_every_lease_its_full_time_again(bench: Bench) -> None:
    plan = simple()
    plan["steps"][0]["load"] = {"rate": 10, "for": "90s"}
    granted(bench, plan)
    bench.tick(8)
    for _ in range(300):
        bench.now += SECOND // 10
        bench.step(Tick(healthy=False))
    bench.tick(9)
    assert all(claim.active for claim in bench.cluster.claims.values())
    bench.tick(1.5)
    assert not any(claim.active for claim in bench.cluster.claims.values() if claim.attempt == 1)


def test_a_run_of_higher_priority_goes_first(bench: Bench) -> None:
    bench.job(simple(1), id="a-low")
    bench.job(simple(1, priority=5), id="b-high")
    bench.report("a", slots=1)
    assert [offer.run for offer in bench.offers] == ["b-high"]


def test_a_run_waits_for_its_time(bench: Bench) -> None:
    bench.report("a")
    bench.job(simple(1, start="1970-01-01T00:01:40Z", ready_timeout="10s"))
    bench.tick(1)
    assert bench.offers == []
    while bench.now < 95 * SECOND:
        bench.tick(1)
        bench.report("a")
    (offer,) = bench.offers
    bench.report("a", said(offer, "c1"))
    bench.report("a", said(offer, "c1", "ready"))
    assert bench.run().start_at == 100 * SECOND


def test_a_pause_and_its_end_are_changes_that_every_worker_hears(bench: Bench) -> None:
    granted(bench)
    start = bench.run().start_at
    bench.now = start + SECOND
    bench.step(SteerRequested("r1", "ann", "adjust", None, "3/2"))
    bench.now += SECOND
    bench.step(SteerRequested("r1", "ann", "pause"))
    bench.now += SECOND
    bench.step(SteerRequested("r1", "ann", "resume"))
    expected = ((3 * SECOND, 3, 2), (4 * SECOND, 0, 1), (5 * SECOND, 3, 2))
    assert bench.order("a", "ca").changes == bench.order("b", "cb").changes == expected
    assert "paused from 4 s of the schedule on" in bench.notes


@pytest.mark.parametrize("factor", ["nonsense", "-1", "1/0", "10000000"])
def test_a_factor_that_is_none_changes_nothing(bench: Bench, factor: str) -> None:
    granted(bench)
    bench.step(SteerRequested("r1", "ann", "adjust", None, factor))
    assert not bench.run().changes and "refused" in bench.notes[-1]


def test_a_worker_whose_clock_is_off_is_refused_with_the_reason(bench: Bench) -> None:
    bench.report("a", clock=Clock(400_000_000, 100_000_000))
    assert "400 ms off" in bench.controls["a"].refused
    bench.job(simple(1))
    bench.tick(1)
    assert bench.offers == []
    bench.report("a", clock=Clock(100_000_000, 100_000_000))
    assert bench.controls["a"].refused == "" and len(bench.offers) == 1


def test_a_later_step_is_offered_its_ready_timeout_ahead(bench: Bench) -> None:
    plan = simple(1, ready_timeout="2s")
    plan["steps"].append({**plan["steps"][0], "name": "late", "run_delay": "10s"})
    bench.report("a")
    bench.job(plan)
    (first,) = bench.offers
    bench.report("a", said(first, "c1"))
    bench.report("a", said(first, "c1", "ready"))
    assert bench.run().start_at is not None
    begin = bench.run().start_at
    for _ in range(7):
        bench.tick(1)
        bench.report("a", said(first, "c1", "running", snapshot=bench.now))
    assert len(bench.offers) == 1
    while bench.now < begin + 8 * SECOND:
        bench.tick(0.5)
        bench.report("a", said(first, "c1", "running", snapshot=bench.now))
    assert [offer.step for offer in bench.offers] == ["only", "late"]
    bench.report("a", said(first, "c1", "running", snapshot=bench.now), said(bench.offers[1], "c2"))
    assert bench.order("a", "c2").start_at == begin


def test_echo_carries_the_last_report_for_the_clock(bench: Bench) -> None:
    bench.now = 5 * SECOND
    bench.report("a", sent_at=123)
    echo = bench.controls["a"].echo
    assert echo is not None
    assert (echo.report_sequence, echo.report_sent_at, echo.report_received_at) == (1, 123, 5 * SECOND)
    assert bench.controls["a"].epoch == 3 and bench.controls["a"].applied == 1


def test_a_report_of_a_former_life_is_ignored(bench: Bench) -> None:
    bench.report("a")
    bench.report("a", incarnation="second", hello=Hello("1", "a", 2), sequence=1)
    assert bench.cluster.workers["a"].incarnation == "second"
    bench.report("a", sequence=9)
    assert bench.cluster.workers["a"].incarnation == "second"


def test_a_report_of_a_life_before_the_present_one_that_comes_first_late_does_not_end_it(bench: Bench) -> None:
    bench.now += SECOND
    bench.report("a", sequence=1)
    bench.report("a", incarnation="before", hello=Hello("1", "a", 2), sequence=1, sent_at=bench.now - SECOND)
    assert bench.cluster.workers["a"].incarnation == "life"
    bench.report("a", incarnation="before", sequence=2, sent_at=bench.now + SECOND)
    assert bench.cluster.workers["a"].incarnation == "life"


def test_a_life_with_its_clock_set_back_is_taken_up_once_the_former_one_is_silent(bench: Bench) -> None:
    bench.report("a", sequence=1)
    for number in range(1, 13):
        bench.tick(1)
        bench.report("a", incarnation="after", sequence=number, sent_at=-3600 * SECOND)
    assert bench.cluster.workers["a"].incarnation == "after"
    assert bench.cluster.workers["a"].applied == 12


def test_a_step_of_a_region_needs_its_workers(bench: Bench) -> None:
    plan = simple(1)
    plan["steps"][0]["region"] = "eu-west-1"
    bench.report("a", slots=4)
    bench.job(plan)
    bench.tick(2)
    assert bench.run().reason == "0 of 1 slots in eu-west-1 free after 2s: start more workers or lower `workers:`"
    bench.report("b", slots=1, hello=Hello("1", "b", 1, region="eu-west-1"))
    assert [offer.region for offer in bench.offers] == ["eu-west-1"]


def test_a_large_spec_travels_by_the_file_store(bench: Bench) -> None:
    plan = simple(2)
    plan["steps"][0]["http"] = {"base_url": "http://127.0.0.1:9", "do": [{"get": f"/{n}"} for n in range(900)]}
    bench.report("a")
    bench.job(plan)
    first, second = bench.offers
    assert first.spec is None and first.spec_digest == second.spec_digest
    data = bench.files[first.spec_digest or ""]
    assert hashlib.sha256(data).hexdigest() == first.spec_digest
    assert len(json.loads(data)["do"]) == 900


def test_what_comes_after_the_end_is_told_and_not_counted(bench: Bench) -> None:
    offers = granted(bench)
    end = End("finished", at_ns=4 * SECOND)
    bench.report("a", said(offers[0], "ca", "ended", end=end))
    bench.report("b", said(offers[1], "cb", "ended", end=end))
    assert bench.run().state is RunState.FINISHED
    late = said(offers[0], "ca", "ended", end=end, rows=({"second": 3, "started": 1, "ok": 1},))
    bench.report("a", late)
    assert bench.rows == [] and "came after the run was final" in bench.notes[-1]


def test_a_run_that_was_stopped_while_it_waited_holds_nothing(bench: Bench) -> None:
    bench.job(simple(3), id="r1")
    bench.step(StopRequested("r1", "ann"))
    bench.report("a", slots=2)
    bench.job(simple(2), id="r2")
    assert len(bench.offers) == 2
