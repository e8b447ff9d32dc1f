"""``abort_when``: which seconds are judged, and when a condition has held for long enough."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from loads.scheduler.abort import LATE_S, Judged, StepRows, first_held, held
from loads.scheduler.abort_bounds import metric_bounds
from run_views import open_load

from loads_queue.model.ledger import SECOND
from loads_queue.model.profile import ClosedLoad, IterationsLoad, OpenLoad, RateStage, UserStage
from loads_queue.model.summary import Row, Series
from loads_queue.model.thresholds import KNOWN_AT_THE_END, METRICS, ThresholdError, parse, parse_abort

MS = 1_000_000
Second = tuple[int, int, int]
"""Requests of a second that were (ok, failed, still in flight)."""


def row_of(second: int, made: Second, taken: int = 5 * MS, name: str = "GET /") -> Row:
    """One request an iteration."""
    ok, failed, in_flight = made
    row = Row(second, started=sum(made), began=sum(made), ok=ok, failed=failed, in_flight=in_flight)
    series = Series(sum(made), answered=ok + failed, ok=ok, failed=failed, in_flight=in_flight)
    for histogram, times in ((series.response_ok, ok), (series.response_failed, failed)):
        if times:
            histogram.record(taken, times)
    if ok + failed:
        row.iteration_response.record(taken, ok + failed)
        series.checks["status"] = [ok, failed]
    row.series[name] = series
    return row


def step(seconds: Sequence[Second | None], name: str = "browse", taken: int = 5 * MS) -> StepRows:
    rows = {second: row_of(second, made, taken) for second, made in enumerate(seconds) if made is not None}
    return StepRows(name, open_load(10, 600), 0, rows)


def holds(text: str, seconds: Sequence[Second | None], late: int = LATE_S, **more: int) -> bool:
    """Whether it holds when the last of these seconds has just come in."""
    return held(parse_abort(text), [step(seconds, **more)], len(seconds) + late)


BAD, GOOD, HANGING = (5, 5, 0), (10, 0, 0), (0, 0, 10)


class TestTheWindow:
    def test_every_second_of_it(self) -> None:
        assert holds("error_rate > 20% for 3s", [GOOD, BAD, BAD, BAD])
        assert not holds("error_rate > 20% for 3s", [BAD, GOOD, BAD, BAD])
        assert not holds("error_rate > 20% for 3s", [BAD, BAD])
        assert not holds("error_rate > 20% for 3s", [])

    def test_a_second_without_rows_is_a_hole_in_it(self) -> None:
        assert not holds("error_rate > 20% for 3s", [BAD, None, BAD, BAD])

    def test_rows_have_time_to_come_in(self) -> None:
        assert not holds("error_rate > 20% for 3s", [GOOD, BAD, BAD, BAD], late=LATE_S - 1)

    def test_it_is_over_when_the_target_has_recovered(self) -> None:
        assert not holds("error_rate > 20% for 3s", [BAD, BAD, BAD, GOOD])

    def test_requests_that_hang_are_found_out_by_their_timeouts(self) -> None:
        hanging = [HANGING] * 30
        assert not holds("error_rate > 20% for 3s", [GOOD, *hanging])
        assert not holds("error_rate > 20% for 3s", [GOOD, (0, 10, 0), (0, 10, 0), *hanging])
        assert holds("error_rate > 20% for 3s", [GOOD, *[(0, 10, 0)] * 3, *hanging])

    def test_a_few_that_hang_change_nothing_about_the_rest(self) -> None:
        assert holds("error_rate > 20% for 3s", [(4, 5, 1)] * 3)
        assert not holds("error_rate > 20% for 3s", [(8, 1, 1), (8, 2, 0), (7, 1, 2)])
        assert not holds("error_rate > 20% for 3s", [(4, 5, 1), (4, 5, 1), (8, 2, 0)])

    def test_what_comes_in_early_is_not_taken_for_all(self) -> None:
        fast_failures = [(0, 1, 9)] * 3
        assert not holds("error_rate > 20% for 3s", fast_failures)

    @given(st.lists(st.sampled_from([BAD, GOOD, HANGING, None]), max_size=14), st.integers(1, 4), st.integers(0, 5))
    def test_what_is_known_from_before_changes_nothing(self, seconds: list, length: int, amended: int) -> None:
        condition = parse_abort(f"error_rate > 20% for {length}s")
        judged = Judged()
        shown = step([])
        for second, made in enumerate(seconds):
            rows = dict(shown.rows)
            if made is not None:
                rows[second] = row_of(second, made)
            if second - amended in rows:
                rows[second - amended] = row_of(second - amended, GOOD)
            shown = StepRows(shown.name, shown.load, 0, rows)
            now = second + 1 + LATE_S
            assert held(condition, [shown], now, judged) == held(condition, [shown], now)

    @given(st.lists(st.sampled_from([BAD, GOOD]), max_size=12), st.integers(1, 5))
    def test_it_is_the_last_so_many_seconds(self, seconds: list[Second], length: int) -> None:
        expected = len(seconds) >= length and all(made == BAD for made in seconds[-length:])
        assert holds(f"error_rate > 20% for {length}s", seconds) == expected


class TestWhatIsJudged:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("error_rate(browse) >= 50% for 1s", True),
            ("error_rate(browse) > 50% for 1s", False),
            ("error_rate(browse/GET /) >= 50% for 1s", True),
            ("error_rate(other) > 1% for 1s", False),
            ("error_rate > 24% for 1s", True),
            ("error_rate > 25% for 1s", False),
            ("iteration:error_rate(browse) >= 50% for 1s", True),
            ("check_rate(browse) <= 50% for 1s", True),
            ("p95(browse) < 6ms for 1s", True),
            ("p95 > 90ms for 1s", True),
            ("iteration:max >= 100ms for 1s", True),
            ("ok:p50(browse) < 6ms for 1s", True),
            ("service:p50(browse) < 1s for 1s", False),
            ("rate == 20/s for 1s", True),
            ("iteration:rate(other) == 10/s for 1s", True),
            ("requests(browse) == 10 for 1s", True),
            ("ok:requests(browse) == 5 for 1s", True),
            ("failed == 5 for 1s", True),
            ("failed >= 25% for 1s", True),
            ("planned == 20 for 1s", True),
            ("dropped > 0 for 1s", False),
            ("started(browse) == 100% for 1s", True),
        ],
    )
    def test_scopes_and_metrics(self, text: str, expected: bool) -> None:
        steps = [step([BAD]), step([GOOD], "other", 100 * MS)]
        assert held(parse_abort(text), steps, 1 + LATE_S) is expected

    def test_dropped_ones_rank_as_infinite(self) -> None:
        row = row_of(0, GOOD)
        row.dropped_in_flight = 5
        steps = [StepRows("a", open_load(15, 60), 0, {0: row})]
        for text in ("p95 > 1s for 1s", "iteration:p95 > 1s for 1s", "dropped > 33% for 1s"):
            assert held(parse_abort(text), steps, 1 + LATE_S)
        assert not held(parse_abort("p50 > 1s for 1s"), steps, 1 + LATE_S)

    def test_a_stage_has_its_own_seconds(self) -> None:
        stage = RateStage(Fraction(10), Fraction(10), 2 * SECOND)
        load = OpenLoad((stage, RateStage(Fraction(10), Fraction(10), 3 * SECOND, "steady")))
        rows = {second: row_of(second, BAD) for second in range(8)}
        condition = parse_abort("error_rate(a@steady) > 20% for 3s")
        found = [held(condition, [StepRows("a", load, SECOND, rows)], now) for now in range(10)]
        assert found.index(True) == 6 + LATE_S, "the stage has the seconds 3, 4 and 5"
        assert not held(parse_abort("error_rate(a@steady) > 20% for 4s"), [StepRows("a", load, SECOND, rows)], 10)

    def test_user_seconds_are_of_the_users_planned(self) -> None:
        load = ClosedLoad((UserStage(Fraction(4), Fraction(4), 10 * SECOND),))
        row = row_of(0, GOOD)
        row.held_ns = 3 * SECOND
        steps = [StepRows("a", load, 0, {0: row})]
        assert held(parse_abort("user_seconds < 80% for 1s"), steps, 1 + LATE_S)
        assert not held(parse_abort("user_seconds < 75% for 1s"), steps, 1 + LATE_S)
        assert held(parse_abort("user_seconds == 3 for 1s"), steps, 1 + LATE_S)

    def test_turns_without_due_times_are_planned_where_they_are_decided(self) -> None:
        row = row_of(0, BAD)
        row.missed = 10
        steps = [StepRows("a", IterationsLoad(((2, 50),)), 0, {0: row})]
        assert held(parse_abort("failed == 25% for 1s"), steps, 1 + LATE_S)

    def test_the_first_that_holds_is_told(self) -> None:
        conditions = [parse_abort(f"error_rate > {part}% for 2s") for part in (60, 40, 20)]
        assert first_held(conditions, [step([BAD, BAD])], 2 + LATE_S) == conditions[1]
        assert first_held(conditions, [step([GOOD, GOOD])], 2 + LATE_S) is None


METRIC_TEXTS = [
    f"{source}{metric} > {value}"
    for source in ("", "iteration:", "service:", "ok:")
    for metric in METRICS
    for value in ("1ms", "1%", "1", "1/s")
    if metric not in KNOWN_AT_THE_END
]


def _thresholds() -> list:
    found = []
    for text in METRIC_TEXTS:
        try:
            found.append(parse(text))
        except ThresholdError:
            continue
    return found


@given(
    st.sampled_from(_thresholds()),
    st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 4)),
    st.integers(0, 4),
    st.integers(1, 10**10),
)
def test_however_it_ends_it_is_between_the_bounds(threshold: object, made: Second, well: int, taken: int) -> None:
    ok, failed, in_flight = made
    well = min(well, in_flight)
    ended = row_of(0, (ok + well, failed + in_flight - well, 0), taken)
    before_row = row_of(0, (ok, failed, in_flight), taken)
    before = metric_bounds(threshold, before_row, 10)  # type: ignore[arg-type]
    after = metric_bounds(threshold, ended, 10)  # type: ignore[arg-type]
    if before is None or after is None:
        return
    assert after[0] == after[1]
    assert before[0] <= after[0] <= before[1]
