"""The ledger's equations hold for any sequence of events, and fail when evidence is taken away."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from loads_queue.model.closed_load import ClosedLoad, IterationsLoad
from loads_queue.model.ledger import SECOND, ClaimEvidence, ShardEvidence, shard_ledger
from loads_queue.model.open_load import OpenLoad
from loads_queue.model.stages import RateStage, UserStage
from loads_queue.model.summary import Row, Series


class OpenEngine:
    """What an engine does with its shard's arrivals, by dice: the all-knowing side of the property."""

    def __init__(self, draw: st.DataObject, share, delay: int) -> None:
        self.draw, self.share, self.delay = draw, share, delay
        self.rows: dict[int, Row] = {}
        self.truth = {"started": 0, "dropped": 0, "missed": 0}

    def take(self, index: int) -> None:
        second = (self.share.due(index) + self.delay) // SECOND
        row = self.rows.setdefault(second, Row(second))
        what = self.draw.draw(st.sampled_from(["ok", "failed", "interrupted", "in_flight", "late", "busy", "missed"]))
        if what == "late":
            row.dropped_late += 1
        elif what == "busy":
            row.dropped_in_flight += 1
        elif what == "missed":
            row.missed += 1
        else:
            row.started += 1
            setattr(row, what, getattr(row, what) + 1)
            series = row.series.setdefault("GET /", Series())
            series.attempted += 1
            setattr(series, what, getattr(series, what) + 1)
            if what != "in_flight":
                series.answered += 1

    def settle(self) -> None:
        """Nothing stays in flight in an engine that ended in order."""
        for row in self.rows.values():
            row.ok += row.in_flight
            row.in_flight = 0
            for series in row.series.values():
                series.ok += series.in_flight
                series.answered += series.in_flight
                series.in_flight = 0


rates = st.integers(1, 40)


@settings(max_examples=150, deadline=None)
@given(data=st.data(), rate=rates, delay_ms=st.integers(0, 2500), attempts=st.integers(1, 4))
def test_an_open_shard_balances_whatever_its_attempts_do(data, rate, delay_ms, attempts) -> None:
    load = OpenLoad((RateStage(Fraction(rate), Fraction(rate), 3 * SECOND),))
    share = load.shard(data.draw(st.integers(0, 1)), 2)
    delay = delay_ms * 1_000_000
    claims = []
    first = 0
    for number in range(attempts):
        engine = OpenEngine(data, share, delay)
        reached = data.draw(st.integers(first, share.planned))
        for index in range(first, reached):
            engine.take(index)
        dies = number + 1 < attempts or data.draw(st.booleans())
        if not dies:
            engine.settle()
        rows = tuple(engine.rows[second] for second in sorted(engine.rows))
        attempted = sum(series.attempted for row in rows for series in row.series.values())
        bound = data.draw(st.integers(reached, share.planned + 5))
        claims.append(
            ClaimEvidence(
                attempt=number + 1,
                first=first,
                permit_until_ns=data.draw(st.integers(0, delay + 4 * SECOND)),
                bound_iterations=bound,
                bound_requests=data.draw(st.integers(attempted, attempted + 50)),
                next=reached,
                started=sum(row.started for row in rows),
                attempted=attempted,
                cause=None if dies else data.draw(st.sampled_from(["finished", "stopped", "exhausted"])),
                dead=dies,
                rows=rows,
            )
        )
        first = data.draw(st.integers(first, share.planned))
    stopped = data.draw(st.none() | st.integers(-1, delay + 4 * SECOND))
    evidence = ShardEvidence(
        "open", share, delay + load.end_ns, delay, tuple(claims), over=data.draw(st.booleans()), stopped_ns=stopped
    )
    ledger = shard_ledger(evidence)
    assert ledger.balanced
    assert ledger.total.planned == share.planned
    assert (ledger.total.pending == 0) or not evidence.over
    assert ledger.total.lost >= sum(row.in_flight for claim in claims if claim.dead for row in claim.rows)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), rate=rates)
