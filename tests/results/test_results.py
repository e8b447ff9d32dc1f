"""The summary: laws over any outcome, then each verdict, each exit code and each figure by example."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st
from loads.scheduler import results
from loads.scheduler.results_series import LATENCY_KEYS, LEDGER_KEYS, latency
from loads.scheduler.results_timeline import TIMELINE_KEYS, planned_users, timeline, timeline_csv
from loads.scheduler.view import ClaimView, RunView, StepView
from run_views import open_load, outcomes, rows_of, run_view, simple, step_view

from loads_queue.model.histogram import Histogram
from loads_queue.model.ledger import SECOND, Ledger
from loads_queue.model.profile import ClosedLoad, IterationsLoad, RateStage, UserStage
from loads_queue.model.summary import Row
from loads_queue.model.thresholds import parse

TOP = (
    "version", "run", "verdict", "exit_code", "ledger", "dropped_by", "requests", "thresholds", "fitness", "steps",
    "gaps", "changes", "events", "timeline", "notes", "warnings",
)  # fmt: skip


def closed(*stages: tuple[int, int, int], pace_ns: int | None = None) -> ClosedLoad:
    return ClosedLoad(tuple(UserStage(Fraction(a), Fraction(b), s * SECOND) for a, b, s in stages), pace_ns=pace_ns)


def warned(view: RunView) -> str:
    return "\n".join(results.warnings(view))


class TestLaws:
    @given(outcomes, outcomes)
    def test_the_timeline_adds_up_to_the_ledger(self, first: list, second: list) -> None:
        load = open_load()
        view = run_view(step_view(rows_of(first), load), step_view(rows_of(second), load, "buy", 1))
        found = results.summary(view)
        for name in LEDGER_KEYS:
            assert sum(row[name] for row in found["timeline"]) == found["ledger"][name]
            assert sum(step["ledger"][name] for step in found["steps"]) == found["ledger"][name]
        assert found["ledger"]["balanced"] is True
        assert found["ledger"]["planned"] == 60
        assert sum(found["dropped_by"].values()) == found["ledger"]["dropped"]

    @given(outcomes)
    def test_any_summary_is_json_and_has_every_key_in_order(self, made: list) -> None:
        found = results.summary(run_view(step_view(rows_of(made), open_load())))
        assert json.loads(json.dumps(found, allow_nan=False)) == found
        assert tuple(found) == TOP
        assert tuple(found["ledger"]) == (*LEDGER_KEYS, "balanced")
        assert all(tuple(row) == TIMELINE_KEYS for row in found["timeline"])
        assert [row["t"] for row in found["timeline"]] == [0, 1, 2]

    @given(outcomes)
    def test_latencies_are_in_order(self, made: list) -> None:
        (step,) = results.summary(run_view(step_view(rows_of(made), open_load())))["steps"]
        for shown in [step["iteration"]["response"], *(series["response"] for series in step["series"])]:
            assert tuple(shown) == LATENCY_KEYS
            ordered = [shown[name] for name in LATENCY_KEYS if name != "mean"]
            if ordered[0] is None:
                assert set(shown.values()) == {None}
            else:
                assert ordered == sorted(ordered)
                assert ordered[0] <= shown["mean"] <= ordered[-1]

    @given(outcomes)
    def test_the_csv_says_what_the_timeline_says(self, made: list) -> None:
        rows = timeline(run_view(step_view(rows_of(made), open_load())))
        read = list(csv.DictReader(io.StringIO(timeline_csv(rows))))
        written = [{key: "" if value is None else str(value) for key, value in row.items()} for row in rows]
        assert [{**row, "gap": row["gap"].lower(), "fit": row["fit"].lower()} for row in written] == read

    @given(outcomes, st.sampled_from(LEDGER_KEYS))
    def test_a_column_that_is_wrong_shows(self, made: list, name: str) -> None:
        step = step_view(rows_of(made), open_load())
        wrong = "dropped_late" if name == "dropped" else name
        setattr(step.ledger.seconds[1], wrong, getattr(step.ledger.seconds[1], wrong) + 1)
        found = results.summary(run_view(step))
        assert found["ledger"]["balanced"] is False
        assert (found["verdict"], found["exit_code"]) == ("incomplete", 3)


class TestFigures:
    def test_a_series(self) -> None:
        view = simple(["ok"] * 15 + ["failed"] * 5 + ["interrupted"] * 10, taken=8_000_000)
        (series,) = results.summary(view)["steps"][0]["series"]
        assert series["name"] == "GET /"
        assert series["requests"] == 30
        assert series["rate"] == 10.0
        assert series["error_rate"] == 0.25
        assert series["response"]["max"] == series["response"]["min"] == series["response"]["mean"] == 8.0
        assert series["service"]["p99.99"] == 4.0
        assert set(series["phases"]) == {"dns", "connect", "tls", "first_byte", "body"}
        nothing = {"count": 0, "mean": None, "p50": None, "p95": None, "p99": None, "max": None}
        assert series["phases"]["dns"] == series["phases"]["first_byte"] == series["phases"]["body"] == nothing
        assert series["statuses"] == {"200": 15, "500": 5}
        assert series["errors"] == [{"message": "status 500", "count": 5}]

    def test_the_phases_of_a_series(self) -> None:
        view = simple(["ok"] * 4)
        made = view.steps[0].rows[0].series["GET /"]
        made.connect.record(2_000_000)
        made.first_byte.record(3_000_000, 4)
        made.body.record(1_000_000)
        (series,) = results.summary(view)["steps"][0]["series"]
        phases = series["phases"]
        assert phases["connect"] == {"count": 1, "mean": 2.0, "p50": 2.0, "p95": 2.0, "p99": 2.0, "max": 2.0}
        assert phases["first_byte"]["count"] == phases["body"]["count"] == 4
        assert phases["body"] == {"count": 4, "mean": 0.25, "p50": 0.0, "p95": 1.0, "p99": 1.0, "max": 1.0}

    def test_errors_stand_by_how_often_they_came(self) -> None:
        view = simple(["failed"] * 3)
        view.steps[0].rows[0].series["GET /"].errors.update({"b": 9, "a": 9, "c": 10})
        (series,) = results.summary(view)["steps"][0]["series"]
        assert [error["message"] for error in series["errors"]] == ["c", "a", "b", "status 500"]

    def test_nothing_measured_is_null(self) -> None:
        assert set(latency(Histogram()).values()) == {None}
        found = results.summary(simple(["dropped_late"] * 10))
        assert found["steps"][0]["series"] == []
        assert found["timeline"][0]["p95"] is None
        assert found["timeline"][0]["lateness_p50"] is None
        assert found["dropped_by"] == {"in_flight": 0, "late": 10, "resource": 0}

    def test_the_run(self) -> None:
        found = results.summary(simple(["ok"] * 10))
        assert found["run"] == {
            "id": "r1",
            "project": "shop",
            "plan": "evening",
            "owner": "ann",
            "started": "2023-11-14T22:13:20.000000Z",
            "ended": "2023-11-14T22:13:24.000000Z",
            "state": "finished",
        }
        assert found["version"] == 1

    def test_a_timeline_has_quiet_seconds_too(self) -> None:
        load = open_load(10, 3)
        late = replace(step_view(rows_of([("ok", 5)] * 30), load, "later", 1), delay_ns=5 * SECOND)
        late = replace(
            late,
            rows=tuple(replace(row, second=row.second + 5) for row in late.rows),
            ledger=replace(
                late.ledger, seconds={second + 5: columns for second, columns in late.ledger.seconds.items()}
            ),
        )
        rows = timeline(run_view(step_view(rows_of([("ok", 5)] * 30), load), late))
        assert [row["planned"] for row in rows] == [10, 10, 10, 0, 0, 10, 10, 10]

    def test_a_rate_is_over_the_time_in_which_load_was_made(self) -> None:
        step = step_view(rows_of([("ok", 5)] * 10), open_load(10, 3), cause="stopped")
        stopped = replace(step, claims=(replace(step.claims[0], ended_ns=SECOND),))
        (series,) = results.summary(run_view(stopped, aborted_by="ann"))["steps"][0]["series"]
        assert series["rate"] == 10.0

    def test_planned_users(self) -> None:
        load = closed((0, 10, 10), (10, 10, 2))
        step = StepView("s", 0, "closed", 1, load, delay_ns=SECOND // 2)
        assert [planned_users(step, second) for second in (0, 1, 10, 11, 12, 13)] == [1, 2, 10, 10, 10, 0]

    def test_a_spike_within_a_second_is_planned_users(self) -> None:
        load = closed((1, 1, 0), (1, 1, 1))
        spike = ClosedLoad(
            (
                UserStage(Fraction(1), Fraction(1), SECOND // 4),
                UserStage(Fraction(9), Fraction(9), SECOND // 4),
                UserStage(Fraction(1), Fraction(1), SECOND),
            )
        )
        assert planned_users(StepView("s", 0, "closed", 1, load), 0) == 1
        assert planned_users(StepView("s", 0, "closed", 1, spike), 0) == 9

    def test_planned_users_of_counted_turns(self) -> None:
        rows = (Row(0, users=3), Row(1, users=2))
        one = StepView("s", 0, "iterations", 1, IterationsLoad(((3, 5),)), rows=rows)
        many = StepView("s", 0, "iterations", 1, IterationsLoad(((3, 5), (4, 5))), rows=rows)
        assert [planned_users(one, second) for second in (0, 1, 2)] == [3, 3, 0]
        assert planned_users(many, 1) is None
        assert timeline(run_view(many))[1]["users_planned"] is None

    def test_a_lasting_pause_does_not_make_an_endless_timeline(self) -> None:
        load = replace(open_load(10, 1), iterations=10).changed([(0, 0, 1)])
        assert len(timeline(run_view(StepView("s", 0, "open", 1, load, rows=(Row(2),))))) == 3

    def test_users_without_pace_are_said_not_to_be_corrected(self) -> None:
        free = StepView("free", 0, "closed", 1, closed((1, 1, 1)))
        paced = StepView("paced", 1, "closed", 1, closed((1, 1, 1), pace_ns=SECOND))
        counted = StepView("counted", 2, "iterations", 1, IterationsLoad(((1, 1),)))
        arrivals = StepView("open", 3, "open", 1, open_load())
        notes = results.notes(run_view(free, paced, counted, arrivals))
        assert [note.split(":")[0] for note in notes] == ["free", "counted"]
        assert all("coordinated omission" in note for note in notes)


class TestVerdict:
    def verdict(self, view: RunView, interrupted: bool = False) -> tuple[str, int]:
        found = results.summary(view, interrupted)
        return found["verdict"], found["exit_code"]

    def test_passed(self) -> None:
        assert self.verdict(simple(["ok"] * 10)) == ("passed", 0)

    def test_without_thresholds_not_everything_may_fail(self) -> None:
        assert self.verdict(simple(["ok"] + ["failed"] * 9)) == ("passed", 0)
        assert self.verdict(simple(["failed"] * 10)) == ("failed", 1)

    def test_a_threshold_failed(self) -> None:
        view = simple(["ok"] * 10, thresholds=(parse("p95 < 6ms"), parse("p95 < 1ms")))
        found = results.summary(view)
        assert (found["verdict"], found["exit_code"]) == ("failed", 1)
        assert [(each["value"], each["passed"]) for each in found["thresholds"]] == [(5.0, True), (5.0, False)]
        assert [bool(each["reason"]) for each in found["thresholds"]] == [False, True]

    def test_interrupted_here_comes_first(self) -> None:
        assert self.verdict(simple(["ok"] * 10, no_capacity=True), interrupted=True) == ("aborted", 130)

    def test_no_capacity(self) -> None:
        view = run_view(StepView("s", 0, "open", 1, open_load()), no_capacity=True, reason="0 of 3 slots free")
        assert self.verdict(view) == ("incomplete", 4)
        assert "0 of 3 slots free" in warned(view)

    def test_a_ledger_that_does_not_balance(self) -> None:
        view = simple(["ok"] * 10, thresholds=(parse("p95 < 1ms"),), aborted_by="ann")
        view.steps[0].ledger.requests.attempted += 1
        assert self.verdict(view) == ("incomplete", 3)
        assert "browse: the ledger does not balance" in warned(view)

    def test_a_total_that_is_not_the_sum_of_its_seconds(self) -> None:
        view = simple(["ok"] * 10)
        for name in ("planned", "started", "ok"):
            setattr(view.steps[0].ledger.total, name, 11)
        assert view.steps[0].ledger.balanced
        assert self.verdict(view) == ("incomplete", 3)

    def test_what_is_still_under_way_is_no_result(self) -> None:
        step = step_view(rows_of([("ok", 5)] * 10), open_load(), cause=None)
        assert step.ledger.balanced
        assert self.verdict(run_view(step)) == ("incomplete", 3)
        assert self.verdict(simple(["ok"] * 10, state="running")) == ("incomplete", 3)

    def test_a_shard_that_no_attempt_finished(self) -> None:
        (step,) = simple(["ok"] * 10).steps
        crash = ClaimView("c1", "w7", 0, 1, "ended", end_cause="crashed", end_detail="exit status 1")
        view = run_view(replace(step, claims=(crash,)))
        assert self.verdict(view) == ("incomplete", 3)
        assert "browse shard 1/1 on w7: crashed: exit status 1" in warned(view)
        second = ClaimView("c2", "w8", 0, 2, "ended", end_cause="finished")
        assert self.verdict(run_view(replace(step, claims=(crash, second)))) == ("passed", 0)
        assert self.verdict(run_view(replace(step, workers=2))) == ("incomplete", 3)

    def test_the_schedulers_word(self) -> None:
        assert self.verdict(simple(["ok"] * 10, verdict="incomplete")) == ("incomplete", 3)

    def test_aborted_elsewhere(self) -> None:
        assert self.verdict(simple(["failed"] * 10, aborted_by="ann", verdict="aborted")) == ("aborted", 1)

    def test_a_run_without_steps_proves_nothing(self) -> None:
        assert self.verdict(run_view()) == ("incomplete", 3)

    def test_warnings_come_once(self) -> None:
        view = simple(["ok"] * 10, warnings=("data wrapped", "data wrapped"))
        assert results.warnings(view) == ["data wrapped"]


def test_a_ramp_ends_at_its_last_second() -> None:
    load = replace(open_load(), stages=(RateStage(Fraction(0), Fraction(2), 1_500_000_000),))
    assert len(timeline(run_view(StepView("s", 0, "open", 1, load, ledger=Ledger())))) == 2
