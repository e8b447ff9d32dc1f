"""How often a fleet reports, and what waiting Reports mean for leases and offers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from loads.scheduler import core
from loads.scheduler.cluster import Claim, Cluster, JobReceived, ReportReceived, Settings, Tick
from loads.scheduler.effects import Publish
from loads.scheduler.jobs import read_plan
from loads.scheduler.pace import LEASE_INTERVALS, REPORTS_PER_S, report_interval

from loads_queue.messages import Control, Hello, Job, LoadStep, Report

SECOND = 1_000_000_000
HTTP = {"base_url": "http://127.0.0.1:9", "do": [{"get": "/"}]}
PLAN = {"name": "plan", "steps": [{"name": "only", "load": {"rate": 5, "for": "2s"}, "http": HTTP}]}


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(5, 600))
def test_the_interval_suits_fleet_and_lease(workers: int, more: int, ttl: int) -> None:
    interval = report_interval(workers, SECOND, ttl * SECOND)
    assert 0 < interval * LEASE_INTERVALS <= ttl * SECOND
    assert report_interval(workers + more, SECOND, ttl * SECOND) >= interval
    assert report_interval(workers, SECOND, (ttl + 1) * SECOND) >= interval
    if interval * LEASE_INTERVALS < ttl * SECOND:
        assert workers * SECOND // interval <= REPORTS_PER_S


def test_a_small_fleet_reports_once_a_second_and_a_large_one_as_the_lease_allows() -> None:
    assert report_interval(0, SECOND, 10 * SECOND) == SECOND
    assert report_interval(REPORTS_PER_S, SECOND, 10 * SECOND) == SECOND
    assert report_interval(2 * REPORTS_PER_S, SECOND, 60 * SECOND) == 2 * SECOND
    assert report_interval(1000, SECOND, 10 * SECOND) == 2 * SECOND
    assert report_interval(10_000, SECOND, 60 * SECOND) == 12 * SECOND


def hello(number: int, at: int) -> ReportReceived:
    name = f"w{number}"
    return ReportReceived(Report(f"{name}-1", name, "life", 1, 0, 0, at, 1, 1, hello=Hello("1", "h", 1)), at)


def told(commands: list[core.Command], kind: type) -> list[object]:
    return [each.message for each in commands if isinstance(each, Publish) and isinstance(each.message, kind)]


def test_every_control_says_the_interval_that_suits_the_fleet_as_it_is() -> None:
    cluster = Cluster(Settings(lease_ttl_ns=20 * SECOND))
    (control,) = told(core.step(cluster, [hello(0, SECOND)], SECOND, read_plan), Control)
    assert control.report_interval_ns == SECOND  # type: ignore[attr-defined]
    crowd = [hello(number, 2 * SECOND) for number in range(1, 500)]
    controls = told(core.step(cluster, crowd, 2 * SECOND, read_plan), Control)
    assert {each.report_interval_ns for each in controls} == {2 * SECOND}  # type: ignore[attr-defined]
    # The others are gone: those that are left report as often as a small fleet may.
    now = 40 * SECOND
    (control,) = told(core.step(cluster, [hello(0, now)], now, read_plan), Control)
    assert control.report_interval_ns == SECOND  # type: ignore[attr-defined]


def test_leases_stand_still_while_reports_wait_in_the_broker() -> None:
    cluster = Cluster()
    claim = Claim("c", "r", 0, 0, 1, "w", "life", 0, 0, 0)
    cluster.renew(claim)
    for now in range(1, 6):
        core._take(cluster, Tick(drained=False), now * SECOND, read_plan)
    assert cluster.lease_age(claim) == 0
    core._take(cluster, Tick(), 6 * SECOND, read_plan)
    assert cluster.lease_age(claim) == SECOND


def test_an_offer_is_not_made_again_while_its_claim_may_wait_in_the_broker() -> None:
    cluster = Cluster()
    first = core.step(cluster, [hello(0, SECOND), JobReceived(Job("r", PLAN, workers=1))], SECOND, read_plan)
    assert len(told(first, LoadStep)) == 1
    for second in range(2, 14):
        again = core.step(cluster, [Tick(drained=False), hello(0, second * SECOND)], second * SECOND, read_plan)
        assert told(again, LoadStep) == []
    assert len(told(core.step(cluster, [Tick(), hello(0, 14 * SECOND)], 14 * SECOND, read_plan), LoadStep)) == 1


def test_claims_are_found_by_run_shard_and_worker_until_they_are_gone() -> None:
    cluster = Cluster()
    for ident, run, shard, worker in (("a", "r", 0, "v"), ("b", "r", 1, "w"), ("c", "q", 0, "w")):
        cluster.claims[ident] = Claim(ident, run, 0, shard, 1, worker, "life", 0, 0, 0)
    assert [claim.id for claim in cluster.claims_of("r")] == ["a", "b"]
    assert list(cluster.claims.by_shard["r", 0, 1]) == ["b"]
    assert list(cluster.claims.by_worker["w"]) == ["b", "c"]
    del cluster.claims["b"]
    assert list(cluster.claims.by_worker["w"]) == ["c"] and ("r", 0, 1) not in cluster.claims.by_shard
