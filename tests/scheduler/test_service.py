"""The scheduler's edge over a queue in memory and a real store: what is acknowledged when, and what survives."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import gevent
import pytest
from loads.scheduler import core, tables
from loads.scheduler.cluster import JobReceived
from loads.scheduler.projects import Projects, StoredPlan
from loads.scheduler.reader import Reader
from loads.scheduler.service import Service
from loads.scheduler.store import EpochLost, Store
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from loads_queue import codec
from loads_queue.messages import JOBS, REPORTS, ClaimReport, Hello, Job, Report
from loads_queue.model.states import ClaimState
from loads_queue.queue import Delivery, QueueError, QueueMissing

PLAN = {
    "name": "plan",
    "steps": [{"name": "only", "load": {"rate": 5, "for": "2s"}, "http": {"base_url": "http://127.0.0.1:9", "do": []}}],
}
PLAN["steps"][0]["http"]["do"] = [{"get": "/"}]  # type: ignore[index]


class Broker:
    """Keeps what was sent and what was acknowledged; may be away."""

    def __init__(self) -> None:
        self.sent: dict[str, list[str]] = defaultdict(list)
        self.acked: list[Any] = []
        self.away = False

    def declare(self, name: str, visibility_s: int = 20) -> None: ...

    def send(self, name: str, bodies: Sequence[str]) -> None:
        if self.away:
            raise QueueError("the broker is away")
        self.sent[name] += bodies

    def ack(self, deliveries: Sequence[Delivery]) -> None:
        self.acked += [delivery.receipt for delivery in deliveries]


class Rig:
    """A service whose turns the test takes one by one."""

    def __init__(self, url: str, broker: Broker | None = None, now: int = 10**18, secret: bytes | None = None) -> None:
        self.now = now
        self.broker = broker or Broker()
        self.store = Store(url)
        self.service = Service(self.store, self.broker, lambda: self.now, secret=secret)  # type: ignore[arg-type]
        self.service.start("me")
        self._receipts = itertools.count()

    def arrive(self, queue: str, body: str) -> int:
        receipt = next(self._receipts)
        self.service.inbound.arrived(queue, self.broker, Delivery(body, receipt))  # type: ignore[arg-type]
        return receipt

    def turn(self) -> None:
        self.now += 100_000_000
        self.service._turn()

    def dead(self) -> list[str]:
        with self.store.engine.connect() as connection:
            return [row.reason for row in connection.execute(select(tables.dead_letters))]


def job(ident: str = "r1", plan: Any = PLAN, **more: Any) -> str:
    return codec.encode(Job(id=ident, plan=plan, **more), JOBS, 1)


def report(sequence: int, *claims: ClaimReport, slots: int = 1) -> str:
    hello = Hello("1", "h", 1) if sequence == 1 else None
    value = Report(f"w-{sequence}", "w", "life", sequence, 0, 0, 1, slots, slots, claims=claims, hello=hello)
    return codec.encode(value, REPORTS, 1)


def test_a_job_is_acknowledged_only_once_it_is_committed(url: str) -> None:
    rig = Rig(url)
    receipt = rig.arrive(JOBS, job())
    assert rig.broker.acked == [] and Reader(url).run_view("r1") is None
    rig.turn()
    assert rig.broker.acked == [receipt]
    assert Reader(url).run_view("r1").state == "waiting"


def test_a_queue_that_the_broker_lost_is_made_again(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(url)
    declared: list[str] = []
    missing = {JOBS}

    class Consumer:
        def receive(self, timeout_s: float) -> list[Delivery]:
            if missing:
                raise QueueMissing("no such queue")
            raise gevent.GreenletExit

        def close(self) -> None: ...

    def declare(name: str, visibility_s: int = 20) -> None:
        declared.append(name)
        missing.discard(name)

    monkeypatch.setattr(rig.broker, "consume", lambda name, prefetch: Consumer(), raising=False)
    monkeypatch.setattr(rig.broker, "declare", declare)
    monkeypatch.setattr("loads.scheduler.inbound.RETRY_S", 0)
    with pytest.raises(gevent.GreenletExit):
        rig.service.inbound.read(JOBS)
    assert declared == [JOBS]


def test_offers_are_published_after_the_commit_and_again_after_a_crash(url: str) -> None:
    rig = Rig(url)
    rig.arrive(JOBS, job())
    rig.arrive(REPORTS, report(1))
    rig.broker.away = True
    rig.turn()
    assert rig.broker.sent == {} and len(rig.store.outgoing()) == 2
    rig.store.free_epoch(1)
    again = Rig(url, now=rig.now)
    again.turn()
    assert len(again.broker.sent["steps.any.process"]) == 1
    assert len(again.broker.sent["control.w"]) >= 1
    assert again.store.outgoing() == []


def test_every_lease_is_whole_after_a_restart_and_ages_from_then_on(url: str) -> None:
    """Also those of claims that are dead already: else what is lost would be waited for one after the other."""
    first = Rig(url)
    first.arrive(REPORTS, report(1, slots=2))
    first.arrive(JOBS, job())
    first.turn()
    offer = codec.decode(first.broker.sent["steps.any.process"][0], "steps.any.process").message
    claim = ClaimReport("c", offer.run, offer.step, offer.shard, offer.attempt, "claimed")  # type: ignore[union-attr]
    first.arrive(REPORTS, report(2, claim, slots=2))
    first.turn()
    first.service.cluster.forsaken.add("c")
    first.turn()
    assert first.service.cluster.claims["c"].state is ClaimState.DEAD
    first.store.free_epoch(first.service.cluster.epoch)
    second = Rig(url, first.broker, first.now)
    second.turn()
    begun = second.service.cluster.age
    for _ in range(5):
        second.turn()
    cluster = second.service.cluster
    assert cluster.lease_age(cluster.claims["c"]) >= cluster.age - begun > 0


def test_a_job_that_comes_again_after_its_run_is_over_stays_one_run(url: str) -> None:
    rig = Rig(url)
    rig.arrive(JOBS, job(plan={"name": "wrong"}))
    rig.turn()
    assert "the plan is wrong" in Reader(url).run_view("r1").reason
    rig.now += 60_000_000_000
    rig.turn()
    assert "r1" not in rig.service.cluster.runs
    receipt = rig.arrive(JOBS, job())
    rig.turn()
    assert receipt in rig.broker.acked and Reader(url).run_view("r1").state == "finished"


@pytest.mark.parametrize(
    "body, reason",
    [
        ("garbage", "not JSON"),
        (codec.encode(Job(id="x"), REPORTS, 1), "a Job on reports"),
        (report(1, ClaimReport("c", "r1", "only", 0, 1, "running", rows=({"second": 0, "ok": -1},))), "not a count"),
        (report(1, ClaimReport("c", "r1", "only", 0, 1, "running", rows=({},))), "second"),
        (report(1, ClaimReport("c", "r1", "only", 0, 1, "running", rows=({"second": -4},))), "before the schedule"),
    ],
)
def test_what_cannot_be_taken_in_is_kept_with_its_reason_and_harms_nobody(url: str, body: str, reason: str) -> None:
    rig = Rig(url)
    receipt = rig.arrive(REPORTS, body)
    assert receipt in rig.broker.acked
    (kept,) = rig.dead()
    assert reason in kept
    rig.arrive(JOBS, job())
    rig.turn()
    assert Reader(url).run_view("r1") is not None


def test_a_scheduler_that_lost_its_epoch_stops_before_it_writes(url: str) -> None:
    rig = Rig(url)
    rig.now += 60_000_000_000
    other = Store(url)
    assert other.take_epoch("other", rig.now) == 2
    rig.arrive(JOBS, job())
    with pytest.raises(EpochLost):
        rig.turn()
    assert rig.broker.acked == [] and Reader(url).run_view("r1") is None


def test_an_abort_reaches_the_run_by_the_store(url: str) -> None:
    rig = Rig(url)
    rig.arrive(JOBS, job())
    rig.turn()
    Reader(url).request_abort("r1", "ann")
    rig.turn()
    view = Reader(url).run_view("r1")
    assert view.final and view.aborted_by == "ann"


def test_a_database_that_cannot_be_written_loses_nothing(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(url)
    receipt = rig.arrive(JOBS, job())
    with monkeypatch.context() as patch:
        patch.setattr("loads.scheduler.service.gevent.sleep", lambda _: None)
        patch.setattr(rig.store, "commit", _full)
        rig.turn()
    assert receipt not in rig.broker.acked and rig.service.cluster.runs == {}
    again = rig.arrive(JOBS, job())
    rig.turn()
    assert again in rig.broker.acked and Reader(url).run_view("r1") is not None


def _full(*_: Any, **__: Any) -> list[Any]:
    raise OperationalError("INSERT", {}, Exception("database or disk is full"))


def failing_twice(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> list[int]:
    """Has a method fail for want of disk space the first two times; gives a list that grows with each failure."""
    before, failures = getattr(owner, name), []

    def method(*args: Any) -> Any:
        if len(failures) < 2:
            failures.append(1)
            _full()
        return before(*args)

    monkeypatch.setattr(owner, name, method)
    return failures


def test_a_scheduler_that_starts_on_a_full_disk_waits_for_room(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gevent, "sleep", lambda seconds=0: None)
    failures = failing_twice(monkeypatch, Store, "take_epoch")
    rig = Rig(url)
    rig.arrive(JOBS, job())
    rig.turn()
    assert len(failures) == 2 and "r1" in rig.service.cluster.runs


def test_a_summary_that_finds_the_disk_full_is_kept_a_turn_later(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gevent, "sleep", lambda seconds=0: None)
    rig = Rig(url)
    failures = failing_twice(monkeypatch, rig.store, "put_summary")
    rig.arrive(JOBS, job(plan={"name": "wrong"}))
    for _ in range(4):
        rig.turn()
    assert len(failures) == 2
    summary = Reader(url).summary("r1")
    assert summary is not None and summary["verdict"]


@pytest.mark.parametrize("inline_rows", [500, -1])
def test_a_final_run_is_summarised_here_or_in_a_process_of_its_own(
    url: str, inline_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loads.scheduler.service.INLINE_ROWS", inline_rows)
    rig = Rig(url)
    rig.arrive(JOBS, job(plan={"name": "wrong"}))
    rig.turn()
    gevent.wait(timeout=20)
    found = Reader(url).summary("r1")
    assert found is not None and found["run"]["id"] == "r1"
    assert rig.store.unsummarised() == []
    (listed,) = Reader(url).runs()
    assert listed["exit_code"] == found["exit_code"]


def test_a_message_that_fails_again_and_again_is_put_aside(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(url)
    real = core.step

    def poisoned(cluster: Any, events: list[Any], now: int, read: Any) -> list[Any]:
        if any(isinstance(event, JobReceived) and event.job.id == "poison" for event in events):
            raise RuntimeError("boom")
        return real(cluster, events, now, read)

    monkeypatch.setattr("loads.scheduler.service.core.step", poisoned)
    bad = rig.arrive(JOBS, job("poison"))
    good = rig.arrive(JOBS, job("good"))
    for _ in range(20):
        rig.turn()
    assert {bad, good} <= set(rig.broker.acked)
    assert rig.dead() == ["failed 5 times: RuntimeError('boom')"]
    assert Reader(url).run_view("good") is not None and Reader(url).run_view("poison") is None


def test_a_dead_letter_is_sent_again_or_discarded(url: str) -> None:
    rig = Rig(url)
    rig.arrive(JOBS, "garbage")
    (letter,) = rig.service.reader.dead_letters()
    rig.service.reader.order("", "requeue", {"id": letter["id"]}, "ann")
    rig.turn()
    assert rig.broker.sent[JOBS] == ["garbage"] and rig.dead() == []
    rig.arrive(JOBS, "garbage")
    (letter,) = rig.service.reader.dead_letters()
    rig.service.reader.order("", "discard", {"id": letter["id"]}, "ann")
    rig.turn()
    assert rig.broker.sent[JOBS] == ["garbage"] and rig.dead() == []


def test_a_letter_that_is_requeued_while_the_broker_is_away_waits_for_it(url: str) -> None:
    rig = Rig(url)
    rig.arrive(JOBS, "nonsense")
    (letter,) = rig.service.reader.dead_letters()
    rig.broker.away = True
    rig.service.reader.order("", "requeue", {"id": letter["id"]}, "ann")
    rig.turn()
    assert len(rig.dead()) == 1 and rig.broker.sent[JOBS] == []
    rig.broker.away = False
    rig.turn()
    assert rig.dead() == [] and rig.broker.sent[JOBS] == ["nonsense"]


def test_a_run_is_deleted_once_it_is_over(url: str) -> None:
    rig = Rig(url)
    rig.arrive(JOBS, job())
    rig.turn()
    rig.service.reader.order("r1", "delete", {}, "ann")
    rig.turn()
    rig.turn()
    assert Reader(url).run_view("r1") is None and rig.store.orders() == []


def stored(rig: Rig, *projects: str, **files: str) -> None:
    for project in projects:
        Projects(rig.store.engine).store(project, [StoredPlan(project, "plan", PLAN, files)], "ann")


@pytest.mark.parametrize("reference", ["shop/plan", "plan"])
def test_a_job_may_name_a_stored_plan(url: str, reference: str) -> None:
    rig = Rig(url)
    stored(rig, "shop", users="1" * 64, items="2" * 64)
    receipt = rig.arrive(JOBS, job(plan={}, plan_ref=reference, env={"A": "1"}, files={"items": "3" * 64}))
    rig.turn()
    run = rig.service.cluster.runs["r1"]
    assert receipt in rig.broker.acked and rig.dead() == []
    assert (run.state, run.project, run.plan_name, run.document) == ("waiting", "shop", "plan", PLAN)
    assert (run.env, run.files) == ({"A": "1"}, {"users": "1" * 64, "items": "3" * 64})
    rig.store.free_epoch(1)
    again = Rig(url, now=rig.now)
    assert again.service.cluster.runs["r1"] == run and again.service.cluster.plans["r1"].name == "plan"


def test_what_a_job_brings_itself_comes_before_what_it_names(url: str) -> None:
    rig = Rig(url)
    stored(rig, "shop")
    rig.arrive(JOBS, job(plan={**PLAN, "name": "own"}, plan_ref="shop/plan"))
    rig.arrive(JOBS, job("r2", plan={}, plan_ref="shop/plan", project="mine"))
    rig.turn()
    runs = rig.service.cluster.runs
    assert (runs["r1"].plan_name, runs["r1"].project, runs["r2"].project) == ("own", "", "mine")


@pytest.mark.parametrize(
    ("projects", "reason"),
    [
        ((), "plan_ref: no stored plan is called 'plan'; there are: none"),
        (("bank", "shop"), "plan_ref: 2 stored plans are called 'plan': choose one of bank/plan, shop/plan"),
    ],
)
def test_a_name_that_leads_to_no_plan_is_a_run_that_is_refused(
    url: str, projects: tuple[str, ...], reason: str
) -> None:
    rig = Rig(url)
    stored(rig, *projects)
    bad = rig.arrive(JOBS, job(plan={}, plan_ref="plan"))
    good = rig.arrive(JOBS, job("good"))
    rig.turn()
    assert {bad, good} <= set(rig.broker.acked) and rig.dead() == []
    listed = {run["id"]: run for run in Reader(url).runs()}
    assert listed["good"]["state"] == "waiting"
    found = listed["r1"]
    assert (found["state"], found["outcome"], found["plan"]) == ("finished", "refused", "plan")
    assert found["reason"] == f"the plan is wrong: {reason}"
    # It stays one run, though a plan of that name is stored now.
    stored(rig, "later")
    again = rig.arrive(JOBS, job(plan={}, plan_ref="later/plan"))
    rig.turn()
    assert again in rig.broker.acked and Reader(url).run_view("r1").state == "finished"


def test_one_id_in_one_turn_is_one_run_and_one_look(url: str) -> None:
    rig = Rig(url)
    stored(rig, "shop")
    rig.arrive(JOBS, job(plan={}, plan_ref="nothing"))
    rig.arrive(JOBS, job(plan={}, plan_ref="shop/plan"))
    rig.service.reader.order("r1", "submit", {"job": {"id": "r1", "plan_ref": "shop/plan"}}, "ann")
    rig.turn()
    (run,) = Reader(url).runs()
    assert run["outcome"] == "refused" and "'nothing'" in run["reason"]
    rig.service.reader.order("r2", "submit", {"job": {"id": "r2", "plan_ref": "shop/plan"}}, "ann")
    rig.turn()
    assert rig.service.cluster.runs["r2"].document == PLAN


def test_a_job_submitted_through_the_store_is_one_run_however_often(url: str) -> None:
    rig = Rig(url)
    args = {"job": {"id": "r1", "plan": PLAN, "owner": "ann"}}
    rig.service.reader.order("r1", "submit", args, "ann")
    rig.service.reader.order("r1", "submit", args, "ann")
    rig.turn()
    rig.service.reader.order("r1", "submit", args, "ann")
    rig.turn()
    assert len(Reader(url).runs()) == 1


def test_a_full_receive_says_that_more_may_wait_until_the_next_one_brings_nothing(url: str) -> None:
    """Ten workers that report at the same instant fill a receive each second; leases must age all the same."""

    class Ten:
        """Ten Reports at once, and then nothing for a while."""

        behind = True
        asked = 0

        def receive(self, timeout_s: float) -> list[Delivery]:
            self.asked += 1
            if self.asked > 1:
                gevent.sleep(60)
            return []

        def close(self) -> None: ...

    rig = Rig(url)
    rig.service.inbound.queue = SimpleNamespace(consume=lambda name, prefetch: Ten())  # type: ignore[assignment]
    reader = gevent.spawn(rig.service.inbound.read, REPORTS)
    gevent.sleep(0.01)
    assert not rig.service.inbound.drained
    rig.now += 150_000_000
    assert rig.service.inbound.drained
    reader.kill()


def test_what_comes_in_between_is_no_outage(url: str) -> None:
    """It only has leases wait for it: an outage gives each its full time again."""
    rig = Rig(url)
    rig.arrive(REPORTS, report(1))
    assert rig.service.inbound.healthy and not rig.service.inbound.drained
    rig.turn()
    assert rig.service.inbound.healthy and rig.service.inbound.drained
