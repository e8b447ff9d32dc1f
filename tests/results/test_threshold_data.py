"""What thresholds are told: every metric over runs whose answer is plain, and what must rank as infinite."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from loads.scheduler.threshold_data import ThresholdData
from loads.scheduler.view import RunView, StepView
from run_views import OUTCOMES, open_load, outcomes, rows_of, run_view, simple, step_view

from loads_queue.model.ledger import SECOND, Ledger, UserTime
from loads_queue.model.profile import ClosedLoad, OpenLoad, RateStage, UserStage
from loads_queue.model.summary import Row
from loads_queue.model.thresholds import METRICS, Scope, Verdict, parse

MIX = ["ok"] * 12 + ["failed"] * 4 + ["interrupted"] * 2 + ["dropped_in_flight"] * 5 + ["dropped_late"] * 6 + ["missed"]


def judge(view: RunView, expression: str) -> Verdict:
    return parse(expression).judge(ThresholdData(view))


def value(view: RunView, expression: str) -> float | None:
    """The value of ``[PREFIX:]METRIC[(SCOPE)]``, in the units of a verdict."""
    metric = expression.split(":")[-1].split("(")[0]
    limit = "1/s" if metric == "rate" else "1" if metric in METRICS[10:] else "1ms"
    return judge(view, f"{expression} < {limit}").value


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("requests", 18),
        ("requests(browse/GET /)", 18),
        ("requests(browse@steady)", 18),
        ("ok:requests", 12),
        ("rate", 6),
        ("ok:rate(browse)", 4),
        ("iteration:rate", 6),
        ("error_rate", 0.25),
        ("iteration:error_rate(browse@steady)", 0.25),
        ("planned", 30),
        ("started", 18),
        ("dropped", 11),
        ("dropped_in_flight(browse)", 5),
        ("dropped_late", 6),
        ("dropped_resource", 0),
        ("missed", 1),
        ("interrupted", 2),
        ("iteration:failed", 4),
        ("p50", 5.0),
        ("service:p50", 2.5),
        ("ok:p50", 5.0),
        ("min", 5.0),
        ("user_seconds", 0),
    ],
)
def test_a_metric(expression: str, expected: float) -> None:
    assert value(simple(MIX), expression) == expected


def test_percent_is_of_planned() -> None:
    assert judge(simple(MIX), "dropped <= 36%").value == pytest.approx(11 / 30)
    assert judge(simple(MIX), "dropped < 37%").passed
    assert not judge(simple(MIX), "dropped < 36%").passed


def test_dropped_and_interrupted_work_ranks_as_infinite() -> None:
    view = simple(["ok"] * 18 + ["interrupted"] + ["dropped_in_flight"])
    assert judge(view, "p90 < 1s").passed
    late = judge(view, "p95 < 1s")
    assert (late.passed, late.value) == (False, None)
    assert "infinite" in late.reason
    assert not judge(view, "max < 1h").passed
    assert not judge(view, "mean < 1h").passed
    assert judge(view, "min < 1s").passed


def test_a_series_answers_for_its_own_requests_only() -> None:
    view = simple(["ok"] * 19 + ["dropped_in_flight"] * 11)
    assert not judge(view, "p95(browse) < 1s").passed
    assert judge(view, "p95(browse/GET /) < 1s").passed
    assert not judge(simple(["ok"] * 5 + ["interrupted"] * 5), "p95(browse/GET /) < 1s").passed


def test_what_was_dropped_for_another_cause_is_no_latency() -> None:
    assert judge(simple(["ok"] * 10 + ["dropped_late"] * 10), "p99 < 1s").passed


@given(outcomes, st.sampled_from(["p50", "p90", "p95", "p99", "p99.9"]))
def test_iterations_rank_as_requests_do(made: list, metric: str) -> None:
    """Here each iteration is one request, so that both must come to the same."""
    view = run_view(step_view(rows_of(made), open_load()))
    data = ThresholdData(view)
    assert data.value("iteration", metric, Scope()) == data.value("", metric, Scope())


@given(outcomes)
def test_more_work_that_gave_up_never_helps(made: list) -> None:
    data = ThresholdData(run_view(step_view(rows_of(made), open_load())))
    worse = [("interrupted" if outcome == "ok" else outcome, taken) for outcome, taken in made]
    after = ThresholdData(run_view(step_view(rows_of(worse), open_load())))
    for metric in ("p50", "p95", "p99", "mean", "max"):
        before = data.value("", metric, Scope())
        if before == math.inf:
            assert after.value("", metric, Scope()) == math.inf


@pytest.mark.parametrize("expression", ["p95 < 1s", "error_rate < 1%", "check_rate > 1%", "iteration:p50 < 1s"])
def test_no_data_fails_with_that_reason(expression: str) -> None:
    verdict = judge(simple(["dropped_late"] * 10), expression)
    assert (verdict.passed, verdict.value, verdict.reason) == (False, None, "no data")


def test_a_count_over_no_data_is_nought() -> None:
    assert judge(simple(["dropped_late"] * 10), "requests == 0").passed
    assert judge(simple(["dropped_late"] * 10), "failed < 1").passed


def test_only_interrupted_work_has_no_error_rate() -> None:
    """A target that never answers must not pass for having made no error."""
    assert judge(simple(["interrupted"] * 10), "error_rate < 100%").reason == "no data"
    assert judge(simple(["interrupted"] * 10), "iteration:error_rate < 100%").reason == "no data"


def test_checks() -> None:
    view = simple(["ok"] * 10)
    view.steps[0].rows[0].series["GET /"].checks.update({"status": [9, 1], "body": [10, 0]})
    assert value(view, "check_rate") == 0.95


def test_ok_latencies_leave_failures_out() -> None:
    assert ThresholdData(simple(["ok"] * 10)).value("ok", "p50", Scope()) == 5_000_000
    slow = rows_of([("ok", 5_000_000), ("failed", 900_000_000)])
    data = ThresholdData(run_view(step_view(slow, open_load(2))))
    assert data.value("ok", "max", Scope()) == 5_000_000
    assert data.value("", "max", Scope()) == 900_000_000
    assert ThresholdData(simple(["failed"])).value("ok", "p50", Scope()) is None


class TestScopes:
    def two_stages(self) -> RunView:
        """10 a second for 2 s, of which the first half is slow; then 20 a second for 1 s, called fast."""
        load = OpenLoad(
            (
                RateStage(Fraction(10), Fraction(10), 2 * SECOND, "slow"),
                RateStage(Fraction(20), Fraction(20), SECOND, "fast"),
            )
        )
        first = rows_of([("ok", 900_000_000)] * 10 + [("ok", 500_000_000)] * 10)
        last = rows_of([("ok", 1_000_000)] * 20, rate=20)
        return run_view(step_view((*first, replace(last[0], second=2)), load))

    def test_a_stage_has_its_seconds(self) -> None:
        view = self.two_stages()
        assert value(view, "max(browse@fast)") == 1.0
        assert value(view, "max(browse@slow)") == 900.0
        assert value(view, "requests(browse@slow)") == value(view, "planned(browse@fast)") == 20
        assert value(view, "rate(browse@fast)") == 20
        assert value(view, "rate(browse@slow)") == 10
        assert value(view, "rate") == pytest.approx(40 / 3)

    def test_a_stage_of_a_delayed_step(self) -> None:
        (step,) = self.two_stages().steps
        later = replace(
            step,
            delay_ns=SECOND,
            rows=tuple(replace(row, second=row.second + 1) for row in step.rows),
            ledger=replace(step.ledger, seconds={at + 1: columns for at, columns in step.ledger.seconds.items()}),
        )
        view = run_view(later)
        assert value(view, "max(browse@fast)") == 1.0
        assert value(view, "started(browse@slow)") == 20

    def test_a_second_belongs_to_the_stage_it_begins_in(self) -> None:
        load = OpenLoad(
            (
                RateStage(Fraction(10), Fraction(10), 1_500_000_000, "one"),
                RateStage(Fraction(10), Fraction(10), 1_500_000_000, "two"),
            )
        )
        view = run_view(step_view(rows_of([("ok", 5)] * 30), load))
        assert (value(view, "requests(browse@one)"), value(view, "requests(browse@two)")) == (20, 10)

    def test_other_steps_don_t_count(self) -> None:
        load = open_load()
        slow = step_view(rows_of([("ok", 10**9)] * 30), load, "slow", 1)
        view = run_view(step_view(rows_of([("ok", 10**6)] * 30), load), slow)
        assert value(view, "max(browse)") == 1.0
        assert value(view, "max") == 1000.0
        assert value(view, "planned(slow)") == 30
        assert value(view, "planned") == 60

    def test_user_seconds(self) -> None:
        load = ClosedLoad((UserStage(Fraction(4), Fraction(4), 2 * SECOND, "all"),))
        rows = (Row(0, held_ns=4 * SECOND), Row(1, held_ns=3 * SECOND))
        ledger = Ledger(user_time=UserTime(planned=8 * SECOND, held=7 * SECOND, missed=SECOND))
        view = run_view(StepView("users", 0, "closed", 1, load, rows=rows, ledger=ledger))
        assert value(view, "user_seconds") == value(view, "user_seconds(users@all)") == 7
        assert judge(view, "user_seconds >= 87.5%").passed
        assert not judge(view, "user_seconds(users@all) > 87.5%").passed

    def test_lost_requests_of_a_step_count_as_attempted(self) -> None:
        view = simple(["ok"] * 10)
        view.steps[0].ledger.requests.attempted += 3
        view.steps[0].ledger.requests.lost += 3
        assert value(view, "requests") == 13
        assert value(view, "requests(browse/GET /)") == 10


def test_every_metric_answers_over_every_outcome() -> None:
    for outcome in OUTCOMES:
        data = ThresholdData(simple([outcome] * 10))
        for metric in METRICS:
            found = data.value("", metric, Scope("browse"))
            assert found is None or found >= 0
