"""Whom the scheduler believes: signed, whole and of late; waiting out an outage makes nothing too old."""

from __future__ import annotations

import json

import pytest
from loads.scheduler.doorkeeper import MAX_AGE_NS, MOST_REPORTS, SECOND, Doorkeeper
from loads.scheduler.store import Store

from loads_queue import codec
from loads_queue.messages import JOBS, REPORTS, Hello, Job, LoadStep, Report, steps_queue
from tests.scheduler.test_service import PLAN, Rig

SECRET = b"our own"
NOW = 10**18
HOUR = 3600 * SECOND


def job(at: int, secret: bytes | None = SECRET, ident: str = "r1") -> str:
    return codec.encode(Job(ident, plan=PLAN), JOBS, at, secret)


def report(at: int, secret: bytes | None = SECRET, sequence: int = 1) -> str:
    return codec.encode(Report(f"w-{sequence}", "w", "life", sequence, 0, 0, at, 1, 1), REPORTS, at, secret)


def door(now: int = NOW, acted_until: int | None = None) -> Doorkeeper:
    found = Doorkeeper(SECRET, now)
    found.began(now, acted_until)
    return found


def refused(found: Doorkeeper, body: str, now: int, queue: str = JOBS) -> str:
    with pytest.raises(codec.DecodeError) as caught:
        found.admit(body, queue, now)
    return caught.value.reason


def tampered(body: str) -> str:
    envelope = json.loads(body)
    return json.dumps({**envelope, "body": envelope["body"].replace('"r1"', '"r2"'), "id": "r2"})


def test_what_is_signed_is_let_in_and_what_is_not_is_not() -> None:
    found = door()
    assert found.admit(job(NOW), JOBS, NOW)[1] == "r1"
    assert refused(found, job(NOW, None), NOW) == "not signed"
    assert refused(found, job(NOW, b"theirs"), NOW) == "not signed with this cluster's secret"
    assert refused(found, tampered(job(NOW)), NOW) == "not signed with this cluster's secret"
    stamped = json.dumps({**json.loads(job(NOW - HOUR)), "time": NOW})
    assert refused(found, stamped, NOW) == "not signed with this cluster's secret"


def test_without_a_secret_signatures_and_ages_say_nothing() -> None:
    found = Doorkeeper(None, NOW)
    for body in (job(1, None), job(NOW), job(NOW * 2, b"theirs")):
        assert found.admit(body, JOBS, NOW)[1] == "r1"
    assert found.renewed(job(1), NOW) == job(1)


def test_an_old_one_and_one_from_the_future_are_refused() -> None:
    found = door()
    assert found.admit(job(NOW - MAX_AGE_NS), JOBS, NOW)
    assert refused(found, job(NOW - HOUR), NOW) == "too old: written 3600 s ago"
    assert refused(found, job(NOW + HOUR), NOW).startswith("from the future: written 3600 s ahead")


def test_the_time_in_which_no_scheduler_ran_is_not_counted() -> None:
    found = door(NOW, acted_until=NOW - 8 * HOUR)
    assert found.admit(job(NOW - 8 * HOUR), JOBS, NOW)
    assert "too old" in refused(found, job(NOW - 9 * HOUR), NOW)
    later = NOW + MAX_AGE_NS
    assert "too old" in refused(found, job(NOW - SECOND), later + SECOND)


@pytest.mark.parametrize("queue", [JOBS, REPORTS])
def test_the_time_in_which_a_queue_was_not_heard_is_not_counted(queue: str) -> None:
    make = job if queue == JOBS else report
    found = door()
    gone, back = NOW + HOUR, NOW + 5 * HOUR
    found.deaf(queue, gone)
    found.deaf(queue, gone + HOUR)
    assert found.admit(make(gone), queue, back - SECOND)
    found.heard(queue, back)
    assert found.admit(make(gone), queue, back)
    assert "too old" in refused(found, make(gone - HOUR), back, queue)
    # A second outage soon after does not make what waits since the first one too old.
    found.deaf(queue, back + SECOND)
    found.heard(queue, back + 2 * SECOND)
    assert found.admit(make(gone), queue, back + 3 * SECOND)
    assert "too old" in refused(found, make(gone), back + 2 * SECOND + MAX_AGE_NS, queue)


