"""Gaps: where a shard's load was not made, from the evidence of its attempts; and what the summary makes of them."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from loads.scheduler import results
from loads.scheduler.gaps import shard_gaps
from loads.scheduler.results_timeline import timeline_csv
from loads.scheduler.view import ChangeView, ClaimView, EventView, GapView, RunView
from run_views import STARTED_AT, open_load, rows_of, run_view, simple, step_view, taken_over

from loads_queue.model.ledger import SECOND, ClaimEvidence, ShardEvidence, shard_ledger
from loads_queue.model.profile import ClosedLoad, IterationsLoad, UserStage
from loads_queue.model.summary import Row

LATER = 10_000 * SECOND


def told(claims: list[ClaimEvidence], causes: list[str | None] | None = None) -> list[ClaimView]:
    """The claims as the view has them; each its cause, or what it said itself."""
    said = causes or [claim.cause for claim in claims]
    return [
        ClaimView(f"c{number}", f"w{number}", 0, claim.attempt, "dead" if claim.dead else "running", end_cause=cause)
        for number, (claim, cause) in enumerate(zip(claims, said, strict=True), 1)
    ]


def gaps_of(evidence: ShardEvidence, causes: list[str | None] | None = None, now: int | None = LATER) -> list[GapView]:
    return list(shard_gaps(evidence, told(list(evidence.claims), causes), shard_ledger(evidence), now))


def arrivals(first: int, following: int, rate: int = 10) -> tuple[Row, ...]:
    """Rows in which these arrivals, of so many a second, were ok."""
    rows: dict[int, Row] = {}
    for arrival in range(first, following):
        row = rows.setdefault(arrival // rate, Row(arrival // rate))
        row.started, row.ok = row.started + 1, row.ok + 1
    return tuple(rows[second] for second in sorted(rows))


def attempt(number: int, first: int, following: int, **more: Any) -> ClaimEvidence:
    """An attempt that decided about these arrivals of 10 a second."""
    given = {"next": following, "started": following - first, "rows": arrivals(first, following), **more}
    return ClaimEvidence(number, first, **given)


def open_shard(*claims: ClaimEvidence, seconds: int = 30, delay: int = 0, **more: Any) -> ShardEvidence:
    load = open_load(10, seconds)
    return ShardEvidence("open", load.shard(0, 1), load.end_ns + delay, delay, claims, **more)


class TestArrivals:
    def test_a_lost_worker(self) -> None:
        dead = attempt(1, 0, 52, dead=True, permit_until_ns=9 * SECOND, bound_iterations=70)
        heir = attempt(2, 123, 300, cause="finished")
        assert gaps_of(open_shard(dead, heir, over=True)) == [
            GapView(0, "w1", 1, 5_200_000_000, 12_300_000_000, "silent", missed=53, lost=18)
        ]

    def test_a_crash_has_its_cause(self) -> None:
        dead = attempt(1, 0, 52, dead=True, permit_until_ns=5 * SECOND, cause="crashed")
        (gap,) = gaps_of(open_shard(dead, attempt(2, 60, 70)))
        assert (gap.cause, gap.missed, gap.lost) == ("crashed", 8, 0)

    def test_a_shard_that_was_handed_back_has_a_small_one_or_none(self) -> None:
        given = {"cause": "lapsed", "dead": False}
        (gap,) = gaps_of(open_shard(attempt(1, 0, 52, **given), attempt(2, 57, 70)))
        assert (gap.begin_ns, gap.end_ns, gap.cause) == (5_200_000_000, 5_700_000_000, "lapsed")
        assert gaps_of(open_shard(attempt(1, 0, 52, **given), attempt(2, 52, 70))) == []

    def test_an_end_that_is_not_known_yet(self) -> None:
        (gap,) = gaps_of(open_shard(attempt(1, 0, 52, dead=True)))
        assert gap.end_ns is None
        assert gaps_of(open_shard(attempt(1, 0, 52)), now=6 * SECOND) == []

    def test_nobody_took_over(self) -> None:
        (gap,) = gaps_of(open_shard(attempt(1, 0, 52, dead=True), over=True))
        assert (gap.end_ns, gap.missed) == (30 * SECOND, 248)
        (gap,) = gaps_of(open_shard(attempt(1, 0, 52, dead=True), over=True, stopped_ns=8 * SECOND))
        assert (gap.end_ns, gap.missed) == (8 * SECOND, 28)

    def test_an_heir_that_dies_before_its_first_arrival_ends_no_gap(self) -> None:
        heir = ClaimEvidence(2, 80, dead=True)
        (gap,) = gaps_of(open_shard(attempt(1, 0, 50, dead=True), heir))
        assert (gap.begin_ns, gap.end_ns) == (5 * SECOND, None)
        (gap,) = gaps_of(open_shard(attempt(1, 0, 50, dead=True), heir, attempt(3, 101, 110)))
        assert (gap.attempt, gap.begin_ns, gap.end_ns, gap.missed) == (1, 5 * SECOND, 10_100_000_000, 51)

    def test_an_heir_that_has_not_begun_ends_no_gap_yet(self) -> None:
        (gap,) = gaps_of(open_shard(attempt(1, 0, 50, dead=True), ClaimEvidence(2, 80)), now=9 * SECOND)
        assert gap.end_ns is None

    def test_what_an_heir_passes_over_while_its_engine_comes_up_is_in_it(self) -> None:
        rows = (Row(8, missed=10), Row(9, missed=4, started=6, ok=6), Row(10, started=10, ok=10))
        heir = ClaimEvidence(2, 80, next=110, started=16, rows=rows)
        (gap,) = gaps_of(open_shard(attempt(1, 0, 50, dead=True), heir))
        assert (gap.begin_ns, gap.end_ns, gap.cause) == (5 * SECOND, 9_400_000_000, "silent")
        assert gap.missed == 30 + 14

    def test_two_shards_taken_over_in_turn(self) -> None:
        second = attempt(2, 60, 75, dead=True, cause="crashed")
        found = gaps_of(open_shard(attempt(1, 0, 52, dead=True), second, attempt(3, 101, 110)))
        assert [(gap.attempt, gap.cause, gap.missed) for gap in found] == [(1, "silent", 8), (2, "crashed", 26)]

    def test_nothing_before_the_schedule_or_before_the_step(self) -> None:
        early = ClaimEvidence(1, 0, cause=None, dead=True)
        assert gaps_of(open_shard(early), now=None) == []
        assert gaps_of(open_shard(early, delay=60 * SECOND), now=50 * SECOND) == []
        assert len(gaps_of(open_shard(early, delay=60 * SECOND), now=61 * SECOND)) == 1
        assert gaps_of(open_shard(early, attempt(2, 0, 300, cause="finished"), over=True)) == []
        assert gaps_of(open_shard(early, ClaimEvidence(2, 0)), now=0) == gaps_of(open_shard(early), now=0)

    def test_an_orderly_end_is_none(self) -> None:
        for cause in ("finished", "stopped", "exhausted", "max_time"):
            assert gaps_of(open_shard(attempt(1, 0, 52, cause=cause), over=True)) == []

    def test_an_engine_without_a_permit_passes_work_over(self) -> None:
        rows = [Row(second, started=10, ok=10) for second in range(8)]
        for second in (3, 4, 6):
            rows[second] = Row(second, started=3, ok=3, missed=7)
        claim = ClaimEvidence(1, 0, next=80, started=59, cause=None, rows=tuple(rows))
        found = gaps_of(open_shard(claim), now=8 * SECOND)
        assert [(gap.begin_ns, gap.end_ns, gap.cause, gap.missed) for gap in found] == [
            (3 * SECOND, 5 * SECOND, "no_permit", 14),
            (6 * SECOND, 7 * SECOND, "no_permit", 7),
        ]

    @given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 40), st.integers(0, 80)), min_size=1, max_size=4))
    def test_every_missed_and_lost_arrival_is_in_one(self, lives: list[tuple[int, int, int]]) -> None:
        claims, first = [], 0
        for number, (done, covered, away) in enumerate(lives, 1):
            following = min(first + done, 300)
            until = (following + covered) * SECOND // 10
            claims.append(
                attempt(number, first, following, dead=True, permit_until_ns=until, bound_iterations=following + 25)
            )
            first = min(following + away, 300)
        claims.append(attempt(len(lives) + 1, first, 300, cause="finished"))
        evidence = open_shard(*claims, over=True)
        found, ledger = gaps_of(evidence), shard_ledger(evidence)
        assert ledger.balanced
        assert sum(gap.missed for gap in found) == ledger.total.missed
        assert sum(gap.lost for gap in found) == ledger.total.lost
        assert [gap.begin_ns for gap in found] == sorted(gap.begin_ns for gap in found)
        assert all(gap.end_ns is not None and gap.begin_ns < gap.end_ns for gap in found)


class TestUsers:
    def test_for_a_time(self) -> None:
        load = ClosedLoad((UserStage(Fraction(2), Fraction(2), 20 * SECOND),))
        dead = ClaimEvidence(
            1,
            0,
            permit_until_ns=9 * SECOND,
            bound_iterations=12,
            started=10,
            held_from_ns=0,
            covered_ns=8 * SECOND,
            dead=True,
        )
        heir = ClaimEvidence(2, 0, held_from_ns=15 * SECOND, covered_ns=20 * SECOND, cause="finished")
        evidence = ShardEvidence("closed", load.shard(0, 1), load.end_ns, claims=(dead, heir), over=True)
        assert gaps_of(evidence) == [GapView(0, "w1", 1, 8 * SECOND, 15 * SECOND, "silent", lost=2)]
        waiting = replace(evidence, claims=(dead, ClaimEvidence(2, 0)), over=False)
        assert gaps_of(waiting)[0].end_ns is None

    def test_sessions_that_are_opened_again_one_after_the_other(self) -> None:
        load = ClosedLoad((UserStage(Fraction(2), Fraction(2), 20 * SECOND),))
        dead = ClaimEvidence(1, 0, permit_until_ns=9 * SECOND, held_from_ns=0, covered_ns=8 * SECOND, dead=True)
        late = [Row(second, held_ns=SECOND, missed_user_ns=SECOND) for second in (15, 16)]
        rows = (*late, Row(17, held_ns=2 * SECOND), Row(18, missed_user_ns=2 * SECOND), Row(19, held_ns=2 * SECOND))
        heir = ClaimEvidence(2, 0, held_from_ns=15 * SECOND, covered_ns=20 * SECOND, cause="finished", rows=tuple(rows))
        evidence = ShardEvidence("closed", load.shard(0, 1), load.end_ns, claims=(dead, heir), over=True)
        assert [(gap.begin_ns, gap.end_ns, gap.cause) for gap in gaps_of(evidence)] == [
            (8 * SECOND, 15 * SECOND, "silent"),
            (15 * SECOND, 17 * SECOND, "reopening"),
            (18 * SECOND, 19 * SECOND, "no_permit"),
        ]

    def test_with_a_number_of_iterations(self) -> None:
        load = IterationsLoad(((2, 50),))
        rows = tuple(Row(second, started=5, ok=5) for second in range(5))
        dead = ClaimEvidence(1, 0, permit_until_ns=7 * SECOND, bound_iterations=15, started=25, rows=rows, dead=True)
        heir = ClaimEvidence(2, 15, started=70, cause="finished", rows=(Row(12, started=70, ok=70),))
        evidence = ShardEvidence("iterations", load.shard(0, 1), None, claims=(dead, heir), over=True)
        (gap,) = gaps_of(evidence)
        assert (gap.begin_ns, gap.end_ns, gap.lost) == (4 * SECOND, 12 * SECOND, 5)
        assert (
            gaps_of(replace(evidence, claims=(dead, replace(heir, rows=(), cause=None)), over=False))[0].end_ns is None
        )


class TestTheSummary:
    VIEW = taken_over()

    def test_the_gap(self) -> None:
        assert results.summary(self.VIEW)["gaps"] == [
            {"step": "browse", "shard": 0, "worker": "w1", "attempt": 1, "from": 1.2, "to": 3.5, "cause": "silent",
             "missed": 17, "lost": 6},
        ]  # fmt: skip

    def test_it_is_marked_in_the_timeline(self) -> None:
        found = results.summary(self.VIEW)["timeline"]
        assert [row["gap"] for row in found] == [False, True, True, True, False, False]
        read = list(csv.DictReader(io.StringIO(timeline_csv(found))))
        assert [row["gap"] for row in read] == ["false", "true", "true", "true", "false", "false"]

    def test_response_times_outside_of_it(self) -> None:
        (series,) = results.summary(self.VIEW)["steps"][0]["series"]
        assert tuple(series["response_outside_gaps"]) == tuple(series["response"])
        assert series["response"]["max"] == 500.0
        assert series["response_outside_gaps"]["max"] == 5.0

    def test_a_run_without_gaps_has_the_same_there(self) -> None:
        found = results.summary(simple(["ok"] * 20))
        (series,) = found["steps"][0]["series"]
        assert series["response_outside_gaps"] == series["response"]
        assert found["gaps"] == found["changes"] == found["events"] == []
        assert not any(row["gap"] for row in found["timeline"])

    def test_a_gap_of_one_step_leaves_the_others_alone(self) -> None:
        slow = rows_of([("ok", 700_000_000)] * 60)
        other = step_view(slow, open_load(10, 6), "other", 1)
        found = results.summary(run_view(*self.VIEW.steps, other))
        (series,) = found["steps"][1]["series"]
        assert series["response_outside_gaps"] == series["response"]
        assert [row["gap"] for row in found["timeline"]] == [False, True, True, True, False, False]

    def test_a_series_that_was_seen_in_the_gap_only(self) -> None:
        (step,) = self.VIEW.steps
        rows = [replace(row) for row in step.rows]
        rows[1].series = {**rows[1].series, "GET /rare": rows[1].series["GET /"]}
        (_, rare) = results.summary(run_view(replace(step, rows=tuple(rows))))["steps"][0]["series"]
        assert rare["requests"] == 2
        assert set(rare["response_outside_gaps"].values()) == {None}

    def test_a_gap_without_an_end_goes_on_to_the_end(self) -> None:
        (step,) = self.VIEW.steps
        gap = replace(step.gaps[0], end_ns=None)
        found = results.summary(run_view(replace(step, gaps=(gap,)), state="running"))
        assert found["gaps"][0]["to"] is None
        assert [row["gap"] for row in found["timeline"]] == [False, True, True, True, True, True]

    def test_changes_and_events(self) -> None:
        view = simple(
            ["ok"] * 10,
            changes=(ChangeView("browse", 4_500_000_000, Fraction(3, 2)),),
            events=(
                EventView(STARTED_AT - 1_234_567_890, "submitted", "ann"),
                EventView(STARTED_AT + 2 * SECOND, "adjusted", "bob"),
            ),
        )
        found = results.summary(view)
        assert found["changes"] == [{"step": "browse", "from": 4.5, "factor": 1.5}]
        assert found["events"] == [
            {"at": "2023-11-14T22:13:18.765432Z", "t": -1.235, "who": "ann", "what": "submitted"},
            {"at": "2023-11-14T22:13:22.000000Z", "t": 2.0, "who": "bob", "what": "adjusted"},
        ]

    def test_events_of_a_run_that_never_began(self) -> None:
        view = RunView("r1", events=(EventView(STARTED_AT, "submitted", "ann"),))
        assert [event["t"] for event in results.summary(view)["events"]] == [None]

    @pytest.mark.parametrize("cause", ["crashed", "lapsed"])
    def test_a_run_that_was_taken_over_passes(self, cause: str) -> None:
        (step,) = self.VIEW.steps
        lost, heir = step.claims
        view = run_view(replace(step, claims=(replace(lost, end_cause=cause), heir)))
        found = results.summary(view)
        assert (found["verdict"], found["exit_code"], found["ledger"]["balanced"]) == ("passed", 0, True)
