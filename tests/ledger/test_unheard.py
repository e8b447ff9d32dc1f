"""A change of the load that an engine never heard of: what it did instead is surplus or missed, and all balances."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from loads_queue.model.closed_load import ClosedLoad
from loads_queue.model.ledger import SECOND, ClaimEvidence, ShardEvidence, shard_ledger
from loads_queue.model.open_load import OpenLoad, OpenShard
from loads_queue.model.stages import RateStage, UserStage
from loads_queue.model.summary import Row, Series
from loads_queue.model.unheard import behind

FACTORS = st.sampled_from([(0, 1), (1, 2), (1, 1), (3, 2), (3, 1)])


def rows_of(share: OpenShard, low: int, high: int, delay: int = 0) -> tuple[Row, ...]:
    """What an engine tells that started the arrivals ``low`` to ``high`` of its own profile."""
    rows: dict[int, Row] = {}
    for number in range(low, high):
        row = rows.setdefault((share.due(number) + delay) // SECOND, Row((share.due(number) + delay) // SECOND))
        row.started += 1
        row.ok += 1
        series = row.series.setdefault("GET /", Series())
        series.attempted += 1
        series.answered += 1
        series.ok += 1
    return tuple(rows[second] for second in sorted(rows))


def claim_of(share: OpenShard, high: int, low: int = 0, delay: int = 0, **more: object) -> ClaimEvidence:
    rows = rows_of(share, low, high, delay)
    known = {"attempt": 1, "first": low, "next": high, "started": high - low, "attempted": high - low, "rows": rows}
    return ClaimEvidence(**{**known, "changes": share.changes, **more})  # type: ignore[arg-type]


def even(rate: int, seconds: int) -> OpenShard:
    return OpenLoad((RateStage(Fraction(rate), Fraction(rate), seconds * SECOND),)).shard(0, 1)


def test_a_pause_that_was_never_heard_of_makes_what_was_done_surplus() -> None:
    plain = even(6, 10)
    paused = plain.changed([(SECOND, 0, 1)])
    claim = claim_of(plain, 26, cause="max_time", ended_ns=26 * SECOND // 6)
    ledger = shard_ledger(ShardEvidence("open", paused, 10 * SECOND, claims=(claim,), over=True))
    assert ledger.balanced
    assert (ledger.total.planned, ledger.total.started, ledger.total.surplus) == (6, 26, 20)


def test_a_rise_that_was_never_heard_of_makes_what_was_not_done_missed_up_to_the_end() -> None:
    plain = even(10, 10)
    tripled = plain.changed([(2 * SECOND, 3, 1)])
    claim = claim_of(plain, 50, cause="stopped", ended_ns=5 * SECOND)
    ledger = shard_ledger(ShardEvidence("open", tripled, 10 * SECOND, claims=(claim,), over=True))
    assert ledger.balanced
    total = ledger.total
    assert (total.planned, total.started, total.missed, total.cancelled) == (260, 50, 60, 150)


def test_a_resumption_that_was_never_heard_of_is_missed() -> None:
    plain = even(10, 10)
    paused = plain.changed([(2 * SECOND, 0, 1)])
    resumed = plain.changed([(2 * SECOND, 0, 1), (4 * SECOND, 1, 1)])
    claim = claim_of(paused, 20, cause="lapsed", ended_ns=6 * SECOND)
    heir = claim_of(resumed, 80, low=45, attempt=2, cause="finished", ended_ns=10 * SECOND)
    ledger = shard_ledger(ShardEvidence("open", resumed, 10 * SECOND, claims=(claim, heir), over=True))
    assert ledger.balanced
    assert (ledger.total.started, ledger.total.missed, ledger.total.surplus) == (55, 25, 0)


def test_who_takes_over_goes_on_behind_what_was_done_by_the_clock_and_not_by_the_number() -> None:
    plain = even(10, 10)
    halved = plain.changed([(2 * SECOND, 1, 2)])
    assert behind(halved, plain.changes, 40) == 30
    assert behind(halved, plain.changes, 15) == 15
    assert behind(halved, halved.changes, 40) == 40


@settings(max_examples=300, deadline=None)
@given(data=st.data(), rate=st.integers(1, 20), delay_ms=st.sampled_from([0, 700, 2100]), shards=st.integers(1, 2))
def test_attempts_balance_whichever_changes_they_heard_of(data, rate, delay_ms, shards) -> None:
    delay = delay_ms * 1_000_000
    load = OpenLoad((RateStage(Fraction(rate), Fraction(rate), 6 * SECOND),))
    times = sorted(data.draw(st.sets(st.integers(0, 8), max_size=3)))
    changes = [(at * SECOND - delay, *data.draw(FACTORS)) for at in times]
    base = load.shard(data.draw(st.integers(0, shards - 1)), shards)
    share = base.changed(changes)
    claims: list[ClaimEvidence] = []
    first = 0
    for number in range(data.draw(st.integers(1, 3))):
        own = base.changed(changes[: data.draw(st.integers(0, len(changes)))])
        if own.planned < first:
            continue
        reached = data.draw(st.integers(first, own.planned))
        decided = (own.due(reached - 1) if reached else 0) + delay
        dead = data.draw(st.booleans())
        ended = decided + data.draw(st.integers(0, 2 * SECOND))
        claims.append(
            claim_of(
                own,
                reached,
                first,
                delay,
                attempt=number + 1,
                cause=None if dead else data.draw(st.sampled_from(["lapsed", "stopped", "finished"])),
                dead=dead,
                ended_ns=None if dead else ended,
                permit_until_ns=data.draw(st.integers(0, delay + 8 * SECOND)),
                bound_iterations=data.draw(st.integers(reached, reached + 60)),
                bound_requests=reached - first,
            )
        )
        first = data.draw(
            st.integers(max(first, min(behind(share, own.changes, reached), share.planned)), share.planned)
        )
    stopped = data.draw(st.none() | st.integers(-1, delay + 8 * SECOND))
    evidence = ShardEvidence("open", share, delay + load.end_ns, delay, tuple(claims), True, stopped)
    ledger = shard_ledger(evidence)
    assert ledger.balanced, evidence
    assert ledger.total.planned == share.planned
    assert ledger.total.started - ledger.total.lost == sum(claim.started for claim in claims)
    assert all(getattr(ledger.total, name) >= 0 for name in ledger.total.__slots__)
    lame = next((claim for claim in claims if any(row.started for row in claim.rows)), None)
    if lame is not None:
        shorn = replace(lame, rows=lame.rows[1:])
        claims[claims.index(lame)] = shorn
        assert not shard_ledger(replace(evidence, claims=tuple(claims))).balanced


@settings(max_examples=200, deadline=None)
@given(data=st.data(), users=st.integers(1, 9), heard=st.integers(0, 2))
def test_user_time_balances_though_a_change_was_never_heard_of(data, users, heard) -> None:
    load = ClosedLoad((UserStage(Fraction(users), Fraction(users), 6 * SECOND),))
    changes = [(at * SECOND, *data.draw(FACTORS)) for at in sorted(data.draw(st.sets(st.integers(0, 7), max_size=2)))]
    share = load.shard(0, 1).changed(changes)
    own = load.shard(0, 1).changed(changes[:heard])
    begin, covered = sorted((data.draw(st.integers(0, 6 * SECOND)), data.draw(st.integers(0, 6 * SECOND))))
    rows = []
    low = begin
    while low < covered:
        high = min(covered, (low // SECOND + 1) * SECOND)
        held = own.user_ns(low, high)
        missed = data.draw(st.sampled_from([0, held]))
        rows.append(Row(low // SECOND, held_ns=held - missed, missed_user_ns=missed))
        low = high
    claim = ClaimEvidence(
        1, 0, held_from_ns=begin, covered_ns=covered, cause="stopped", rows=tuple(rows), changes=own.changes
    )
    evidence = ShardEvidence("closed", share, load.end_ns, claims=(claim,), over=True)
    time = shard_ledger(evidence).user_time
    assert time.balanced, evidence
    assert time.held >= 0 and time.missed >= 0
    assert time.planned == share.user_ns(0, load.end_ns)
    if any(row.held_ns for row in rows):
        lame = replace(claim, rows=tuple(row for row in rows if not row.held_ns))
        assert not shard_ledger(replace(evidence, claims=(lame,))).user_time.balanced
