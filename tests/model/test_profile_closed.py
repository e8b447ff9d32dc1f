"""The closed model: who is active when, and who takes how many turns."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st
from load_strategies import changes, closed_loads, iterations_loads, moments, stages, value_at

from loads_queue.model.closed_load import floor_sum
from loads_queue.model.profile import NANOS, ClosedLoad, IterationsLoad, UserStage, parse_v1

S = NANOS


def users(start: int, end: int, seconds: int, name: str | None = None) -> UserStage:
    return UserStage(Fraction(start), Fraction(end), seconds * S, name)


def overlap(spans: tuple[tuple[int, int], ...], t0: int, t1: int) -> int:
    return sum(max(min(end, t1) - max(start, t0), 0) for start, end in spans)


@given(closed_loads(), st.data())
def test_users_at_is_how_many_numbers_are_below_the_profile(load: ClosedLoad, data: st.DataObject) -> None:
    for t in data.draw(st.lists(moments(load), min_size=1, max_size=20)):
        active = {k for k in range(load.max_users + 2) if any(start <= t < end for start, end in load.active(k))}
        expected = ceil(value_at(load, Fraction(t))) if 0 <= t < load.end_ns else 0
        assert load.users_at(t) == expected
        assert active == set(range(expected))


@given(closed_loads())
def test_the_most_users_are_reached_and_never_passed(load: ClosedLoad) -> None:
    spans = [load.active(k) for k in range(load.max_users + 2)]
    assert [bool(span) for span in spans] == [True] * load.max_users + [False] * 2
    assert max((load.users_at(start) for span in spans for start, _ in span), default=0) == load.max_users


@given(closed_loads())
def test_active_spans_are_in_order_apart_and_within_the_load(load: ClosedLoad) -> None:
    for user in range(load.max_users):
        edges = [edge for span in load.active(user) for edge in span]
        assert edges == sorted(set(edges))
        assert edges[0] >= 0 and edges[-1] <= load.end_ns


@given(closed_loads(), st.data())
def test_user_time_is_what_the_active_spans_cover(load: ClosedLoad, data: st.DataObject) -> None:
    t0, t1 = data.draw(moments(load)), data.draw(moments(load))
    spans = [load.active(user) for user in range(load.max_users)]
    assert load.user_ns(t0, t1) == sum(overlap(span, t0, t1) for span in spans)
    seconds = [load.user_ns(second, second + S) for second in range(0, load.end_ns, S)]
    assert sum(seconds) == load.user_ns(0, load.end_ns) == load.user_ns(-S, load.end_ns + S)


@given(stages(UserStage), st.data(), st.integers(0, 4 * S), st.integers(0, 300))
def test_user_time_is_a_sum_over_every_nanosecond(
    of: tuple[UserStage, ...], data: st.DataObject, t0: int, length: int
) -> None:
    load = ClosedLoad(of, changes=data.draw(changes(of)))
    assert load.user_ns(t0, t0 + length) == sum(load.users_at(t) for t in range(t0, t0 + length))


@given(st.integers(0, 60), st.integers(1, 40), st.integers(-90, 90), st.integers(-900, 900))
def test_floor_sum_is_the_sum(length: int, divisor: int, slope: int, base: int) -> None:
    assert floor_sum(length, divisor, slope, base) == sum((base + slope * i) // divisor for i in range(length))


@given(closed_loads(), st.integers(1, 12), st.data())
def test_shards_partition_the_users_and_their_time(load: ClosedLoad, count: int, data: st.DataObject) -> None:
    shards = [load.shard(index, count) for index in range(count)]
    assert sorted(user for shard in shards for user in shard.users()) == list(range(load.max_users))
    assert [len(shard.users()) for shard in shards] == [shard.max_users for shard in shards]
    t0, t1 = data.draw(moments(load)), data.draw(moments(load))
    assert sum(shard.users_at(t0) for shard in shards) == load.users_at(t0)
    assert sum(shard.user_ns(t0, t1) for shard in shards) == load.user_ns(t0, t1)
    for shard in shards:
        spans = [load.active(user) for user in shard.users()]
        assert shard.user_ns(t0, t1) == sum(overlap(span, t0, t1) for span in spans)
        assert shard.users_at(t0) == sum(overlap(span, t0, t0 + 1) for span in spans)


def test_the_highest_numbers_come_last_and_leave_first() -> None:
    load = ClosedLoad((users(0, 4, 4), users(4, 4, 2), users(4, 0, 4)))
    assert [load.active(user) for user in range(5)] == [
        ((1, 10 * S),),
        ((S + 1, 9 * S),),
        ((2 * S + 1, 8 * S),),
        ((3 * S + 1, 7 * S),),
        (),
    ]
    assert (load.max_users, load.end_ns) == (4, 10 * S)


def test_a_user_comes_back() -> None:
    load = ClosedLoad((users(2, 2, 1), users(1, 1, 1), users(2, 2, 1)))
    assert load.active(0) == ((0, 3 * S),)
    assert load.active(1) == ((0, S), (2 * S, 3 * S))


def test_a_factor_of_0_lets_all_users_go_and_the_end_stands() -> None:
    load = ClosedLoad((users(4, 4, 10),)).changed([(2 * S, 0, 1), (5 * S, 3, 2)])
    assert [load.users_at(second * S) for second in (1, 2, 4, 5, 9, 10)] == [4, 0, 0, 6, 6, 0]
    assert (load.end_ns, load.max_users) == (10 * S, 6)
    assert load.user_ns(0, 10 * S) == (4 * 2 + 6 * 5) * S
    assert load.changed(()).user_ns(0, 10 * S) == 40 * S


def test_millions_of_users_cost_nothing() -> None:
    load = ClosedLoad((users(0, 10**7, 3600),))
    assert load.max_users == 10**7
    assert abs(load.user_ns(0, 3600 * S) - 10**7 * 1800 * S) <= 10**7 * S
    assert load.shard(3, 7).users_at(1800 * S) == len(range(3, 5 * 10**6, 7))


def test_stage_spans_of_users() -> None:
    load = ClosedLoad((users(0, 4, 4), users(4, 4, 2, "steady")))
    assert load.stage_spans() == ((None, 0, 4 * S), ("steady", 4 * S, 6 * S))


@given(iterations_loads, st.integers(1, 12))
def test_shards_partition_the_turns(load: IterationsLoad, count: int) -> None:
    shards = [load.shard(index, count) for index in range(count)]
    assert sum(shard.planned for shard in shards) == load.planned
    assert sorted(user for shard in shards for user in shard.users()) == list(range(load.max_users))
    assert all(len(shard.users()) == shard.max_users for shard in shards)
    for shard in shards:
        assert len(shard.cycles()) == len(load.cycles)
        for user in range(load.max_users):
            mine = user in shard.users()
            assert bool(shard.iterations_of(user)) <= mine
            if not load.shared:
                assert shard.iterations_of(user) == (load.iterations_of(user) if mine else 0)


@given(iterations_loads, st.integers(1, 12))
def test_every_cycle_is_dealt_out_to_shards_that_can_do_it(load: IterationsLoad, count: int) -> None:
    parts = [load.shard(index, count).cycles() for index in range(count)]
    for number, (most, iterations) in enumerate(load.cycles):
        cycle = [part[number] for part in parts]
        assert sorted(user for part in cycle for user in part.users) == list(range(most))
        if load.shared:
            assert sum(part.iterations for part in cycle) == iterations
            assert all(part.users for part in cycle if part.iterations)
            assert max(part.iterations for part in cycle if part.users) - iterations // min(count, most) in (0, 1)
        else:
            assert all(part.iterations == iterations for part in cycle)


def test_turns_by_hand() -> None:
    load = IterationsLoad(((20, 10),))
    assert (load.planned, load.max_users, load.iterations_of(19), load.iterations_of(20), load.end_ns) == (
        200,
        20,
        10,
        0,
        None,
    )
    shared = IterationsLoad(((20, 10),), shared=True)
    assert (shared.planned, [shared.shard(index, 3).planned for index in range(3)]) == (10, [4, 3, 3])
    few = IterationsLoad(((2, 10),), shared=True)
    assert [few.shard(index, 3).planned for index in range(3)] == [5, 5, 0]


def test_counted_turns_stand_whatever_the_factor() -> None:
    load = IterationsLoad(((2, 10),))
    assert load.changed([(S, 0, 1)]) == load
    assert load.stage_spans() == ()
    with pytest.raises(ValueError, match="denominator"):
        load.changed([(S, 1, 0)])


def test_loads_v1_on_the_command_line() -> None:
    load = parse_v1("10:20:30", "5:10")
    assert isinstance(load, IterationsLoad)
    assert load.cycles == ((10, 5), (10, 10), (20, 5), (20, 10), (30, 5), (30, 10))
    assert load.planned == (10 + 20 + 30) * 15
    assert Counter(load.iterations_of(user) for user in range(30)) == {45: 10, 30: 10, 15: 10}
    assert parse_v1("3") == IterationsLoad(((3, 1),))
    assert parse_v1() == IterationsLoad(((1, 1),))


def test_loads_v1_with_a_duration() -> None:
    load = parse_v1("10:20", duration_ns=5 * S)
    assert load == ClosedLoad((users(10, 10, 5), users(20, 20, 5)))


@pytest.mark.parametrize(
    ("text", "hits", "duration", "said"),
    [
        ("", None, None, "users: whole numbers separated by colons"),
        ("10:", None, None, "such as 10:20:30, not '10:'"),
        ("10:x", None, None, "users"),
        ("-1", None, None, "users"),
        ("0", None, None, "users: each number is at least 1"),
        ("1\n", None, None, "users"),
        ("1", "2:0", None, "hits: each number is at least 1"),
        ("1", "two", None, "hits: whole numbers"),
        ("1", "2", 5, "either hits or a duration"),
        ("1", None, 0, "duration is from 1"),
        ("1000000000", None, None, "users is from 1"),
    ],
)
def test_other_notations_are_refused(text: str, hits: str | None, duration: int | None, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_v1(text, hits, duration)


@pytest.mark.parametrize("make", [ClosedLoad, IterationsLoad])
@pytest.mark.parametrize("wrong", [(), [], None, (1,), ((1,),), (("1", 1),)])
def test_absurd_loads_of_users_are_refused(make: type[ClosedLoad | IterationsLoad], wrong: object) -> None:
    with pytest.raises(ValueError, match=r"stages|cycles|users"):
        make(wrong)


@pytest.mark.parametrize("pace", [0, -1, 1.5, True, 10**18])
def test_an_absurd_pace_is_refused(pace: object) -> None:
    with pytest.raises(ValueError, match="pace"):
        ClosedLoad((users(1, 1, 1),), pace)
    with pytest.raises(ValueError, match="pace"):
        IterationsLoad(((1, 1),), pace_ns=pace)


@pytest.mark.parametrize("cycle", [(0, 1), (1, 0), (-1, 1), (1, -1), (10**9, 1), (1, 10**16), (True, 1)])
def test_an_absurd_cycle_is_refused(cycle: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"users|iterations"):
        IterationsLoad((cycle,))


def test_absurd_numbers_of_users_are_refused() -> None:
    with pytest.raises(ValueError, match="number of users is from 0"):
        users(0, 10**9, 1)
    with pytest.raises(ValueError, match="no shard 3 of 3"):
        ClosedLoad((users(1, 1, 1),)).shard(3, 3)