def test_a_row_that_went_missing_or_was_altered_shows(data, rate) -> None:
    load = OpenLoad((RateStage(Fraction(rate), Fraction(rate), 3 * SECOND),))
    share = load.shard(0, 1)
    rows = []
    for second in range(3):
        count = share.planned_by((second + 1) * SECOND) - share.planned_by(second * SECOND)
        series = Series(attempted=count, answered=count, ok=count)
        rows.append(Row(second, started=count, ok=count, series={"GET /": series}))
    claim = ClaimEvidence(
        attempt=1,
        first=0,
        next=share.planned,
        started=share.planned,
        attempted=share.planned,
        cause="finished",
        rows=tuple(rows),
    )
    whole = ShardEvidence("open", share, load.end_ns, claims=(claim,), over=True)
    assert shard_ledger(whole).balanced
    gone = data.draw(st.integers(0, 2))
    without = replace(whole, claims=(replace(claim, rows=tuple(row for row in rows if row.second != gone)),))
    assert not shard_ledger(without).balanced
    altered = Row.from_wire(rows[gone].to_wire())
    altered.series["GET /"].ok -= 1
    changed = tuple(altered if row.second == gone else row for row in rows)
    assert not shard_ledger(replace(whole, claims=(replace(claim, rows=changed),))).balanced


@settings(max_examples=100, deadline=None)
@given(data=st.data(), users=st.integers(1, 6), seconds=st.integers(1, 4))
def test_held_users_balance_in_user_time_and_in_iterations(data, users, seconds) -> None:
    load = ClosedLoad((UserStage(Fraction(0), Fraction(users), seconds * SECOND),))
    share = load.shard(0, 1)
    covered = data.draw(st.integers(0, load.end_ns))
    rows = []
    for second in range(seconds):
        started = data.draw(st.integers(0, 5))
        ok = data.draw(st.integers(0, started))
        held = share.user_ns(min(covered, second * SECOND), min(covered, (second + 1) * SECOND))
        rows.append(Row(second, started=started, ok=ok, in_flight=started - ok, held_ns=held))
    started = sum(row.started for row in rows)
    claim = ClaimEvidence(
        1,
        0,
        permit_until_ns=data.draw(st.integers(0, load.end_ns)),
        bound_iterations=started + data.draw(st.integers(0, 9)),
        started=started,
        covered_ns=covered,
        dead=True,
        rows=tuple(rows),
    )
    stopped = data.draw(st.none() | st.integers(-1, load.end_ns))
    evidence = ShardEvidence("closed", share, load.end_ns, claims=(claim,), over=True, stopped_ns=stopped)
    ledger = shard_ledger(evidence)
    assert ledger.balanced
    assert ledger.user_time.planned == share.user_ns(0, load.end_ns)
    if started:
        short = replace(claim, rows=tuple(row for row in rows if row is not max(rows, key=lambda row: row.started)))
        assert not shard_ledger(replace(evidence, claims=(short,))).balanced


@settings(max_examples=100, deadline=None)
@given(data=st.data(), users=st.integers(1, 5), each=st.integers(1, 6), shared=st.booleans(), dies=st.booleans())
def test_counted_iterations_balance(data, users, each, shared, dies) -> None:
    share = IterationsLoad(((users, each),), shared=shared).shard(0, 1)
    started = data.draw(st.integers(0, share.planned))
    in_flight = data.draw(st.integers(0, started)) if dies else 0
    row = Row(0, started=started, ok=started - in_flight, in_flight=in_flight)
    claim = ClaimEvidence(
        1,
        0,
        permit_until_ns=SECOND,
        bound_iterations=data.draw(st.integers(0, each + 1)),
        started=started,
        remaining=0 if dies else share.planned - started,
        cause=None if dies else "stopped",
        dead=dies,
        rows=(row,),
    )
    evidence = ShardEvidence("iterations", share, None, claims=(claim,), over=True)
    ledger = shard_ledger(evidence)
    assert ledger.total.balanced
    assert ledger.total.planned == share.planned
    assert ledger.total.cancelled == (0 if dies else share.planned - started)


