"""Shares: every item goes to exactly one shard, and a permutation loses none."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loads_queue.model.shard import mix, permuted, row_index, share

COUNTS = st.integers(1, 40)


@given(st.integers(0, 500), COUNTS)
def test_shards_partition_the_rows(total: int, count: int) -> None:
    rows = [row_index(i, count, counter) for i in range(count) for counter in range(share(total, i, count))]
    assert sorted(rows) == list(range(total))


@given(st.integers(0, 10**30), COUNTS)
def test_shares_add_up_and_differ_by_one_at_most(total: int, count: int) -> None:
    shares = [share(total, index, count) for index in range(count)]
    assert sum(shares) == total
    assert all(before - after in (0, 1) for before, after in pairwise(shares))
    assert shares[0] - shares[-1] <= 1


@given(st.integers(0, 500), COUNTS, st.integers())
def test_shards_partition_the_permuted_rows(total: int, count: int, seed: int) -> None:
    rows = [row_index(i, count, counter) for i in range(count) for counter in range(share(total, i, count))]
    assert sorted(permuted(row, total, seed) for row in rows) == list(range(total))


@given(st.integers(1, 400), st.integers(0, 4))
def test_data_that_wraps_gives_every_row_once_a_round(length: int, rounds: int) -> None:
    dealt = [row_index(i, 7, counter) % length for i in range(7) for counter in range(share(length * rounds, i, 7))]
    assert all(dealt.count(row) == rounds for row in range(length))


@given(st.integers(1, 10**12), st.integers(0, 2**64), st.data())
def test_a_permutation_of_any_length_stays_in_range(length: int, seed: int, data: st.DataObject) -> None:
    one, two = data.draw(st.integers(0, length - 1)), data.draw(st.integers(0, length - 1))
    places = permuted(one, length, seed), permuted(two, length, seed)
    assert all(0 <= place < length for place in places)
    assert (places[0] == places[1]) == (one == two)


def test_a_permutation_mixes_and_is_told_by_the_seed() -> None:
    orders = [[permuted(index, 1000, seed) for index in range(1000)] for seed in (1, 1, 2)]
    assert orders[0] == orders[1] != orders[2]
    assert sum(place == index for index, place in enumerate(orders[0])) < 10
    assert sum(after == before + 1 for before, after in pairwise(orders[0])) < 10
    halves = sum(place < 500 for place in orders[0][:500])
    assert 200 < halves < 300


def test_seeds_give_what_they_always_gave() -> None:
    assert [permuted(index, 10, 3) for index in range(10)] == [0, 9, 3, 1, 4, 5, 8, 7, 6, 2]
    assert mix(0, 0) == 0xE220A8397B1DCDAF


@pytest.mark.parametrize(("index", "length"), [(-1, 5), (5, 5), (0, 0)])
def test_an_index_out_of_range_is_an_index_error(index: int, length: int) -> None:
    with pytest.raises(IndexError):
        permuted(index, length, 1)


@pytest.mark.parametrize(("index", "count"), [(-1, 3), (3, 3), (0, 0), (0, -1)])
def test_a_shard_that_is_none_is_a_value_error(index: int, count: int) -> None:
    with pytest.raises(ValueError, match="there is no shard"):
        share(10, index, count)
