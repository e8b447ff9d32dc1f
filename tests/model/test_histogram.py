"""The histogram against an exact sort."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from math import ceil, inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loads_queue.model.histogram import TOP_BITS, TOP_BUCKET, Histogram, bucket_bounds, bucket_of

TOP = 1 << TOP_BITS
DURATIONS = st.one_of(
    st.integers(0, 200),
    st.integers(0, TOP_BITS - 1).flatmap(lambda bits: st.integers((1 << bits) - 1, (1 << bits) + 1)),
    st.integers(0, TOP - 1),
)
ANY = st.one_of(DURATIONS, st.integers(TOP - 2, TOP + 2), st.integers(0, 2**70))
QUANTILES = st.one_of(
    st.sampled_from([0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 0.9999, 0, 1]), st.fractions(0, 1), st.floats(0, 1)
)


def of(values: list[int]) -> Histogram:
    found = Histogram()
    for value in values:
        found.record(value)
    return found


def exact(values: list[float], q: float | Fraction) -> float:
    """The value at nearest rank, by sorting."""
    quantile = Fraction(str(q))
    return sorted(values)[max(ceil(quantile * len(values)), 1) - 1]


@given(st.lists(DURATIONS, min_size=1, max_size=200), QUANTILES)
def test_quantiles_are_within_0_8_percent_of_an_exact_sort(values: list[int], q: float | Fraction) -> None:
    found = of(values).quantile(q)
    assert found is not None
    assert abs(found - exact(values, q)) * 1000 <= 8 * exact(values, q)


@given(st.lists(DURATIONS, max_size=50), st.integers(0, 20), QUANTILES)
def test_what_never_answered_ranks_above_all(values: list[int], infinite: int, q: float | Fraction) -> None:
    found = of(values).quantile(q, infinite=infinite)
    if not values and not infinite:
        assert found is None
        return
    expected = exact([*values, *[inf] * infinite], q)
    if expected == inf:
        assert found is None
    else:
        assert found is not None and abs(found - expected) * 1000 <= 8 * expected


def test_quantiles_by_hand() -> None:
    ten = of(list(range(1, 11)))
    assert [ten.quantile(q) for q in (0, 0.1, 0.11, 0.5, 0.9, 0.91, 1)] == [1, 1, 2, 5, 9, 10, 10]
    assert ten.quantile(0.7) == 7, "the float 0.7 is a little more than 7/10"
    assert Histogram().quantile(0.5) is None
    assert of([10**9]).quantile(0.5) == 10**9, "alone, a value is exact"


@pytest.mark.parametrize("q", [-0.1, 1.1, Fraction(3, 2), float("nan"), float("inf")])
def test_a_quantile_out_of_range_is_a_value_error(q: float | Fraction) -> None:
    with pytest.raises(ValueError):
        of([1]).quantile(q)


@given(st.lists(st.tuples(ANY, st.integers(1, 2**40)), max_size=50))
def test_min_max_sum_and_count_are_exact(recorded: list[tuple[int, int]]) -> None:
    found = Histogram()
    for value, times in recorded:
        found.record(value, times)
    assert found.count == sum(times for _, times in recorded) == sum(found.counts.values())
    assert found.sum == sum(value * times for value, times in recorded)
    assert found.min == min((value for value, _ in recorded), default=0)
    assert found.max == max((value for value, _ in recorded), default=0)
    assert found.clamped == sum(times for value, times in recorded if value >= TOP)
    assert found.mean == (found.sum / found.count if recorded else None)


def test_a_negative_duration_counts_as_0() -> None:
    assert of([-5]) == of([0])


@given(ANY)
def test_a_value_lies_in_its_bucket(value: int) -> None:
    low, above = bucket_bounds(bucket_of(value))
    assert low <= value and (value < above or bucket_of(value) == TOP_BUCKET)
    assert (above - 1 - low) * 64 <= low


def test_buckets_follow_one_another() -> None:
    bounds = [bucket_bounds(bucket) for bucket in range(TOP_BUCKET + 1)]
    assert bounds[0][0] == 0 and bounds[-1][1] == TOP
    assert all(before[1] == after[0] for before, after in pairwise(bounds))


LISTS = st.lists(ANY, max_size=30)


@given(LISTS, LISTS, LISTS)
def test_merging_is_addition(a: list[int], b: list[int], c: list[int]) -> None:
    left, right, other = of(a), of(b), of(b)
    left.merge(of(b))
    left.merge(of(c))
    right.merge(of(c))
    first = of(a)
    first.merge(right)
    other.merge(of(a))
    other.merge(of(c))
    assert left == first == other == of(a + b + c)


@given(LISTS, LISTS)
def test_a_copy_goes_its_own_way(a: list[int], b: list[int]) -> None:
    original = of(a)
    copy = original.copy()
    assert copy == original
    copy.merge(of([*b, 1]))
    assert original == of(a) != copy


@given(st.lists(st.tuples(ANY, st.integers(1, 2**40)), max_size=50))
def test_a_histogram_comes_back_from_its_bytes_and_text(recorded: list[tuple[int, int]]) -> None:
    found = Histogram()
    for value, times in recorded:
        found.record(value, times)
    for back in (Histogram.decode(found.encode()), Histogram.from_text(found.to_text())):
        assert back == found
        assert (back.count, back.sum, back.min, back.max, back.clamped, back.counts) == (
            found.count, found.sum, found.min, found.max, found.clamped, found.counts,
        )  # fmt: skip


def decodes_to_itself(data: bytes) -> bool:
    try:
        found = Histogram.decode(data)
    except ValueError:
        return False
    assert found.encode() == data, "only what encode makes is taken"
    assert found.count == sum(found.counts.values())
    assert found.quantile(0.5) is not None or not found.count
    return True


@given(st.binary(max_size=40))
def test_any_bytes_are_a_histogram_or_a_value_error(data: bytes) -> None:
    decodes_to_itself(data)
    decodes_to_itself(b"\x01" + data)


@given(st.lists(ANY, min_size=1, max_size=8), st.data())
def test_bytes_with_one_wrong_are_a_histogram_or_a_value_error(values: list[int], data: st.DataObject) -> None:
    good = bytearray(of(values).encode())
    good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    decodes_to_itself(bytes(good))
    assert not decodes_to_itself(bytes(of(values).encode()[:-1])), "truncated"
    assert not decodes_to_itself(bytes(of(values).encode() + b"\x00")), "left over"


@given(st.text(max_size=20))
def test_any_text_is_a_histogram_or_a_value_error(text: str) -> None:
    try:
        found = Histogram.from_text(text)
    except ValueError:
        return
    assert Histogram.from_text(found.to_text()) == found


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "truncated"),
        (b"\x01", "truncated"),
        (b"\x02\x00\x00\x00\x00\x00", "unknown format"),
        (b"\x01\x00\x05\x05\x05\x01\x05", "truncated"),
        (b"\x01\x00\x05\x05\x05\x00", "figures without counts"),
        (b"\x01\x00\x05\x04\x05\x01\x05\x01", "min or max outside"),
        (b"\x01\x00\x06\x05\x05\x01\x05\x01", "sum outside"),
        (b"\x01\x00\x05\x05\x05\x01\x05\x00", "out of order"),
        (b"\x01\x00\x0a\x05\x05\x02\x05\x01\x00\x01", "out of order"),
        (b"\x01\x01\x05\x05\x05\x01\x05\x01", "clamped"),
        (b"\x01\x00\x05\x05\x05\x01\x05\x81\x00", "leading zeros"),
        (b"\x01" + b"\xff" * 40, "too wide"),
        (b"\x01\x80", "truncated"),
    ],
)
def test_what_is_wrong_is_said(data: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Histogram.decode(data)