def test_the_time_in_which_the_process_was_held_is_not_counted() -> None:
    found = door()
    for second in range(1, 1000):
        found.turned(NOW + second * SECOND)
    stopped = NOW + 999 * SECOND
    found.turned(stopped + HOUR)
    assert found.admit(report(stopped), REPORTS, stopped + HOUR)
    steady = door()
    for second in range(1, 3600):
        steady.turned(NOW + second * SECOND)
    assert "too old" in refused(steady, report(NOW), NOW + HOUR, REPORTS)


def test_only_its_own_kind_comes_from_a_queue() -> None:
    found = door()
    wrong = codec.encode(Job("r1", plan=PLAN), REPORTS, NOW, SECRET)
    assert refused(found, wrong, NOW, REPORTS) == "a Job on reports"


def test_a_flood_of_refused_reports_is_cut_and_one_of_jobs_is_not() -> None:
    found = door()
    assert [found.keeps(REPORTS, NOW) for _ in range(100)].count(True) == MOST_REPORTS
    assert all(found.keeps(JOBS, NOW) for _ in range(100))
    assert found.keeps(REPORTS, NOW + 60 * SECOND)


def test_an_envelope_that_waited_is_signed_anew() -> None:
    body = codec.encode(Job("r1", plan=PLAN), JOBS, NOW - HOUR, SECRET)
    again = codec.decode(door().renewed(body, NOW), JOBS, secret=SECRET, now_ns=NOW, max_age_ns=1)
    assert (again.time, again.id, again.message) == (NOW, "r1", codec.decode(body, JOBS).message)


# In the service


class SignedRig(Rig):
    """A service of a cluster with a secret."""

    def __init__(self, url: str, now: int = NOW) -> None:
        super().__init__(url, now=now, secret=SECRET)


def test_unsigned_altered_and_old_jobs_are_dead_letters(url: str) -> None:
    rig = SignedRig(url)
    for body in (job(NOW, None), tampered(job(NOW)), job(NOW - HOUR)):
        rig.arrive(JOBS, body)
    rig.turn()
    assert rig.dead() == ["not signed", "not signed with this cluster's secret", "too old: written 3600 s ago"]
    assert rig.service.cluster.runs == {} and len(rig.broker.acked) == 3


def test_a_replay_changes_nothing(url: str) -> None:
    rig = SignedRig(url)
    body = job(NOW)
    for _ in range(3):
        rig.arrive(JOBS, body)
        rig.turn()
    assert list(rig.service.cluster.runs) == ["r1"] and rig.dead() == []


def test_what_goes_out_is_signed(url: str) -> None:
    rig = SignedRig(url)
    rig.arrive(JOBS, job(NOW))
    hello = codec.encode(hello_report(NOW), REPORTS, NOW, SECRET)
    rig.arrive(REPORTS, hello)
    rig.turn()
    steps = steps_queue("any", "process")
    (body,) = rig.broker.sent[steps]
    assert isinstance(codec.decode(body, steps, secret=SECRET).message, LoadStep)


def test_a_job_that_came_while_no_scheduler_ran_is_taken_though_it_is_old(url: str) -> None:
    first = SignedRig(url)
    first.turn()
    first.store.free_epoch(1)
    later = SignedRig(url, now=NOW + 10 * HOUR)
    later.arrive(JOBS, job(NOW + HOUR))
    later.turn()
    assert later.dead() == [] and list(later.service.cluster.runs) == ["r1"]


def test_what_stood_in_the_outbox_over_an_outage_goes_out_as_of_now(url: str) -> None:
    rig = SignedRig(url)
    rig.arrive(JOBS, job(NOW))
    rig.arrive(REPORTS, codec.encode(hello_report(NOW), REPORTS, NOW, SECRET))
    rig.broker.away = True
    rig.turn()
    rig.now += HOUR
    rig.broker.away = False
    rig.service._publish()
    steps = steps_queue("any", "process")
    (body,) = rig.broker.sent[steps]
    assert codec.decode(body, steps, secret=SECRET, now_ns=rig.now, max_age_ns=SECOND)


def test_the_store_knows_until_when_a_scheduler_acted(url: str) -> None:
    store = Store(url)
    assert store.acted_until() is None
    assert store.take_epoch("me", 5) == 1 and store.acted_until() == 5
    store.renew_epoch(1, 9)
    assert store.acted_until() == 9


def hello_report(at: int) -> Report:
    return Report("w-1", "w", "life", 1, 0, 0, at, 1, 1, hello=Hello("1", "h", 1))