@settings(max_examples=150, deadline=None)
@given(data=st.data(), rate=rates, dies=st.booleans())
def test_arrivals_whose_rows_went_with_lost_reports_are_lost(data, rate, dies) -> None:
    """Only where the Reports' numbers have a hole: a row that is missing without one shows, as above."""
    load = OpenLoad((RateStage(Fraction(rate), Fraction(rate), 3 * SECOND),))
    share = load.shard(0, 1)
    engine = OpenEngine(data, share, 0)
    reached = share.planned if not dies else data.draw(st.integers(0, share.planned))
    for index in range(reached):
        engine.take(index)
    if not dies:
        engine.settle()
    rows = [engine.rows[second] for second in sorted(engine.rows)]
    attempted = sum(series.attempted for row in rows for series in row.series.values())
    kept = tuple(row for row in rows if data.draw(st.booleans()))
    claim = ClaimEvidence(
        1,
        0,
        permit_until_ns=3 * SECOND,
        bound_iterations=share.planned,
        bound_requests=attempted + data.draw(st.integers(0, 9)),
        next=reached,
        started=sum(row.started for row in rows),
        attempted=attempted,
        cause=None if dies else "finished",
        dead=dies,
        holed=True,
        rows=kept,
    )
    ledger = shard_ledger(ShardEvidence("open", share, load.end_ns, claims=(claim,), over=True))
    assert ledger.balanced and not ledger.total.in_flight and not ledger.requests.in_flight
    gone = sum(row.started + row.dropped + row.missed for row in rows) - sum(
        row.started + row.dropped + row.missed for row in kept
    )
    assert ledger.total.lost >= gone
    assert ledger.requests.sent >= attempted


@settings(max_examples=100, deadline=None)
@given(data=st.data(), users=st.integers(1, 6), counted=st.booleans())
def test_turns_whose_rows_went_with_lost_reports_are_lost(data, users, counted) -> None:
    load = IterationsLoad(((users, 5),)) if counted else ClosedLoad((UserStage(users, users, 3 * SECOND),))
    share = load.shard(0, 1)
    rows = []
    for second in range(3):
        started = data.draw(st.integers(0, users))
        held = 0 if counted else share.user_ns(second * SECOND, (second + 1) * SECOND)
        rows.append(Row(second, started=started, ok=started, held_ns=held))
    kept = tuple(row for row in rows if data.draw(st.booleans()))
    started = sum(row.started for row in rows)
    claim = ClaimEvidence(
        1,
        0,
        started=started,
        remaining=share.planned - started if counted else 0,
        covered_ns=3 * SECOND,
        cause="stopped" if counted else "finished",
        holed=True,
        rows=kept,
    )
    kind = "iterations" if counted else "closed"
    ledger = shard_ledger(ShardEvidence(kind, share, None if counted else 3 * SECOND, claims=(claim,), over=True))
    assert ledger.balanced
    assert ledger.total.started == started
    assert ledger.total.lost == started - sum(row.started for row in kept)
    assert ledger.user_time.missed == sum(row.held_ns for row in rows) - sum(row.held_ns for row in kept)


def test_a_pause_without_an_end_holds_arrivals_back_for_ever_and_the_ledger_ends() -> None:
    load = OpenLoad((RateStage(Fraction(5), Fraction(5), SECOND),), iterations=30).changed([(3 * SECOND, 0, 1)])
    claim = ClaimEvidence(1, 0, 5 * SECOND, 30, 1000, next=15, started=0, cause="stopped")
    rows = tuple(Row(second, missed=5) for second in range(3))
    evidence = ShardEvidence("open", load.shard(0, 1), load.end_ns, claims=(replace(claim, rows=rows),))
    going = shard_ledger(evidence)
    assert going.balanced and (going.total.planned, going.total.missed, going.total.pending) == (30, 15, 15)
    over = shard_ledger(replace(evidence, over=True, stopped_ns=5 * SECOND))
    assert over.balanced and over.total.cancelled == 15
