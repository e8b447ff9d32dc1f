"""The open model: when arrivals are due, and that every question about them has the one same answer."""

from __future__ import annotations

from bisect import bisect_left
from decimal import Decimal, localcontext
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from load_strategies import arrived, moments, open_loads, value_at

from loads_queue.model.profile import EVEN, JITTERED, NANOS, NEVER, OpenLoad, RateStage
from loads_queue.model.shard import mix

S = NANOS


def flat(rate: Fraction | int, seconds: int, name: str | None = None) -> RateStage:
    return RateStage(Fraction(rate), Fraction(rate), seconds * S, name)


def ramp(start: int, end: int, seconds: int) -> RateStage:
    return RateStage(Fraction(start), Fraction(end), seconds * S)


def dues(load: OpenLoad) -> list[int]:
    return [load.due(n) for n in range(load.planned)]


def place(load: OpenLoad, n: int) -> Fraction:
    """n + h(n)."""
    return n + (Fraction(mix(load.seed, n) >> 32, 1 << 32) if load.arrivals == JITTERED else 0)


@given(open_loads())
def test_due_is_the_first_time_at_which_the_integral_is_past_the_arrival(load: OpenLoad) -> None:
    for n in range(0, load.planned, 1 + load.planned // 8):
        due = load.due(n)
        if due == NEVER:
            assert arrived(load, 10**6 * S) <= place(load, n)
        else:
            # The integral never falls, so the first whole nanosecond beyond n is found by bisection.
            first = bisect_left(range(due + 2), True, key=lambda t, n=n: arrived(load, t) > place(load, n))
            assert due == first - 1


@given(st.integers(1, 2000), st.integers(1, 3600), st.integers(0, 10**6))
def test_a_ramp_from_nothing_agrees_with_the_square_root_to_fifty_digits(rate: int, seconds: int, n: int) -> None:
    load = OpenLoad((ramp(0, rate, seconds),))
    n %= load.planned
    with localcontext() as context:
        context.prec = 50
        exact = (Decimal(2 * n * seconds) / Decimal(rate)).sqrt() * S
    assert load.due(n) == int(exact)


@given(st.integers(1, 2000), st.integers(1, 3600), st.integers(0, 10**6))
def test_a_ramp_to_nothing_agrees_with_the_square_root_to_fifty_digits(rate: int, seconds: int, n: int) -> None:
    load = OpenLoad((ramp(rate, 0, seconds),))
    n %= load.planned
    with localcontext() as context:
        context.prec = 50
        exact = (seconds - (Decimal(seconds) ** 2 - Decimal(2 * n * seconds) / Decimal(rate)).sqrt()) * S
    assert load.due(n) == int(exact)


@given(st.fractions(Fraction(1, 1000), 5000, max_denominator=5000), st.integers(1, 10**5), st.integers(0, 10**8))
def test_a_constant_rate_is_a_division(rate: Fraction, seconds: int, n: int) -> None:
    load = OpenLoad((flat(rate, seconds),))
    n %= load.planned
    assert load.due(n) == n * S * rate.denominator // rate.numerator
    assert load.planned == -(-seconds * rate // 1)


@given(open_loads(), st.data())
def test_planned_by_counts_what_is_due_before(load: OpenLoad, data: st.DataObject) -> None:
    times = dues(load)
    asked = data.draw(st.lists(moments(load), min_size=1, max_size=20))
    near = [due + by for due in times[:20] if due < NEVER for by in (-1, 0, 1)]
    for t in [*asked, *near, load.end_ns]:
        assert load.planned_by(t) == sum(due < t for due in times), t
    assert load.planned_by(NEVER) == sum(due < NEVER for due in times)


@given(open_loads())
def test_due_times_never_go_back_and_lie_within_the_load(load: OpenLoad) -> None:
    times = dues(load)
    assert all(earlier <= later for earlier, later in pairwise(times))
    assert all(0 <= due < load.end_ns or due == load.end_ns == NEVER for due in times)


@given(open_loads())
def test_the_seconds_add_up_to_the_whole(load: OpenLoad) -> None:
    end = min(load.end_ns, 2000 * S)
    counts = [load.planned_by(second + S) - load.planned_by(second) for second in range(0, end, S)]
    assert min(counts, default=0) >= 0
    if end == load.end_ns:
        assert sum(counts) == load.planned
        assert load.planned_by(0) == 0 and load.planned_by(end) == load.planned == load.planned_by(end + 10**15)


@given(open_loads(), st.integers(1, 12), st.data())
def test_shards_partition_the_arrivals(load: OpenLoad, count: int, data: st.DataObject) -> None:
    shards = [load.shard(index, count) for index in range(count)]
    numbers = [(shard.number(k), shard.due(k)) for shard in shards for k in range(shard.planned)]
    assert sorted(numbers) == list(enumerate(dues(load)))
    for t in data.draw(st.lists(moments(load), min_size=1, max_size=10)):
        assert sum(shard.planned_by(t) for shard in shards) == load.planned_by(t)
        for shard in shards:
            assert shard.planned_by(t) == sum(shard.due(k) < t for k in range(shard.planned))


@given(open_loads(), st.data())
def test_rate_is_the_stage_times_the_factor(load: OpenLoad, data: st.DataObject) -> None:
    for t in data.draw(st.lists(moments(load), min_size=1, max_size=20)):
        expected = value_at(load, Fraction(t)) if 0 <= t < load.end_ns else 0
        assert load.rate(t) == expected
        assert load.rate(t) <= load.peak_rate


@given(open_loads())
def test_jitter_keeps_the_order_and_shifts_none_past_the_next(load: OpenLoad) -> None:
    even = OpenLoad(load.stages, load.iterations, EVEN, load.seed, load.changes)
    jittered = OpenLoad(load.stages, load.iterations, JITTERED, load.seed, load.changes)
    assert even.planned - 1 <= jittered.planned <= even.planned
    for n in range(jittered.planned):
        assert even.due(n) <= jittered.due(n)
        if n + 1 < even.planned:
            assert jittered.due(n) <= even.due(n + 1)


def test_jitter_is_spread_evenly_and_told_by_the_seed() -> None:
    loads = [OpenLoad((flat(1, 2000),), arrivals=JITTERED, seed=seed) for seed in (0, 0, 1)]
    shifts = [[due - n * S for n, due in enumerate(dues(load))] for load in loads]
    assert shifts[0] == shifts[1] != shifts[2]
    for tenth in range(10):
        inside = sum(tenth * S // 10 <= shift < (tenth + 1) * S // 10 for shift in shifts[0])
        assert 150 <= inside <= 250


def test_jitter_stays_what_it_was() -> None:
    load = OpenLoad((flat(1, 10),), arrivals=JITTERED, seed=7)
    assert dues(load)[:4] == [831442369, 1738094046, 2841427033, 3278774612]


def test_nothing_is_due_on_a_plateau_of_rate_0() -> None:
    load = OpenLoad((flat(10, 1), flat(0, 5), flat(10, 1)))
    assert load.planned == 20
    assert load.due(9) == 9 * S // 10
    assert load.due(10) == 6 * S, "L(t) > 10 holds only after the plateau, strictly"
    assert [load.planned_by(second * S) for second in range(8)] == [0, 10, 10, 10, 10, 10, 10, 20]


def test_ramps_from_and_to_0() -> None:
    up, down = OpenLoad((ramp(0, 10, 2),)), OpenLoad((ramp(10, 0, 2),))
    assert (up.planned, down.planned) == (10, 10)
    assert (up.due(0), down.due(0)) == (0, 0)
    assert (up.planned_by(S), down.planned_by(S)) == (3, 8)  # the integrals are 2.5 and 7.5
    assert up.due(9) == 1_897_366_596 and down.due(9) == 1_367_544_467


def test_a_load_of_rate_0_or_of_no_time_plans_nothing() -> None:
    for stages in [(flat(0, 10),), (flat(10, 0),), (flat(0, 10), ramp(5, 7, 0))]:
        load = OpenLoad(stages)
        assert (load.planned, load.planned_by(NEVER)) == (0, 0)
        with pytest.raises(IndexError, match="no arrival 0 of 0"):
            load.due(0)


def test_a_stage_of_no_time_is_a_jump() -> None:
    assert dues(OpenLoad((flat(2, 1), ramp(0, 500, 0), flat(4, 1)))) == [
        0,
        S // 2,
        S,
        S + S // 4,
        S + S // 2,
        S + 3 * S // 4,
    ]


def test_a_fraction_of_an_arrival_counts_as_one_that_has_begun() -> None:
    load = OpenLoad((flat(Fraction(1, 10), 25),))
    assert dues(load) == [0, 10 * S, 20 * S]


@given(open_loads(), st.data())
def test_a_change_leaves_what_came_before_it(load: OpenLoad, data: st.DataObject) -> None:
    plain = load.changed(())
    at = data.draw(moments(plain))
    changed = plain.changed([(at, *data.draw(st.tuples(st.integers(0, 5), st.integers(1, 4))))])
    assert changed.planned_by(at) == plain.planned_by(at)
    for n in range(min(plain.planned_by(at), changed.planned)):
        assert changed.due(n) == plain.due(n)
    if load.iterations is None:
        assert changed.end_ns == plain.end_ns
    else:
        assert changed.planned == plain.planned


def test_a_pause_does_not_move_the_schedule() -> None:
    load = OpenLoad((flat(10, 10),)).changed([(2 * S, 0, 1), (5 * S, 1, 1)])
    assert (load.planned, load.end_ns) == (70, 10 * S)
    assert (load.due(19), load.due(20), load.due(69)) == (19 * S // 10, 5 * S, 99 * S // 10)
    assert (load.rate(2 * S), load.rate(5 * S)) == (0, 10)


def test_with_iterations_the_number_stands_and_the_end_moves() -> None:
    load = OpenLoad((flat(10, 0),), iterations=100)
    assert (load.planned, load.end_ns) == (100, 10 * S)
    assert load.changed([(5 * S, 2, 1)]).end_ns == 7 * S + S // 2
    assert load.changed([(5 * S, 1, 2)]).end_ns == 15 * S
    assert load.changed([(5 * S, 0, 1), (8 * S, 1, 1)]).end_ns == 13 * S
    assert load.changed([(5 * S, 0, 1), (8 * S, 1, 1)]).due(50) == 8 * S


def test_a_pause_without_an_end_keeps_iterations_from_ever_coming() -> None:
    load = OpenLoad((flat(10, 0),), iterations=100).changed([(5 * S, 0, 1)])
    assert (load.planned, load.end_ns) == (100, NEVER)
    assert (load.due(49), load.due(50), load.due(99)) == (49 * S // 10, NEVER, NEVER)
    assert load.planned_by(10**15) == 50
    assert load.changed([(5 * S, 0, 1), (100 * S, 1, 1)]).end_ns == 105 * S


def test_iterations_end_within_the_stages_or_hold_the_last_one_on() -> None:
    stages = (ramp(0, 10, 10), flat(10, 5, "steady"))
    assert OpenLoad(stages, iterations=20).end_ns == 6_324_555_321, "the square root of 40 s, rounded up"
    assert OpenLoad(stages, iterations=20).stage_spans() == (
        (None, 0, 6_324_555_321),
        ("steady", 6_324_555_321, 6_324_555_321),
    )
    assert OpenLoad(stages, iterations=200).stage_spans() == ((None, 0, 10 * S), ("steady", 10 * S, 25 * S))


def test_factors_are_of_the_plan_and_not_of_one_another() -> None:
    load = OpenLoad((flat(10, 10),))
    assert load.changed([(0, 1, 2), (5 * S, 1, 2)]).rate(6 * S) == 5
    assert load.changed([(0, 1, 2)]).changed([(5 * S, 1, 2)]).rate(S) == 10, "a list takes the place of the one before"
    assert load.changed([(0, 1, 2)]).changed(()) == load
    assert load.changed([(S, 3, 1), (S, 2, 1)]).rate(S) == 20, "of two at one time the later counts"
    assert load.changed([(5 * S, 4, 8), (S, 3, 1)]) == load.changed([(S, 3, 1), (5 * S, 1, 2)])
    assert load.changed([(-S, 1, 2)]).rate(0) == 5, "a change before the start is in force from the start"


def test_peak_rate_is_of_what_is_run() -> None:
    stages = (ramp(0, 10, 10), ramp(10, 30, 10))
    assert OpenLoad(stages).peak_rate == 30
    assert OpenLoad(stages, iterations=5).peak_rate == 10
    assert OpenLoad(stages).changed([(0, 2, 1)]).peak_rate == 60


def test_an_arrival_out_of_range_is_an_index_error() -> None:
    load = OpenLoad((flat(10, 1),))
    for n in (-1, 10):
        with pytest.raises(IndexError):
            load.due(n)
    with pytest.raises(IndexError):
        load.shard(1, 3).due(3)
    with pytest.raises(IndexError):
        load.shard(0, 3).due(-1)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"stages": ()}, "from 1 to"),
        ({"stages": [flat(1, 1)]}, "not a tuple"),
        ({"stages": (1,)}, "not a tuple of RateStage"),
        ({"stages": (flat(1, 1),) * 10_001}, "not 10,001"),
        ({"stages": (flat(1, 9 * 10**7),) * 2}, "longer than"),
        ({"stages": tuple(flat(Fraction(1, 10**9 + k), 1) for k in (7, 9, 21, 33))}, "too fine"),
        ({"iterations": 0}, "iterations is from 1"),
        ({"iterations": True}, "whole number"),
        ({"iterations": 10**14}, "never brings 100,000,000,000,000"),
        ({"stages": (ramp(10, 0, 1),), "iterations": 6}, "never brings 6"),
        ({"arrivals": "poisson"}, "even or jittered"),
        ({"seed": 2**63}, "seed"),
        ({"seed": None}, "seed is a whole number"),
        ({"changes": ((0, -1, 1),)}, "numerator"),
        ({"changes": ((0, 1, 0),)}, "denominator"),
        ({"changes": ((0, 1),)}, "not \\(time"),
        ({"changes": ((0.5, 1, 1),)}, "time of a change"),
        ({"changes": ((0, 10**7, 1),)}, "a factor is at most"),
        ({"changes": tuple((k, 1, 1) for k in range(10_001))}, "at most 10,000"),
    ],
)
def test_absurd_loads_are_refused(values: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        OpenLoad(**{"stages": (flat(10, 10),), **values})


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ((Fraction(-1), Fraction(1), S), "a rate is from 0 to 1000000000, not -1"),
        ((Fraction(1), Fraction(10**9 + 1), S), "not 1000000001"),
        ((Fraction(1), Fraction(10**30), S), "so many digits"),
        ((0.5, Fraction(1), S), "not 0.5"),
        ((True, Fraction(1), S), "not True"),
        ((Fraction(1), Fraction(1), -1), "duration is from 0"),
        ((Fraction(1), Fraction(1), 1.5), "duration is a whole number"),
        ((Fraction(1), Fraction(1), 10**18), "duration is from 0"),
        ((Fraction(1), Fraction(1), S, 5), "name is text"),
    ],
)
def test_absurd_stages_are_refused(values: tuple[object, ...], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        RateStage(*values)
